"""Reads the output of the job scripts: the state of a job, refusals, sections and events."""

from typing import Final, Literal, cast

from pydantic import BaseModel, Field, ValidationError

from tasks.errors import (
    DeadlineExceeded,
    LockLost,
    ManagerBusy,
    ProtocolViolation,
    ScriptFailed,
)
from tasks.protocols.transport import JobPhase, ScriptRecord
from tasks.transport.output_decoder import ScriptOutput, parse_record, replace_invalid_utf8

MAX_EVENTS_BYTES: Final = 1024 * 1024


# by the ``about`` of a refusal
_REFUSAL_HINTS: Final = {
    "claim": "Nothing was begun. Look at the run, or the later attempt of this run, that has the machine lock.",
    "room": "Look at the room on its disk, and whether it is mounted read-only.",
}


class JobRecord(BaseModel):
    """The state of a job, as its script prints it. ``attached``: an earlier call had started it."""

    id: str
    phase: JobPhase
    exit_code: int | None = None
    attached: bool = False


class _SectionRecord(BaseModel):
    kind: Literal["section"]
    name: str
    text: str
    exit_code: int = Field(ge=0, le=255)


def raise_if_refused(record: ScriptRecord, answer: ScriptOutput) -> None:
    """Raise the error for a record that says that the job was not started. Do nothing for other records.

    Raises:
        ManagerBusy: another job of fleetpatch runs there.
        DeadlineExceeded: the machine did not say in time whether the job begins.
        LockLost: the run no longer has the machine lock.
        ScriptFailed: the machine could not start it.
    """
    if record["kind"] == "busy":
        raise ManagerBusy(
            f"another job of fleetpatch still runs on the machine: {record.get('holder')} ({record.get('label')})",
            hint="Wait for its end, or attach to the run that started it.",
        )
    if record["kind"] == "refused" and record.get("about") == "unsure":
        raise DeadlineExceeded(
            f"the machine did not say in time whether the job begins: {record.get('why')}",
            hint="It may begin. Ask again: a job is begun once.",
        )
    if record["kind"] == "refused":
        error_type = LockLost if record.get("about") == "claim" else ScriptFailed
        error = error_type(
            f"the machine could not start the job: {record.get('why')}",
            exit_code=answer.exit_code,
            output_tail=answer.unframed_output[-2000:],
            hint=_REFUSAL_HINTS.get(str(record.get("about")), "Repair that on the machine."),
        )
        if isinstance(error, LockLost):
            error.holder = str(record.get("holder") or "")[:100]
        raise error


def find_job_record(answer: ScriptOutput) -> JobRecord:
    """Return the machine's record of its job.

    Raises:
        ProtocolViolation: there is none, or it is not valid.
    """
    for record in answer.records:
        if record["kind"] == "job":
            try:
                return JobRecord.model_validate(record)
            except ValidationError as error:
                raise ProtocolViolation(f"what the machine says of its job can't be understood: {error}") from error
    raise ProtocolViolation(
        f"the machine said nothing of its job (exit code {answer.exit_code}): {answer.unframed_output[-500:]}"
    )


def find_section(answer: ScriptOutput, name: str) -> bytes:
    """Return the text of a section as bytes, or b"" if the section is missing.

    Raises:
        ProtocolViolation: the section is not valid.
    """
    for record in answer.records:
        if record["kind"] == "section" and record.get("name") == name:
            try:
                section = _SectionRecord.model_validate(record)
            except ValidationError as error:
                raise ProtocolViolation(f"the section {name} can't be understood: {error}") from error
            return section.text.encode("utf-8", "surrogateescape")
    return b""


def parse_events(data: bytes, offset: int) -> tuple[tuple[ScriptRecord, ...], int]:
    """Return the records of all complete lines, and the offset after them."""
    end = data.rfind(b"\n") + 1
    if not end and len(data) >= MAX_EVENTS_BYTES:
        raise ProtocolViolation(f"an event has more than {MAX_EVENTS_BYTES} bytes")
    return tuple(_parse_event(line) for line in data[:end].split(b"\n") if line), offset + end


def _parse_event(line: bytes) -> ScriptRecord:
    # A power cut can leave anything in a file. An unreadable line becomes a record, and does not hide later lines.
    try:
        return cast("ScriptRecord", replace_invalid_utf8(parse_record(line)))
    except ValueError:
        return {"kind": "garbled", "text": line[:500].decode("utf-8", "replace")}
