"""Reads which runs are in progress, and whether a process works on them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select

from tasks.model import READ_ONLY_RUN_KINDS
from tasks.records import schema
from tasks.records.leases import UNFINISHED_STATES
from tasks.records.page_tables import run_progress
from tasks.records.statements import read_shared_time
from tasks.records.storage.database import Database

SILENCE = timedelta(seconds=45)
"""A run that only reads has no lease. Its process writes at least every ten seconds that it lives."""


@dataclass(frozen=True, slots=True)
class RunProcess:
    """Who works on an unfinished run.

    Attributes:
        is_alive: whether a process works on it.
        holder: that process, or the last one: user, host and process id; "" if it is not known.
        until: when its lease ends or has ended; None: it has none.
        news_at: the time of the last news; None: there are none.
        stop_by: who asked it to stop, or "".
        stop_reason: why, or "".
    """

    run_id: str
    is_alive: bool
    holder: str
    until: datetime | None
    news_at: datetime | None
    stop_by: str
    stop_reason: str


def read_run_processes(database: Database, now: datetime, run_id: str | None = None) -> Mapping[str, RunProcess]:
    """Return who works on the unfinished runs, newest run first.

    Args:
        database: the database of the records.
        now: the present time, for runs without a lease. Leases have the clock of the database.
        run_id: only this run; None: all.

    Raises:
        RecordsError: the records can't be read.
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
    if run_id is not None:
        query = query.where(runs.c.id == run_id)
    with database.begin_read("look who executes runs") as connection:
        shared = read_shared_time(connection, None)
        rows = connection.execute(query).all()
    found: dict[str, RunProcess] = {}
    for row in rows:
        if row.kind in READ_ONLY_RUN_KINDS:
            is_alive = now - (row.at or row.started_at) < SILENCE
        else:
            is_alive = row.until is not None and not row.given_back and row.until > shared
        holder = f"{row.username} on {row.host}, process {row.pid}" if row.host else ""
        found[row.id] = RunProcess(row.id, is_alive, holder, row.until, row.at, row.who or "", row.reason or "")
    return found
