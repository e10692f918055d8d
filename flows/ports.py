"""What a run needs from outside: clock, records, machines, and how its work is spread."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, Protocol

from inventory.machine import Inventory, Machine
from tasks.errors import FleetpatchError, PatchError, RequestError
from tasks.model import Facts, FrozenSet, Hook, HookResult, Outcome, Plan, RunReport, Wave
from tasks.rules.calendar.freezes import Freeze
from tasks.seams.clock import Clock, Deadline
from tasks.seams.leases import Leases
from tasks.seams.manager import PackageManager
from tasks.seams.records import Records
from tasks.seams.transport import Job, Script, Transport
from tasks.states import Occasion, Step
from tasks.steps.context import Control, MachineRun, SilentWatcher, Watcher, Work
from tasks.steps.order import perform

logger = logging.getLogger(__name__)


class Runner(Protocol):
    """How the work of a run is spread: plainly, or as Prefect's flows and tasks."""

    def step(self, work: Work, step: Step) -> MachineRun:
        """Carry out one step of one machine."""
        ...

    def wave(self, wave: Wave, body: Callable[[], Sequence[Outcome]]) -> Sequence[Outcome]:
        """Carry out one wave: call ``body`` once and return what it returns."""
        ...

    def publish(self, report: RunReport) -> None:
        """Show a finished report where people of this runner look."""
        ...


class PlainRunner:
    """Everything in this process, without Prefect.

    Args:
        directory: where report files go; None: there are none.
        formats: of the report files.
        logs: finds the raw output of each machine's jobs.
        unwritten: hears of a report that can't be written.
    """

    def __init__(
        self,
        directory: Path | None = None,
        formats: Sequence[str] = (),
        logs: Callable[[RunReport], Mapping[str, str]] = lambda report: {},  # noqa: ARG005 - none is kept anywhere
        unwritten: "Unwritten | None" = None,
    ) -> None:
        self._directory = directory
        self._formats = tuple(formats)
        self._logs = logs
        self._unwritten = unwritten or _log_unwritten
        self.written: dict[str, Path] = {}

    def step(self, work: Work, step: Step) -> MachineRun:
        """Call the step's function."""
        return perform(work, step)

    def wave(self, wave: Wave, body: Callable[[], Sequence[Outcome]]) -> Sequence[Outcome]:  # noqa: ARG002 - the seam's
        """Call the body."""
        return body()

    def publish(self, report: RunReport) -> None:
        """Write files. A report that can't be written does not make a run fail: it is said."""
        if self._directory is None:
            return
        from tasks.reporting.write import write_report  # noqa: PLC0415 - loads pandas, which most plain runs save

        try:
            self.written = write_report(report, self._directory, self._logs(report), self._formats)
        except PatchError as error:
            self._unwritten(report.run.id, error)


class Unopened:
    """A Transport to a machine that can't even be tried: whatever is asked of it raises why."""

    def __init__(self, error: FleetpatchError) -> None:
        self._error = error

    def run(self, script: Script, *, deadline: Deadline) -> NoReturn:  # noqa: ARG002 - the seam's
        """Raise why."""
        raise self._error

    def start(self, job: Job, *, deadline: Deadline) -> NoReturn:  # noqa: ARG002 - the seam's
        """Raise why."""
        raise self._error

    def look(self, job_id: str, *, deadline: Deadline, events_from: int = 0, log_from: int = 0) -> NoReturn:  # noqa: ARG002
        """Raise why."""
        raise self._error

    def close(self) -> None:
        """There is nothing to close."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a planned run may go on.

    Attributes:
        refused: why nothing may be begun; "" when the run may go on.
        plans: plans that were cut down to what was agreed to, by machine.
        notes: who agreed to what, for the report.
    """

    refused: str = ""
    plans: Mapping[str, Plan] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


Gate = Callable[[RunReport, Control], Decision]
"""Lets a planned run go on, or not, and may take long about it: a person's approval. Ends soon when told to stop."""

Herald = Callable[[Occasion, RunReport], None]
"""Tells people. Never raises, and never takes long."""

CallHook = Callable[[Hook, RunReport, str, Deadline], HookResult]
"""Runs a hook that is no command on a machine: for the run as it stands, about a subject, until a deadline."""

Freezes = Callable[[], Sequence[Freeze]]
"""Returns the freezes that are declared by now, besides those of the request. Never raises, and never takes long."""

FrozenOf = Callable[[str], FrozenSet]
"""Returns what an earlier run has installed, by its id or ``last:CONFIGURATION``; raises RequestError when it can't."""


Unwritten = Callable[[str, FleetpatchError], None]
"""Hears why the report of a run could not be written."""


def _log_unwritten(run_id: str, error: FleetpatchError) -> None:
    logger.error("the report of run %s could not be written: %s", run_id, error)


def _open_gate(planned: RunReport, control: Control) -> Decision:  # noqa: ARG001 - the gate's parameters
    return Decision()


def _nobody_told(occasion: Occasion, report: RunReport) -> None:
    pass


def _no_history(run: str) -> NoReturn:
    raise RequestError(f"what run {run!r} has installed can't be looked up here", hint="Leave as_in_run empty.")


def _no_hooks(hook: Hook, report: RunReport, subject: str, deadline: Deadline) -> NoReturn:  # noqa: ARG001 - as above
    raise RequestError(f"hook {hook.name!r} of kind {hook.kind} can't be run here")


@dataclass(frozen=True, slots=True)
class Ports:
    """The way out of a run, the same for all its machines."""

    inventory: Inventory
    clock: Clock
    records: Records
    leases: Leases
    connect: Callable[[Machine], Transport]
    manager_for: Callable[[Facts], PackageManager]
    watch: Watcher = field(default_factory=SilentWatcher)
    control: Control = field(default_factory=Control)
    logs: Callable[[RunReport], Mapping[str, str]] = lambda report: {}  # noqa: ARG005 - no raw output is kept anywhere
    gate: Gate = _open_gate
    tell: Herald = _nobody_told
    call_hook: CallHook = _no_hooks
    unwritten: Unwritten = _log_unwritten
    frozen: FrozenOf = _no_history
    freezes: Freezes = tuple
