"""A domain of libvirt: what its XML and its disks' files say. Pure."""

import json
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import field
from datetime import UTC, datetime
from typing import Any, Final
from xml.etree.ElementTree import SubElement, tostring

from defusedxml.ElementTree import ParseError, fromstring

from inventory.data_class import dataclass
from tasks.domain.errors import ProviderError
from tasks.domain.provided_machines import HardwareIdentity, PowerState
from tasks.machines.providers.libvirt.state import METADATA_URI, DiskFile, DomainState, SavedSnapshot, read_state
from tasks.rules.machine_identity import normalize_macs, normalize_uuid

_LEAST_FREE_BYTES: Final = 1 << 30
SEED_SERIAL: Final = "fleetpatch-seed"
SEED_LABEL: Final = "cidata"  # of cloud-init's NoCloud, which reads one such disk alone
_POWERS: Final[Mapping[str, PowerState]] = {
    "running": PowerState.RUNNING,
    "idle": PowerState.RUNNING,
    "in shutdown": PowerState.RUNNING,
    "shut off": PowerState.STOPPED,
    "crashed": PowerState.STOPPED,
    "paused": PowerState.PAUSED,
    "pmsuspended": PowerState.PAUSED,
}


@dataclass(frozen=True, slots=True)
class DomainDisk:
    """A disk that the domain can write to."""

    target: str
    element: Any  # its XML in the configuration of the domain
    file: DiskFile | None  # its content; None: it is not in a file
    source: str  # its content, in words
    is_os: bool = False
    live_source: str = ""  # what it runs with, in words

    @property
    def is_changing(self) -> bool:
        """The domain runs with other content than it would start with."""
        return self.live_source != self.source


