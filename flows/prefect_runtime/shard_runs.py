"""The runs of shards as flow runs of Prefect: each is started once, by the deployment of its site.

It is a subflow of the flow run that started it, also if another one resumes the whole run.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import UUID

from prefect.runtime import flow_run

from flows.engine.resume_state import find_recorded_run
from flows.ports.shards import ShardView
from flows.prefect_api.flow_run_starter import FlowRunStarter
from flows.prefect_api.tags import build_run_tag, build_site_name
from flows.prefect_runtime.flow_run_origin import build_shard_idempotency_key
from flows.request import AssessRequest, RunRequest
from tasks.domain.errors import PatchError
from tasks.domain.model import RunInfo, RunReport
from tasks.domain.protocols.clock import Clock
from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.records.encoding.row_encoding import DocumentReader
from tasks.records.queries.history import History
from tasks.records.queries.live_runs import SILENCE
from tasks.records.queries.run_summary import read_new_outcomes
from tasks.records.run_progress import read_run_progress
from tasks.records.sql_records import SqlRecords
from tasks.rules.runs.shards import find_whole_run_id
from tasks.steps.hooks import HOOK_ACT

PATCH_DEPLOYMENT, ASSESS_DEPLOYMENT = "patch-fleet/on-demand", "assess-fleet/on-demand"


class PrefectShardRuns:
    """Implements ShardRuns on Prefect's server and the records.

    Args:
        request: of the whole run.
    """

    def __init__(self, records: SqlRecords, clock: Clock, request: RunRequest) -> None:
        self._records, self._clock, self._starter = records, clock, FlowRunStarter()
        self._deployment = ASSESS_DEPLOYMENT if isinstance(request, AssessRequest) else PATCH_DEPLOYMENT
        self._history = History(records, require_seals=True)
        self._reader = DocumentReader()  # the whole run keeps the outcomes and plans of all its shards

    def is_served(self, site: str) -> bool:
        """See ShardRuns."""
        return self._starter.find_deployment(build_site_name(self._deployment, site)) is not None

    def start(self, run_id: str, site: str, name: str, request: Mapping[str, object]) -> str:
        """See ShardRuns."""
        deployment = build_site_name(self._deployment, site)
        tags = [build_run_tag(find_whole_run_id(run_id)), build_run_tag(run_id)]
        key, own_flow_run_id = build_shard_idempotency_key(run_id), flow_run.get_id()
        parent = UUID(own_flow_run_id) if own_flow_run_id else None
        return self._starter.start(deployment, key, name, {"request": request}, tags, parent)

    def look(self, run_id: str, flow_run_id: str, known: Collection[str]) -> ShardView:
        """See ShardRuns. The end of a flow run is not known while Prefect does not answer."""
        run = find_recorded_run(self._history, run_id)  # before its outcomes: its end is written after them
        if run is None:
            return ShardView(end=self._describe_end(flow_run_id))
        outcomes = read_new_outcomes(self._records.database, run_id, known, self._reader)
        if run.state not in UNFINISHED_RUN_STATES:
            return ShardView(run, outcomes)
        rows = read_run_progress(self._records.database, run_id)
        progress = tuple(row for row in rows.values() if row.machine and row.step)
        if not run.may_change_machines:  # it has no lease
            heard_at = rows[""].at if "" in rows else run.started_at
            silent_since = heard_at if self._clock.now() - heard_at > SILENCE else None
            return ShardView(run, outcomes, progress, silent_since, self._describe_end(flow_run_id))
        return ShardView(run, outcomes, progress, self._find_silence(run))

    def has_begun(self, run_id: str) -> bool:
        """See ShardRuns."""
        return find_recorded_run(self._history, run_id) is not None

    def read_report(self, run_id: str) -> RunReport:
        """See ShardRuns."""
        return self._history.read_report(run_id, reader=self._reader)

    def find_touched(self, run_id: str) -> frozenset[str]:
        """See ShardRuns."""
        return frozenset(entry.machine for entry in self._history.read_journal(run_id) if entry.act == HOOK_ACT)

    def request_stop(self, run_id: str, reason: str) -> None:
        """See ShardRuns."""
        self._records.leases.request_stop(run_id, f"run {find_whole_run_id(run_id)}", reason)

    def cancel(self, flow_run_id: str, reason: str) -> None:
        """See ShardRuns."""
        self._starter.cancel(flow_run_id, reason)

    def _find_silence(self, run: RunInfo) -> datetime | None:
        lease = self._records.leases.find_lease(run.id)
        if lease is not None and lease.is_held:
            return None
        return lease.until if lease is not None and lease.until is not None else run.started_at

    def _describe_end(self, flow_run_id: str) -> str:
        try:
            return self._starter.describe_end(flow_run_id) if flow_run_id else ""
        except PatchError:
            return ""
