"""Why one machine is patched automatically when it is, and until when each of its updates is due."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from deployments.preview.automatic_status import AutomaticStatus
from inventory.files.problems import did_you_mean
from tasks.domain.errors import RequestError
from tasks.rules.automatic.deadlines import compute_due
from tasks.rules.automatic.fleet_index import FleetIndex
from tasks.rules.automatic.model import DueUpdate, MachineView, RunPlan, Waiting
from tasks.rules.automatic.progress import RolloutMachine


@dataclass(frozen=True, slots=True)
class UpdateDeadline:
    """A pending update of the machine that the policy selects.

    Attributes:
        due: until when it must be installed.
        remark: why it is not installed with the others, or "".
    """

    update: DueUpdate
    due: datetime
    remark: str = ""


@dataclass(frozen=True, slots=True)
class AutomaticExplanation:
    """What automatic patching knows of a machine.

    Attributes:
        progress: where it is in the rollout that is shown; None: the rollout does not concern it.
        rollout_id: the id of that rollout, or "".
        next_run: the run that would patch it next; None: unknown.
        waiting: why it is not patched now; None: nothing is to be done, or its run starts now.
        deadlines: the earliest first.
        others: number of pending updates that the policy does not select.
    """

    now: datetime
    machine: MachineView
    progress: RolloutMachine | None = None
    rollout_id: str = ""
    next_run: RunPlan | None = None
    waiting: Waiting | None = None
    deadlines: tuple[UpdateDeadline, ...] = ()
    others: int = 0


def explain_automatic(status: AutomaticStatus, name: str) -> AutomaticExplanation:
    """Return what automatic patching knows of a machine.

    Raises:
        RequestError: it takes no care of this machine.
    """
    machine = next((each for each in status.view.machines if each.name == name), None)
    if machine is None:
        raise RequestError(
            f"{name} is not patched automatically",
            hint=f"{did_you_mean(name, [each.name for each in status.view.machines])}"
            f"Machines are, if the scope {status.policy.scope!r} selects them and their owner is `managed`. "
            "`fleetpatch inventory list` shows them with their owners.",
        )
    index = FleetIndex(status.policy, status.view, status.now)
    selected = index.list_selected(machine)
    shown = status.progress
    members = (each for phase in (shown.phases if shown else ()) for each in phase.machines)
    return AutomaticExplanation(
        now=status.now,
        machine=machine,
        progress=next((member for member in members if member.machine == name), None),
        rollout_id=shown.rollout.id if shown else "",
        next_run=next((run for run in status.next_runs if name in run.machines), None),
        waiting=status.waiting_by_machine.get(name),
        deadlines=tuple(sorted(_iterate_deadlines(index, selected), key=lambda each: (each.due, each.update.key))),
        others=len(machine.pending) - len(selected),
    )


def _iterate_deadlines(index: FleetIndex, updates: tuple[DueUpdate, ...]) -> Iterator[UpdateDeadline]:
    reasons = {(held_update.name, held_update.version): held_update.reason for held_update in index.view.held_updates}
    for update in updates:
        remark = update.held or (f"held: {reasons[update.key]}" if update.key in reasons else "")
        yield UpdateDeadline(update, compute_due(index.policy, update, index.view.risks), remark)
