"""The progress of a machine, in the journal. Another process can resume the run from it.

After each step, the checkpoint stores the parts of the state that steps have filled in. The records store the
assessments and plans of all machines before the first wave. The checkpoint has them only if the machine was planned
again.
"""

from dataclasses import dataclass, fields, replace

from pydantic import TypeAdapter, ValidationError

from tasks.errors import RecordsError
from tasks.model import (
    ErrorInfo,
    Facts,
    Finding,
    InstallResult,
    MachinePlan,
    PackageState,
    RebootResult,
    RestartResult,
    StepRecord,
    ValidationResult,
)
from tasks.protocols.records import JournalEntry, JournalMark
from tasks.states import OperationState
from tasks.steps.context.journal import MACHINE_CHANGING_ACTS
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.machine_state import MachineState
from tasks.steps.machine.auto_updaters import PAUSE_ACT as PAUSE

CHECKPOINT_ACT = "step"
"""The act of journal entries with a checkpoint; their key is the step."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The parts of a MachineState that the steps after the plan fill in. Names and meanings are the same there.

    Attributes:
        anew: packages and plan, if the machine was planned again. None: the plan in the records is valid.
    """

    baseline: Facts | None = None
    findings: tuple[Finding, ...] = ()
    install: InstallResult | None = None
    packages_after: PackageState | None = None
    early_reboot: RebootResult | None = None
    reboot: RebootResult | None = None
    restarts: RestartResult | None = None
    validation: ValidationResult | None = None
    steps: tuple[StepRecord, ...] = ()
    halted: str = ""
    halted_as: OperationState = OperationState.FAILED
    error: ErrorInfo | None = None
    anew: tuple[PackageState, MachinePlan] | None = None


_CHECKPOINT_ADAPTER = TypeAdapter(Checkpoint)
_SHARED_FIELDS = tuple(each.name for each in fields(Checkpoint) if each.name != "anew")


def build_checkpoint(machine_state: MachineState) -> dict[str, object]:
    """Return a machine's progress as JSON data."""
    checkpoint = Checkpoint(
        **{name: getattr(machine_state, name) for name in _SHARED_FIELDS}, anew=_find_new_plan(machine_state)
    )
    data: dict[str, object] = _CHECKPOINT_ADAPTER.dump_python(
        checkpoint, mode="json", by_alias=True, exclude_defaults=True
    )
    return data


def _find_new_plan(machine_state: MachineState) -> tuple[PackageState, MachinePlan] | None:
    packages = machine_state.assessment.packages if machine_state.assessment else None
    return (
        (packages, machine_state.plan)
        if machine_state.was_replanned and packages is not None and machine_state.plan is not None
        else None
    )


def restore_checkpoint(machine_state: MachineState, entries: tuple[JournalEntry, ...]) -> MachineState:
    """Return a machine's state after its last completed step, from its journal. Pure.

    An error or a halt that ended the steps is left out: a resumed run looks at the machine again and repeats the
    pre-check.

    Args:
        machine_state: with its assessment and its plan.
        entries: of this machine in this run, oldest first.

    Raises:
        RecordsError: an entry is not valid.
    """
    was_started = any(entry.mark is JournalMark.BEFORE and entry.act in MACHINE_CHANGING_ACTS for entry in entries)
    may_have_paused_updaters = any(entry.mark is JournalMark.BEFORE and entry.act == PAUSE for entry in entries)
    machine_state = replace(
        machine_state,
        was_started=was_started,
        may_have_paused_updaters=may_have_paused_updaters,
        may_hold_lock=True,
    )
    checkpoints = [entry for entry in entries if entry.act == CHECKPOINT_ACT and entry.mark is JournalMark.AFTER]
    if not checkpoints:
        return machine_state
    try:
        checkpoint = _CHECKPOINT_ADAPTER.validate_python(checkpoints[-1].detail, strict=False)
    except ValidationError as error:
        raise RecordsError(
            f"the journal of run {checkpoints[-1].run_id} can't be understood "
            f"at {checkpoints[-1].at:%Y-%m-%d %H:%M:%S}: {error}",
            machine=machine_state.machine.name,
            hint="It was written by another version; finish the run with that one.",
        ) from error
    parts = {name: getattr(checkpoint, name) for name in _SHARED_FIELDS}
    if checkpoint.halted:
        parts |= {"baseline": None, "findings": ()}
    if checkpoint.anew is not None:
        packages, plan = checkpoint.anew
        assessment = replace(machine_state.assessment, packages=packages) if machine_state.assessment else None
        machine_state = replace(machine_state, assessment=assessment, plan=plan, was_replanned=True)
    return replace(machine_state, **{**parts, "halted": "", "error": None})


def complete_recorded_state(context: MachineContext) -> None:
    """Fill in what an earlier version of fleetpatch did not record of a machine: its package manager knows it."""
    state = context.state
    if state.assessment is None or state.assessment.facts is None or state.assessment.packages is None:
        return
    complete = context.manager.complete_recorded_packages
    packages = complete(state.assessment.packages)
    # not those of the assessment: the plan may have chosen another version, the newest one with a security fix
    plan = state.plan and replace(
        state.plan, chosen=complete(replace(state.assessment.packages, updates=state.plan.chosen)).updates
    )
    context.state = replace(
        state,
        assessment=replace(state.assessment, packages=packages),
        plan=plan,
        packages_after=state.packages_after and complete(state.packages_after),
    )
