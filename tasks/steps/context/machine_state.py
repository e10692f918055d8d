"""The state of one machine in a run. Each step returns it with its own part filled in."""

from dataclasses import dataclass, replace

from inventory.machine import Machine
from tasks.domain.model import (
    Assessment,
    ErrorInfo,
    Facts,
    Finding,
    HookResult,
    InstallResult,
    MachinePlan,
    PackageState,
    RebootResult,
    RestartResult,
    StepRecord,
    ValidationResult,
)
from tasks.domain.states import OperationState
from tasks.rules.runs.power import PowerCycle


@dataclass(frozen=True, slots=True)
class MachineState:
    """What is known of one machine so far. Each step returns it with its own part filled in.

    Attributes:
        was_replanned: its plan and packages were made again, and are newer than those in the records.
        baseline: facts from just before the first change.
        packages_after: the package state after the last change.
        early_reboot: the reboot that was pending before the run, if it was done first.
        reboot: the reboot after the installation, done or decided against.
        follow_up: the plan of another round: what is offered only since the last round. None: there is none.
        follow_up_count: how many such rounds were planned.
        earlier_reboots: those of the rounds before this one.
        restarts: services that were restarted after that. None: it did not begin, or its end was not seen.
        was_started: an earlier process of this run may have changed the machine.
        hooks: results of the hooks around the machine, in their order.
        before_hooks_ran: the hooks before it have run, or there are none. The hooks after it are due.
        may_have_paused_updaters: this run may have paused the system's own updaters. It restores them at the end.
        may_hold_lock: this run may have the machine lock, acquired here or by an earlier process.
        power: how this run powered it on; None: it did not.
        halted: why no further step begins on the machine, or "".
        halted_as: the state of a halted machine: Failed if something is wrong with it, else NotStarted.
    """

    machine: Machine
    wave: int | None = None
    assessment: Assessment | None = None
    plan: MachinePlan | None = None
    was_replanned: bool = False
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
    steps: tuple[StepRecord, ...] = ()
    hooks: tuple[HookResult, ...] = ()
    was_started: bool = False
    before_hooks_ran: bool = False
    may_have_paused_updaters: bool = False
    may_hold_lock: bool = False
    power: PowerCycle | None = None
    halted: str = ""
    halted_as: OperationState = OperationState.FAILED
    error: ErrorInfo | None = None

    @property
    def reboots(self) -> tuple[RebootResult, ...]:
        """The reboots that were done or decided against, oldest first."""
        done = (self.early_reboot, *self.earlier_reboots, self.reboot)
        return tuple(result for result in done if result is not None)

    @property
    def last_assessment(self) -> Assessment | None:
        """The validation's assessment, or else the one from before the installation; None without any."""
        return (self.validation.assessment if self.validation else None) or self.assessment

    def with_step(self, record: StepRecord) -> "MachineState":
        """Return the state with one more step record."""
        return replace(self, steps=(*self.steps, record))
