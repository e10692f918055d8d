"""Reads the newest assessments of a fleet, with an answer and without one."""

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Connection, Row, TableValuedAlias, Text, bindparam, cast, func, select

from inventory.data_class import dataclass
from tasks.domain.assessment import Assessment, Update
from tasks.records import schema
from tasks.records.encoding.row_encoding import DocumentReader
from tasks.records.page_schema import machine_states
from tasks.records.storage.column_types import to_index_key
from tasks.records.storage.database import Database

_ASSESSMENTS = schema.assessments


@dataclass(frozen=True, slots=True)
class NewestAssessments:
    """A machine's newest assessments."""

    asked_at: datetime  # time of the newest one
    error_kind: str  # class name of the newest one's error; "": the machine answered
    answered: Assessment | None  # the newest one with an answer; None: it never answered

    @property
    def assessed_at(self) -> datetime | None:
        """Time of the newest one with an answer."""
        return self.answered.at if self.answered is not None else None


def read_newest_assessments(
    database: Database, machines: Collection[str], until: datetime | None = None
) -> dict[str, NewestAssessments]:
    """Return the newest assessments of these machines, by machine, without machines that have none.

    ``until``: later ones are left out, because a wrong clock has dated them; None: all count.
    """
    names, reader = sorted(machines), DocumentReader()
    with database.begin_read("read the newest assessments") as connection:
        known, unknown = (
            _read_newest_rows(connection, names, until, known=is_answered) for is_answered in (True, False)
        )
    newest: dict[str, NewestAssessments] = {}
    for name in names:
        good, bad = known.get(to_index_key(name)), unknown.get(to_index_key(name))
        answered = reader.decode_assessment(good.document, good.updates) if good is not None else None
        if answered is not None and (bad is None or answered.at >= bad.at):
            newest[name] = NewestAssessments(answered.at, "", answered)
        elif bad is not None:
            newest[name] = NewestAssessments(bad.at, bad.error_kind or "unknown", answered)
    return newest


def read_missing_updates(database: Database) -> dict[str, tuple[Update, ...]]:
    """Return what each machine lacked at its newest answer. A machine that has never answered is missing.

    Machines that lack the same have the same object: most of a fleet do. Of assessments, only these lists are read.
    """
    reader = DocumentReader()
    is_newest_answer = (_ASSESSMENTS.c.machine == machine_states.c.machine) & _ASSESSMENTS.c.known
    is_newest_answer &= _ASSESSMENTS.c.at == machine_states.c.answered_at
    query = select(_ASSESSMENTS.c.machine, _ASSESSMENTS.c.updates).join_from(
        machine_states, _ASSESSMENTS, is_newest_answer
    )
    rows = database.read_rows("read the missing updates", query.order_by(_ASSESSMENTS.c.number))
    return {machine: reader.decode_missing_updates(updates) for machine, updates in rows}


def find_later_assessments(database: Database, machines: Collection[str], after: datetime) -> dict[str, datetime]:
    """Return those of these machines that have assessments after a time, with the time of the newest one."""
    names = {to_index_key(name): name for name in sorted(machines)}
    with database.begin_read("look for assessments of the future") as connection:
        listed = _list_names(connection, list(names))
        newest = select(func.max(_ASSESSMENTS.c.at)).where(_ASSESSMENTS.c.machine == listed.c.value)
        query = select(listed.c.value, newest.correlate(listed).scalar_subquery()).select_from(listed)
        rows = connection.execute(query).tuples().all()
    return {names[key]: at for key, at in rows if at is not None and at > after}


def _list_names(connection: Connection, machines: Sequence[str]) -> TableValuedAlias:
    """Return a table of these names, so that each costs one lookup in an index."""
    names = bindparam("names", json.dumps(list(machines)), Text)
    if connection.dialect.name == "sqlite":
        return func.json_each(names).table_valued("value")
    return func.json_array_elements_text(cast(names, JSON)).table_valued("value")


def _read_newest_rows(
    connection: Connection, machines: Sequence[str], until: datetime | None, *, known: bool
) -> dict[str, Row[Any]]:
    """Return the newest assessment of each machine, with an answer or without one. One index lookup per machine."""
    listed = _list_names(connection, [to_index_key(name) for name in machines])
    own = _ASSESSMENTS.alias("own")
    limit = [] if until is None else [own.c.at <= until]
    newest = (
        select(own.c.number)
        .where(own.c.machine == listed.c.value, own.c.known.is_(known), *limit)
        .order_by(own.c.at.desc(), own.c.number.desc())
        .limit(1)
        .correlate(listed)
        .scalar_subquery()
    )
    columns = [_ASSESSMENTS.c.machine, _ASSESSMENTS.c.at, _ASSESSMENTS.c.error_kind]
    columns += [_ASSESSMENTS.c.document, _ASSESSMENTS.c.updates] if known else []
    query = select(*columns).where(_ASSESSMENTS.c.number.in_(select(newest).select_from(listed)))
    return {row.machine: row for row in connection.execute(query)}
