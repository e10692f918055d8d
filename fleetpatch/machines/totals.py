"""Counts the whole fleet for the overview. Pure."""

from dataclasses import dataclass
from functools import lru_cache

from fleetpatch.machines.snapshot import FleetSnapshot
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
    totals = FleetTotals()
    for machine in snapshot.machines.values():
        totals.machines += 1
        totals.compliant += machine.compliance is Compliance.COMPLIANT
        totals.non_compliant += machine.compliance is Compliance.NON_COMPLIANT
        totals.not_assessed += machine.compliance is Compliance.NOT_ASSESSED
        totals.unreachable += machine.is_unreachable
        if not machine.is_current:
            continue
        totals.critical += machine.critical or 0
        totals.security += machine.security or 0
        totals.other += machine.other or 0
        totals.critical_machines += bool(machine.critical)
        totals.security_machines += bool(machine.security)
        totals.reboot += machine.reboot is YesNoUnknown.YES
        totals.services += bool(machine.services_to_restart)
    return totals
