"""Runs scripts and jobs on a machine, over any channel, and reads what the job scripts say of a job.

POSIX shells and PowerShell have this in common.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import ClassVar, Final, Generic, Literal, Protocol, TypeVar, cast

from pydantic import BaseModel, Field, ValidationError

from tasks.domain.errors import DeadlineExceeded, LockLost, ManagerBusy, ProtocolViolation, RequestError, ScriptFailed
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.transport import (
    SHARED_SCRIPTS,
    Job,
    JobPhase,
    JobStatus,
    Script,
    ScriptParameter,
    ScriptRecord,
    ScriptResult,
)
from tasks.machines.transport.output_decoder import (
    ScriptOutput,
    cut_torn_end,
    cut_torn_line,
    parse_record,
    replace_invalid_utf8,
)
from tasks.machines.transport.script_library import (
    ScriptLoader,
    compose_script,
    find_required_scripts,
    load_script_parameters,
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
    """Return the machine's record of its job. Raise ProtocolViolation if there is none, or it is not valid."""
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
    lines = data if is_complete else cut_torn_end(data) if is_full else cut_torn_line(data)
    if is_full and not lines:  # a word without an end: nobody reads it, and it may hide a secret
        return f"[{len(data)} bytes left out]\n", len(data)
    return redact_text(lines.decode("utf-8", "replace")), len(lines)


def parse_events(data: bytes, offset: int) -> tuple[tuple[ScriptRecord, ...], int]:
    """Return the records of all complete lines, and the offset after them."""
    end = data.rfind(b"\n") + 1
    if not end and len(data) >= MAX_EVENTS_BYTES:
        raise ProtocolViolation(f"an event has more than {MAX_EVENTS_BYTES} bytes")
    events: list[ScriptRecord] = []
    for line in filter(None, data[:end].split(b"\n")):
        try:
            events.append(cast("ScriptRecord", redact_value(replace_invalid_utf8(parse_record(line)))))
        except ValueError:  # a power cut can leave anything in a file: an unreadable line does not hide later lines
            text = redact_text(line[:4_000].decode("utf-8", "replace"))[:500]
            events.append({"kind": "garbled", "text": text})
    return tuple(events), offset + end


JOB_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
_SCRIPTS_OF_JOBS: Final = {"facts", "job_common", "job_folder"}  # they, and who requires one, get the jobs' directory


def require_valid_job_id(job_id: str) -> str:
    """Return a job's id. Raise RequestError if it is not valid as the name of a directory and of a unit."""
    if not JOB_ID_PATTERN.fullmatch(job_id):
        raise RequestError(f"{job_id!r} can't be a job's id", hint="Use 1 to 80 letters, digits, - and _.")
    return job_id


class Channel(Protocol):
    """An open connection to a machine, which runs one command at a time."""

    @property
    def is_open(self) -> bool:
        """Whether another exchange may be tried."""

    def close(self) -> None:
        """Close the connection."""


_ChannelT = TypeVar("_ChannelT", bound=Channel)