@dataclass(frozen=True, slots=True)
class ForeignSnapshot:
    """A snapshot that fleetpatch has not taken, and the files that it needs."""

    id: str
    taken_at: datetime | None
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChainFile:
    """One file of the chain of a disk. Sizes are in bytes."""

    path: str
    format: str
    virtual_size: int
    actual_size: int


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain as it is now.

    Attributes:
        seed: the element of the disk that has its seed for cloud-init: ours, or an owner's CD; None: none.
        read_only: the elements of the files that it can't write to, such as CDs.
        has_agent: its guest agent answers.
        is_persistent: it is there also while it does not run.
        has_saved_memory: it was put to sleep, and would go on with the disks that it had.
        now: by the clock of the host.
        live_files: the files of the disks that it writes to as it runs, by their targets.
        live_only: the sources of disks that it will not have at its next start, by their targets.
        not_live: the targets of disks that it will have at its next start only.
        targets: of all disks, those that it can't write to included, and those of its next start.
        current_targets: those of them that it has now.
        chains: for each file that is known, the files of its chain from itself to the lowest one. A file that can't
            be read has none.
        free_bytes: the room for new layers of the disks; None: not known.
    """

    name: str
    power: PowerState
    disks: tuple[DomainDisk, ...]
    seed: Any
    read_only: tuple[Any, ...]
    has_agent: bool
    is_persistent: bool
    has_saved_memory: bool
    now: datetime
    state: DomainState
    live_files: Mapping[str, DiskFile] = field(default_factory=dict)
    live_only: Mapping[str, str] = field(default_factory=dict)
    not_live: tuple[str, ...] = ()
    targets: frozenset[str] = frozenset()
    current_targets: frozenset[str] = frozenset()
    foreign_snapshots: tuple[ForeignSnapshot, ...] = ()
    chains: Mapping[str, tuple[ChainFile, ...]] = field(default_factory=dict)
    free_bytes: int | None = None
    identity: HardwareIdentity | None = None

    @property
    def active_files(self) -> Mapping[str, DiskFile]:
        """The file of each disk, by its target."""
        return {disk.target: disk.file for disk in self.disks if disk.file is not None}

    @property
    def used_paths(self) -> frozenset[str]:
        """The files of all disks, those that it runs with and those that it would start with."""
        return frozenset(file.path for files in (self.active_files, self.live_files) for file in files.values())

    @property
    def unread_paths(self) -> tuple[str, ...]:
        """The files of disks, of snapshots and of kept disks whose chains can't be read."""
        named = {file.path for snapshot in self.state.snapshots for file in snapshot.files.values()}
        named |= {kept.file.path for kept in self.state.kept_disks} | self.used_paths
        return tuple(sorted(path for path in named if not self.chains.get(path)))

    @property
    def seed_path(self) -> str:
        """The file of the seed disk, or ""."""
        return "" if self.seed is None else self.seed.find("source").get("file", "")

    def find_os_disk(self) -> DomainDisk:
        """Return the disk that it boots from. Raise ProviderError if it has none in a file."""
        disk = next((disk for disk in self.disks if disk.is_os), None)
        if disk is None or disk.file is None:
            hint = "Only disks in files (type='file') of a domain can be replaced and reverted."
            raise ProviderError(f"{self.name}: it boots from no disk that is in a file", hint=hint)
        return disk

    def explain_no_snapshot(self) -> str:
        """Return why it can have no snapshot, or "". libvirt pauses a machine whose layer can't grow."""
        sources = [disk.source for disk in self.disks if disk.is_os and disk.file is not None]
        if not sources:
            return "it boots from no disk that is in a file"
        os_files = [file for source in sources for file in self.chains.get(source, ())]
        size = max((file.virtual_size for file in os_files), default=0)
        least = max(_LEAST_FREE_BYTES, size // 20)
        if self.free_bytes is None:
            return "the free room where its disks are can't be read"
        if self.free_bytes >= least:
            return ""
        return f"{self.free_bytes >> 20} MiB are free where its disks are, and a snapshot needs {least >> 20} at least"

    def has_state(self, snapshot: SavedSnapshot) -> bool:
        """Return whether a snapshot was taken and its files are there."""
        active = self.active_files
        paths = {target: file.path for target, file in snapshot.files.items()}
        if not all(self.chains.get(path) for path in paths.values()):
            return False
        if not snapshot.is_taken:
            return all(
                target in active and self.state.layers.get(active[target].path) == path
                for target, path in paths.items()
            )
        return not set(paths.values()) & self.used_paths

    def find_needed_paths(self, *, without: str = "") -> frozenset[str]:
        """Return the files that snapshots (but ``without``, an id), kept disks and others need, and all below."""
        active = self.used_paths
        state = self.state
        snapshots = [*(snapshot for snapshot in state.snapshots if snapshot.id != without and not snapshot.is_going)]
        tops = {file.path for snapshot in snapshots for file in snapshot.files.values()}
        tops |= {kept.file.path for kept in state.kept_disks} - self.find_paths_below(active)
        foreign = {path for snapshot in self.foreign_snapshots for path in snapshot.files}
        return self.find_paths_below((tops - active) | foreign)

    def find_paths_below(self, paths: Iterable[str]) -> frozenset[str]:
        """Return the files, and all below them."""
        below = {file.path for path in paths for file in self.chains.get(path, ())}
        return frozenset(below | set(paths))


def parse_domain(name: str, live_xml: str, config_xml: str, info: str, now: str) -> Domain:
    """Return a domain, without its chains and the snapshots of others.

    Args:
        name: what libvirt calls it.
        live_xml: as it runs.
        config_xml: as it would start.
        info: what ``virsh dominfo`` prints.
        now: seconds since 1970 by the clock of the host.

    Raises:
        ProviderError: an answer can't be read.
    """
    live, config = _parse(name, live_xml), _parse(name, config_xml)
    _require_name(name, live, config)
    power = _POWERS.get(_find_info(info, "State"), PowerState.UNKNOWN)
    live_elements = {_get_target(element): element for element in _find_disks(live) if _is_writable_disk(element)}
    live_paths = {target: _find_source(element) for target, element in live_elements.items()}
    live_files = {target: _find_file(element) for target, element in live_elements.items()}
    elements = [element for element in _find_disks(config) if _is_writable_disk(element)]
    targets = [_get_target(element) for element in elements]
    orders = {
        element.find("target").get("dev"): int(element.find("boot").get("order"))
        for element in elements
        if element.find("boot") is not None
    }
    boots_from = min(orders, key=lambda target: orders[target]) if orders else next(iter(targets), "")
    disks = tuple(_build_disk(element, live_paths, boots_from) for element in elements)
    seeds = [element for element in _find_disks(config) if element.findtext("serial") == SEED_SERIAL]
    agents = live.findall("devices/channel/target[@name='org.qemu.guest_agent.0']")
    return Domain(
        name,
        power,
        disks,
        seeds[0] if seeds else None,
        tuple(
            element
            for element in _find_disks(config)
            if not _is_writable_disk(element) and element.get("type") == "file" and _find_source(element)
        ),
        power is PowerState.RUNNING and any(agent.get("state") == "connected" for agent in agents),
        _find_info(info, "Persistent") == "yes",
        _find_info(info, "Managed save") == "yes",
        datetime.fromtimestamp(int(now), UTC),
        _read_state(name, config),
        {target: file for target, file in live_files.items() if file is not None},
        {target: source for target, source in live_paths.items() if target not in targets},
        tuple(target for target in targets if target not in live_paths),
        frozenset(_get_target(element) for element in (*_find_disks(live), *_find_disks(config))),
        frozenset(map(_get_target, _find_disks(live))),
        identity=HardwareIdentity(
            normalize_uuid(live.findtext("uuid")),
            macs=normalize_macs(card.get("address") for card in live.findall("devices/interface/mac")),
        ),
    )


def _find_info(info: str, name: str) -> str:
    """Return a value from what ``virsh dominfo`` prints, or ""."""
    row = re.search(rf"^{name}: +(.+)$", info, re.MULTILINE)
    return row[1].strip() if row is not None else ""


def _require_name(name: str, *elements: Any) -> None:  # noqa: ANN401 - elements of XML
    """Require that it is the domain of that name: virsh takes a number, or a UUID, for something else first."""
    for other in {element.findtext("name", "") for element in elements} - {name}:
        hint = f"Write the name of the domain into `provider` of the machine: {other}, if that is the right one."
        raise ProviderError(f"virsh answers to {name!r} with the domain {other!r}", hint=hint)


def parse_state(name: str, config_xml: str) -> DomainState:
    """Return what fleetpatch has written down about a domain. Raise ProviderError: unreadable, or of another one."""
    return _read_state(name, _parse(name, config_xml))


def _read_state(name: str, config: Any) -> DomainState:  # noqa: ANN401 - an element of XML
    metadata = config.find(f"metadata/{{{METADATA_URI}}}state")
    return read_state((metadata.text or "") if metadata is not None else "", name, config.findtext("uuid", ""))


def parse_chain(text: str) -> tuple[ChainFile, ...]:
    """Return the files that ``qemu-img info --backing-chain --output=json`` tells, from the top.

    A file on the network, such as the one below the copy of a rehearsal, takes no room here: it has no actual size.
    """
    return tuple(
        ChainFile(
            str(entry["filename"]), str(entry["format"]), int(entry["virtual-size"]), int(entry.get("actual-size", 0))
        )
        for entry in json.loads(text)
    )


def needs_other_files(text: str) -> bool:
    """Return whether the file that ``qemu-img info --backing-chain --output=json`` tells has not all of its content."""
    top, *below = json.loads(text)
    details = top.get("format-specific", {}).get("data", {})
    extents = {extent["filename"] for extent in details.get("extents", ())}
    return bool(below) or "data-file" in details or bool(extents - {top["filename"]})


def parse_foreign_snapshot(snapshot_id: str, xml: str) -> ForeignSnapshot:
    """Return a snapshot from what ``virsh snapshot-dumpxml`` prints."""
    snapshot = _parse(snapshot_id, xml)
    taken = snapshot.findtext("creationTime")
    files = {source.get("file") for source in snapshot.findall(".//devices/disk/source") if source.get("file")}
    return ForeignSnapshot(
        snapshot_id, datetime.fromtimestamp(int(taken), UTC) if taken else None, tuple(sorted(files))
    )


def build_disk_xml(disk: DomainDisk, file: DiskFile) -> str:
    """Return the XML of a disk with other content, on one line."""
    element = deepcopy(disk.element)
    for below in element.findall("backingStore"):
        element.remove(below)
    element.find("source").set("file", file.path)
    driver = element.find("driver")
    if driver is None:
        driver = SubElement(element, "driver", {"name": "qemu"})
    driver.set("type", file.format)
    return tostring(element, encoding="unicode").replace("\n", " ")


def build_seed_xml(path: str, target: str, before: Any = None) -> str:  # noqa: ANN401 - an element of XML
    """Return the XML of a seed disk: of a new one, or of the one before with other content."""
    if before is not None:
        element = deepcopy(before)
        element.find("source").set("file", path)
        return tostring(element, encoding="unicode").replace("\n", " ")
    element = fromstring("<disk type='file' device='disk'><driver name='qemu' type='raw'/><source/><readonly/></disk>")
    element.find("source").set("file", path)
    SubElement(element, "target", {"dev": target, "bus": "virtio"})
    SubElement(element, "serial").text = SEED_SERIAL
    return tostring(element, encoding="unicode")


def _build_disk(element: Any, live_sources: Mapping[str, str], boots_from: str) -> DomainDisk:  # noqa: ANN401 - XML
    target, source = _get_target(element), _find_source(element)
    live_source = live_sources.get(target, source)
    return DomainDisk(target, element, _find_file(element), source, target == boots_from, live_source)


def _find_file(element: Any) -> DiskFile | None:  # noqa: ANN401 - an element of XML
    driver, source = element.find("driver"), _find_source(element)
    form = "" if driver is None else driver.get("type", "")
    return DiskFile(source, form) if element.get("type") == "file" and source and form else None


def _get_target(element: Any) -> str:  # noqa: ANN401 - an element of XML
    return str(element.find("target").get("dev"))


def find_all_files(xml: str, *, allows_volumes: bool = False) -> Mapping[str, str]:
    """Return each file and device that the XML of a domain names for a disk, and its format; "": it does not say.

    Raises:
        ProviderError: a disk is the volume of a pool, which says nothing of its file, and that is not allowed.
    """
    files: dict[str, str] = {}
    for disk in _parse("a domain", xml).iterfind("devices/disk"):
        for element in disk.iter():
            source = element.find("source")
            if source is not None and source.get("volume") and not allows_volumes:
                raise ProviderError(f"the volume {source.get('volume')} of a domain may be one of its files")
            path = source.get("file", source.get("dev")) if source is not None else None
            if path:
                form = element.find("driver" if element is disk else "format")
                files[path] = "" if form is None else form.get("type", "")
    return files


def read_name(xml: str) -> str:
    """Return the name in the XML of a domain."""
    return str(_parse("another domain", xml).findtext("name", ""))


def _parse(name: str, xml: str) -> Any:  # noqa: ANN401 - an element of XML
    try:
        return fromstring(xml)
    except ParseError as error:
        raise ProviderError(f"{name}: virsh gave no XML: {error}") from error


def _find_disks(domain: Any) -> list[Any]:  # noqa: ANN401 - an element of XML
    return [element for element in domain.findall("devices/disk") if element.find("target") is not None]


def _is_writable_disk(element: Any) -> bool:  # noqa: ANN401 - an element of XML
    return element.get("device", "disk") == "disk" and element.find("readonly") is None


def _find_source(element: Any) -> str:  # noqa: ANN401 - an element of XML
    source = element.find("source")
    if source is None:
        return ""
    return str(next((source.get(key) for key in ("file", "dev", "name", "volume") if source.get(key)), ""))
