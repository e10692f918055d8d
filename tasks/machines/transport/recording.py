"""A Transport that keeps what a machine was asked, and what it has answered. Only questions: no changes."""

from collections.abc import Callable, Mapping
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.errors import FleetpatchError, JobLost
from tasks.domain.model import ErrorInfo
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Job, JobPhase, JobStatus, Script, ScriptRecord, ScriptResult, Transport

_NEVER_KEPT: Final = frozenset({"names", "probe"})
"""What only names things, and commands of the machine's owner: their text and their output are theirs."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A question and its answer."""

    script: Script  # what was asked, with its parameters
    result: ScriptResult | None  # the answer; None: there was none
    error: ErrorInfo | None = None  # why there was none; None: there was one
    as_job: bool = False  # whether it was asked as a job: on Windows, by SYSTEM, after it was refused to the login


class RecordingTransport:
    """Passes everything on, and hands over each question that only reads, with its answer.

    ``keep`` gets each recording.
    """

    def __init__(self, transport: Transport, keep: Callable[[Recording], None]) -> None:
        self._transport = transport
        self._keep_recording = keep
        self._jobs: dict[str, tuple[Script, list[ScriptRecord]]] = {}

    def run_script(self, script: Script, *, deadline: Deadline) -> ScriptResult:
        """See Transport."""
        try:
            result = self._transport.run_script(script, deadline=deadline)
        except FleetpatchError as error:
            self._keep(Recording(script, None, ErrorInfo.from_error(error)))
            raise
        self._keep(Recording(script, result))
        return result

    def start_job(self, job: Job, *, deadline: Deadline) -> JobStatus:
        """See Transport."""
        try:
            status = self._transport.start_job(job, deadline=deadline)
        except FleetpatchError as error:
            if job.reads:
                self._keep(Recording(job.script, None, ErrorInfo.from_error(error), as_job=True))
            raise
        if job.reads:
            self._jobs[job.id] = (job.script, [])
        return status

    def poll_job(
        self, job_id: str, *, deadline: Deadline, events_from: int = 0, log_from: int = 0, wait_seconds: float = 0.0
    ) -> JobStatus:
        """See Transport."""
        status = self._transport.poll_job(
            job_id, deadline=deadline, events_from=events_from, log_from=log_from, wait_seconds=wait_seconds
        )
        if job_id in self._jobs:
            script, events = self._jobs[job_id]
            events += status.events
            if status.phase is not JobPhase.RUNNING:
                del self._jobs[job_id]
                if status.phase is JobPhase.FINISHED:
                    result = ScriptResult(tuple(events), status.exit_code or 0, status.log)
                    self._keep(Recording(script, result, as_job=True))
                else:
                    error = ErrorInfo.from_error(JobLost(f"the job is {status.phase}"))
                    self._keep(Recording(script, None, error, as_job=True))
        return status

    def close(self) -> None:
        """See Transport."""
        self._transport.close()

    def _keep(self, recording: Recording) -> None:
        if recording.script.read_only and recording.script.name not in _NEVER_KEPT:
            self._keep_recording(recording)


def describe_recording(recording: Recording) -> Mapping[str, object]:
    """Return a recording without the script's name and its records, as JSON data."""
    result, error = recording.result, recording.error
    return {
        "parameters": {
            name: value if isinstance(value, str) else list(value) for name, value in recording.script.params.items()
        },
        "as_job": recording.as_job,
        "exit_code": None if result is None else result.exit_code,
        "other_output": "" if result is None else result.unframed_output[-2000:],
        "seconds": None if result is None else round(result.seconds, 3),
        "error": None if error is None else {"kind": error.kind, "message": error.message, "hint": error.hint},
    }
