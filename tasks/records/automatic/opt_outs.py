"""Stores the scopes that people have taken out of automatic patching, on SQLite and PostgreSQL."""

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import delete, or_, select

from tasks.records import schema
from tasks.records.statements import build_insert
from tasks.records.storage.database import Database

_OPT_OUTS = schema.opt_outs


@dataclass(frozen=True, slots=True)
class OptOut:
    """A scope that a person has taken out of automatic patching.

    Attributes:
        until: when it ends by itself; None: when a person ends it.
    """

    scope: str
    who: str
    reason: str
    at: datetime
    until: datetime | None = None


class SqlOptOuts:
    """Opt-outs in a database. All threads of one process may share an object.

    Every method raises RecordsError when the database cannot be reached.

    Args:
        database: the database of the records.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, opt_out: OptOut) -> None:
        """Store an opt-out. A second one for the same scope replaces the first one."""
        row = {**asdict(opt_out), "digest": _compute_digest(opt_out.scope)}
        with self._database.begin_write("pause automatic patching") as connection:
            statement = build_insert(connection.dialect.name, _OPT_OUTS).values(row)
            changes = {name: value for name, value in row.items() if name != "digest"}
            connection.execute(statement.on_conflict_do_update(index_elements=["digest"], set_=changes))

    def remove(self, scope: str) -> bool:
        """End the opt-out of a scope. Return whether there was one, expired or not."""
        with self._database.begin_write("resume automatic patching") as connection:
            statement = delete(_OPT_OUTS).where(_OPT_OUTS.c.digest == _compute_digest(scope))
            return connection.execute(statement.returning(_OPT_OUTS.c.digest)).first() is not None

    def read_active(self, now: datetime) -> tuple[OptOut, ...]:
        """Return the opt-outs that hold now, oldest first."""
        query = select(_OPT_OUTS).where(or_(_OPT_OUTS.c.until.is_(None), _OPT_OUTS.c.until > now))
        with self._database.begin_read("read who is paused") as connection:
            rows = connection.execute(query.order_by(_OPT_OUTS.c.at, _OPT_OUTS.c.digest)).all()
        return tuple(OptOut(row.scope, row.who, row.reason, row.at, row.until) for row in rows)


def _compute_digest(scope: str) -> str:
    """Return the key of a scope. Blanks around it make no difference."""
    return hashlib.sha256(scope.strip().encode("utf-8", "surrogatepass")).hexdigest()
