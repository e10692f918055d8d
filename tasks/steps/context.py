"""What a step is handed: the run's ports and options, one machine's transport, and what is known of it so far."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, NoReturn, Protocol

from inventory.machine import Machine
from tasks.errors import RequestError
from tasks.model import (
    Assessment,
    ErrorInfo,
    Facts,
    Finding,
    Hook,
    HookResult,
    InstallResult,
    PackageState,
    Plan,
    RebootResult,
    RestartResult,
    RunInfo,
    Selection,
    StepRecord,
    Validation,
    Window,
)
from tasks.rules.budget import Rates
from tasks.rules.reboot import MEASURE, needed_seconds
from tasks.seams.clock import Clock, Deadline
from tasks.seams.manager import PackageManager
from tasks.seams.records import Records
from tasks.seams.transport import Transport
from tasks.states import OperationState, RebootPolicy, Step

logger = logging.getLogger(__name__)

READ_SECONDS = 300.0
"""How long a read-only question (facts, assessment, rehearsal) may take."""


class Watcher(Protocol):
    """Told what goes on, for progress bars and logs. Must not raise and must not block."""

    def progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """A step of a machine has come so far (0 to 1; None when it can't tell)."""
        ...

    def finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """A step of a machine has ended."""
        ...

    def said(self, message: str) -> None:
        """Something happened that concerns the whole run."""
        ...


class SilentWatcher:
    """A watcher that only writes to the log."""

    def progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Log it."""
        logger.debug("%s: %s: %s (%s)", machine, step, message, fraction)

    def finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """Log it."""
        logger.info("%s: %s: %s %s", machine, step, state, message)

    def said(self, message: str) -> None:
        """Log it."""
        logger.info("%s", message)


class Control:
    """The way to ask a run to stop: nothing new starts, what runs is left to end.

    Attributes:
        reason: why it was asked to.
        suspended: it was asked to stop so that somebody goes on with it later: what was not begun stays open.
        taken_over: somebody else carries the run now; machines are left to them, with their claims.
        ours: whether the run is still this process' to carry out; asked just before what changes a machine.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self.reason = ""
        self.suspended = False
        self.taken_over = False
        self.ours: Callable[[], bool] = lambda: True

    def stop(self, reason: str) -> None:
        """Ask for it. The first reason stands."""
        if not self._stop.is_set():
            self.reason = reason
            self._stop.set()

    def suspend(self, reason: str) -> None:
        """Ask it to stop, and to leave open what was not begun. A run that stops already goes on stopping."""
        if not self._stop.is_set():
            self.suspended = True
            self.stop(reason)

    def lose(self) -> None:
        """Say that somebody else has taken the run over: it stops, and gives no machine back."""
        self.taken_over = True
        self.suspended = False
        self.stop("somebody else has taken this run over")

    @property
    def stopping(self) -> bool:
        """Whether it was asked for."""
        return self._stop.is_set()


@dataclass(frozen=True, slots=True)
class PatchOptions:
    """How machines are to be patched.

    Attributes:
        reboot_reserve_seconds: part of the window that is kept for a reboot.
        going_down_seconds: how long a machine may take from the reboot order until it stops answering.
        coming_up_seconds: how long it may take from then until a login works.
        max_reboots: in one run; a machine that asks for more is left alone and reported.
        reboot_pending_first: take a reboot that was pending before we came, before anything is installed.
        repair: finish an interrupted package transaction that was there before we came.
        native_updaters: what becomes of updaters of the system's own meanwhile: they are left alone, or rest until
            the machine's turn is over.
        restart_services: whether services that run replaced files are restarted, when the machine is not rebooted.
        restart_services_exclude: masks of units that are never restarted.
        stage: download everything before the first transaction.
        download_only: that, and nothing after it.
        settle_seconds: how long services may take to come back before validation calls them gone.
        out_of_touch_seconds: how long a machine may be unreachable while its job runs, beyond the window's end.
        refresh: read repositories anew when assessing.
        hooks: the owner's, before and after each machine.
    """

    selection: Selection = field(default_factory=Selection)
    reboot: RebootPolicy = RebootPolicy.IF_REQUIRED
    reboot_reserve_seconds: float = 900.0
    going_down_seconds: float = 600.0
    coming_up_seconds: float = 1800.0
    max_reboots: int = 2
    reboot_pending_first: bool = False
    allow_removals: bool = False
    repair: bool = False
    native_updaters: Literal["leave", "pause"] = "leave"
    restart_services: Literal["Never", "IfRequired"] = "Never"
    restart_services_exclude: tuple[str, ...] = ()
    stage: bool = True
    download_only: bool = False
    settle_seconds: float = 90.0
    out_of_touch_seconds: float = 900.0
    refresh: bool = True
    hooks: tuple[Hook, ...] = ()


def _no_way(hook: Hook, subject: str, deadline: Deadline) -> NoReturn:  # noqa: ARG001 - the call's parameters
    raise RequestError(f"hook {hook.name!r} of kind {hook.kind} can't be run here")


@dataclass(frozen=True, slots=True)
class Context:
    """The ports and options of one run, the same for all its machines.

    Attributes:
        call_hook: runs a hook that is no command on a machine, about a subject, until a deadline.
        budget_spent: says why no further machine may be begun, since too many have failed, or "".
    """

    run: RunInfo
    options: PatchOptions
    clock: Clock
    records: Records
    connect: Callable[[Machine], Transport]
    manager_for: Callable[[Facts], PackageManager]
    watch: Watcher = field(default_factory=SilentWatcher)
    control: Control = field(default_factory=Control)
    call_hook: Callable[[Hook, str, Deadline], HookResult] = _no_way
    budget_spent: Callable[[], str] = lambda: ""

    @property
    def window(self) -> Window:
        """The window of a run that changes machines."""
        if self.run.window is None:
            raise ValueError(f"run {self.run.id} has no window")
        return self.run.window


@dataclass(frozen=True, slots=True)
class MachineRun:
    """What is known of one machine so far. Steps return it with their part filled in.

    Attributes:
        planned_anew: its plan and its packages are of its own turn, and newer than those that the records have.
        baseline: facts from just before anything was changed.
        packages_after: what the package manager said after the last change.
        early_reboot: the reboot that was pending before we came, when it was taken first.
        reboot: the reboot after the installation, done or decided against.
        restarts: services that were restarted after that; None: that was not begun, or its end was not seen.
        begun: an earlier process may have changed the machine in this run already.
        hooks: what came of the owner's hooks around it, in their order.
        entered: the hooks before it had their turn, or there are none; whatever comes after it is due.
        paused: this run may have updaters of the system's own rest there, which is undone at the end of its turn.
        claimed: this run may have the machine's claim, asked for here or by an earlier process.
        halted: why the machine goes no further, or "".
        halted_as: the state that this gives it: Failed when something is wrong with it, NotStarted when it is not.
    """

    machine: Machine
    wave: int | None = None
    assessment: Assessment | None = None
    plan: Plan | None = None
    planned_anew: bool = False
    baseline: Facts | None = None
    findings: tuple[Finding, ...] = ()
    install: InstallResult | None = None
    packages_after: PackageState | None = None
    early_reboot: RebootResult | None = None
    reboot: RebootResult | None = None
    restarts: RestartResult | None = None
    validation: Validation | None = None
    steps: tuple[StepRecord, ...] = ()
    hooks: tuple[HookResult, ...] = ()
    begun: bool = False
    entered: bool = False
    paused: bool = False
    claimed: bool = False
    halted: str = ""
    halted_as: OperationState = OperationState.FAILED
    error: ErrorInfo | None = None

    @property
    def reboots(self) -> tuple[RebootResult, ...]:
        """The reboots that were considered, oldest first."""
        return tuple(result for result in (self.early_reboot, self.reboot) if result is not None)

    def noted(self, record: StepRecord) -> "MachineRun":
        """Return it with one more step record."""
        return replace(self, steps=(*self.steps, record))


class Work:
    """One machine's turn: what a step function is called with.

    Deliberately no dataclass: Prefect walks through dataclasses among a task's parameters, and would copy them.

    Attributes:
        is_asked_once: while true, a read-only step that fails is not tried again by the runner.
    """

    __slots__ = ("_known", "context", "is_asked_once", "run", "transport")

    def __init__(self, context: Context, transport: Transport, run: MachineRun) -> None:
        self.context = context
        self.transport = transport
        self.run = run
        self.is_asked_once = False
        self._known: dict[str, float | None] = {}

    def __repr__(self) -> str:
        return f"Work({self.run.machine.name})"

    @property
    def name(self) -> str:
        """The machine's name."""
        return self.run.machine.name

    def forget_assessment(self) -> None:
        """Let the machine be assessed anew, after an assessment that failed."""
        self.run = replace(self.run, assessment=None, error=None)

    @property
    def facts(self) -> Facts:
        """What the machine last said of itself.

        Raises:
            ValueError: it was never asked.
        """
        facts = self.run.baseline or (self.run.assessment.facts if self.run.assessment else None)
        if facts is None:
            raise ValueError(f"{self.name} has no facts yet")
        return facts

    @property
    def packages(self) -> PackageState:
        """What was pending when the machine was assessed."""
        if self.run.assessment is None or self.run.assessment.packages is None:
            raise ValueError(f"{self.name} was not assessed")
        return self.run.assessment.packages

    @property
    def plan(self) -> Plan:
        """What is to be done on the machine."""
        if self.run.plan is None:
            raise ValueError(f"{self.name} has no plan")
        return self.run.plan

    @property
    def manager(self) -> PackageManager:
        """The machine's package manager."""
        return self.context.manager_for(self.facts)

    @property
    def rates(self) -> Rates:
        """How fast this machine has been, or its package manager's defaults; looked up once in its turn."""
        return Rates.learned(self.packages.manager, self._learned)

    @property
    def reboot_reserve(self) -> float:
        """Seconds of the window that are kept for a reboot of this machine: as asked, or what its reboots need."""
        return max(self._reserve_asked, self.reboot_seconds)

    @property
    def reboot_seconds(self) -> float:
        """Seconds of the window that a reboot of this machine needs: by what was learned, else what is kept for it."""
        return needed_seconds(self._reserve_asked, self._learned(MEASURE))

    def _learned(self, measure: str) -> float | None:
        if measure not in self._known:
            self._known[measure] = self.context.records.learned(self.name, measure)
        return self._known[measure]

    @property
    def _reserve_asked(self) -> float:
        minutes = self.run.machine.limits.reboot_reserve_minutes
        return self.context.options.reboot_reserve_seconds if minutes is None else minutes * 60

    @property
    def max_reboots(self) -> int:
        """Reboots that this machine may see in this run."""
        own = self.run.machine.limits.max_reboots
        return self.context.options.max_reboots if own is None else own

    def reading(self) -> Deadline:
        """Return the deadline of a read-only question asked now."""
        return Deadline.after(self.context.clock, READ_SECONDS)
