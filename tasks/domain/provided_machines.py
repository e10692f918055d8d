"""The nouns of machines whose disks somebody holds: a hypervisor, a cloud, or a volume manager of the machine."""

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from typing import Final

from inventory.data_class import dataclass


class PowerState(StrEnum):
    """Whether a machine runs, as its provider says."""

    RUNNING = "Running"
    STOPPED = "Stopped"
    PAUSED = "Paused"
    UNKNOWN = "Unknown"


class DiskRole(StrEnum):
    """What a disk is for. Only OS disks are reverted or replaced, unless a person orders more."""

    OS = "OS"
    DATA = "Data"
    UNKNOWN = "Unknown"  # the provider does not tell: it is treated like a data disk


class Consistency(StrEnum):
    """What a snapshot holds of a machine that ran while it was taken."""

    FILE_SYSTEM = "file-system-consistent"  # its file systems were frozen for that moment
    CRASH = "crash-consistent"  # as after a power cut
    OFFLINE = "offline"  # the machine was stopped
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class HardwareIdentity:
    """What tells a machine from all others: the machine itself and its provider both know it."""

    uuid: str = ""  # of its SMBIOS, as 8-4-4-4-12 digits in lower case; "": not known
    instance_id: str = ""  # of its cloud; "": not known
    macs: tuple[str, ...] = ()  # of its network cards, in lower case with colons


class IdentityState(StrEnum):
    """Whether a machine of the inventory is the one that its provider means."""

    PROVEN = "Proven"
    PROVEN_BEFORE = "Proven before"  # it does not answer now, and its provider shows the same as then
    DIFFERENT = "Different"
    UNKNOWN = "Unknown"  # nothing says so, and nothing says the contrary


@dataclass(frozen=True, slots=True)
class IdentityProof:
    """What is known of it, and by what."""

    state: IdentityState
    message: str  # such as ``it has the UUID of rack/vm-2``
    proven_at: datetime | None = None  # when it was proven last; None: never
    is_transient: bool = False  # the machine did not answer, and may do so later
    is_doubted: bool = False  # what the machine told speaks against it

    @property
    def is_proven(self) -> bool:
        """Whether this proof alone allows orders."""
        return self.state in {IdentityState.PROVEN, IdentityState.PROVEN_BEFORE}


@dataclass(frozen=True, slots=True)
class ProviderNotes:
    """What a provider has written down of our orders to a machine. Others can write there, too."""

    number: int  # grows with each note
    ids: tuple[str, ...] = ()  # of the snapshots and kept disks
    tops: Mapping[str, str] = field(default_factory=dict)  # the file that each disk is in, by its id
    # The file with the newest data of a disk, by each file below it. Nothing may start from those.
    newest: Mapping[str, str] = field(default_factory=dict)
    text: str = ""  # all of it, as JSON in the provider's own form, for the day on which it is lost
    made: Mapping[str, str] = field(default_factory=dict)  # those of the tops that our orders have made
    lineage: str = ""  # differs where notes have begun anew: their numbers can't be compared
    seen_at: str = field(default="", compare=False)  # by the clock of the provider


@dataclass(frozen=True, slots=True)
class ProviderRecord:
    """What the records have of a machine at its provider."""

    machine: str
    provider: str  # as the inventory entry has it: NAME or NAME/ID
    address: str = ""  # how it was reached when it was asked who it is: see describe_endpoint
    identity: HardwareIdentity | None = None  # that machine and provider both had then; None: never proven
    proven_at: datetime | None = None
    notes: ProviderNotes | None = None  # as the provider showed them last, when nothing was lost; None: never
    loss: str = ""  # what was lost of them when somebody looked last, and the way back; "": nothing

    @property
    def is_unreadable(self) -> bool:
        """Whether its notes are sealed with a key that is not here. ``loss`` says so, and nothing else is known."""
        return bool(self.loss) and self.notes is None


