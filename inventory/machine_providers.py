"""Who holds the disks of machines, and what it calls them."""

from enum import StrEnum

from inventory.data_class import dataclass
from inventory.machine import Machine


class ProviderKind(StrEnum):
    """The kinds of provider."""

    LIBVIRT = "libvirt"  # virsh on the hypervisor host
    LVM = "lvm"  # logical volumes, on the machine itself
    BTRFS = "btrfs"  # subvolumes, on the machine itself
    COMMAND = "command"  # a command of the owner on the controller


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """One provider of providers.yaml."""

    name: str
    kind: ProviderKind
    host: str = ""  # the machine of the inventory on which it is asked; "": it is asked otherwise
    uri: str = ""  # the connection URI of libvirt; "": its own default
    command: str = ""  # the owner's command on the controller; it reads an order as JSON, and answers in JSON
    folder: str = ""  # where overlays and kept disks are put; "": beside the disk
    timeout_minutes: float = 15.0  # how long one order may take
    repositories: tuple[str, ...] = ()  # what the copy of a machine may reach in a rehearsal: HOST:PORT


def find_provider_name(machine: Machine) -> str:
    """Return the name of the machine's provider, or ""."""
    return machine.provider.partition("/")[0]


def find_provider_machine_id(machine: Machine) -> str:
    """Return what its provider calls a machine."""
    return machine.provider.partition("/")[2] or machine.name
