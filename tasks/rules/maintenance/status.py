"""Says what is held for a group in Azure's words. Pure."""

from collections.abc import Iterable, Sequence

from inventory.name_lists import join_first_names
from tasks.domain.states import ImpactType, MaintenanceStatus, OperationState, RebootPolicy
from tasks.rules.maintenance.model import GroupState, HeldPackage, PackageEnd, WaitingUpdate


def find_maintenance_status(state: GroupState, *, is_frozen: bool) -> MaintenanceStatus:
    """Return the state of a group, as Azure's ``applyUpdates`` has it.

    Args:
        state: what is remembered of the group.
        is_frozen: whether a freeze keeps people from applying the package now.
    """
    if state.package is None:
        return MaintenanceStatus.NO_UPDATES_PENDING
    application = state.last_application
    if application is None:
        return MaintenanceStatus.PENDING
    if application.is_active:
        return MaintenanceStatus.CANCEL if application.is_stopping else MaintenanceStatus.IN_PROGRESS
    if application.state is OperationState.CANCELLED:
        return MaintenanceStatus.CANCELLED
    return MaintenanceStatus.RETRY_LATER if is_frozen or application.refusal else MaintenanceStatus.RETRY_NOW


def explain_wait(state: GroupState, machines: Sequence[str], *, frozen: str = "") -> str:
    """Return why a package still waits, in words; "": none waits, or it is being applied.

    Args:
        state: what is remembered of the group.
        machines: names of its machines.
        frozen: why a freeze keeps people from applying it now, or "".
    """
    package, application = state.package, state.last_application
    if package is None or (application is not None and application.is_active):
        return ""
    if application is not None and application.refusal:
        return application.refusal
    if frozen:
        return frozen
    if application is None:
        window = package.applies_at
        opens = f"its window opens at {window:%Y-%m-%d %H:%M} UTC" if window is not None else ""
        return f"held: {opens or 'no window is left before its last day'}"
    left = [name for name in machines if name not in application.done]
    verb = "was cancelled" if application.state is OperationState.CANCELLED else "left something"
    told = f"run {application.run_id} {verb} on {join_first_names(left, 10)}"
    return told if left else "more is pending since its run"


def find_ended_status(package: HeldPackage) -> MaintenanceStatus:
    """Return the state of a package that has ended: it was applied, or nothing of it was pending any more."""
    return MaintenanceStatus.COMPLETED if package.end is PackageEnd.APPLIED else MaintenanceStatus.NO_UPDATES_PENDING


def find_impact(updates: Iterable[WaitingUpdate], policy: RebootPolicy, guests: ImpactType | None = None) -> ImpactType:
    """Return what machines suffer while these updates are installed.

    An update of which the machine does not know whether it needs a reboot may need one, unless the policy forbids it.

    Args:
        updates: those that wait.
        policy: whether machines reboot after the installation.
        guests: what happens to guests before a reboot of their host, as far as a machine of the group has any.
    """
    updates = list(updates)
    if policy is RebootPolicy.NEVER or not updates:
        return ImpactType.NONE
    may_reboot = policy is RebootPolicy.ALWAYS or any(update.requires_reboot is not False for update in updates)
    if not may_reboot:
        return ImpactType.NONE
    return guests or ImpactType.RESTART
