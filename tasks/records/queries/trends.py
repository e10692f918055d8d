"""Computes the state of the fleet on each day. A machine's last answer counts for some days."""

from datetime import date, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Date, Integer, Select, func, literal, select

from inventory.data_class import dataclass
from tasks.domain.states import Compliance, YesNoUnknown
from tasks.records.page_schema import machine_days
from tasks.records.storage.database import Database

CARRIED_DAYS = 7
"""For how many days after its day an answer counts, if there is no newer one. Azure's assessments count as long."""


@dataclass(slots=True)
class DayTotals:
    """The fleet on one day (UTC): how many machines are compliant or not, and the updates that they lacked."""

    compliant: int = 0
    non_compliant: int = 0
    urgent: int = 0  # critical and security updates; one that ten machines lack counts ten times
    other: int = 0  # all other updates
    reboot: int = 0  # machines that needed a reboot

    @property
    def assessed(self) -> int:
        """The number of machines with an answer that counted."""
        return self.compliant + self.non_compliant


def read_days(database: Database, first: date, last: date) -> dict[date, DayTotals]:
    """Return the totals of each day from the first to the last, oldest first."""
    alike = (_TABLE.c.day, _TABLE.c.compliance, _TABLE.c.reboot)
    answers = select(*alike, *_SUMS).where(_TABLE.c.day >= first, _TABLE.c.day <= last).group_by(*alike)
    totals_by_day = {first + timedelta(days=number): DayTotals() for number in range((last - first).days + 1)}
    with database.begin_read("read the past days of the fleet") as connection:
        for day, *group in connection.execute(answers).tuples():
            _add(totals_by_day[day], *group)
        for begin, end, *group in connection.execute(_build_gaps_query(connection.dialect.name, first, last)).tuples():
            for number in range(1, CARRIED_DAYS + 1):
                day = begin + timedelta(days=number)
                if day in totals_by_day and (end is None or day < end):
                    _add(totals_by_day[day], *group)
    return totals_by_day


_TABLE = machine_days
_SUMS = (func.count(), func.sum(_TABLE.c.critical + _TABLE.c.security), func.sum(_TABLE.c.other))


def _build_gaps_query(dialect: str, first: date, last: date) -> Select[Any]:
    """Return a query for the answers that were not followed by one on the next day: with the day of the next one.

    Nearly all machines answer every day. So this takes one look-up for each answer, and sorts only the few others.
    """
    later = _TABLE.alias("later")
    next_day = select(later.c.machine).where(
        later.c.machine == _TABLE.c.machine, later.c.day == _add_days(dialect, _TABLE.c.day, 1)
    )
    days = [_add_days(dialect, _TABLE.c.day, number) for number in range(2, CARRIED_DAYS + 1)]
    end = select(func.min(later.c.day)).where(later.c.machine == _TABLE.c.machine, later.c.day.in_(days))
    gaps = (
        select(_TABLE, end.scalar_subquery().label("end"))
        .where(_TABLE.c.day >= first - timedelta(days=CARRIED_DAYS), _TABLE.c.day < last, ~next_day.exists())
        .subquery()
    )
    alike = (gaps.c.day, gaps.c.end, gaps.c.compliance, gaps.c.reboot)
    sums = (func.count(), func.sum(gaps.c.critical + gaps.c.security), func.sum(gaps.c.other))
    return select(*alike, *sums).group_by(*alike)


def _add_days(dialect: str, day: ColumnElement[date], number: int) -> ColumnElement[date]:
    if dialect == "sqlite":
        return func.date(day, f"+{number} day", type_=Date)
    return day + literal(number, Integer)


def _add(totals: DayTotals, compliance: str, reboot: str, machines: int, urgent: int, other: int) -> None:
    if compliance == Compliance.COMPLIANT:
        totals.compliant += machines
    elif compliance == Compliance.NON_COMPLIANT:
        totals.non_compliant += machines
    else:
        return
    totals.urgent += int(urgent)
    totals.other += int(other)
    totals.reboot += machines if reboot == YesNoUnknown.YES else 0
