"""Snapshots of a domain: layers above the files that keep the state.

libvirt 9.0.0 can't revert to external snapshots. So fleetpatch takes them without libvirt's
metadata, and reverts by a new layer on the files that a snapshot kept. So it can be reverted to more than once.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from tasks.domain.errors import ProviderError, ProviderUnavailable
from tasks.domain.provided_machines import Consistency, PowerState, ProviderOrder
from tasks.machines.providers.libvirt.state import SavedSnapshot
from tasks.machines.providers.libvirt.work import DomainWork, iterate_layers


def take_snapshot(work: DomainWork, order: ProviderOrder) -> str:
    """Take a snapshot of all disks that are in files."""
    work.begin_disk_work()
    saved = work.domain.state.find_snapshot(order.id)
    if saved is not None:
        if saved.is_going:
            hint = "Order its deletion again, or take it under another id."
            raise ProviderError(f"{work.domain.name}: the snapshot {order.id} is being deleted", hint=hint)
        return "it was taken before"
    work.domain.find_os_disk()
    if reason := work.domain.explain_no_snapshot():
        raise ProviderError(
            f"{work.domain.name}: {reason}", hint="Make room, or name another `folder` of the provider."
        )
    others = work.domain.state.snapshots
    snapshot = freeze(work, order, lambda snapshot: work.save(snapshots=(*others, snapshot)))
    return "; ".join([snapshot.consistency, *work.notes])


def freeze(work: DomainWork, order: ProviderOrder, keep: Callable[[SavedSnapshot], None]) -> SavedSnapshot:
    """Put a layer on the file of each disk, all at one moment. Return the state that is below them.

    Args:
        work: the domain.
        order: its id becomes that of the state.
        keep: writes the state down: before it is taken, and again afterwards.
    """
    domain = work.domain
    work.require_own_files(domain.used_paths)
    is_off = domain.power is PowerState.STOPPED
    is_quiesced = order.is_quiesced and domain.has_agent
    kind = Consistency.OFFLINE if is_off else Consistency.FILE_SYSTEM if is_quiesced else Consistency.CRASH
    snapshot = work.describe_state(order.id, kind, domain.disks)
    paths = {
        disk.target: work.choose_path(disk, disk.file.path) if disk.file is not None else "" for disk in domain.disks
    }
    paths |= dict.fromkeys(domain.current_targets - set(paths), "")  # of a floppy disk libvirt would take one by itself
    layers = {paths[target]: file.path for target, file in snapshot.files.items()}
    work.save(layers={**domain.state.layers, **layers})
    keep(snapshot)
    try:
        _order_layers(work, paths, is_quiesced=is_quiesced)
    except ProviderUnavailable:
        raise
    except ProviderError as error:
        if not is_quiesced:
            raise
        work.notes.append(f"its file systems could not be frozen: {error.message}")
        snapshot = replace(snapshot, consistency=Consistency.CRASH)
        _order_layers(work, paths, is_quiesced=False)
    marks = {file.path: work.virsh.read_mark(file.path, work.deadline) for file in snapshot.files.values()}
    snapshot = replace(snapshot, is_taken=True, marks=marks)
    keep(snapshot)
    return snapshot


def _order_layers(work: DomainWork, paths: Mapping[str, str], *, is_quiesced: bool) -> None:
    words = [word for target, path in paths.items() for word in ("--diskspec", f"{target},{_specify(path)}")]
    words += ["--quiesce"] if is_quiesced else []
    work.virsh.order("snapshot-create-as", "--disk-only", "--atomic", "--no-metadata", *words, deadline=work.deadline)


def _specify(path: str) -> str:
    return f"file={path.replace(',', ',,')}" if path else "snapshot=no"


def revert(work: DomainWork, order: ProviderOrder) -> str:
    """Put the OS disks, or all disks, back to a snapshot."""
    work.begin_disk_work()
    domain = work.domain
    snapshot = domain.state.find_snapshot(order.id)
    if snapshot is None or snapshot.is_going or not domain.has_state(snapshot):
        raise explain_missing(work, order.id)
    disks = [disk for disk in domain.disks if disk.target in snapshot.files and (disk.is_os or order.with_data_disks)]
    if not any(disk.is_os for disk in disks):
        raise ProviderError(
            f"{domain.name}: the snapshot {order.id} does not have its OS disk", hint="Take another one."
        )
    work.stop(is_way_back=True)
    for disk in disks:
        work.put_in_place(disk, snapshot.files[disk.target])
    work.virsh.set_seed(domain, snapshot.seed, work.deadline)
    return work.finish()


def delete_snapshot(work: DomainWork, order: ProviderOrder) -> str:
    """Delete a snapshot, and merge the layers that only it needed."""
    work.begin_disk_work()
    snapshot = work.domain.state.find_snapshot(order.id)
    if snapshot is None:
        if order.id in {foreign.id for foreign in work.domain.foreign_snapshots}:
            raise explain_missing(work, order.id)
        notes = work.finish() if work.domain.state.doomed else ""  # the line broke before its layers were removed
        return f"it is not there; {notes}" if notes else "it is not there"
    detached = sorted(set(snapshot.files) - {disk.target for disk in work.domain.disks})
    if detached:
        message = f"{work.domain.name}: {', '.join(detached)} of the snapshot {order.id} is no disk of it any more"
        hint = "Attach it again: what was written to it since is in a layer, which only then can be merged."
        raise ProviderError(message, hint=hint)
    others = tuple(other for other in work.domain.state.snapshots if other.id != order.id)
    work.save(snapshots=(*others, replace(snapshot, is_going=True)))
    work.merge_layers(without=order.id)
    state = work.domain.state
    layers = {path for file in snapshot.files.values() for path in iterate_layers(state.layers, file.path)}
    going = sorted(layers & {*state.layers, *state.origins} - work.domain.find_paths_below(work.domain.used_paths))
    work.save(snapshots=others, doomed=tuple(dict.fromkeys((*state.doomed, *going))))
    return work.finish()


def explain_missing(work: DomainWork, snapshot_id: str) -> ProviderError:
    """Return the error of a snapshot that can't be used."""
    domain = work.domain
    if snapshot_id in {foreign.id for foreign in domain.foreign_snapshots}:
        message = f"{domain.name}: fleetpatch has not taken the snapshot {snapshot_id}"
        return ProviderError(message, hint="Use `virsh snapshot-revert` or `virsh snapshot-delete` on its host.")
    snapshot = domain.state.find_snapshot(snapshot_id)
    if snapshot is not None and snapshot.is_going:
        return ProviderError(
            f"{domain.name}: the snapshot {snapshot_id} is being deleted", hint="Order its deletion again."
        )
    if snapshot is not None:
        files = ", ".join(file.path for file in snapshot.files.values())
        return ProviderError(
            f"{domain.name}: a file of the snapshot {snapshot_id} can't be read: {files}",
            hint="Put the file back, or delete the snapshot.",
        )
    names = ", ".join(snapshot.id for snapshot in domain.state.snapshots) or "none"
    return ProviderError(f"{domain.name}: there is no snapshot {snapshot_id}", hint=f"It has: {names}.")
