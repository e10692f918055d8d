"""Reads the parts of a run that other runs carry out, as the terminal, JSON, the API and the pages show them."""

from collections.abc import Mapping
from datetime import datetime
from typing import cast

from sqlalchemy import select

from tasks.domain.model import RunInfo
from tasks.domain.protocols.records import SHARD_ACT, JournalEntry, JournalMark
from tasks.domain.rows.runs import ShardRow
from tasks.domain.states import UNFINISHED_RUN_STATES, OperationState
from tasks.records import schema
from tasks.records.encoding.codec import decode
from tasks.records.queries.live_runs import RunProcess, read_run_processes
from tasks.records.storage.database import Database


def read_shard_rows(database: Database, run_id: str, now: datetime) -> tuple[ShardRow, ...]:
    """Return the parts of a run, in the order in which it has begun them; none if its own process does all.

    ``run_id``: the complete id of the whole run.
    """
    journal, table = schema.journal, schema.runs
    query = select(journal.c.document).order_by(journal.c.number)
    query = query.where(journal.c.run_id == run_id, journal.c.machine == "", journal.c.act == SHARD_ACT)
    with database.begin_read("read the parts of a run") as connection:
        entries = [decode(JournalEntry, document) for document in connection.execute(query).scalars()]
        begun = {entry.key: entry for entry in entries if entry.mark is JournalMark.BEFORE}
        documents = connection.execute(select(table.c.document).where(table.c.id.in_(begun))) if begun else None
        runs = [decode(RunInfo, document) for document in documents.scalars()] if documents is not None else []
    closed = {entry.key: str(entry.detail.get("reason", "")) for entry in entries if entry.mark is JournalMark.AFTER}
    unfinished = [run.id for run in runs if run.state in UNFINISHED_RUN_STATES]
    processes = read_run_processes(database, now, unfinished) if unfinished else {}
    runs_by_id = {run.id: run for run in runs}
    return tuple(
        _build_row(entry, closed.get(key, ""), runs_by_id.get(key), processes.get(key)) for key, entry in begun.items()
    )


def _build_row(entry: JournalEntry, closed: str, run: RunInfo | None, process: RunProcess | None) -> ShardRow:
    request = cast("Mapping[str, object]", entry.detail.get("request", {}))
    kind = "plan" if request.get("dry_run") else str(entry.detail.get("kind", "patch"))
    state = run.state if run is not None else OperationState.NOT_STARTED
    # a run that is not wanted any more may go on: its own words are newer
    message = (run.message if run is not None else "") or closed or ("" if run is not None else "it has not begun")
    is_silent = run is not None and process is not None and not process.is_alive
    return ShardRow(
        run_id=entry.key,
        site=str(entry.detail.get("site", "")),
        kind=run.kind if run is not None else kind,
        wave=int(str(entry.detail.get("wave", 0))) or None,
        machines=len(cast("list[str]", request.get("only_machines", []))),
        state=state,
        started_at=run.started_at if run is not None else None,
        ended_at=run.ended_at if run is not None else None,
        silent_since=(process.heard_at or run.started_at) if is_silent and run is not None and process else None,
        message=message,
    )
