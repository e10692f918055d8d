"""Stores changes of machines that people ask for outside of runs: before each begins, and when it has ended."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Row, Select, and_, delete, exists, or_, select, update

from tasks.domain.rows.machine_orders import MachineOrderRow
from tasks.domain.states import ChangeState
from tasks.records import page_schema
from tasks.records.statements import upsert_row
from tasks.records.storage.database import Database
from tasks.rules.own_updaters import UpdaterAction, UpdaterRequest, build_switch_act

_ORDERS = page_schema.machine_orders


def _is_done_switch(orders: FromClause) -> ColumnElement[bool]:
    """Return the condition for a switch of own updaters that was done."""
    acts = [build_switch_act(action) for action in UpdaterAction]
    done = (ChangeState.CHANGED.value, ChangeState.UNCHANGED.value)
    return and_(orders.c.act.in_(acts), orders.c.state.in_(done))


class SqlMachineOrders:
    """The orders, in the database of the records. All threads of a process may share an object."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, order_id: str, act: str, machine: str, by: str, at: datetime) -> None:
        """Store that an order begins on a machine. Asked again, the first time is replaced: it begins anew."""
        row = {
            "order_id": order_id,
            "machine": machine,
            "act": act,
            "asked_by": by,
            "state": ChangeState.BEGUN.value,
            "began_at": at,
            "ended_at": None,
            "document": "{}",
        }
        with self._database.begin_write(f"store an order to {machine}") as connection:
            upsert_row(connection, _ORDERS, row)

    def end(
        self,
        order_id: str,
        machine: str,
        state: ChangeState,
        at: datetime,
        *,
        message: str,
        remedy: str,
        steps: Sequence[str],
    ) -> None:
        """Store what became of it."""
        document = json.dumps({"message": message, "remedy": remedy, "steps": list(steps)})
        is_it = (_ORDERS.c.order_id == order_id) & (_ORDERS.c.machine == machine)
        with self._database.begin_write(f"store what became of an order to {machine}") as connection:
            values = {"state": state.value, "ended_at": at, "document": document}
            connection.execute(update(_ORDERS).where(is_it).values(**values))

    def read_order(self, order_id: str) -> tuple[MachineOrderRow, ...]:
        """Return an order on each of its machines, by name; none: there is no such order, or it has not begun."""
        return self._read(select(_ORDERS).where(_ORDERS.c.order_id == order_id).order_by(_ORDERS.c.machine))

    def read_newest(self, limit: int = 200, machine: str = "") -> tuple[MachineOrderRow, ...]:
        """Return the newest orders, one row for each machine; ``machine``: only those to it."""
        newest = select(_ORDERS).order_by(_ORDERS.c.began_at.desc(), _ORDERS.c.machine)
        return self._read((newest.where(_ORDERS.c.machine == machine) if machine else newest).limit(limit))

    def read_switches(self) -> dict[str, UpdaterRequest]:
        """Return what people last switched of each machine's own updaters, with success."""
        acts = {build_switch_act(action): action for action in UpdaterAction}
        query = select(_ORDERS).where(_is_done_switch(_ORDERS)).order_by(_ORDERS.c.began_at)
        with self._database.begin_read("read what was switched of updaters") as connection:
            return {
                row.machine: UpdaterRequest(acts[row.act], row.began_at, row.asked_by)
                for row in connection.execute(query)
            }

    def prune(self, before: datetime) -> None:
        """Delete orders that began before a time. The last switch of a machine's updaters stays: it is for good."""
        later = _ORDERS.alias("later")
        has_later = exists().where(
            later.c.machine == _ORDERS.c.machine, _is_done_switch(later), later.c.began_at > _ORDERS.c.began_at
        )
        is_old = _ORDERS.c.began_at < before
        with self._database.begin_write("delete old orders") as connection:
            connection.execute(delete(_ORDERS).where(is_old, or_(~_is_done_switch(_ORDERS), has_later)))

    def _read(self, query: Select[Any]) -> tuple[MachineOrderRow, ...]:
        with self._database.begin_read("read orders to machines") as connection:
            return tuple(map(_build_order_row, connection.execute(query)))


def _build_order_row(row: Row[Any]) -> MachineOrderRow:
    document = json.loads(row.document)
    return MachineOrderRow(
        order_id=row.order_id,
        act=row.act,
        machine=row.machine,
        result=ChangeState(row.state),
        message=document.get("message", ""),
        remedy=document.get("remedy", ""),
        steps=tuple(document.get("steps", ())),
        by=row.asked_by,
        began_at=row.began_at,
        ended_at=row.ended_at,
    )
