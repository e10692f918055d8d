"""Stores the scopes that people have taken out of automatic patching, on SQLite and PostgreSQL."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import delete, select

from inventory.data_class import dataclass
from tasks.records import schema
from tasks.records.decisions import DecisionKind, SqlDecisions
from tasks.records.statements import build_row, upsert_row
from tasks.records.storage.database import Database

_OPT_OUTS = schema.opt_outs
_PAUSED: Final = "paused:"
"""Before the end of a pause, in the chain of decisions."""
_ENDED: Final = "ended"


@dataclass(frozen=True, slots=True)
class OptOut:
    """A scope that a person has taken out of automatic patching."""

    scope: str
    who: str
    reason: str
    at: datetime
    until: datetime | None = None  # when it ends by itself; None: when a person ends it


class SqlOptOuts:
    """Opt-outs in a database. All threads of one process may share an object."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._decisions = SqlDecisions(database)

    def add(self, opt_out: OptOut) -> None:
        """Store an opt-out. A second one for the same scope replaces the first one."""
        with self._database.begin_write("pause automatic patching") as connection:
            upsert_row(connection, _OPT_OUTS, build_row(_OPT_OUTS, opt_out, digest=_compute_digest(opt_out.scope)))
            paused = f"{_PAUSED}{opt_out.until.astimezone(UTC).isoformat() if opt_out.until is not None else ''}"
            self._decisions.append(connection, DecisionKind.PAUSE, paused, opt_out.scope.strip())
        self._decisions.note_newest()

    def remove(self, scope: str) -> bool:
        """End the opt-out of a scope. Return whether there was one, expired or not.

        Raises:
            SealBroken: the chain of decisions is not whole.
        """
        decided = self._decisions.find(DecisionKind.PAUSE, scope.strip())
        was_paused = decided is not None and decided.text.startswith(_PAUSED)
        with self._database.begin_write("resume automatic patching") as connection:
            statement = delete(_OPT_OUTS).where(_OPT_OUTS.c.digest == _compute_digest(scope))
            was_paused |= connection.execute(statement.returning(_OPT_OUTS.c.digest)).first() is not None
            if was_paused:
                self._decisions.append(connection, DecisionKind.PAUSE, _ENDED, scope.strip())
        self._decisions.note_newest()
        return was_paused

    def read_active(self, now: datetime) -> tuple[OptOut, ...]:
        """Return the opt-outs that hold now, oldest first: also those whose rows were removed or changed by SQL.

        Raises:
            SealBroken: the chain of decisions is not whole: it can't be said who is paused.
        """
        decided = self._decisions.find_all(DecisionKind.PAUSE)
        rows = self._database.read_rows("read who is paused", select(_OPT_OUTS))
        opt_outs = {row.scope.strip(): OptOut(row.scope, row.who, row.reason, row.at, row.until) for row in rows}
        for scope, decision in decided.items():
            stored = opt_outs.pop(scope, OptOut(scope, "", "its row was removed from the database", decision.at))
            if decision.text.startswith(_PAUSED):
                until = decision.text.removeprefix(_PAUSED)
                opt_outs[scope] = replace(stored, until=datetime.fromisoformat(until) if until else None)
        active = (opt_out for opt_out in opt_outs.values() if opt_out.until is None or opt_out.until > now)
        return tuple(sorted(active, key=lambda opt_out: (opt_out.at, opt_out.scope)))


def _compute_digest(scope: str) -> str:
    """Return the key of a scope. Blanks around it make no difference."""
    return hashlib.sha256(scope.strip().encode("utf-8", "surrogatepass")).hexdigest()
