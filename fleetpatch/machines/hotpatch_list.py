"""The enrolment of the fleet's machines for hotpatches, as its page and the API show it. Pure."""

from collections.abc import Iterable
from datetime import date

from fleetpatch.machines.snapshot import FleetSnapshot
from tasks.domain.rows.hotpatch import HotpatchMachineRow
from tasks.domain.rows.machines import MachineRow
from tasks.records.hotpatch_rows import build_hotpatch_machine_row
from tasks.rules.hotpatch import BaselineCalendar


def list_hotpatch_machines(
    snapshot: FleetSnapshot, machines: Iterable[MachineRow], today: date
) -> list[HotpatchMachineRow]:
    """Return the rows of machines of a snapshot, in their order."""
    rows, calendar = snapshot.rows, snapshot.baselines or BaselineCalendar()
    return [
        build_hotpatch_machine_row(
            machine, rows[machine.name].state, rows[machine.name].enrolment_request, calendar, today
        )
        for machine in machines
    ]
