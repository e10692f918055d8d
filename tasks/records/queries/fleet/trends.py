"""Computes the state of the fleet on each day. A machine's last answer counts for some days if it gives no newer one."""

from dataclasses import dataclass
from datetime import date, timedelta

from sqlalchemy import Date, func, select

from tasks.records.page_tables import machine_days
from tasks.records.storage.database import Database
from tasks.states import Compliance, YesNoUnknown

CARRIED_DAYS = 7
"""For how many days after its day an answer counts, if there is no newer one. Azure's assessments count as long."""


@dataclass(slots=True)
class DayTotals:
    """The fleet on one day (UTC): how many machines are compliant or not, and the updates that they lacked.

    Attributes:
        urgent: critical and security updates; one that ten machines lack counts ten times.
        other: all other updates.
        reboot: machines that needed a reboot.
    """

    compliant: int = 0
    non_compliant: int = 0
    urgent: int = 0
    other: int = 0
    reboot: int = 0

    @property
    def assessed(self) -> int:
        """The number of machines with an answer that counted."""
        return self.compliant + self.non_compliant


def read_days(database: Database, first: date, last: date) -> dict[date, DayTotals]:
    """Return the totals of each day from the first to the last, oldest first.

    Raises:
        RecordsError: the records can't be read.
    """
    table = machine_days
    following = func.lead(table.c.day, type_=Date).over(partition_by=table.c.machine, order_by=table.c.day)
    days = (
        select(table, following.label("following"))
        .where(table.c.day >= first - timedelta(days=CARRIED_DAYS), table.c.day <= last)
        .subquery()
    )
    alike = (days.c.day, days.c.following, days.c.compliance, days.c.reboot)
    query = select(
        *alike, func.count(), func.sum(days.c.critical + days.c.security), func.sum(days.c.other)
    ).group_by(*alike)
    with database.begin_read("read the past days of the fleet") as connection:
        groups = connection.execute(query).tuples().all()
    found = {first + timedelta(days=number): DayTotals() for number in range((last - first).days + 1)}
    for begin, end, compliance, reboot, machines, urgent, other in groups:
        for number in range(CARRIED_DAYS + 1):
            day = begin + timedelta(days=number)
            if end is not None and day >= end:
                break
            if day in found:
                _add(found[day], compliance, reboot, machines, int(urgent), int(other))
    return found


def _add(totals: DayTotals, compliance: str, reboot: str, machines: int, urgent: int, other: int) -> None:
    if compliance == Compliance.COMPLIANT:
        totals.compliant += machines
    elif compliance == Compliance.NON_COMPLIANT:
        totals.non_compliant += machines
    else:
        return
    totals.urgent += urgent
    totals.other += other
    totals.reboot += machines if reboot == YesNoUnknown.YES else 0
