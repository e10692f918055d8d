"""Publishes the ends of runs whose process died after it had recorded the end: their files and their messages.

Prefect's states are corrected apart from this, for all flow runs.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final

from flows.composition import open_ports, require_readable_targets
from flows.engine.resume_state import parse_recorded_request
from flows.engine.run_end import publish_end
from flows.engine.run_lease import LeaseRenewer, build_holder
from flows.local_run import build_reporting_runner
from flows.notify.events import END_EVENTS
from flows.ports.caller import Caller, find_starter_name
from inventory.sites import find_site
from tasks.domain.errors import FleetpatchError, LeaseLost, RecordsError, RecordsUnavailable
from tasks.domain.model import RunInfo
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.protocols.records import PUBLISH_ACT
from tasks.domain.run_errors import LeaseHeld
from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.steps.context.run_control import StopToken

logger = logging.getLogger(__name__)

_RECENT: Final = timedelta(days=2)
"""An end that was not published for so long is in the lists of runs, and no news."""
_MOST_RUNS: Final = 500


def publish_missing_ends(caller: Caller, tell: Callable[[str], None]) -> tuple[list[str], bool]:
    """Publish the recent ends that no process has published, and tell what became of each.

    People may be told twice if a process died between its message and its note of that: a lost message is worse.

    Returns:
        The ids of the runs whose end was published, and whether nothing failed. What failed is tried again at the next
        call.
    """
    published, failed = [], False
    try:
        with open_records(caller.records_url) as records:
            for run in _find_unpublished_runs(records):
                try:
                    if not _publish_recorded_end(run, records, caller):
                        continue
                    published.append(run.id)
                    tell(f"run {run.id}: its end was published; its process had died before")
                except (LeaseHeld, LeaseLost):  # another process publishes it
                    continue
                except RecordsUnavailable:
                    raise
                except FleetpatchError as error:  # its inventory, its seal; the ends of other runs do not wait for it
                    failed = True
                    tell(f"run {run.id}: its end was not published: {error.message}")
                except Exception as error:
                    logger.exception("the end of run %s was not published", run.id)
                    failed = True
                    tell(f"run {run.id}: its end was not published: {type(error).__name__}: {error}")
    except RecordsError as error:
        tell(f"whether each end was published is not known: {error.message}")
        return published, False
    return published, not failed


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


def _publish_recorded_end(run: RunInfo, records: SqlRecords, caller: Caller) -> bool:
    """Publish the end of a run. Return False if another process has, since this one looked."""
    request, token, holder = parse_recorded_request(run), StopToken(), build_holder(find_starter_name(caller))
    require_readable_targets(request, END_EVENTS)  # else another process tells them, at its next reconcile
    with (
        open_ports(request, replace(caller, stop_token=token)) as ports,
        LeaseRenewer(ports.leases, run.id, token, holder),
    ):
        history = History(records, require_seals=True)
        if _was_published(history, run.id):
            return False
        report = history.read_report(run.id)
        own_ports = replace(ports, records=ports.records.with_lease(run.id, holder))
        publish_end(report, build_reporting_runner(request, own_ports), own_ports, ports.notify)
    return True
