"""The OS disk of a domain: a new one from an image, the kept one back, the kept one deleted.

The domain always has the old disk or the new one: one command changes which, while it is off.
"""

from tasks.domain.errors import ProviderError
from tasks.domain.provided_machines import ImageVersion, ProviderOrder
from tasks.machines.providers.libvirt.domain import parse_chain
from tasks.machines.providers.libvirt.state import DiskFile, Origin, SavedDisk
from tasks.machines.providers.libvirt.work import DomainWork, iterate_layers


def replace_os_disk(work: DomainWork, order: ProviderOrder) -> str:
    """Give the domain a new OS disk, a layer on an image, and keep the one before."""
    work.begin_disk_work()
    domain, deadline = work.domain, work.deadline
    disk = domain.find_os_disk()
    old = domain.active_files[disk.target]
    new = DiskFile(work.virsh.build_path(old.path, disk.target, order.id, "qcow2"), "qcow2")
    if new.path in domain.find_paths_below([old.path]):
        return _join("it was replaced before", work.finish())
    if new.path in domain.find_needed_paths():
        hint = "Order it under another id."
        raise ProviderError(f"{domain.name}: a snapshot needs the disk of the order {order.id}", hint=hint)
    image = _require_image(work, order)
    image_file, size = _check_image(work, image)
    others = tuple(entry for entry in domain.state.kept_disks if entry.id != order.id)
    saved = SavedDisk(order.id, disk.target, old, domain.seed_path)
    seed = work.virsh.build_path(old.path, order.id, "seed", "iso") if order.user_data else domain.seed_path
    ours = {*domain.state.doomed, *domain.state.seeds, domain.seed_path}
    if there := work.virsh.find_there([path for path in (new.path, seed) if path and path not in ours], deadline):
        message = f"{domain.name}: {', '.join(sorted(there))} is there already"
        raise ProviderError(message, hint="Look what needs it, or order another id.")
    work.save(
        kept_disks=(*others, saved),
        doomed=tuple({*domain.state.doomed, new.path}),
        origins={**domain.state.origins, new.path: Origin(image.version, image.sha256)},
        seeds=tuple({*domain.state.seeds, *([seed] if order.user_data else [])}),
    )
    size = max(size, *(file.virtual_size for file in domain.chains.get(old.path, ())), 0)
    work.virsh.make_overlay(new.path, image_file, size, old.path, deadline)
    if order.user_data:
        work.virsh.make_seed(seed, f"{domain.name}-{order.id}", order.user_data, old.path, deadline)
    work.stop(is_way_back=False)
    work.virsh.set_seed(domain, seed, deadline)
    work.set_file(disk, new)
    return work.finish()


def restore_os_disk(work: DomainWork, order: ProviderOrder) -> str:
    """Put the disk that an order has replaced back in place of the new one, which goes."""
    work.begin_disk_work()
    domain = work.domain
    kept = domain.state.find_kept_disk(order.id)
    if kept is None:
        ids = ", ".join(entry.id for entry in domain.state.kept_disks) or "none"
        raise ProviderError(f"{domain.name}: no disk of the order {order.id} is kept", hint=f"It has kept: {ids}.")
    disk = domain.find_os_disk()
    is_in_place = kept.file.path in domain.find_paths_below([disk.source])
    if is_in_place and kept.seed == domain.seed_path:
        return _join("it was put back before", work.finish())
    if not domain.chains.get(kept.file.path):
        raise ProviderError(f"{domain.name}: {kept.file.path} can't be read", hint="Put the file back on its host.")
    work.stop(is_way_back=True)
    if not is_in_place:
        work.put_in_place(disk, kept.file)
    work.virsh.set_seed(domain, kept.seed, work.deadline)
    return work.finish()


def delete_os_disk(work: DomainWork, order: ProviderOrder) -> str:
    """Delete the disk that an order has replaced. A disk that was put back stays, as it is in use."""
    work.begin_disk_work()
    domain, state = work.domain, work.domain.state
    kept = state.find_kept_disk(order.id)
    if kept is None:
        return "it is not there"
    others = tuple(entry for entry in state.kept_disks if entry.id != order.id)
    is_used = kept.file.path in domain.find_paths_below(file.path for file in domain.active_files.values())
    going = () if is_used else tuple(iterate_layers(state.layers, kept.file.path))
    work.save(kept_disks=others, doomed=tuple(dict.fromkeys((*state.doomed, *going))))
    return work.finish()


def _require_image(work: DomainWork, order: ProviderOrder) -> ImageVersion:
    if order.image is None:
        raise ProviderError(f"{work.domain.name}: the order {order.id} names no image", hint="Name one of images.yaml.")
    return order.image


def _check_image(work: DomainWork, image: ImageVersion) -> tuple[DiskFile, int]:
    """Return the file of an image and its size in bytes. Nobody may write to it, and its digest must be right."""
    host, path, deadline = work.virsh.host, image.reference, work.deadline
    name = f"{host.host}: the image {image.image} {image.version} ({path})"
    info, digest = host.ask(
        [
            ("qemu-img", "info", "-U", "--backing-chain", "--output=json", "--", path),
            ("sha256sum", "--", path),
        ],
        deadline=deadline,
    )
    if info.exit_code != 0 or digest.exit_code != 0:
        raise ProviderError(f"{name} can't be read: {info.stderr or digest.stderr}", hint="Put it there.")
    if not image.sha256:
        raise ProviderError(f"{name} has no digest in images.yaml", hint=f"Give it: `sha256sum {path}`.")
    if digest.text.split()[0].removeprefix("\\") != image.sha256.lower():
        raise ProviderError(
            f"{name} is not what images.yaml says: its digest differs", hint="Put the right file there."
        )
    chain = parse_chain(info.text)
    writable = work.virsh.find_writable([file.path for file in chain], deadline)
    if writable:
        hint = f"Every disk made from it would change with it: `chmod a-w {' '.join(sorted(writable))}`."
        raise ProviderError(f"{name} can be written to", hint=hint)
    return DiskFile(path, chain[0].format), chain[0].virtual_size


def _join(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
