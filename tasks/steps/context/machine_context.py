"""The parameter of every step: the run context, the transport of one machine, and the machine's state."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from math import inf

from inventory.data_class import dataclass
from inventory.guests import StubbornGuests
from inventory.machine import Machine
from tasks.domain.errors import RecordsError
from tasks.domain.model import (
    Assessment,
    ErrorInfo,
    Facts,
    Finding,
    Hook,
    HookResult,
    InstallResult,
    MachinePlan,
    PackageState,
    RebootResult,
    RestartResult,
    StepRecord,
    ValidationResult,
    Window,
)
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.package_manager import COMING_UP_SECONDS, GOING_DOWN_SECONDS, PackageManager, Rates
from tasks.domain.protocols.transport import SHARED_SCRIPTS, Script, ScriptParameter, Transport
from tasks.domain.provided_machines import SnapshotResult
from tasks.domain.scheduled_events import ScheduledEvent
from tasks.domain.services import Settling
from tasks.domain.states import OperationState, RebootPolicy, Step, YesNoUnknown
from tasks.rules.calendar.local_time import format_time_with_zone
from tasks.rules.rehearsal import choose_measure
from tasks.rules.runs.figures import predict_reboot
from tasks.rules.runs.power import PowerCycle
from tasks.rules.runs.reboot_decision import REBOOT_MEASURE, compute_reboot_reserve, compute_reserved_reboot
from tasks.rules.runs.snapshots import (
    REVERT_MEASURE,
    SNAPSHOT_MEASURE,
    USUAL_REVERT_SECONDS,
    USUAL_SNAPSHOT_SECONDS,
)
from tasks.rules.updates.transaction_planning import learn_rates
from tasks.steps.context.run_context import RunContext
from tasks.steps.context.run_control import StepWait

FORCE_SECONDS = 60.0
"""How long guests may take that are switched off hard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineProgress:
    """What the steps after the plan have filled in: what a checkpoint keeps.

    Attributes:
        baseline: facts from just before the first change.
        packages_after: the package state after the last change.
        early_reboot: the reboot that was pending before the run, if it was done first.
        reboot: the reboot after the installation, done or decided against.
        follow_up: the plan of another round: what is offered only since the last round. None: there is none.
        follow_up_count: how many such rounds were planned.
        earlier_reboots: those of the rounds before this one.
        settling: it waits for its second look. None: that is over, or not needed.
        restarts: services that were restarted after that. None: it did not begin, or its end was not seen.
        halted_as: the state of a halted machine: Failed if something is wrong with it, else NotStarted.
    """

    baseline: Facts | None = None
    findings: tuple[Finding, ...] = ()
    install: InstallResult | None = None
    packages_after: PackageState | None = None
    early_reboot: RebootResult | None = None
    reboot: RebootResult | None = None
    follow_up: MachinePlan | None = None
    follow_up_count: int = 0
    earlier_reboots: tuple[RebootResult, ...] = ()
    restarts: RestartResult | None = None
    validation: ValidationResult | None = None
    settling: Settling | None = None
    steps: tuple[StepRecord, ...] = ()
    halted: str = ""
    halted_as: OperationState = OperationState.FAILED
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class MachineState(MachineProgress):
    """What is known of one machine so far. Each step returns it with its own part filled in.

    Attributes:
        was_replanned: its plan and packages were made again, and are newer than those in the records.
        was_changed_before_resume: an earlier process of this run may have changed the machine.
        before_hooks_ran: the hooks before it have run, or there are none. The hooks after it are due.
        may_have_paused_updaters: this run may have paused the system's own updaters. It restores them at the end.
        may_hold_lock: this run may have the machine lock, acquired here or by an earlier process.
    """

    machine: Machine
    wave: int | None = None
    assessment: Assessment | None = None
    plan: MachinePlan | None = None
    was_replanned: bool = False
    hooks: tuple[HookResult, ...] = ()
    was_changed_before_resume: bool = False
    before_hooks_ran: bool = False
    may_have_paused_updaters: bool = False
    may_hold_lock: bool = False
    power: PowerCycle | None = None
    snapshot: SnapshotResult | None = None

    @property
    def reboots(self) -> tuple[RebootResult, ...]:
        """The reboots that were done or decided against, oldest first."""
        done = (self.early_reboot, *self.earlier_reboots, self.reboot)
        return tuple(result for result in done if result is not None)

    @property
    def last_assessment(self) -> Assessment | None:
        """The validation's assessment, or else the one from before the installation; None without any."""
        return (self.validation.assessment if self.validation else None) or self.assessment

    @property
    def assessed_packages(self) -> PackageState | None:
        """The package state of the assessment; None without one."""
        return self.assessment.packages if self.assessment else None

    @property
    def latest_packages(self) -> PackageState | None:
        """The package state after the last change, or else of the assessment; None without any."""
        return self.packages_after or self.assessed_packages

    def with_packages(self, packages: PackageState) -> "MachineState":
        """Return the state with another package state in its assessment, if it has one."""
        return replace(self, assessment=replace(self.assessment, packages=packages) if self.assessment else None)


