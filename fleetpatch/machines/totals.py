"""Counts the whole fleet for the overview. Pure."""

from dataclasses import dataclass
from functools import lru_cache

from fleetpatch.machines.machine_list import list_entries
from fleetpatch.machines.snapshot import FleetSnapshot
from fleetpatch.machines.standing import is_unreachable
from tasks.domain.states import Compliance, YesNoUnknown


@dataclass(slots=True)
class FleetTotals:
    """The fleet in numbers. Only answers that are new enough count, except for ``unreachable``.

    Attributes:
        critical: pending critical updates; one that ten machines lack counts ten times. So ``security`` and ``other``.
        critical_machines: machines that lack critical updates. So ``security_machines``.
        reboot: machines that need a reboot.
        services: machines with services that use replaced files.
        unreachable: machines where the last try could not log in.
    """

    machines: int = 0
    compliant: int = 0
    non_compliant: int = 0
    not_assessed: int = 0
    critical: int = 0
    security: int = 0
    other: int = 0
    critical_machines: int = 0
    security_machines: int = 0
    reboot: int = 0
    services: int = 0
    unreachable: int = 0


@lru_cache(maxsize=2)
def count_fleet(snapshot: FleetSnapshot) -> FleetTotals:
    """Return the fleet in numbers. Readers share it."""
    found = FleetTotals()
    for entry in list_entries(snapshot):
        answer = entry.answer
        found.machines += 1
        found.compliant += entry.compliance is Compliance.COMPLIANT
        found.non_compliant += entry.compliance is Compliance.NON_COMPLIANT
        found.not_assessed += entry.compliance is Compliance.NOT_ASSESSED
        found.unreachable += is_unreachable(entry.row.state)
        if answer is None:
            continue
        found.critical += answer.critical
        found.security += answer.security
        found.other += answer.other
        found.critical_machines += bool(answer.critical)
        found.security_machines += bool(answer.security)
        found.reboot += entry.reboot is YesNoUnknown.YES
        found.services += bool(answer.services_to_restart)
    return found
