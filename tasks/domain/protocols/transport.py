"""The Transport protocol: how scripts and jobs reach a machine.

A script has one name and one set of parameters on every system: ``facts`` is scripts/posix/facts.sh for a POSIX shell
and scripts/windows/facts.ps1 for PowerShell. Their output is the contract: framed JSON records. A package manager has
its own scripts in its package. A script declares which other scripts it needs.

A job is a script that continues without its connection. It runs detached on the machine, under an id that the caller
chooses. It writes its records to a file on the machine; callers read the file by offset. A second start with the same
id attaches to the first job.
"""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol, TypeAlias

from inventory.data_class import dataclass
from tasks.domain.protocols.clock import Deadline

ScriptParameter: TypeAlias = str | tuple[str, ...]
ScriptRecord: TypeAlias = Mapping[str, object]  # always has "kind": str

SHARED_SCRIPTS: Final = "tasks.machines"
"""The package with the scripts that all package managers share."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script by name, with its parameters."""

    name: str  # file name of the script without suffix; also the label of a job that runs it
    # Strings and lists of strings. They are sent as one JSON token, never as script text.
    params: Mapping[str, ScriptParameter] = field(default_factory=lambda: MappingProxyType({}))
    read_only: bool = True  # whether the script may run again after the connection was lost
    privileged: bool = True  # whether the script needs administrator rights
    # The Python package with the script in its folder ``scripts``. The shared scripts are searched next.
    package: str = SHARED_SCRIPTS


@dataclass(frozen=True, slots=True)
class ScriptResult:
    """The result of a script."""

    records: tuple[ScriptRecord, ...]  # the framed JSON records of the script, in order
    exit_code: int
    unframed_output: str = ""  # the end of all other output (banners, stderr), for display
    seconds: float = 0.0  # duration

    def find_records(self, kind: str) -> tuple[ScriptRecord, ...]:
        """Return the records of that kind, in order."""
        return tuple(record for record in self.records if record.get("kind") == kind)


class JobPhase(StrEnum):
    """The phases of a job."""

    ABSENT = "absent"  # the machine has no job with this id
    RUNNING = "running"
    FINISHED = "finished"  # it wrote an exit code
    LOST = "lost"  # its process ended without an exit code: power cut, or killed


@dataclass(frozen=True, slots=True)
class Job:
    """A script to run detached. The same work always has the same id."""

    id: str
    script: Script
    # It only asks the machine something. On Windows, such a job runs beside one that changes the machine, and nothing
    # waits for it. Elsewhere it is a job as any other.
    reads: bool = False


@dataclass(frozen=True, slots=True)
class JobStatus:
    """The current state of a job."""

    job_id: str
    phase: JobPhase
    exit_code: int | None = None
    events: tuple[ScriptRecord, ...] = ()  # the records of the job from the requested offset
    events_offset: int = 0  # offset of the next read (bytes; only complete lines count)
    log: str = ""  # raw output from the requested offset, at most 256 KiB
    log_offset: int = 0  # offset of the next read (bytes)
    attached: bool = False  # for ``start_job``: True when the job existed already and nothing new was started
    can_wait: bool = False  # the machine can answer a poll when the job ends (``wait_seconds``)
    is_read: bool = False  # the job has ended, and ``events`` and ``log`` go to their ends


class Transport(Protocol):
    """A connection to one machine. Not thread-safe.

    Every method raises TransportError (or a subclass) when the connection fails, and ProtocolViolation when the answer
    is invalid.
    """

    def run_script(self, script: Script, *, deadline: Deadline) -> ScriptResult:
        """Run a script and wait until it ends."""

    def start_job(self, job: Job, *, deadline: Deadline) -> JobStatus:
        """Start a job, or attach to the job that has this id already. Safe to repeat."""

    def poll_job(
        self, job_id: str, *, deadline: Deadline, events_from: int = 0, log_from: int = 0, wait_seconds: float = 0.0
    ) -> JobStatus:
        """Return the state of a job: the current one, or that at its end if it ends within ``wait_seconds``.

        A machine that can't wait (``JobStatus.can_wait``) answers at once.
        """

    def close(self) -> None:
        """Close the connection. Jobs continue. A later call opens a new connection."""
