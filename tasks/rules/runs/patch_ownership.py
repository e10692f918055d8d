"""Who may patch a machine in a run: its orchestration mode against who asks. Pure.

Azure's modes and what they are called here (``owner`` in an inventory):

=========================  ==============================  =========================  =============================
Azure                      ``owner``                       a configuration's run      a run of no configuration
=========================  ==============================  =========================  =============================
customer managed schedule  ``fleetpatch``, ``schedules``   allowed                    allowed: a person's
managed-safe               ``managed``                     prerequisites not met      allowed: fleetpatch's own time
automatic by OS            ``os``                          prerequisites not met      no: the system patches itself
manual, image default      ``manual``                      prerequisites not met      no: people do
=========================  ==============================  =========================  =============================

In Azure's own words (patch mode orchestrated, bypassPlatformSafetyChecksOnUserSchedule, schedule): Y,T,Y runs the
schedule; Y,T,N does nothing; Y,F,Y is the error "prerequisites not met"; Y,F,N is patched by the platform; N,*,Y is the
error; N,*,N does nothing.
"""

from inventory.machine import Machine, PatchOwner

_PREREQUISITES_NOT_MET = "prerequisites not met: "


def check_patch_owner(machine: Machine, configuration: str) -> str:
    """Return why a run may not patch a machine, or "" when it may.

    Args:
        machine: as its inventory describes it.
        configuration: the maintenance configuration that the run belongs to; "" for one that belongs to none: a person
            started it, or it is fleetpatch's own.
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
