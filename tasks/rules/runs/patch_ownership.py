"""Decides whether a run may patch a machine, from its owner setting (Azure: orchestration mode). Pure.

Azure's modes, and the values of ``owner`` in an inventory:

=========================  ==============================  =========================  =============================
Azure                      ``owner``                       a configuration's run      a run of no configuration
=========================  ==============================  =========================  =============================
customer managed schedule  ``fleetpatch``, ``schedules``   allowed                    allowed: a person's
managed-safe               ``managed``                     prerequisites not met      allowed: fleetpatch's own time
automatic by OS            ``os``                          prerequisites not met      no: the system patches itself
manual, image default      ``manual``                      prerequisites not met      no: people do
=========================  ==============================  =========================  =============================

Azure's own rule (patch mode orchestrated, bypassPlatformSafetyChecksOnUserSchedule, schedule): Y,T,Y runs the
schedule; Y,T,N does nothing; Y,F,Y is the error "prerequisites not met"; Y,F,N: the platform patches; N,*,Y is the
error; N,*,N does nothing.
"""

from inventory.machine import Machine, PatchOwner

_PREREQUISITES_NOT_MET = "prerequisites not met: "


def check_patch_owner(machine: Machine, configuration: str) -> str:
    """Return why a run may not patch a machine, or "" when it may.

    Args:
        machine: the machine, from the inventory.
        configuration: name of the run's configuration; "" for a run without one: a person or fleetpatch itself
            started it.
    """
    if machine.owner is PatchOwner.FLEETPATCH:
        return ""
    if machine.owner is PatchOwner.MANAGED:
        return (
            f"{_PREREQUISITES_NOT_MET}it is managed, so configuration {configuration!r} may not patch it"
            if configuration
            else ""
        )
    return f"{_PREREQUISITES_NOT_MET if configuration else ''}it is patched by its owner: {machine.owner}"
