"""The Transport protocol: how scripts and jobs reach a machine.

A script has one name and one set of parameters on every system: ``facts`` is scripts/posix/facts.sh behind a
POSIX shell and scripts/windows/facts.ps1 behind PowerShell. What both print is the contract: framed JSON records.
A package manager brings scripts of its own, in its package. A script itself says which others it needs.

A job is a script that outlives its connection. It runs detached on the machine under an id that its starter chose,
writes its records to a file there, and is read by offset. Starting an id a second time attaches to the first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol, TypeAlias

from tasks.protocols.clock import Deadline

ScriptParameter: TypeAlias = str | tuple[str, ...]
ScriptRecord: TypeAlias = Mapping[str, object]  # always has "kind": str

SHARED_SCRIPTS: Final = "tasks"
"""The package whose scripts everybody may use."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script by name, with its parameters.

    Attributes:
        name: stem of a script's file; the label of a job that runs it.
        params: strings and lists of strings; they travel as one JSON token, never as script text.
        read_only: whether it may be run again when the connection was lost half-way.
        privileged: whether it needs root.
        package: the Python package that has it in its folder ``scripts``; the shared scripts are looked at after that.
    """

    name: str
    params: Mapping[str, ScriptParameter] = field(default_factory=lambda: MappingProxyType({}))
    read_only: bool = True
    privileged: bool = True
    package: str = SHARED_SCRIPTS


@dataclass(frozen=True, slots=True)
class ScriptResult:
    """What a script gave back.

    Attributes:
        records: its framed JSON records, in order.
        exit_code: of the script.
        unframed_output: the last of everything else that came over the line (banners, stderr), for people.
        seconds: wall time.
    """

    records: tuple[ScriptRecord, ...]
    exit_code: int
    unframed_output: str = ""
    seconds: float = 0.0

    def find_records(self, kind: str) -> tuple[ScriptRecord, ...]:
        """Return the records of that kind, in order."""
        return tuple(record for record in self.records if record.get("kind") == kind)


class JobPhase(StrEnum):
    """Where a job stands."""

    ABSENT = "absent"  # the machine knows no such id
    RUNNING = "running"
    FINISHED = "finished"  # it left an exit code
    LOST = "lost"  # its process is gone and it left none: power cut, or killed


@dataclass(frozen=True, slots=True)
class Job:
    """A script to run detached, under an id that is the same whenever the same work is asked for."""

    id: str
    script: Script


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A look at a job.

    Attributes:
        events: its records from the offset that was asked for.
        events_offset: where to read on (bytes; only whole lines are counted).
        log: raw output from the offset that was asked for, at most 256 KiB.
        log_offset: where to read on (bytes).
        attached: of ``start_job``: whether the job was there already, so that nothing new was started.
    """

    job_id: str
    phase: JobPhase
    exit_code: int | None = None
    events: tuple[ScriptRecord, ...] = ()
    events_offset: int = 0
    log: str = ""
    log_offset: int = 0
    attached: bool = False


class Transport(Protocol):
    """A way to one machine. Not for use by two threads at once.

    Every method raises TransportError (or a leaf of it) when the way fails, and ProtocolViolation when what came
    back makes no sense.
    """

    def run_script(self, script: Script, *, deadline: Deadline) -> ScriptResult:
        """Run a script and wait for its end."""
        ...

    def start_job(self, job: Job, *, deadline: Deadline) -> JobStatus:
        """Start a job, or attach to it when its id is there already. Safe to ask twice."""
        ...

    def poll_job(self, job_id: str, *, deadline: Deadline, events_from: int = 0, log_from: int = 0) -> JobStatus:
        """Look at a job without waiting for it."""
        ...

    def close(self) -> None:
        """Give the connection up. Jobs go on. A later call opens it anew."""
        ...
