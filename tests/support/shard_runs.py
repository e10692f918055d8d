"""Runs of shards in the test's process: each is executed when it is started, at its site, on the same records."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from flows.engine.fleet_run import FleetRun
from flows.engine.run_info import find_run_kind
from flows.engine.shard_state import ShardGate, read_shard_state, require_shard
from flows.local_run import LocalRunner
from flows.ports.ports import Ports
from flows.ports.shards import ShardView
from flows.request import AssessRequest, PatchRequest
from inventory.sites import use_site
from tasks.domain.errors import FleetpatchError, RequestError
from tasks.domain.model import Outcome, RunInfo, RunReport
from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.protocols.records import JournalMark
from tasks.domain.states import OperationState
from tasks.steps.context.run_control import StopToken
from tasks.steps.hooks import HOOK_ACT
from tests.support.fake_leases import FakeLeases
from tests.support.fake_records import FakeHistory, FakeRecords


@dataclass
class LocalShardRuns:
    """Implements ShardRuns without Prefect.

    Attributes:
        served: the sites that have a deployment; None: all.
        late: sites whose runs begin only when ``begin`` is called.
        hanging: sites whose runs begin, and do nothing before ``finish`` is called, or before they are asked to stop.
        refusals: by site, what start raises.
        view_end: how the flow runs of runs that are not over have ended.
        stops: the runs that were asked to stop, with the reason.
        cancelled: the flow runs that were cancelled, with the reason.
    """

    records: FakeRecords
    leases: FakeLeases
    build_ports: Callable[[StopToken], Ports]
    served: Collection[str] | None = None
    late: set[str] = field(default_factory=set)
    hanging: set[str] = field(default_factory=set)
    refusals: dict[str, FleetpatchError] = field(default_factory=dict)
    requests: dict[str, Any] = field(default_factory=dict)
    sites: dict[str, str] = field(default_factory=dict)
    stops: dict[str, str] = field(default_factory=dict)
    cancelled: dict[str, str] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)
    silent_since: datetime | None = None
    view_end: str = ""

    def is_served(self, site: str) -> bool:
        return self.served is None or site in self.served

    def start(self, run_id: str, site: str, name: str, request: Mapping[str, object]) -> str:
        if site in self.refusals:
            raise self.refusals[site]
        flow_run_id = f"flow run of {run_id}"
        if run_id not in self.requests:
            (entry,) = [e for e in self.records.journal if e.key == run_id and e.mark is JournalMark.BEFORE]
            kind = AssessRequest if entry.detail["kind"] == "assess" else PatchRequest
            self.requests[run_id], self.sites[run_id] = kind.model_validate(dict(request)), site
            if site in self.hanging and entry.detail["kind"] != "plan":
                self.leases.acquire(run_id, LeaseHolder("hanging", "there", 1, "sim"), 3600.0)
                self._save_run(run_id, OperationState.IN_PROGRESS)
            elif site not in self.late:
                self.begin(run_id)
        return flow_run_id

    def begin(self, run_id: str) -> None:
        """Execute the run of a shard as its process does, to its end."""
        request, flow_run_id = self.requests[run_id], f"flow run of {run_id}"
        history: Any = FakeHistory(self.records)
        token = StopToken()
        with use_site(self.sites[run_id]):
            try:
                whole = require_shard(history, request, flow_run_id)
            except RequestError as error:
                self.ends[run_id] = f"its flow run ended Failed: {error.message}"
                return
            ports = self.build_ports(token)
            state = None
            if isinstance(request, PatchRequest):
                ports = replace(ports, gate=ShardGate(history, request))
                state = None if request.dry_run else read_shard_state(history, request, whole, ports.clock.now())
            FleetRun(
                request, ports, LocalRunner(), run_id=run_id, flow_run_id=flow_run_id, resume_state=state
            ).execute()

    def look(self, run_id: str, flow_run_id: str, known: Collection[str]) -> ShardView:
        run = self.records.runs.get(run_id)
        if run is None:
            return ShardView(end=self.ends.get(run_id, ""))
        outcomes = [outcome for (of_run, name), outcome in self.records.outcomes.items() if of_run == run_id]
        new = tuple(outcome for outcome in outcomes if outcome.machine not in known)
        silent_since = self.silent_since if run.state is OperationState.IN_PROGRESS else None
        end = self.view_end if run.state is OperationState.IN_PROGRESS else ""
        return ShardView(run, new, silent_since=silent_since, end=end)

    def has_begun(self, run_id: str) -> bool:
        return run_id in self.records.runs

    def cancel(self, flow_run_id: str, reason: str) -> None:
        self.cancelled[flow_run_id] = reason

    def read_report(self, run_id: str) -> RunReport:
        return FakeHistory(self.records).read_report(run_id)

    def find_touched(self, run_id: str) -> frozenset[str]:
        return frozenset(e.machine for e in self.records.journal if e.run_id == run_id and e.act == HOOK_ACT)

    def request_stop(self, run_id: str, reason: str) -> None:
        self.stops[run_id] = reason
        self.leases.request_stop(run_id, "the whole run", reason)
        if self.sites[run_id] in self.hanging:
            self.finish(run_id, OperationState.NOT_STARTED)

    def finish(self, run_id: str, state: OperationState) -> None:
        """End a hanging run with this state of its machines."""
        for name in self.requests[run_id].only_machines:
            self.records.save(Outcome(run_id, name, state, "as a test says"))
        self._save_run(run_id, OperationState.SUCCEEDED)

    def _save_run(self, run_id: str, state: OperationState) -> None:
        now = self.build_ports(StopToken()).clock.now()
        kind = find_run_kind(self.requests[run_id])
        self.records.save(RunInfo(run_id, kind, now, state, flow_run_id=f"flow run of {run_id}"))
