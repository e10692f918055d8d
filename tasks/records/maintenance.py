"""Stores what maintenance control holds and the runs that apply it, on SQLite and PostgreSQL."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, or_, select, text, update

from inventory.data_class import dataclass
from tasks.domain.errors import RequestError, SealBroken, SealKeyMissing
from tasks.domain.states import OperationState
from tasks.records import schema
from tasks.records.encoding.row_encoding import compress_text, decompress_text
from tasks.records.maintenance_schema import held_applications, held_groups, held_packages
from tasks.records.seals import RUN_KEY, Seals
from tasks.records.statements import UNFINISHED_STATES, insert_missing, iterate_batches, upsert_row
from tasks.records.storage.database import Database
from tasks.rules.maintenance.model import Application, ApplyCause, GroupState, HeldPackage, PackageEnd

_GROUPS, _PACKAGES, _APPLICATIONS = held_groups, held_packages, held_applications
_LOCK_ID: Final = 0x666C6565_68656C64  # "fleeheld": an arbitrary number; every fleetpatch must use the same one


@dataclass(frozen=True, slots=True)
class PackageUpdate:
    """An update of a package, on all machines of its group."""

    name: str
    version: str
    classification: str
    machines: int  # how many lack it
    since: datetime  # when it was first seen pending on one of them
    requires_reboot: bool | None = None


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """A group as it was at the last look, and its newest package with its contents.

    Attributes:
        package: that is held; None: nothing is.
        last_ended: the newest package that has ended; None: there is none.
        machines: names of the machines of the last look.
        unread: how many of them never gave an answer.
        updates: what the package contains.
        removed_at: when its configuration stopped holding; None: it holds.
        fault: why its package must not be acted on: its seal does not fit; "": it may.
    """

    state: GroupState
    configuration: str
    hold_seconds: float
    machines: tuple[str, ...] = ()
    unread: int = 0
    updates: tuple[PackageUpdate, ...] = ()
    last_ended: HeldPackage | None = None
    removed_at: datetime | None = None
    impact: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class StoredApplication:
    """An application with what only the records know of it."""

    application: Application
    group: str
    until: datetime  # later its run can't begin any more
    flow_run_id: str = ""  # "": Prefect may not have it yet, or its run has no flow run
    has_run: bool = False  # whether its run is recorded


class SqlMaintenance:
    """Groups, packages and applications in a database. All threads of one process may share an object.

    ``require_seals``: whether packages must have their seals: for who acts on them, not for who shows them.
    """

    def __init__(self, database: Database, *, require_seals: bool = False) -> None:
        self._database = database
        self._seals = Seals(RUN_KEY, database.fleet)
        self._require_seals = require_seals

    def read_groups(self) -> dict[str, GroupRecord]:
        """Return all groups by name, removed ones included."""
        with self._database.begin_read("read what is held") as connection:
            return _read_groups(connection, None, self._seals if self._require_seals else None)

    def read_state(self, group: str) -> GroupState | None:
        """Return what is remembered of a group; None if nothing is.

        Raises:
            SealBroken: seals are required, and its package does not fit its seal, or has none that can be checked.
        """
        with self._database.begin_read(f"read what is held for {group}") as connection:
            record = _read_groups(connection, [group], self._seals if self._require_seals else None).get(group)
        if record is not None and record.fault:
            raise SealBroken(record.fault, hint=f"Look at it, and count anew: fleetpatch maintenance forget {group}")
        return None if record is None or record.removed_at is not None else record.state

    def save_look(self, record: GroupRecord, ended: HeldPackage | None = None) -> None:
        """Store the result of a look at a group, with the package that ended at it, in one transaction.

        Applications are stored by themselves: one that began since the look stays.
        """
        state = record.state
        document = {
            "configuration": record.configuration,
            "holdSeconds": record.hold_seconds,
            "machines": list(record.machines),
            "unread": record.unread,
            "impact": record.impact,
        }
        row = {"group_name": state.group, "number": state.number, "looked_at": state.looked_at, "removed_at": None}
        with self._database.begin_write(f"store what is held for {state.group}") as connection:
            upsert_row(connection, _GROUPS, {**row, "document": json.dumps(document)})
            if ended is not None:
                self._end_package(connection, state.group, ended)
            if state.package is not None:
                row = _build_package_row(state.group, state.package, record.updates)
                upsert_row(connection, _PACKAGES, self._seals.seal(_PACKAGES, row))

    def remove_group(self, group: str, at: datetime) -> None:
        """Record that a group exists no more. Its package ends, and its first moment is kept for who follows it."""
        with self._database.begin_write(f"end what is held for {group}") as connection:
            held = select(_PACKAGES).where(_PACKAGES.c.group_name == group, _PACKAGES.c.ended_at.is_(None))
            for row in connection.execute(held).all():
                removed = HeldPackage(row.number, row.first_seen, None, at, PackageEnd.REMOVED)
                self._end_package(connection, group, removed)
            connection.execute(update(_GROUPS).where(_GROUPS.c.group_name == group).values(removed_at=at))

    def forget_packages(self, group: str) -> bool:
        """Remove the packages of a group. Its time counts anew from the next look. Return whether there was one."""
        with self._database.begin_write(f"forget what is held for {group}") as connection:
            removed = connection.execute(delete(_PACKAGES).where(_PACKAGES.c.group_name == group)).rowcount
        return removed > 0

    def _end_package(self, connection: Connection, group: str, ended: HeldPackage) -> None:
        """Store the end of a package, with what it contained at the last look."""
        key = (_PACKAGES.c.group_name == group, _PACKAGES.c.number == ended.number)
        stored = connection.execute(select(_PACKAGES).where(*key)).mappings().one_or_none()
        if stored is None:
            return
        row: dict[str, Any] = {str(name): value for name, value in stored.items()}
        row |= {"ended_at": ended.ended_at, "how": ended.end.value if ended.end else "", "applies_at": None}
        upsert_row(connection, _PACKAGES, self._seals.seal(_PACKAGES, row))

    def begin_application(self, group: str, application: Application, until: datetime, flow_run_id: str = "") -> bool:
        """Store an application that is about to begin. Return False if this very one is stored already.

        Of several callers at the same moment, one gets the package.

        Raises:
            RequestError: another run applies the package.
        """
        with self._database.begin_write(f"begin to apply what is held for {group}") as connection:
            if not self._database.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK_ID})
            for other in _read_applications(connection, [group]):
                if other.application.key != application.key and other.application.is_active:
                    run = other.application.run_id or "that has not begun"
                    raise RequestError(
                        f"what is held for {group} is being applied already: run {run}, by {other.application.who}",
                        hint="Wait for its end, or cancel it.",
                    )
            row = {
                "key": application.key,
                "group_name": group,
                "number": application.number,
                "cause": application.cause.value,
                "who": application.who,
                "at": application.began_at,
                "until": until,
                "flow_run_id": flow_run_id,
                "run_id": application.run_id,
                "refusal": application.refusal,
                "refused_at": application.ended_at if application.refusal else None,
            }
            return insert_missing(connection, _APPLICATIONS, row)

    def set_flow_run(self, key: str, flow_run_id: str) -> None:
        """Record the flow run of an application."""
        self._change(key, flow_run_id=flow_run_id)

    def set_run(self, key: str, run_id: str) -> None:
        """Record the run of an application: it has begun."""
        self._change(key, run_id=run_id)

    def refuse(self, key: str, reason: str, at: datetime) -> None:
        """Record that the run of an application has not begun, and never will."""
        self._change(key, refusal=reason, refused_at=at)

    def _change(self, key: str, **values: object) -> None:
        with self._database.begin_write("record what applies a package") as connection:
            connection.execute(update(_APPLICATIONS).where(_APPLICATIONS.c.key == key).values(values))

    def find_application(self, key: str) -> StoredApplication | None:
        """Return an application by its key; None if there is none."""
        query = select(_APPLICATIONS.c.group_name).where(_APPLICATIONS.c.key == key)
        with self._database.begin_read("look up what applies a package") as connection:
            group = connection.execute(query).scalar_one_or_none()
            applications = _read_applications(connection, [group]) if group is not None else []
        return next((each for each in applications if each.application.key == key), None)

    def read_waiting(self) -> tuple[StoredApplication, ...]:
        """Return the applications whose runs are not recorded and were not refused, oldest first."""
        with self._database.begin_read("read what is to be applied") as connection:
            stored = _read_applications(connection, None)
        return tuple(each for each in stored if each.application.is_active and not each.has_run)


def _build_package_row(group: str, package: HeldPackage, updates: Sequence[PackageUpdate]) -> dict[str, Any]:
    contents = [
        [each.name, each.version, each.classification, each.machines, each.since.isoformat(), each.requires_reboot]
        for each in updates
    ]
    return {
        "group_name": group,
        "number": package.number,
        "first_seen": package.first_seen,
        "applies_at": package.applies_at,
        "ended_at": None,
        "how": "",
        "updates": compress_text(json.dumps(contents)),
    }


def _read_groups(connection: Connection, names: Collection[str] | None, seals: Seals | None) -> dict[str, GroupRecord]:
    query = select(_GROUPS).order_by(_GROUPS.c.group_name)
    if names is not None:
        query = query.where(_GROUPS.c.group_name.in_(names))
    groups = connection.execute(query).all()
    packages = _read_newest_packages(connection, names)
    applications: dict[tuple[str, int], list[Application]] = {}
    for stored in _read_applications(connection, names):
        applications.setdefault((stored.group, stored.application.number), []).append(stored.application)
    outcomes = schema.outcomes
    for own in applications.values():
        if own[-1].ended_at is not None and own[-1].run_id:
            done = select(outcomes.c.machine).where(outcomes.c.state == OperationState.SUCCEEDED.value)
            # a run with shards has the results of all of them
            names_done = connection.execute(done.where(outcomes.c.run_id == own[-1].run_id)).scalars()
            own[-1] = replace(own[-1], done=frozenset(names_done))
    records = {row.group_name: _build_record(row, packages.get(row.group_name, {}), applications) for row in groups}
    if seals is None:
        return records
    faults = {name: _find_fault(packages.get(name, {}).values(), seals) for name in records}
    return {name: replace(record, fault=faults[name]) for name, record in records.items()}


def _find_fault(packages: Iterable[Row[Any]], seals: Seals) -> str:
    """Return why a package must not be acted on; "": each fits its seal."""
    for row in packages:
        try:
            seals.check(_PACKAGES, row._mapping, f"package {row.number} of {row.group_name}")  # noqa: SLF001 - a public name
        except (SealBroken, SealKeyMissing) as error:
            return error.message
    return ""


def _build_record(
    row: Row[Any], packages: Mapping[bool, Row[Any]], applications: Mapping[tuple[str, int], list[Application]]
) -> GroupRecord:
    document, held, ended = json.loads(row.document), packages.get(True), packages.get(False)
    package = HeldPackage(held.number, held.first_seen, held.applies_at) if held is not None else None
    own = tuple(applications.get((row.group_name, package.number), ())) if package is not None else ()
    return GroupRecord(
        state=GroupState(
            row.group_name, row.number, package, row.looked_at, own, is_removed=row.removed_at is not None
        ),
        configuration=document["configuration"],
        hold_seconds=document["holdSeconds"],
        machines=tuple(document["machines"]),
        unread=document["unread"],
        updates=tuple(_iterate_contents(held.updates)) if held is not None else (),
        last_ended=HeldPackage(ended.number, ended.first_seen, None, ended.ended_at, PackageEnd(ended.how))
        if ended is not None
        else None,
        removed_at=row.removed_at,
        impact=document["impact"],
    )


def _iterate_contents(compressed: bytes) -> Iterable[PackageUpdate]:
    for name, version, classification, machines, since, requires_reboot in json.loads(decompress_text(compressed)):
        yield PackageUpdate(name, version, classification, machines, datetime.fromisoformat(since), requires_reboot)


def _read_newest_packages(connection: Connection, names: Collection[str] | None) -> dict[str, dict[bool, Row[Any]]]:
    """Return by group the package that is held (True), and the newest one that has ended (False)."""
    ended = _PACKAGES.alias()
    last_ended = select(func.max(ended.c.number)).where(
        ended.c.group_name == _PACKAGES.c.group_name, ended.c.ended_at.is_not(None)
    )
    is_newest = or_(_PACKAGES.c.ended_at.is_(None), _PACKAGES.c.number == last_ended.scalar_subquery())
    query = select(_PACKAGES).where(is_newest).order_by(_PACKAGES.c.group_name, _PACKAGES.c.number)
    if names is not None:
        query = query.where(_PACKAGES.c.group_name.in_(names))
    newest: dict[str, dict[bool, Row[Any]]] = {}
    for row in connection.execute(query):
        newest.setdefault(row.group_name, {})[row.ended_at is None] = row
    return newest


def _read_applications(connection: Connection, groups: Collection[str] | None) -> list[StoredApplication]:
    """Return applications with the states of their runs, oldest first."""
    query = select(_APPLICATIONS).order_by(_APPLICATIONS.c.at, _APPLICATIONS.c.key)
    if groups is not None:
        query = query.where(_APPLICATIONS.c.group_name.in_(groups))
    rows = connection.execute(query).all()
    runs = _read_runs(connection, rows)
    return [_build_application(row, runs) for row in rows]


def _read_runs(connection: Connection, rows: Sequence[Row[Any]]) -> dict[str, Row[Any]]:
    """Return the runs of applications, by their ids and by the ids of their flow runs."""
    runs: dict[str, Row[Any]] = {}
    columns = (
        schema.runs.c.id,
        schema.runs.c.flow_run_id,
        schema.runs.c.state,
        schema.runs.c.ended_at,
        schema.runs.c.message,
    )
    query = select(*columns, schema.stop_requests.c.run_id.label("stop")).join_from(
        schema.runs, schema.stop_requests, schema.stop_requests.c.run_id == schema.runs.c.id, isouter=True
    )
    for column, keys in (
        (schema.runs.c.id, [row.run_id for row in rows if row.run_id]),
        (schema.runs.c.flow_run_id, [row.flow_run_id for row in rows if row.flow_run_id]),
    ):
        for batch in iterate_batches(keys):
            for run in connection.execute(query.where(column.in_(batch))):
                runs[run.id] = run
                if run.flow_run_id:
                    runs[run.flow_run_id] = run
    return runs


def _build_application(row: Row[Any], runs: Mapping[str, Row[Any]]) -> StoredApplication:
    run = runs.get(row.run_id) or (runs.get(row.flow_run_id) if row.flow_run_id else None)
    application = Application(
        row.key, row.number, ApplyCause(row.cause), row.who, row.at, row.run_id, row.refusal, row.refused_at
    )
    if run is not None:
        is_over = run.state not in UNFINISHED_STATES
        has_begun = run.state != OperationState.NOT_STARTED.value
        application = replace(
            application,
            run_id=run.id,
            refusal="" if has_begun else run.message or "its run did not begin",
            ended_at=(run.ended_at or row.at) if is_over else None,
            state=OperationState(run.state) if is_over else None,
            is_stopping=not is_over and run.stop is not None,
        )
    return StoredApplication(application, row.group_name, row.until, row.flow_run_id, has_run=run is not None)
