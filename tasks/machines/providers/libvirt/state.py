"""What fleetpatch writes down about a domain, in the domain's own metadata: libvirt itself knows none of it.

The files of a disk form a chain: each has its changes against the one below. A *layer* is a file that fleetpatch has
put above another one, which is never written to from then on, until both are merged. An image is never merged into.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Any, Final

from inventory.data_class import dataclass
from tasks.domain.errors import ProviderError

METADATA_URI: Final = "urn:fleetpatch:provider"
_FORM: Final = 2


@dataclass(frozen=True, slots=True)
class DiskFile:
    """A file with the content of a disk, and its format, such as ``qcow2``. The format is never guessed."""

    path: str
    format: str


@dataclass(frozen=True, slots=True)
class SavedSnapshot:
    """A snapshot."""

    id: str
    taken_at: str
    consistency: str
    files: Mapping[str, DiskFile]  # the file that has the state of each disk, by the disk's target
    seed: str = ""  # the seed disk that the domain had; "": none of ours
    is_taken: bool = False  # libvirt has said so; before, only the disks show whether it was
    is_going: bool = False  # its deletion has begun, so it can't be reverted to any more
    marks: Mapping[str, str] = field(default_factory=dict)  # of its files: they change if somebody writes to them


@dataclass(frozen=True, slots=True)
class SavedDisk:
    """An OS disk that an order has replaced."""

    id: str  # of the order
    disk: str  # the disk's target
    file: DiskFile  # its content
    seed: str = ""  # the seed disk that the domain had; "": none of ours


@dataclass(frozen=True, slots=True)
class Origin:
    """The version of the image that a file was made from, and the image's digest then."""

    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class DomainState:
    """All that fleetpatch has written down about a domain."""

    uuid: str = ""  # the domain's own. A clone has the metadata of its original, whose files are not its own.
    snapshots: tuple[SavedSnapshot, ...] = ()
    kept_disks: tuple[SavedDisk, ...] = ()
    layers: Mapping[str, str] = field(default_factory=dict)  # the path below each layer, by its own
    origins: Mapping[str, Origin] = field(default_factory=dict)  # by the paths of OS disks
    seeds: tuple[str, ...] = ()  # the seed disks that were made
    # Files that were merged, replaced, or never in use: they are removed as soon as nothing needs them.
    doomed: tuple[str, ...] = ()
    abandoned: tuple[str, ...] = ()  # files of before an adoption: no controller takes them for lost
    must_start: bool = False  # it ran before an order that has not ended; the order at work starts it when it ends
    order: str = ""  # the act and the id of the order at work; "": none
    order_until: int = 0  # seconds since 1970 by the clock of the host, after which that order counts as dead
    number: int = 0  # grows with each change: a lower one is that of an older definition
    lineage: str = ""  # of the number: random, made with the first change

    def find_snapshot(self, snapshot_id: str) -> SavedSnapshot | None:
        """Return a snapshot; None: it was never taken, or is deleted."""
        return next((snapshot for snapshot in self.snapshots if snapshot.id == snapshot_id), None)

    def find_kept_disk(self, order_id: str) -> SavedDisk | None:
        """Return the disk that an order has replaced; None: it never did, or the disk is deleted."""
        return next((disk for disk in self.kept_disks if disk.id == order_id), None)

    def find_origin(self, path: str) -> Origin:
        """Return what image a file, or the file below its layers, was made from; all is "": not known."""
        for _ in range(len(self.layers) + 1):
            if path in self.origins or path not in self.layers:
                break
            path = self.layers[path]
        return self.origins.get(path, Origin("", ""))


def write_state(state: DomainState) -> str:
    """Return the state as text. A state of before a field was added has the same text while that field is empty."""
    document = asdict(state)
    if not state.abandoned:
        del document["abandoned"]
    return json.dumps({"form": _FORM, **document})


def read_state(text: str, domain: str, uuid: str) -> DomainState:
    """Return the state of a text; "" is a domain of which nothing was written down.

    Raises:
        ProviderError: it is not ours, of another version of fleetpatch, or of another domain.
    """
    if not text.strip():
        return DomainState(uuid)
    state = read_any_state(text, domain)
    if state.uuid != uuid:
        hint = f"It was cloned. Remove them from the clone: `virsh metadata {domain} {METADATA_URI} --remove --config`."
        message = f"{domain}: its metadata of fleetpatch are those of another domain: {state.uuid or 'without a UUID'}"
        raise ProviderError(message, hint=hint)
    return state


def read_any_state(text: str, domain: str) -> DomainState:
    """Return the state of a text, whichever domain it is of. Raise ProviderError if it can't be read."""
    try:
        document = json.loads(text)
        if document.pop("form") != _FORM:
            raise ValueError("another form")
        layers = document["layers"]
        for below in layers.values():
            for _ in layers:
                below = layers.get(below)  # noqa: PLW2901 - down to the lowest file
            if below is not None:
                raise ValueError("its layers go round")
        return DomainState(
            **document
            | {
                "snapshots": tuple(_read_snapshot(entry) for entry in document["snapshots"]),
                "kept_disks": tuple(
                    SavedDisk(**entry | {"file": DiskFile(**entry["file"])}) for entry in document["kept_disks"]
                ),
                "origins": {
                    # Metadata of before digests had an algorithm have the SHA-256 alone.
                    path: Origin(origin["version"], origin.get("digest") or f"sha256:{origin['sha256']}")
                    for path, origin in document["origins"].items()
                },
                **{key: tuple(document.get(key, ())) for key in ("seeds", "doomed", "abandoned")},
            }
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        hint = f"Look at it: `virsh metadata {domain} {METADATA_URI} --config`. Another version may have written it."
        raise ProviderError(f"{domain}: its metadata of fleetpatch can't be read: {error}", hint=hint) from error


def _read_snapshot(entry: dict[str, Any]) -> SavedSnapshot:
    files = {disk: DiskFile(**file) for disk, file in entry["files"].items()}
    return SavedSnapshot(**entry | {"files": files})
