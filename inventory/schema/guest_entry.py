"""The key `guests` of machines in an inventory."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from inventory.guests import GuestAction, StubbornGuests
from inventory.schema.validation import StrictModel
from inventory.schema.value_types import build_validation_error

_HOST_PATTERN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def _validate_host(value: str) -> str:
    if value and not _HOST_PATTERN.fullmatch(value):
        raise build_validation_error(f"{value[:80]!r} is no name of a host", "Write it as host-2.example.org.")
    return value


class GuestsEntry(StrictModel):
    """What becomes of the guests of a hypervisor host (libvirt, Proxmox VE) before it reboots."""

    action: GuestAction | None = None
    """shutdown, pause (their memory is saved to disk) or move. Default: shutdown."""
    to: Annotated[str, AfterValidator(_validate_host)] | None = None
    """The host to which they move: its name in the cluster, or that which virsh reaches over SSH."""
    minutes: Annotated[float, Field(gt=0, le=240, allow_inf_nan=False)] | None = None
    """How long all of them may take to be away, and then to be back. Default: 10."""
    stubborn: StubbornGuests | None = None
    """A guest that is not away in time: leave (the host is not rebooted) or force (switched off). Default: leave."""
