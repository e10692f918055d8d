"""The nouns of machines that are upgraded by a new OS disk. Azure calls that an automatic OS image upgrade.

A group of images.yaml is a component whose versions are those of an image, so all rules of components are its own.
"""

from enum import StrEnum
from typing import Final

from inventory.data_class import dataclass

IMAGE_PREFIX: Final = "image:"
"""The names of components that are groups of images.yaml begin with it. No component of components.yaml can."""


@dataclass(frozen=True, slots=True)
class RolloutLimits:
    """Shares of machines, in percent. Azure's figures."""

    batch: int = 20  # how many of all machines are upgraded together at most; at least one is
    unhealthy: int = 20  # how many of all may be unhealthy before the first batch, and before each
    unhealthy_upgraded: int = 20  # how many of those that were upgraded may be unhealthy after a batch


@dataclass(frozen=True, slots=True)
class ImageScript:
    """A configuration script of the owner, which runs on the machine after the first boot of its new disk."""

    name: str
    command: str  # for the machine's shell. A run that is resumed may run it a second time.
    timeout_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class ImageModel:
    """How the machines of a group get a new OS disk."""

    image: str  # the name of the image
    user_data: str = ""  # cloud-init's cloud-config for the first boot, as a JSON object; "": none
    scripts: tuple[ImageScript, ...] = ()  # run on the new disk, in their order
    # The new disk gets the host keys of SSH of the one before. Without them no login would work: a new key is never
    # trusted blindly.
    keeps_host_keys: bool = True
    keeps_machine_id: bool = True  # the new disk also gets the machine id
    keeps_network: bool = True  # and the addresses, routes and name servers that no DHCP gives it
    rolls_back: bool = True  # whether a machine that is not healthy gets its disk back without a person
    keep_days: float = 7.0  # the days for which the disk before is kept after a success
    pause_minutes: float = 0.0  # between batches
    crosses_zones: bool = False  # whether a batch may have machines of several locations


class RollingUpgradeState(StrEnum):
    """How an upgrade of a group stands: Azure's codes."""

    ROLLING_FORWARD = "RollingForward"
    CANCELLED = "Cancelled"
    COMPLETED = "Completed"
    FAULTED = "Faulted"


class KeptDiskState(StrEnum):
    """What is known of an OS disk that an upgrade has replaced."""

    DELETED = "Deleted"
    KEPT = "Kept"  # its days are over, and it is still there
    WAY_BACK = "WayBack"  # its machine failed with the new disk, so only a person deletes it
    NOT_FOUND = "NotFound"  # its provider does not list it, and fleetpatch has not ordered its deletion
    UNREAD = "Unread"  # its provider did not say
