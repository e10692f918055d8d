"""What automatic patching does, is going to do and waits for: from records, inventory and policy. Changes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from flows.automatic.fleet_view import build_fleet_view, read_snapshot
from flows.request.automatic_request import AutomaticRequest
from inventory.machine import Inventory
from tasks.records.automatic.opt_outs import OptOut, SqlOptOuts
from tasks.records.feeds.risk_feeds import RiskFeeds, load_risk_feeds
from tasks.records.sql_records import SqlRecords
from tasks.rules.automatic.decision import decide
from tasks.rules.automatic.forecast import find_next_runs
from tasks.rules.automatic.model import AutomaticDecision, AutomaticPolicy, FleetView, RunPlan, Waiting
from tasks.rules.automatic.progress import RolloutProgress, find_shown_rollout, measure_rollout


@dataclass(frozen=True, slots=True)
class AutomaticStatus:
    """Everything that `fleetpatch automatic` shows.

    Attributes:
        now: the time that it describes.
        view: what is known of the fleet.
        decision: what the next tick would do, and who waits.
        progress: of the rollout that is under way, or else of the last one; None: there was none yet.
        next_runs: runs that would start next, the earliest first, as far as that can be said.
        pauses: opt-outs that hold now.
        feeds: what the risk feeds say.
    """

    now: datetime
    request: AutomaticRequest
    view: FleetView
    decision: AutomaticDecision
    progress: RolloutProgress | None = None
    next_runs: tuple[RunPlan, ...] = ()
    pauses: tuple[OptOut, ...] = ()
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
    shown = find_shown_rollout(view)
    return AutomaticStatus(
        now=now,
        request=request,
        view=view,
        decision=decide(policy, view, now),
        progress=measure_rollout(policy, view, shown, now) if shown is not None else None,
        next_runs=find_next_runs(policy, view, now),
        pauses=SqlOptOuts(records.database).read_active(now),
        feeds=feeds,
    )
