"""What automatic patching does, is going to do and waits for: from records, inventory and policy. Changes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime

from flows.automatic.fleet_view import build_fleet_view, read_snapshot
from flows.request.automatic_request import AutomaticRequest
from inventory.data_class import dataclass
from inventory.errors import InventoryError
from inventory.files.problems import did_you_mean
from inventory.machine import Inventory, PatchOwner
from inventory.scope import Scope
from tasks.domain.errors import RequestError
from tasks.records.automatic.opt_outs import OptOut, SqlOptOuts
from tasks.records.feeds.risk_feeds import RiskFeeds, load_risk_feeds
from tasks.records.sql_records import SqlRecords
from tasks.rules.automatic.deadlines import compute_due
from tasks.rules.automatic.decision import decide
from tasks.rules.automatic.fleet_index import FleetIndex
from tasks.rules.automatic.forecast import find_next_runs
from tasks.rules.automatic.model import (
    AutomaticDecision,
    AutomaticPolicy,
    DueUpdate,
    FleetView,
    MachineView,
    RunPlan,
    Waiting,
)
from tasks.rules.automatic.progress import RolloutMachine, RolloutProgress, measure_shown_rollout


def describe_off_peak(request: AutomaticRequest) -> str:
    """Return when machines are patched: "22:00 to 06:00 by each machine's clock"."""
    start, end = request.off_peak.start, request.off_peak.end
    hours = "all day" if start == end else f"{start:%H:%M} to {end:%H:%M}"
    return f"{hours} by each machine's clock"


def count_managed_machines(request: AutomaticRequest, inventory: Inventory | None) -> int | None:
    """Return how many machines are patched automatically; None: it is unknown."""
    if inventory is None:
        return None
    try:
        machines = Scope.parse(request.scope).select_machines(inventory)
    except InventoryError:
        return None
    return sum(machine.owner is PatchOwner.MANAGED for machine in machines)


@dataclass(frozen=True, slots=True)
class AutomaticStatus:
    """Everything that `fleetpatch automatic` shows."""

    now: datetime
    request: AutomaticRequest
    view: FleetView
    decision: AutomaticDecision  # what the next tick would do, and who waits
    # Of the rollout that is under way, or else of the last one; None: there was none yet.
    progress: RolloutProgress | None = None
    next_runs: tuple[RunPlan, ...] = ()  # runs that would start next, the earliest first, as far as that can be said
    pauses: tuple[OptOut, ...] = ()  # opt-outs that hold now
    feeds: RiskFeeds = field(default_factory=RiskFeeds)

    @property
    def policy(self) -> AutomaticPolicy:
        """The policy."""
        return self.request.to_policy()

    @property
    def waiting_by_reason(self) -> Sequence[tuple[str, Sequence[Waiting]]]:
        """Waiting machines by their reason, the most frequent reason first."""
        groups: dict[str, list[Waiting]] = {}
        for waiting_machine in self.decision.waiting:
            groups.setdefault(waiting_machine.reason, []).append(waiting_machine)
        return sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))

    @property
    def waiting_by_machine(self) -> Mapping[str, Waiting]:
        """Why each waiting machine waits."""
        return {waiting_machine.machine: waiting_machine for waiting_machine in self.decision.waiting}


def read_automatic_status(
    request: AutomaticRequest, inventory: Inventory, records: SqlRecords, now: datetime
) -> AutomaticStatus:
    """Return what automatic patching does and waits for.

    Raises:
        InventoryError: the scope of the policy is not valid.
        RecordsError: the records can't be read.
        RequestError: a freeze is not valid.
    """
    policy = request.to_policy()
    snapshot = read_snapshot(records, inventory, policy, now)
    feeds = load_risk_feeds(request.feeds, snapshot.cves, request.max_feed_age_days, now)
    freezes = request.freezes
    view = build_fleet_view(records, inventory, policy, now, feeds.risks, freezes=freezes, snapshot=snapshot)
    return AutomaticStatus(
        now=now,
        request=request,
        view=view,
        decision=decide(policy, view, now),
        progress=measure_shown_rollout(policy, view, now),
        next_runs=find_next_runs(policy, view, now),
        pauses=SqlOptOuts(records.database).read_active(now),
        feeds=feeds,
    )


@dataclass(frozen=True, slots=True)
class UpdateDeadline:
    """A pending update of the machine that the policy selects."""

    update: DueUpdate
    due: datetime  # until when it must be installed
    remark: str = ""  # why it is not installed with the others, or ""


@dataclass(frozen=True, slots=True)
class AutomaticExplanation:
    """What automatic patching knows of a machine."""

    now: datetime
    machine: MachineView
    # Where it is in the rollout that is shown; None: the rollout does not concern it.
    progress: RolloutMachine | None = None
    rollout_id: str = ""  # the id of that rollout, or ""
    next_run: RunPlan | None = None  # the run that would patch it next; None: unknown
    waiting: Waiting | None = None  # why it is not patched now; None: nothing is to be done, or its run starts now
    deadlines: tuple[UpdateDeadline, ...] = ()  # the earliest first
    others: int = 0  # number of pending updates that the policy does not select


def explain_automatic(status: AutomaticStatus, name: str) -> AutomaticExplanation:
    """Return what automatic patching knows of a machine. Raise RequestError if it takes no care of this machine."""
    machine = next((candidate for candidate in status.view.machines if candidate.name == name), None)
    if machine is None:
        raise RequestError(
            f"{name} is not patched automatically",
            hint=f"{did_you_mean(name, [candidate.name for candidate in status.view.machines])}"
            f"Machines are, if the scope {status.policy.scope!r} selects them and their owner is `managed`. "
            "`fleetpatch inventory list` shows them with their owners.",
        )
    index = FleetIndex(status.policy, status.view, status.now)
    selected = index.list_selected(machine)
    rollout_progress = status.progress
    members = (
        candidate for phase in (rollout_progress.phases if rollout_progress else ()) for candidate in phase.machines
    )
    reasons = {(update.name, update.version): update.reason for update in index.view.held_updates}
    deadlines = [
        UpdateDeadline(
            update,
            compute_due(index.policy, update, index.view.risks),
            update.held or (f"held: {reasons[update.key]}" if update.key in reasons else ""),
        )
        for update in selected
    ]
    return AutomaticExplanation(
        now=status.now,
        machine=machine,
        progress=next((member for member in members if member.machine == name), None),
        rollout_id=rollout_progress.rollout.id if rollout_progress else "",
        next_run=next((run for run in status.next_runs if name in run.machines), None),
        waiting=status.waiting_by_machine.get(name),
        deadlines=tuple(sorted(deadlines, key=lambda deadline: (deadline.due, deadline.update.key))),
        others=len(machine.pending) - len(selected),
    )
