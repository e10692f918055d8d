"""Finds the update that machines have lacked for the longest time, by the controller's clock.

A machine decides what its updates are called, and when they were published. So neither a publication nor one machine's
name for an update is what the fleet is measured by: time begins when an assessment first saw the update there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, distinct, func, select

from tasks.records import schema
from tasks.records.storage.database import Database

_PENDING, _MISSING = schema.assessment_updates, schema.missing_fixes


@dataclass(frozen=True, slots=True)
class OldUpdate:
    """An update that a machine lacks.

    Attributes:
        since: since when fleetpatch has known that the machine lacks it. What automatic patching knows to be installed
            meanwhile does not count.
        machines: how many machines lack an update of this name.
    """

    machine: str
    name: str
    since: datetime
    machines: int


def find_oldest_update(database: Database, counts: Callable[[str], bool]) -> OldUpdate | None:
    """Return the update that any machine has lacked for the longest time, as far as the records know.

    Of several that are as old, it is one that most machines lack.

    Args:
        database: the database of the records.
        counts: returns whether a machine counts, by its name.

    Raises:
        RecordsError: the records can't be read.
    """
    # A publication may be in _MISSING.since: it never makes an update older than its first sight on the machine.
    since = case((_MISSING.c.since > _PENDING.c.since, _MISSING.c.since), else_=_PENDING.c.since)
    is_missing = (_PENDING.c.machine == _MISSING.c.machine) & (_PENDING.c.name == _MISSING.c.name)
    source = _PENDING.outerjoin(_MISSING, is_missing)
    by_machine = select(_PENDING.c.machine, func.min(since, type_=_PENDING.c.since.type)).select_from(source)
    by_machine = by_machine.where(_PENDING.c.since.is_not(None)).group_by(_PENDING.c.machine)
    with database.begin_read("look for the oldest missing update") as connection:
        rows = [(at, machine) for machine, at in connection.execute(by_machine).tuples() if counts(machine)]
        if not rows:
            return None
        at = min(rows)[0]
        oldest = sorted(machine for moment, machine in rows if moment == at)[:_MAX_MACHINES]
        of_name = select(_PENDING.c.name, _PENDING.c.machine).distinct().select_from(source)
        of_name = of_name.where(_PENDING.c.machine.in_(oldest), since == at)
        holders: dict[str, list[str]] = {}
        for name, machine in connection.execute(of_name).tuples():
            holders.setdefault(name, []).append(machine)
        name = min(holders, key=lambda each: (-len(holders[each]), each))
        lacking = connection.execute(select(distinct(_PENDING.c.machine)).where(_PENDING.c.name == name)).scalars()
        return OldUpdate(min(holders[name]), name, at, sum(map(counts, lacking)))


_MAX_MACHINES = 500
"""Of so many of the machines that have lacked an update longest, the updates are compared."""
