"""Reads the present state of all machines, from columns."""

from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import select

from tasks.records.page_tables import machine_states
from tasks.records.storage.database import Database


@dataclass(frozen=True, slots=True)
class MachineState:
    """The state of one machine by its newest assessment (see ``machine_states`` in tasks/records/page_tables.py)."""

    machine: str
    run_id: str
    at: datetime
    error_kind: str
    error_message: str
    answered_at: datetime | None
    compliance: str
    critical: int
    security: int
    other: int
    withheld: int
    reboot: str
    reboot_since: datetime | None
    services_to_restart: int
    problems: int
    findings: int
    os_id: str
    os_version: str
    os_name: str
    manager: str


_COLUMNS = [machine_states.columns[each.name] for each in fields(MachineState)]


def read_machine_states(database: Database) -> dict[str, MachineState]:
    """Return the state of each machine that was ever assessed.

    Raises:
        RecordsError: the records can't be read.
    """
    with database.begin_read("read the state of the fleet") as connection:
        rows = connection.execute(select(*_COLUMNS)).tuples().all()
    return {row[0]: MachineState(*row) for row in rows}
