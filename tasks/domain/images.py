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
    """Shares of machines, in percent. Azure's figures.

    Attributes:
        batch: how many of all machines are upgraded together at most; at least one is.
        unhealthy: how many of all may be unhealthy before the first batch, and before each.
        unhealthy_upgraded: how many of those that were upgraded may be unhealthy after a batch.
    """

    batch: int = 20
    unhealthy: int = 20
    unhealthy_upgraded: int = 20


@dataclass(frozen=True, slots=True)
class ImageScript:
    """A configuration script of the owner, which runs on the machine after the first boot of its new disk.

    Attributes:
        command: for the machine's shell. A run that is resumed may run it a second time.
    """

    name: str
    command: str
    timeout_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class ImageModel:
    """How the machines of a group get a new OS disk.

    Attributes:
        image: the name of the image.
        user_data: cloud-init's cloud-config for the first boot, as a JSON object; "": none.
        scripts: run on the new disk, in their order.
        keeps_host_keys: the new disk gets the host keys of SSH of the one before. Without them no login would work:
            a new key is never trusted blindly.
        keeps_machine_id: the new disk also gets the machine id.
        rolls_back: whether a machine that is not healthy gets its disk back without a person.
        keep_days: the days for which the disk before is kept after a success.
        pause_minutes: between batches.
        crosses_zones: whether a batch may have machines of several locations.
    """

    image: str
    user_data: str = ""
    scripts: tuple[ImageScript, ...] = ()
    keeps_host_keys: bool = True
    keeps_machine_id: bool = True
    rolls_back: bool = True
    keep_days: float = 7.0
    pause_minutes: float = 0.0
    crosses_zones: bool = False


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
