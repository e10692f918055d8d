"""The OS disk of a domain: a new one from an image, the kept one back, the kept one deleted.

The domain always has the old disk or the new one: one command changes which, while it is off.
"""

from inventory.data_class import dataclass
from tasks.domain.errors import ProviderError
from tasks.domain.provided_machines import ImageVersion, ProviderOrder
from tasks.machines.providers.libvirt.domain import SEED_LABEL, needs_other_files, parse_chain
from tasks.machines.providers.libvirt.state import DiskFile, Origin, SavedDisk
from tasks.machines.providers.libvirt.work import DomainWork, iterate_layers


@dataclass(frozen=True, slots=True)
class _CheckedImage:
    """The file of an image whose digest was right, its size in bytes, and what ``stat`` said of it just before."""

    file: DiskFile
    size: int
    mark: str


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
    image = order.image
    if image is None:
        raise ProviderError(f"{domain.name}: the order {order.id} names no image", hint="Name one of images.yaml.")
    checked = _check_image(work, image)
    work.require_own_files([old.path])
    _require_no_second_seed(work)
    kept = domain.state.find_kept_disk(order.id)  # an order that broke off has given the domain its seed already
    others = tuple(entry for entry in domain.state.kept_disks if entry.id != order.id)
    saved = SavedDisk(order.id, disk.target, old, domain.seed_path if kept is None else kept.seed)
    seed = work.virsh.build_path(old.path, order.id, "seed", "iso") if order.user_data else domain.seed_path
    ours = {*domain.state.doomed, *domain.state.seeds, domain.seed_path}
    if there := work.virsh.find_there([path for path in (new.path, seed) if path and path not in ours], deadline):
        message = f"{domain.name}: {', '.join(sorted(there))} is there already"
        raise ProviderError(message, hint="Look what needs it, or order another id.")
    work.save(
        kept_disks=(*others, saved),
        doomed=tuple({*domain.state.doomed, new.path}),
        origins={**domain.state.origins, new.path: Origin(image.version, image.digest)},
        seeds=tuple({*domain.state.seeds, *([seed] if order.user_data else [])}),
    )
    size = max(checked.size, *(file.virtual_size for file in domain.chains.get(old.path, ())), 0)
    work.virsh.make_overlay(new.path, checked.file, size, old.path, deadline)
    _require_unchanged(work, image, checked)
    if order.user_data:
        work.virsh.make_seed(seed, order, old.path, deadline)
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
    seed = kept.seed if kept.seed and work.virsh.find_there([kept.seed], work.deadline) else ""
    if is_in_place and (seed == domain.seed_path or domain.seed_path not in domain.state.seeds):
        return _join("it was put back before", work.finish())
    if not domain.chains.get(kept.file.path):
        raise ProviderError(f"{domain.name}: {kept.file.path} can't be read", hint="Put the file back on its host.")
    work.stop(is_way_back=True)
    if not is_in_place:
        work.put_in_place(disk, kept.file)
    work.virsh.set_seed(domain, kept.seed, work.deadline)
    return work.finish()


def rewrite_seed(work: DomainWork, order: ProviderOrder) -> str:
    """Write the seed disk that came with the new disk of that order anew. The domain sees it at its next start."""
    path = work.domain.seed_path
    if path not in work.domain.state.seeds or not path.endswith(f".{order.id}.seed.iso"):
        return "it has no such seed disk"
    work.virsh.make_seed(path, order, work.domain.find_os_disk().source, work.deadline)
    return ""


def delete_os_disk(work: DomainWork, order: ProviderOrder) -> str:
    """Delete the disk that an order has replaced. A disk that was put back stays, as it is in use."""
    work.begin_disk_work()
    domain, state = work.domain, work.domain.state
    kept = state.find_kept_disk(order.id)
    if kept is None:  # the line may have broken before its file was removed
        return _join("it is not there", work.finish()) if state.doomed else "it is not there"
    others = tuple(entry for entry in state.kept_disks if entry.id != order.id)
    is_used = kept.file.path in domain.find_paths_below(file.path for file in domain.active_files.values())
    going = () if is_used else tuple(iterate_layers(state.layers, kept.file.path))
    work.save(kept_disks=others, doomed=tuple(dict.fromkeys((*state.doomed, *going))))
    return work.finish()


def _require_no_second_seed(work: DomainWork) -> None:
    """Require that no disk which the domain can write to has a seed: cloud-init might read that one alone."""
    disks = [disk for disk in work.domain.disks if disk.file is not None and not disk.is_os]
    labels = work.virsh.read_labels([disk.source for disk in disks], work.deadline)
    for disk in (disk for disk, label in zip(disks, labels, strict=True) if label == SEED_LABEL):
        hint = "Detach it, or let the domain only read it: `<readonly/>`, which is best as a CD."
        raise ProviderError(f"{work.domain.name}: {disk.target} has a seed for cloud-init (cidata)", hint=hint)


def _check_image(work: DomainWork, image: ImageVersion) -> _CheckedImage:
    """Look at the file of an image. Nobody may write to it, and its digest must be right, and be that of all of it.

    A disk is made from the file itself, not from a link that may lead to another one tomorrow.
    """
    host, deadline, name = work.virsh.host, work.deadline, _name_image(work, image)
    algorithm, _, wanted = image.digest.partition(":")
    if not wanted:
        raise ProviderError(
            f"{name} has no digest in images.yaml", hint="Give `digest`: `sha256:` and what `sha256sum FILE` prints."
        )
    if not image.reference.startswith("/"):
        raise ProviderError(f"{name} is no absolute path", hint="Write the whole path, from / on.")
    (there,) = host.ask([("readlink", "-e", "--", image.reference)], deadline=deadline)
    path = there.text.strip()
    if there.exit_code != 0 or not path:
        raise ProviderError(f"{name} is not there", hint="Put it there.")
    mark = work.virsh.read_mark(path, deadline)
    questions = [
        ("qemu-img", "info", "-U", "--backing-chain", "--output=json", "--", path),
        (f"{algorithm}sum", "--", path),
    ]
    info, digest = host.ask(questions, deadline=deadline)
    if info.exit_code != 0 or digest.exit_code != 0:
        raise ProviderError(f"{name} can't be read: {info.stderr or digest.stderr}", hint="Put it there.")
    if digest.text.split()[0].removeprefix("\\") != wanted:
        raise ProviderError(
            f"{name} is not what images.yaml says: its digest differs", hint="Put the right file there."
        )
    if needs_other_files(info.text):
        hint = "Make it one file: `qemu-img convert`."
        raise ProviderError(f"{name} needs other files, which its digest says nothing of", hint=hint)
    if work.virsh.find_writable([path], deadline):
        hint = f"Every disk made from it would change with it: `chmod a-w {path}`."
        raise ProviderError(f"{name} can be written to", hint=hint)
    (file,) = parse_chain(info.text)
    return _CheckedImage(DiskFile(path, file.format), file.virtual_size, mark)


def _require_unchanged(work: DomainWork, image: ImageVersion, checked: _CheckedImage) -> None:
    """Require that the file is the one whose digest was compared."""
    if work.virsh.read_mark(checked.file.path, work.deadline) != checked.mark:
        hint = "Give each version a file of its own, which stays as it is."
        raise ProviderError(f"{_name_image(work, image)} was changed while it was used", hint=hint)


def _name_image(work: DomainWork, image: ImageVersion) -> str:
    return f"{work.virsh.host.host}: the image {image.image} {image.version} ({image.reference})"


def _join(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
