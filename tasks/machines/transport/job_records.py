"""Reads the output of the job scripts: the state of a job, refusals, sections and events."""

from typing import Final, Literal, cast

from pydantic import BaseModel, Field, ValidationError

from tasks.domain.errors import (
    DeadlineExceeded,
    LockLost,
    ManagerBusy,
    ProtocolViolation,
    ScriptFailed,
)
from tasks.domain.protocols.transport import JobPhase, ScriptRecord
from tasks.machines.transport.output_decoder import (
    ScriptOutput,
    cut_torn_end,
    cut_torn_line,
    parse_record,
    replace_invalid_utf8,
)
from tasks.rules.redaction import redact_text, redact_value

MAX_EVENTS_BYTES: Final = 1024 * 1024
MAX_LOG_BYTES: Final = 256 * 1024
JOB_LOOK: Final = "job_look"
"""The script that reads a job's files."""
EVENTS: Final = "events"
LOG: Final = "log"


# by the ``about`` of a refusal
_REFUSAL_HINTS: Final = {
    "machine_lock": "Nothing was begun. Look at the run, or the later attempt of this run, that has the machine lock.",
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
        error_type = LockLost if record.get("about") == "machine_lock" else ScriptFailed
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


def find_raw_sections(script_name: str) -> tuple[str, ...]:
    """Return the sections of a script that are pieces of a job's files. They are redacted here, by lines."""
    return (EVENTS, LOG) if script_name == JOB_LOOK else ()


def read_log(data: bytes, *, is_complete: bool) -> tuple[str, int]:
    """Return the text of a piece of a job's log, and how many of its bytes were read. The others are read next time.

    Args:
        data: the piece. It begins at the beginning of a line, or of a word.
        is_complete: whether it goes to the end of a log to which nothing more is written.
    """
    is_full = len(data) >= MAX_LOG_BYTES
    whole = data if is_complete else cut_torn_end(data) if is_full else cut_torn_line(data)
    if is_full and not whole:  # a word without an end: nobody reads it, and it may hide a secret
        return f"[{len(data)} bytes left out]\n", len(data)
    return redact_text(whole.decode("utf-8", "replace")), len(whole)


def parse_events(data: bytes, offset: int) -> tuple[tuple[ScriptRecord, ...], int]:
    """Return the records of all complete lines, and the offset after them."""
    end = data.rfind(b"\n") + 1
    if not end and len(data) >= MAX_EVENTS_BYTES:
        raise ProtocolViolation(f"an event has more than {MAX_EVENTS_BYTES} bytes")
    return tuple(_parse_event(line) for line in data[:end].split(b"\n") if line), offset + end


def _parse_event(line: bytes) -> ScriptRecord:
    # A power cut can leave anything in a file. An unreadable line becomes a record, and does not hide later lines.
    try:
        return cast("ScriptRecord", redact_value(replace_invalid_utf8(parse_record(line))))
    except ValueError:
        return {"kind": "garbled", "text": redact_text(line[:4_000].decode("utf-8", "replace"))[:500]}
