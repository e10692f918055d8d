"""Stores who started a flow run through the pages or the API, on SQLite and PostgreSQL."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select, update

from inventory.data_class import dataclass
from tasks.domain.errors import RequestError
from tasks.domain.protocols.clock import SystemClock
from tasks.records.decisions import DecisionKind, SqlDecisions
from tasks.records.page_schema import requested_runs
from tasks.records.seals import DECISION_KEY, Seals
from tasks.records.statements import build_row, insert_missing
from tasks.records.storage.database import Database

LONGEST_WAIT: Final = timedelta(days=1)
"""How long a flow run may wait for a worker. A key that nothing has claimed is worth nothing after that."""


@dataclass(frozen=True, slots=True)
class RequestedRun:
    """A flow run that a person asked for."""

    key: str  # Prefect's idempotency key of it
    flow: str  # the name of its flow. A flow run of another flow with the same key is not it.
    request_digest: str  # a digest of its parameters: a repeated request is the same one
    who: str  # the person or the program
    at: datetime
    scope: str = ""  # the scope that the role ``run`` of this login is limited to; "": it is not limited
    flow_run_id: str = ""  # the flow run that began with this key; "" before one has begun


def compute_request_digest(parameters: Mapping[str, object]) -> str:
    """Return the digest of a flow run's parameters, which are JSON data: SHA-256, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()


class SqlRequestedRuns:
    """Requested runs in the database of the records. All threads of a process may share an object."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seals = Seals(DECISION_KEY, database.fleet)
        self._decisions = SqlDecisions(database)

    def save(self, run: RequestedRun) -> RequestedRun:
        """Store who asks for a run, before Prefect knows it. Return what is stored: a repeated key changes nothing.

        Raises:
            RecordsError: the database cannot be written. Then the run may not be started.
        """
        row = self._seals.seal(requested_runs, build_row(requested_runs, run, flow_run_id=""))
        with self._database.begin_write(f"record who starts {run.flow}") as connection:
            insert_missing(connection, requested_runs, row)
            columns = [requested_runs.c[field.name] for field in fields(RequestedRun)]
            return RequestedRun(*connection.execute(select(*columns).where(requested_runs.c.key == run.key)).one())

    def cancel(self, key: str) -> None:
        """Let nothing begin with a key any more: who may use Prefect could make a flow run with it again."""
        with self._database.begin_write("cancel what was asked for") as connection:
            if connection.execute(select(requested_runs.c.key).where(requested_runs.c.key == key)).first() is not None:
                self._decisions.append(connection, DecisionKind.REQUEST, "cancelled", key)
        self._decisions.note_newest()

    def claim(
        self, key: str, flow: str, flow_run_id: str, parameters: Mapping[str, object], now: datetime | None = None
    ) -> tuple[str, str]:
        """Return who asked for the flow run that begins now, and the scope of the role; "" if it has no limit.

        The first flow run with the key, the flow and the parameters gets the name, also when it is started again. No
        other one does, and none more than a day after the person asked.

        Raises:
            RecordsError: the database cannot be reached.
            RequestError: nobody asked for it in the pages: something else made it, or changed its parameters. Or it was
                cancelled before it began, or waited for more than a day.
            SealBroken: something else than the pages wrote the name.
            SealKeyMissing: this process lacks the key of decisions of the pages.
        """
        table = requested_runs
        digest = compute_request_digest(parameters)
        mine = (table.c.key == key, table.c.flow == flow, table.c.request_digest == digest)
        if self._decisions.find(DecisionKind.REQUEST, key) is not None:
            raise RequestError(
                f"flow run {flow_run_id} was cancelled in the pages before it began",
                hint="Nothing has begun. If you did not start it: find out who can use Prefect.",
            )
        now = now or SystemClock().now()
        with self._database.begin_write("find who started the flow run") as connection:
            unclaimed = update(table).where(*mine, table.c.flow_run_id == "", table.c.at > now - LONGEST_WAIT)
            connection.execute(unclaimed.values(flow_run_id=flow_run_id))
            query = select(table).where(*mine, table.c.flow_run_id == flow_run_id)
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise RequestError(
                f"nobody asked for flow run {flow_run_id} in the pages as it is: something else made it with their key,"
                f" or changed its parameters, or it waited for more than {LONGEST_WAIT // timedelta(hours=1)} hours",
                hint="Nothing has begun. Find out who can use Prefect. Start the run again in the pages.",
            )
        self._seals.check(table, row, f"who started flow run {flow_run_id}")
        return row["who"], row["scope"]