MAX_GOING_DOWN_FACTOR = 2
"""So many times the usual time may a machine take to go down while it is at work: Windows installs updates then."""
COMMAND_GRACE_SECONDS = 15.0
"""Added to the timeout of a check's own command, for the connection."""
WAY_BACK_START_SECONDS = 240.0
"""For reading a component's version, and for the start of a job: Windows may take 180 s for that."""
REPLACEMENT_SECONDS = 900.0
"""For a new OS disk, or the one before, and the boot from it: it is not begun with less time left."""
READ_TIMEOUT_SECONDS = 300.0
"""The timeout of a read-only call, but for questions to the package manager."""


def _allow_change() -> str:
    return ""


class MachineContext:
    """The parameter of a step function, for one machine.

    It is not a dataclass: Prefect goes through dataclasses in a task's parameters, and would copy them.

    Attributes:
        run_context: the ports and options of the run. The attributes ``run``, ``options``, ``clock``, ``records``,
            ``listener`` and ``stop_token`` are its own.
        is_retry_disabled: if true, the runner does not retry a read-only step that fails.
        keeps_connection: the machine's turn follows its assessment soon, so its connection stays open until then.
        set_hooks: the hooks of the machine's sets: they take it out of service, and bring it back.
        announced: the scheduled event that this process has announced last, as it was then; None: none.
        are_guests_away: whether its guests have left, so that they only need the time to come back.
        wait: how a step waits, while the machine leaves its worker; None: none does.
        explain_no_first_change: returns why the machine may not be changed now, or "". Called before its first change.
    """

    __slots__ = (
        "_is_silent",
        "_last_progress",
        "_learned_measures",
        "announced",
        "are_guests_away",
        "clock",
        "explain_no_first_change",
        "is_retry_disabled",
        "keeps_connection",
        "listener",
        "options",
        "records",
        "run",
        "run_context",
        "set_hooks",
        "state",
        "stop_token",
        "transport",
        "wait",
    )

    def __init__(self, run_context: RunContext, transport: Transport, state: MachineState) -> None:
        self.run_context = run_context
        self.run, self.options, self.clock = run_context.run, run_context.options, run_context.clock
        self.records, self.listener = run_context.records, run_context.listener
        self.stop_token = run_context.stop_token
        self.transport, self.state = transport, state
        self.is_retry_disabled = self.keeps_connection = self.are_guests_away = False
        self.set_hooks: tuple[Hook, ...] = ()
        self.explain_no_first_change: Callable[[], str] = _allow_change
        self.announced: ScheduledEvent | None = None
        self.wait: StepWait | None = None
        self._learned_measures: dict[str, float | None] = {}
        self._is_silent = False
        self._last_progress: tuple[Step, str, float | None] = (Step.ASSESS, "", None)

    def __repr__(self) -> str:
        return f"MachineContext({self.state.machine.name})"

    @property
    def name(self) -> str:
        """The machine's name."""
        return self.state.machine.name

    @property
    def window(self) -> Window:
        """The window of a run that changes machines."""
        return self.run_context.window

    def add_finding(self, finding: Finding) -> None:
        """Add a finding to the machine's state, once."""
        if finding not in self.state.findings:
            self.state = replace(self.state, findings=(*self.state.findings, finding))

    def report_progress(self, step: Step, message: str, fraction: float | None = None) -> None:
        """Tell who follows the run how far a step of the machine is, from 0 to 1. None: that is not known."""
        self._last_progress, self._is_silent = (step, message, fraction), False
        self.listener.on_progress(self.name, step, fraction, message)

    def report_wait(self, message: str, since: datetime, until: datetime, step: Step | None = None) -> None:
        """Tell what is waited for, since when, and until when at most. ``step``: None: the one that goes on."""
        began, ends = (self._format_time(moment.replace(microsecond=0)) for moment in (since, until))
        self.report_progress(step or self._last_progress[0], f"{message}: since {began}, until {ends} at most")

    def report_silence(self, since: datetime, provider_until: datetime | None = None) -> None:
        """Tell since when the machine does not answer, in place of its last progress, until ``report_answer``.

        ``provider_until``: it is its provider that does not answer, and so long it is asked.
        """
        step, message, fraction = self._last_progress
        text = f"no answer since {self._format_time(since.replace(second=0, microsecond=0))}"
        if provider_until is not None:
            end = self._format_time(provider_until.replace(microsecond=0))
            text = f"its provider: {text}; it is asked until {end}"
        self._is_silent = True
        self.listener.on_progress(self.name, step, fraction, f"{text}; before: {message}" if message else text)

    def _format_time(self, moment: datetime) -> str:
        return format_time_with_zone(moment, self.run.window.zone if self.run.window is not None else "")

    def report_answer(self) -> None:
        """Tell the last progress again if the machine was silent."""
        if self._is_silent:
            self._is_silent = False
            step, message, fraction = self._last_progress
            self.report_progress(step, message or "it answers again", fraction)

    def record_failed_records(self, error: RecordsError) -> None:
        """Ask the run to stop: it must not continue without records. An earlier error of the machine stays."""
        self.stop_token.request_stop(f"the records failed: {error.message}")
        self.state = replace(self.state, error=self.state.error or ErrorInfo.from_error(error))

    def forget_assessment(self) -> None:
        """Remove a failed assessment, so that the machine can be assessed again."""
        self.state = replace(self.state, assessment=None, error=None)

    def adopt_rehearsed(self, measures: Mapping[str, float], *, is_own: bool) -> None:
        """Count with the measures of a copy (see ``choose_measure``): of this machine, or of another one."""
        for measure, value in measures.items():
            usual = None if is_own else getattr(self.manager.default_rates, measure, inf)
            if usual is not None and measure == REBOOT_MEASURE:
                usual = max(usual, compute_reserved_reboot(self._configured_reserve_seconds))
            self._learned_measures[measure] = choose_measure(measure, value, self._read_learned(measure), usual)

    @property
    def has_hooks(self) -> bool:
        """Whether hooks of the request or of a set run around the machine, or a set looks before its first change."""
        return bool(self.options.hooks or self.set_hooks or self.is_set_member)

    @property
    def is_set_member(self) -> bool:
        """Whether the machine has a turn as a member of machine sets."""
        return self.explain_no_first_change is not _allow_change

    @property
    def facts(self) -> Facts:
        """The latest facts of the machine.

        Raises:
            ValueError: it has no facts yet.
        """
        if (facts := self.known_facts) is None:
            raise ValueError(f"{self.name} has no facts yet")
        return facts

    @property
    def known_facts(self) -> Facts | None:
        """The latest facts of the machine, if it has some."""
        return self.state.baseline or (self.state.assessment.facts if self.state.assessment else None)

    @property
    def packages(self) -> PackageState:
        """The package state of the assessment."""
        if self.state.assessed_packages is None:
            raise ValueError(f"{self.name} was not assessed")
        return self.state.assessed_packages

    @property
    def latest_packages(self) -> PackageState:
        """The package state after the last change of the machine, or else of the assessment."""
        return self.state.packages_after or self.packages

    @property
    def plan(self) -> MachinePlan:
        """The machine's plan."""
        if self.state.plan is None:
            raise ValueError(f"{self.name} has no plan")
        return self.state.plan

    @property
    def manager(self) -> PackageManager:
        """The machine's package manager."""
        return self.find_manager(self.facts)

    def find_manager(self, facts: Facts) -> PackageManager:
        """Return the package manager of a machine with these facts. It knows the machine's components, too."""
        base = self.run_context.find_manager(facts)
        components = self.run_context.list_components(self.state.machine)
        if not components:
            return base
        from tasks.machines.managers.components.manager import ComponentManager  # noqa: PLC0415 - few machines have them

        return ComponentManager(base, components, lambda: self.run_context.open_provider(self.state.machine))

    def build_shared_script(
        self, name: str, params: Mapping[str, ScriptParameter], *, read_only: bool = True
    ) -> Script:
        """Return a shared script, with what the machine's package manager replaces in it."""
        package = SHARED_SCRIPTS if self.known_facts is None else self.manager.script_package
        return Script(name, params, read_only, package=package)

    @property
    def rates(self) -> Rates:
        """The learned rates of this machine, or the defaults of its package manager. Read from the records once."""
        return learn_rates(self.manager.default_rates, self._read_learned)

    @property
    def reboot_reserve_seconds(self) -> float:
        """The reboot reserve in seconds: the configured one, or the time that its reboots need if that is longer."""
        return max(self._configured_reserve_seconds, self.reboot_seconds)

    @property
    def reboot_seconds(self) -> float:
        """The seconds of the window that a reboot needs: learned or the configured reserve, and those of its guests."""
        guests = self.state.machine.guests
        moves = 1 if self.are_guests_away else 2  # they leave, and come back
        guest_seconds = moves * guests.minutes * 60 if guests is not None else 0.0
        if guests is not None and guests.stubborn is StubbornGuests.FORCE and not self.are_guests_away:
            guest_seconds += FORCE_SECONDS
        return guest_seconds + compute_reboot_reserve(
            self._configured_reserve_seconds, self._read_learned(REBOOT_MEASURE)
        )

    @property
    def component_reserve_seconds(self) -> float:
        """The seconds of the window for the health of a component after its upgrade, and for the way back."""
        if (order := self.options.component_order) is None:
            return 0.0
        timeouts = (check.timeout_seconds for check in (*self.state.machine.probes, *order.component.health))
        check_seconds = sum(timeout + COMMAND_GRACE_SECONDS for timeout in timeouts)
        watching = order.component.watch_seconds + check_seconds + self.options.come_back_seconds
        if order.component.image is not None:
            return watching + REPLACEMENT_SECONDS
        return watching + WAY_BACK_START_SECONDS + self.rates.predict_install_seconds(1)

    @property
    def notice_reserve_seconds(self) -> float:
        """The seconds of the window for the notice of a reboot that can't be predicted: it is announced when due."""
        notice, plan = self.options.announce, self.state.plan
        if notice is None or self.run_context.events is None or plan is None or self.state.install is not None:
            return 0.0
        may_reboot = self.options.reboot is not RebootPolicy.NEVER and self.facts.can_reboot
        return notice.notice_seconds if may_reboot and predict_reboot(plan) is YesNoUnknown.UNKNOWN else 0.0

    @property
    def snapshot_reserve_seconds(self) -> float:
        """The seconds of the window for the snapshot ahead, and for the way back to it."""
        policy, snapshot = self.options.snapshot, self.state.snapshot
        if policy is None:
            return 0.0
        is_taken = snapshot is not None and snapshot.taken_at is not None
        ahead = 0.0 if is_taken else self._read_learned(SNAPSHOT_MEASURE) or USUAL_SNAPSHOT_SECONDS
        return ahead + self.revert_seconds if policy.reverts_on_failure else ahead

    @property
    def revert_seconds(self) -> float:
        """The seconds that a revert to a snapshot takes: learned, or as long as usual."""
        return self._read_learned(REVERT_MEASURE) or USUAL_REVERT_SECONDS

    @property
    def going_down_seconds(self) -> float:
        """The seconds that the machine may take to go down: its owner's limit, the run's, or what its system needs."""
        usual = GOING_DOWN_SECONDS if self.known_facts is None else self.manager.default_rates.going_down_seconds
        return self._find_patience(self.options.going_down_seconds, usual)

    @property
    def coming_up_seconds(self) -> float:
        """The seconds that it may then take to come back, likewise."""
        usual = COMING_UP_SECONDS if self.known_facts is None else self.manager.default_rates.coming_up_seconds
        return self._find_patience(self.options.coming_up_seconds, usual)

    @property
    def longest_reboot_seconds(self) -> float:
        """The seconds after which a reboot has ended, or is not waited for any longer."""
        return MAX_GOING_DOWN_FACTOR * self.going_down_seconds + self.coming_up_seconds

    def _find_patience(self, of_run: float | None, usual: float) -> float:
        minutes = self.state.machine.limits.reboot_timeout_minutes
        of_run = usual if of_run is None else of_run
        return of_run if minutes is None else minutes * 60

    def _read_learned(self, measure: str) -> float | None:
        if measure not in self._learned_measures:
            self._learned_measures[measure] = self.records.read_measure(self.name, measure)
        return self._learned_measures[measure]

    @property
    def _configured_reserve_seconds(self) -> float:
        minutes = self.state.machine.limits.reboot_reserve_minutes
        return self.options.reboot_reserve_seconds if minutes is None else minutes * 60

    @property
    def max_reboots(self) -> int:
        """The maximum number of reboots of this machine in this run."""
        own = self.state.machine.limits.max_reboots
        return self.options.max_reboots if own is None else own

    def build_read_deadline(self) -> Deadline:
        """Return the deadline of a read-only call that begins now."""
        return Deadline.after(self.clock, READ_TIMEOUT_SECONDS)

    def build_package_deadline(self) -> Deadline:
        """Return the deadline of a question to the package manager that is asked now."""
        return Deadline.after(self.clock, self.manager.default_rates.read_timeout_seconds)