class ScriptHost(ABC, Generic[_ChannelT]):
    """A machine behind an open channel; a Transport that does not reconnect (session.py does).

    Args:
        channel: open channel to the machine.
        machine: its name, for signatures.
        clock: for wall times.
        job_root: directory of fleetpatch's jobs on the machine; "" for the default.
        script_loader: gives a script's text by its name; None: ``load_own_script``.
    """

    can_wait: ClassVar[bool] = False
    """Whether a look at a job can wait for its end on the machine."""

    def __init__(
        self,
        channel: _ChannelT,
        *,
        machine: str,
        clock: Clock,
        job_root: str = "",
        script_loader: ScriptLoader | None = None,
    ) -> None:
        self._channel = channel
        self._machine = machine
        self._clock = clock
        self._job_root = job_root
        self._script_loader = script_loader or self.load_own_script

    @staticmethod
    @abstractmethod
    def load_own_script(name: str, package: str = SHARED_SCRIPTS) -> str:
        """Return the text of a script of fleetpatch for the machine's system."""

    @staticmethod
    @abstractmethod
    def build_job_program(script: str) -> str:
        """Return the text of the file that a job runs: the script, with what comes before and after it."""

    @staticmethod
    @abstractmethod
    def encode_params(params: Mapping[str, ScriptParameter]) -> str:
        """Return parameters as scripts of the machine's system read them."""

    @property
    def is_open(self) -> bool:
        """Whether another call may be tried on this connection."""
        return self._channel.is_open

    def close(self) -> None:
        """Close the channel. Jobs continue."""
        self._channel.close()

    @abstractmethod
    def _execute_script(self, script: Script, deadline: Deadline) -> ScriptOutput:
        """Run a script and return its answer."""

    def _compose(self, script: Script) -> str:
        return compose_script(script, self._script_loader, required_loader=self.load_own_script)

    def _prepare_script(self, script: Script) -> tuple[str, dict[str, ScriptParameter]]:
        """Return its text and all its parameters: its own, the directory of the jobs, and texts of other scripts."""
        text, params = self._compose(script), dict(script.params)
        if not _SCRIPTS_OF_JOBS.isdisjoint({script.name, *find_required_scripts(text)}):
            params = {"root": self._job_root, **params}
        params |= load_script_parameters(script, self._script_loader, required_loader=self.load_own_script)
        return text, params

    def run_script(self, script: Script, *, deadline: Deadline) -> ScriptResult:
        """Run a script and wait for its end."""
        began = self._clock.now()
        answer = self._execute_script(script, deadline)
        return ScriptResult(
            records=tuple(cast("ScriptRecord", replace_invalid_utf8(record)) for record in answer.records),
            exit_code=answer.exit_code,
            unframed_output=answer.unframed_output,
            seconds=(self._clock.now() - began).total_seconds(),
        )

    def start_job(self, job: Job, *, deadline: Deadline) -> JobStatus:
        """Start a job, or attach to it if a job with this id exists.

        Raises:
            ManagerBusy: another job runs on the machine; or, for one that only reads, several of that kind.
            ScriptFailed: the machine could not start it.
        """
        params: dict[str, ScriptParameter] = {
            "id": require_valid_job_id(job.id),
            "label": job.script.name,
            "wrapper": self.load_own_script("job_run"),
            "program": self.build_job_program(self._compose(job.script)),
            "token": self.encode_params(job.script.params),
            **({"reads": "yes"} if job.reads else {}),
        }
        answer = self._execute_script(Script("job_start", params=params, read_only=False), deadline)
        for record in answer.records:
            raise_if_refused(record, answer)
        job_record = find_job_record(answer)
        return JobStatus(
            job.id,
            job_record.phase,
            exit_code=job_record.exit_code,
            attached=job_record.attached,
            can_wait=self.can_wait,
        )

    def poll_job(
        self, job_id: str, *, deadline: Deadline, events_from: int = 0, log_from: int = 0, wait_seconds: float = 0.0
    ) -> JobStatus:
        """Read the state of a job. If it is finished, the answer has all events from the offset on."""
        require_valid_job_id(job_id)
        status, more = self._poll_job_once(job_id, deadline, events_from, log_from, wait_seconds=wait_seconds)
        while more and status.phase in {JobPhase.FINISHED, JobPhase.LOST}:
            further, more = self._poll_job_once(job_id, deadline, status.events_offset, status.log_offset, log_limit=0)
            status = replace(status, events=status.events + further.events, events_offset=further.events_offset)
        return status

    def _poll_job_once(
        self,
        job_id: str,
        deadline: Deadline,
        events_from: int,
        log_from: int,
        *,
        log_limit: int = MAX_LOG_BYTES,
        wait_seconds: float = 0.0,
    ) -> tuple[JobStatus, bool]:
        """Return the result of one poll, and whether there were more events than fit into it."""
        params: dict[str, ScriptParameter] = {
            "id": job_id,
            "events_from": str(events_from),
            "events_limit": str(MAX_EVENTS_BYTES),
            "log_from": str(log_from),
            "log_limit": str(log_limit),
            **({"wait": str(ceil(wait_seconds))} if wait_seconds else {}),
        }
        answer = self._execute_script(Script(JOB_LOOK, params=params), deadline)
        job = find_job_record(answer)
        raw, piece = find_section(answer, EVENTS), find_section(answer, LOG)
        events, events_offset = parse_events(raw, events_from)
        is_over, has_more = job.phase is not JobPhase.RUNNING, len(raw) >= MAX_EVENTS_BYTES
        is_log_read = is_over and len(piece) < log_limit
        log, length = read_log(piece, is_complete=is_log_read)
        status = JobStatus(
            job_id,
            job.phase,
            job.exit_code,
            events,
            events_offset,
            log,
            log_from + length,
            can_wait=self.can_wait,
            is_read=is_log_read and not has_more,
        )
        return status, has_more
