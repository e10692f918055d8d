"""Publishes the ends of runs whose process died after it had recorded the end: their files and their messages.

Prefect's states are corrected apart from this, for all flow runs.
"""

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Final

from flows.composition import open_ports
from flows.engine.resume_state import parse_recorded_request
from flows.engine.run_end import publish_end
from flows.engine.run_lease import LeaseRenewer, build_holder
from flows.local_run import build_reporting_runner
from flows.ports.caller import Caller, find_starter_name
from inventory.sites import find_site
from tasks.domain.errors import FleetpatchError
from tasks.domain.model import RunInfo
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.protocols.records import PUBLISH_ACT
from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.steps.context.run_control import StopToken

logger = logging.getLogger(__name__)

_RECENT: Final = timedelta(days=2)
"""An end that was not published for so long is in the lists of runs, and no news."""
_MOST_RUNS: Final = 500


def publish_missing_ends(caller: Caller) -> list[str]:
    """Publish the recent ends that no process has published. Return the ids of these runs.

    People may be told twice if a process died between its message and its note of that: a lost message is worse.

    Raises:
        RecordsError: the records can't be read.
    """
    published = []
    with open_records(caller.records_url) as records:
        for run in _find_unpublished_runs(records):
            try:
                _publish_recorded_end(run, records, caller)
            except FleetpatchError as error:  # its inventory, its notifications; the next reconcile tries again
                logger.warning("the end of run %s was not published: %s", run.id, error)
            except Exception:  # the ends of other runs do not wait for it
                logger.exception("the end of run %s was not published", run.id)
            else:
                published.append(run.id)
    return published


def _find_unpublished_runs(records: SqlRecords) -> list[RunInfo]:
    """Return the runs of this site that have ended, that no process has, and whose journal has no publication.

    An older version has not noted it, and a run that was not admitted is told at once. The lease is read before the
    journal: its holder writes there last.
    """
    history, since, site = History(records), SystemClock().now() - _RECENT, find_site()
    ended = [
        run
        for run in history.read_runs(_MOST_RUNS, kind="patch")
        if run.state not in UNFINISHED_RUN_STATES and run.ended_at is not None and run.ended_at >= since
        if run.notes_publication and run.site == site
    ]
    return [
        run
        for run in ended
        if (lease := records.leases.find_lease(run.id)) is not None and not lease.is_held
        if not _was_published(history, run.id)
    ]


def _was_published(history: History, run_id: str) -> bool:
    return any(entry.act == PUBLISH_ACT for entry in history.read_journal(run_id, machine=""))  # not of the machines


def _publish_recorded_end(run: RunInfo, records: SqlRecords, caller: Caller) -> None:
    request, token, holder = parse_recorded_request(run), StopToken(), build_holder(find_starter_name(caller))
    with (
        open_ports(request, replace(caller, stop_token=token)) as ports,
        LeaseRenewer(ports.leases, run.id, token, holder),
    ):
        history = History(records, require_seals=True)
        if _was_published(history, run.id):  # by another process, since this one looked
            return
        report = history.read_report(run.id)
        own_ports = replace(ports, records=ports.records.with_lease(run.id, holder))
        publish_end(report, build_reporting_runner(request, own_ports), own_ports, ports.notify)
