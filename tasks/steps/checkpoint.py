"""The progress of a machine, in the journal. Another process can resume the run from it.

After each step, the checkpoint stores the parts of the state that steps have filled in. The records store the
assessments and plans of all machines before the first wave. The checkpoint has them only if the machine was planned
again.
"""

from dataclasses import fields, replace
from functools import cache
from threading import Lock

from pydantic import TypeAdapter, ValidationError

from inventory.data_class import dataclass
from tasks.domain.errors import RecordsError
from tasks.domain.model import (
    MachinePlan,
    PackageState,
    StepRecord,
)
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.states import OperationState, Step
from tasks.rules.runs.power import POWER_OFF_ACT, restore_power_cycle
from tasks.rules.runs.snapshots import restore_snapshot
from tasks.steps.context.journal import MACHINE_CHANGING_ACTS, record_end
from tasks.steps.context.machine_context import MachineContext, MachineProgress, MachineState
from tasks.steps.machine.auto_updaters import PAUSE_ACT as PAUSE

CHECKPOINT_ACT = "step"
"""The act of journal entries with a checkpoint; their key is the step."""
_NEW_PLAN_ACT = "plan"
"""The act of journal entries with the plan that a step has made again."""


@dataclass(frozen=True, slots=True)
class Checkpoint(MachineProgress):
    """The progress of a machine, as the journal has it.

    Attributes:
        anew: packages and plan, if the machine was planned again. None: the plan in the records is valid.
    """

    anew: tuple[PackageState, MachinePlan] | None = None


_building = Lock()


def _get_adapter() -> TypeAdapter[Checkpoint]:
    with _building:  # the threads of all machines ask at the same time, and to build it takes long
        return _build_adapter()


@cache
def _build_adapter() -> TypeAdapter[Checkpoint]:
    return TypeAdapter(Checkpoint)  # not built by a process that only looks


_SHARED_FIELDS = tuple(each.name for each in fields(MachineProgress))


def build_checkpoint(machine_state: MachineState) -> dict[str, object]:
    """Return a machine's progress as JSON data."""
    checkpoint = Checkpoint(
        **{name: getattr(machine_state, name) for name in _SHARED_FIELDS}, anew=_find_new_plan(machine_state)
    )
    data: dict[str, object] = _get_adapter().dump_python(checkpoint, mode="json", exclude_defaults=True)
    return data


def save_checkpoint(context: MachineContext, step: Step, *records: StepRecord) -> None:
    """Store the machine's progress, so that another process can resume from here.

    ``records``: of this step, which are not in the machine's state yet.

    Raises:
        RecordsError: it can't be stored.
    """
    machine_state = replace(context.state, steps=(*context.state.steps, *records))
    record_end(context, step, CHECKPOINT_ACT, step.value, build_checkpoint(machine_state))


def _find_new_plan(machine_state: MachineState) -> tuple[PackageState, MachinePlan] | None:
    packages, plan = machine_state.assessed_packages, machine_state.plan
    return (packages, plan) if machine_state.was_replanned and packages is not None and plan is not None else None


def record_new_plan(context: MachineContext, step: Step) -> None:
    """Store the plan that a step has made again. The step may be repeated, when its updates are no longer pending.

    Raises:
        RecordsError: it can't be stored.
    """
    new_plan = Checkpoint(anew=_find_new_plan(context.state))
    detail = _get_adapter().dump_python(new_plan, mode="json", exclude_defaults=True)
    record_end(context, step, _NEW_PLAN_ACT, step.value, detail)


def restore_new_plan(context: MachineContext, step: Step) -> MachineState | None:
    """Return the state with the plan that an earlier process of this run has made again in this step, or None.

    Raises:
        RecordsError: the journal can't be read, or the entry is not valid.
    """
    entries = context.records.read_entries(context.run.id, context.name)
    plan_entries = [entry for entry in entries if entry.act == _NEW_PLAN_ACT and entry.step is step]
    return _take_new_plan(context.state, _parse_checkpoint(plan_entries[-1], context.name)) if plan_entries else None


def restore_checkpoint(machine_state: MachineState, entries: tuple[JournalEntry, ...]) -> MachineState:
    """Return a machine's state after its last completed step, from its journal. Pure.

    An error or a halt that ended the steps is left out: a resumed run looks at the machine again and repeats the
    pre-check. ``entries`` are of this machine in this run, oldest first.

    Raises:
        RecordsError: an entry is not valid.
    """
    was_changed_before_resume = any(
        entry.mark is JournalMark.BEFORE and entry.act in MACHINE_CHANGING_ACTS for entry in entries
    )
    may_have_paused_updaters = any(entry.mark is JournalMark.BEFORE and entry.act == PAUSE for entry in entries)
    machine_state = replace(
        machine_state,
        was_changed_before_resume=was_changed_before_resume,
        may_have_paused_updaters=may_have_paused_updaters,
        may_hold_lock=True,
        power=restore_power_cycle(entries),
        snapshot=restore_snapshot(entries),
    )
    machine_state = _restore_last_checkpoint(machine_state, entries)
    # a machine that may be off by now is halted: its turn was over, nothing is repeated
    off = [entry for entry in entries if entry.act == POWER_OFF_ACT and entry.mark is JournalMark.BEFORE]
    if not off or not off[-1].detail.get("halted"):
        return machine_state
    halted_as = OperationState(str(off[-1].detail.get("halted_as", OperationState.NOT_STARTED)))
    return replace(machine_state, halted=str(off[-1].detail["halted"]), halted_as=halted_as)


def _restore_last_checkpoint(machine_state: MachineState, entries: tuple[JournalEntry, ...]) -> MachineState:
    checkpoints = [entry for entry in entries if entry.act == CHECKPOINT_ACT and entry.mark is JournalMark.AFTER]
    if not checkpoints:
        return machine_state
    checkpoint = _parse_checkpoint(checkpoints[-1], machine_state.machine.name)
    parts = {name: getattr(checkpoint, name) for name in _SHARED_FIELDS}
    if checkpoint.halted:
        parts |= {"baseline": None, "findings": ()}
    machine_state = _take_new_plan(machine_state, checkpoint)
    return replace(machine_state, **{**parts, "halted": "", "error": None})


def _parse_checkpoint(entry: JournalEntry, machine: str) -> Checkpoint:
    try:
        return _get_adapter().validate_python(entry.detail, strict=False)
    except ValidationError as error:
        raise RecordsError(
            f"the journal of run {entry.run_id} can't be understood at {entry.at:%Y-%m-%d %H:%M:%S}: {error}",
            machine=machine,
            hint="It was written by another version; finish the run with that one.",
        ) from error


def _take_new_plan(machine_state: MachineState, checkpoint: Checkpoint) -> MachineState:
    if checkpoint.anew is None:
        return machine_state
    packages, plan = checkpoint.anew
    return replace(machine_state.with_packages(packages), plan=plan, was_replanned=True)
