"""Reads which runs are in progress, and whether a process works on them."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from sqlalchemy import select

from inventory.data_class import dataclass
from tasks.domain.model import READ_ONLY_RUN_KINDS, SHARD_KIND
from tasks.records import schema
from tasks.records.page_schema import run_progress
from tasks.records.statements import UNFINISHED_STATES, read_shared_time
from tasks.records.storage.database import Database

SILENCE = timedelta(seconds=45)
"""A run that only reads has no lease. Its process writes at least every ten seconds that it lives."""
SILENT_AFTER = timedelta(seconds=30)
"""A process that lives renews its lease every five seconds, and writes its progress at least every ten."""
_LEASE_LENGTH = timedelta(seconds=60)  # as in flows/engine/run_lease.py, whose layer is above this one


@dataclass(frozen=True, slots=True)
class RunProcess:
    """Who works on an unfinished run."""

    run_id: str
    is_alive: bool  # whether a process works on it
    is_silent: bool  # nothing has been heard from it for long; its lease may go on for up to a minute
    holder: str  # that process, or the last one: user, host and process id; "" if it is not known
    until: datetime | None  # when its lease ends or has ended; None: it has none
    # When it last wrote progress or renewed its lease, by the clock of the pages; None: not known.
    heard_at: datetime | None
    stop_by: str  # who asked it to stop, or ""
    stop_reason: str  # why, or ""


def read_run_processes(database: Database, now: datetime, run_ids: Collection[str] = ()) -> Mapping[str, RunProcess]:
    """Return who works on the unfinished runs, newest run first; not on those of shards.

    ``now``: the present time, for runs without a lease. Leases have the clock of the database.
    ``run_ids``: only these runs, also of shards; empty: all.
    """
    runs, leases, stops, news = schema.runs, schema.leases, schema.stop_requests, run_progress
    query = (
        select(
            runs.c.id,
            runs.c.kind,
            runs.c.started_at,
            leases.c.username,
            leases.c.host,
            leases.c.pid,
            leases.c.until,
            leases.c.given_back,
            news.c.at,
            stops.c.who,
            stops.c.reason,
        )
        .select_from(
            runs.outerjoin(leases, leases.c.run_id == runs.c.id)
            .outerjoin(stops, stops.c.run_id == runs.c.id)
            .outerjoin(news, (news.c.run_id == runs.c.id) & (news.c.machine == ""))
        )
        .where(runs.c.state.in_(UNFINISHED_STATES))
        .order_by(runs.c.started_at.desc(), runs.c.id.desc())
    )
    query = query.where(runs.c.id.in_(run_ids) if run_ids else runs.c.kind != SHARD_KIND)
    with database.begin_read("look who executes runs") as connection:
        shared = read_shared_time(connection, None)
        rows = connection.execute(query).all()
    processes: dict[str, RunProcess] = {}
    for row in rows:
        # a shard has a kind of its own, and a lease if it changes machines
        if row.kind in READ_ONLY_RUN_KINDS or (row.kind == SHARD_KIND and row.until is None):
            is_alive = now - (row.at or row.started_at) < SILENCE
        else:
            is_alive = row.until is not None and not row.given_back and row.until > shared
        holder = f"{row.username} on {row.host}, process {row.pid}" if row.host else ""
        heard_at = _find_last_news(row.at, row.until, row.given_back, now, now - shared)
        is_silent = heard_at is not None and now - heard_at > SILENT_AFTER
        processes[row.id] = RunProcess(
            row.id, is_alive, is_silent, holder, row.until, heard_at, row.who or "", row.reason or ""
        )
    return processes


def _find_last_news(
    news_at: datetime | None, until: datetime | None, given_back: bool | None, now: datetime, difference: timedelta
) -> datetime | None:
    """Return when a process was last heard, not later than now.

    Both signs count, because each may be missing: progress has the clock of the run's host, which may be wrong, and
    runs that only read have no lease. ``difference`` is what the pages' clock is ahead of the lease's.
    """
    known_times = [news_at] if news_at is not None else []
    if until is not None:
        known_times.append(until + difference - (timedelta() if given_back else _LEASE_LENGTH))
    return min(max(known_times), now) if known_times else None
