"""What a run knows of one machine so far. Each step returns it with its own part filled in."""

from dataclasses import dataclass, replace

from inventory.machine import Machine
from tasks.model import (
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
from tasks.states import OperationState


@dataclass(frozen=True, slots=True)
class MachineState:
    """What is known of one machine so far. Steps return it with their part filled in.

    Attributes:
        was_replanned: its plan and its packages were made anew, and are newer than those that the records have.
        baseline: facts from just before anything was changed.
        packages_after: what the package manager said after the last change.
        early_reboot: the reboot that was pending before we came, when it was taken first.
        reboot: the reboot after the installation, done or decided against.
        restarts: services that were restarted after that; None: that was not begun, or its end was not seen.
        was_started: an earlier process may have changed the machine in this run already.
        hooks: what came of the owner's hooks around it, in their order.
        before_hooks_ran: the hooks before it have run, or there are none; the hooks after it are due.
        may_have_paused_updaters: this run may have paused the system's own updaters; it restores them at the end.
        may_hold_lock: this run may have the machine lock, acquired here or by an earlier process.
        halted: why the machine goes no further, or "".
        halted_as: the state that this gives it: Failed when something is wrong with it, NotStarted when it is not.
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
    restarts: RestartResult | None = None
    validation: ValidationResult | None = None
    steps: tuple[StepRecord, ...] = ()
    hooks: tuple[HookResult, ...] = ()
    was_started: bool = False
    before_hooks_ran: bool = False
    may_have_paused_updaters: bool = False
    may_hold_lock: bool = False
    halted: str = ""
    halted_as: OperationState = OperationState.FAILED
    error: ErrorInfo | None = None

    @property
    def reboots(self) -> tuple[RebootResult, ...]:
        """The reboots that were considered, oldest first."""
        return tuple(result for result in (self.early_reboot, self.reboot) if result is not None)

    def with_step(self, record: StepRecord) -> "MachineState":
        """Return it with one more step record."""
        return replace(self, steps=(*self.steps, record))