@dataclass(frozen=True, slots=True)
class ProvidedDisk:
    """One disk of a machine."""

    id: str  # what the provider calls it, such as ``vda``
    role: DiskRole
    source: str = ""  # where its content is, such as a path or the id of a volume
    image: str = ""  # the version of the image that it was made from; "": none, or it is not known
    image_digest: str = ""  # the digest that its image had then; "": not known
    next_source: str = ""  # where its content is at the next start; "": where it is now


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state of disks of a machine that can be put back."""

    id: str  # chosen by whoever ordered it
    taken_at: datetime | None  # by the provider's clock
    disks: tuple[str, ...] = ()  # the ids of the disks that it has
    consistency: Consistency = Consistency.UNKNOWN
    used_bytes: int | None = None  # how much room it takes now; None: not known
    # Why nothing can be put back by it now, such as that it is overfull; "": nothing is known to be wrong.
    fault: str = ""


@dataclass(frozen=True, slots=True)
class KeptDisk:
    """An OS disk that was replaced, and that can be put back."""

    id: str  # the id of the order that replaced it
    source: str  # where its content is
    image: str = ""  # the version of the image that it was made from, or ""


@dataclass(frozen=True, slots=True)
class Overlay:
    """A copy of a machine on overlays of its disks, for a rehearsal. What is written to it is thrown away with it.

    It is on no network of the machine. It keeps the machine's name, addresses and host keys, which nobody else sees.
    """

    id: str  # of the order that started it
    power: PowerState = PowerState.UNKNOWN  # whether it runs
    address: str = ""  # where its SSH server answers; "": not known
    port: int = 22  # likewise
    through: str = ""  # the machine of the inventory from which that address is reached; "": it is reached directly
    consistency: Consistency = Consistency.UNKNOWN  # of the state that it began with
    reaches: tuple[str, ...] = ()  # what its network lets it reach: "HOST:PORT ADDRESS"


@dataclass(frozen=True, slots=True)
class ProvidedMachine:
    """A machine as its provider sees it."""

    id: str  # what the provider calls it
    power: PowerState  # whether it runs
    disks: tuple[ProvidedDisk, ...] = ()  # attached to it now
    snapshots: tuple[Snapshot, ...] = ()  # all that the provider has of it, those of others included
    kept_disks: tuple[KeptDisk, ...] = ()  # OS disks that were replaced and are still there
    overlay: Overlay | None = None  # its rehearsal copy that exists, whole or not; None: none
    snapshot_obstacle: str = ""  # why the provider would take no snapshot of it now; "": it knows of nothing
    identity: HardwareIdentity | None = None  # None: the provider does not know it
    notes: ProviderNotes | None = None  # None: it writes nothing down

    @property
    def os_disks(self) -> tuple[ProvidedDisk, ...]:
        """The attached OS disks."""
        return tuple(disk for disk in self.disks if disk.role is DiskRole.OS)

    def find_snapshot(self, snapshot_id: str) -> Snapshot | None:
        """Return the snapshot with an id; None: it does not exist."""
        return next((snapshot for snapshot in self.snapshots if snapshot.id == snapshot_id), None)

    def find_kept_disk(self, order_id: str) -> KeptDisk | None:
        """Return the OS disk that an order has replaced; None: it is not there (any more)."""
        return next((disk for disk in self.kept_disks if disk.id == order_id), None)


@dataclass(frozen=True, slots=True)
class ImageVersion:
    """One version of an image of an operating system."""

    image: str  # its name in images.yaml.
    version: str  # ordered as versions of software are
    reference: str  # what the provider makes a disk from: a path on its host, an AMI, a template, an image id
    digest: str = ""  # of that file, with its algorithm: `sha256:…` or `sha512:…`; "": the provider has no files
    withdrawn: str = ""  # why no machine gets it any more, or ""


class ProviderAct(StrEnum):
    """What a provider can be asked to do. Not every provider can do all."""

    TAKE_SNAPSHOT = "take-snapshot"
    REVERT = "revert"  # the OS disks to a snapshot; the machine runs again afterwards, if it ran
    DELETE_SNAPSHOT = "delete-snapshot"
    REPLACE_OS_DISK = "replace-os-disk"  # a new disk from an image; the one before is kept; data disks stay
    RESTORE_OS_DISK = "restore-os-disk"  # the kept disk of that order, in place of the new one
    DELETE_OS_DISK = "delete-os-disk"  # the kept disk of that order
    REWRITE_SEED = "rewrite-seed"  # the user data of that order, which has none of the host keys any more
    START = "start"
    STOP = "stop"  # a shutdown that the machine takes part in
    POWER_OFF = "power-off"  # as if the cable was pulled
    START_OVERLAY = "start-overlay"  # a copy of the running machine on overlays of its disks; never a second one
    DELETE_OVERLAY = "delete-overlay"  # the copy of that id, with all that was written to it


@dataclass(frozen=True, slots=True)
class ProviderOrder:
    """An order to a provider. The same order given twice has one effect."""

    act: ProviderAct
    id: str = ""  # of what the order makes or names: the snapshot, the kept OS disk, or the overlay
    image: ImageVersion | None = None  # of the new OS disk
    with_data_disks: bool = False  # a revert also puts data disks back: only if a person said so
    is_quiesced: bool = True  # whether a snapshot freezes file systems first, where the provider can
    user_data: str = ""  # for the first boot of a new OS disk (cloud-init's user-data); "": none
    network_config: str = ""  # likewise (cloud-init's network-config); "": DHCP


class SnapshotState(StrEnum):
    """What is known of a snapshot that a run has ordered."""

    TAKEN = "Taken"
    REVERTED = "Reverted"  # the machine was put back to it; it may still be there
    DELETED = "Deleted"
    GONE = "Gone"  # the provider does not have it, and no run has deleted it
    UNKNOWN = "Unknown"  # it was ordered, and whether it exists could not be read


OPEN_SNAPSHOT_STATES: Final = (SnapshotState.TAKEN, SnapshotState.REVERTED, SnapshotState.UNKNOWN)
"""The states of snapshots that may exist: they are deleted when their time is over."""


@dataclass(frozen=True, slots=True)
class SnapshotResult:
    """The snapshot that a run took of a machine before its first change, and what became of it in that run."""

    id: str  # of the snapshot, as its provider has it
    ordered_at: datetime  # when the run first ordered it
    # When the provider had it; None: it is not known that there is one. It is never used then.
    taken_at: datetime | None = None
    expires_at: datetime | None = None  # from when it is deleted; None: none was taken
    consistency: Consistency = Consistency.UNKNOWN
    used_bytes: int | None = None  # when it was new; None: not known
    seconds: float | None = None  # how long it took; None: not known
    failure: str = ""  # why none was taken, or ""
    # Why the machine is reverted to it, or "". A revert may have begun as soon as this is known.
    revert_reason: str = ""
    boots_before: tuple[str, ...] = ()  # the ids of the boots that the machine had before that
    reverted_at: datetime | None = None  # when the machine answered after the revert; None: it did not, so far
    revert_seconds: float | None = None  # how long that took; None: not known
    revert_note: str = ""  # what became of the revert in the end, for the report; "": it has not ended
