"""What the disks of a machine say before and after its OS disk was replaced. Pure."""

from collections.abc import Collection, Mapping, Sequence

from tasks.domain.images import KeptDiskState
from tasks.domain.provided_machines import DiskRole, PowerState, ProvidedMachine, ProviderAct

NEEDED_ACTS = frozenset({ProviderAct.REPLACE_OS_DISK, ProviderAct.RESTORE_OS_DISK, ProviderAct.DELETE_OS_DISK})


def explain_no_replacement(machine: ProvidedMachine, acts: Collection[ProviderAct]) -> str:
    """Return why the OS disk of a machine can't be replaced, or ""."""
    if lacking := sorted(NEEDED_ACTS.difference(acts)):
        return f"its provider can't do this: {', '.join(lacking)}"
    if len(machine.os_disks) != 1:
        return f"it has {len(machine.os_disks)} OS disks, and one is needed"
    if machine.power is not PowerState.RUNNING:
        return f"its provider says that it is {machine.power}"
    if machine.overlay:
        return f"a rehearsal copy of it exists: {machine.overlay}"
    return ""


def list_data_disks(machine: ProvidedMachine) -> dict[str, str]:
    """Return the disks that nobody may touch: id -> source. A disk of unknown role is one of them."""
    return {disk.id: disk.source for disk in machine.disks if disk.role is not DiskRole.OS}


def find_os_source(machine: ProvidedMachine) -> str:
    """Return where the content of its one OS disk is; "": it does not have one."""
    return machine.os_disks[0].source if len(machine.os_disks) == 1 else ""


def explain_changed_data_disks(before: Mapping[str, str], machine: ProvidedMachine) -> str:
    """Return which data disks are not attached as before, or ""."""
    now = list_data_disks(machine)
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    return f"its data disks are not as before: {', '.join(changed)}" if changed else ""


def is_settled(ends: Sequence[object]) -> bool:
    """Return whether a replaced disk is looked for no more, from the states in which its deletions have ended.

    It was deleted, its provider did not list it twice, or a person has given it up whose machine left the inventory.
    """
    missed = KeptDiskState.NOT_FOUND.value
    return ends.count(missed) > 1 or any(end != missed for end in ends)
