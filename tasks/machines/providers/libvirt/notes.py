"""What fleetpatch's own records keep of a domain, and the way back if somebody defines it from an older XML."""

import shlex
from collections.abc import Collection

from tasks.domain.protocols.clock import Deadline
from tasks.domain.provided_machines import PowerState, ProviderNotes
from tasks.machines.providers.libvirt.domain import Domain, build_disk_xml
from tasks.machines.providers.libvirt.state import DiskFile, DomainState, read_any_state, write_state
from tasks.machines.providers.libvirt.virsh import Virsh
from tasks.machines.providers.libvirt.work import iterate_layers
from tasks.rules.provided_disks import find_older


def describe_notes(domain: Domain) -> ProviderNotes:
    """Return what is in the metadata of a domain. No disk of it may start from a file below a layer of ours."""
    state, used = domain.state, domain.used_paths
    # While a layer is merged, the file below it becomes that of the disk, and nothing is written down.
    going = {file.path for snapshot in state.snapshots if snapshot.is_going for file in snapshot.files.values()}
    layers = {path: below for path, below in state.layers.items() if path not in state.doomed}
    tops = sorted({*layers, *used} - set(layers.values()), key=lambda path: path in used)  # those in use come last
    newest: dict[str, str] = {}
    for top in tops:
        # An owner may have put a file above our layer.
        layer = next((file.path for file in domain.chains.get(top, ()) if file.path in layers), top)
        chain = set(iterate_layers(layers, layer))
        newest |= dict.fromkeys(chain - {layer, *used}, top) if not going & chain else {}
    ids = (*(snapshot.id for snapshot in state.snapshots), *(kept.id for kept in state.kept_disks))
    sources = {disk.target: disk.live_source for disk in domain.disks}
    made = {disk: path for disk, path in sources.items() if path in layers or path in state.origins}
    return ProviderNotes(state.number, ids, sources, newest, write_state(state), made, state.lineage, str(domain.now))


def explain_way_back(virsh: Virsh, known: ProviderNotes, deadline: Deadline) -> str:
    """Return which files have the newest data, and the commands that give them back to a domain, where that is certain.

    Raises:
        ProviderError, ProviderUnavailable: the host can't be asked.
    """
    domain, state = virsh.read_domain(deadline), read_any_state(known.text, virsh.name)
    running = {disk.target: disk.live_source for disk in domain.disks if disk.is_changing}
    older = {disk: path for disk, path in running.items() if path == known.tops.get(disk)}
    older |= find_older(known, {disk.target: (disk.live_source, disk.source) for disk in domain.disks})
    newest, lines = {**known.tops, **older}, []
    there = virsh.find_there(list(newest.values()), deadline)
    for target, path in newest.items():
        if path in there:
            size, at = virsh.run("stat", "-L", "-c", "%s;%y", "--", path, deadline=deadline).strip().split(";")
            lines.append(f"The newest data of {target}: {path}, {size} bytes, last written {at.partition('.')[0]}.")
        else:
            lines.append(
                f"{path}, which had the newest data of {target}, is not there any more. Look for a copy of it."
            )
    lines.append(f"This is as the records have it since {known.seen_at}. Ask other controllers of this machine first.")
    if state.uuid != domain.state.uuid:
        lines.append(f"Its UUID has changed from {state.uuid} to {domain.state.uuid}: was it made anew?")
    if not older or not set(older.values()) <= there & {*state.layers, *state.origins}:
        return "\n".join(lines)
    lines += _find_dangers(virsh, state, set(older.values()), deadline)
    name, command = shlex.quote(domain.name), shlex.join(word for word in virsh.words if word != "-q")
    lines.append(f"The way back, as root on {virsh.host.host}:")
    if domain.power is not PowerState.STOPPED:
        lines.append(f"{command} shutdown {name}   # and wait until `{command} domstate {name}` says: shut off")
    if domain.has_saved_memory:
        lines.append(f"{command} managedsave-remove {name}   # its memory is that of the older disks")
    for disk in domain.disks:
        if disk.target in older:
            xml = shlex.quote(build_disk_xml(disk, DiskFile(older[disk.target], "qcow2")))
            lines.append(f"printf %s {xml} | {command} update-device {name} /dev/stdin --config")
    return "\n".join([*lines, f"{command} start {name}"])


def _find_dangers(virsh: Virsh, state: DomainState, tops: Collection[str], deadline: Deadline) -> list[str]:
    marks = {path: mark for snapshot in state.snapshots for path, mark in snapshot.marks.items()}
    frozen, lines = virsh.find_there(list(marks), deadline), []
    if written := sorted(path for path in frozen if marks[path] != virsh.read_mark(path, deadline)):
        lines.append(f"CAUTION: {', '.join(written)} was written to since, and the newest data need it as it was.")
    below = {path for top in tops for path in iterate_layers(state.layers, top)}
    if unknown := sorted(below - {*marks, *tops}):
        lines.append(f"CAUTION: whether {', '.join(unknown)} was written to since is not known.")
    return [*lines, "First copy all of these files. Check the file systems afterwards (fsck)."] if lines else []


def find_left(virsh: Virsh, known: ProviderNotes, before: DomainState, deadline: Deadline) -> list[str]:
    """Return the files of the known notes, and of their state, that are there and that a domain does not need."""
    domain = virsh.read_domain(deadline)
    kept = {saved.file.path for saved in before.kept_disks}
    files = {*known.tops.values(), *known.newest.values(), *before.layers, *before.seeds, *kept}
    used = domain.find_paths_below(domain.used_paths) | domain.find_needed_paths() | {domain.seed_path}
    return sorted(virsh.find_there(sorted(files - used), deadline))
