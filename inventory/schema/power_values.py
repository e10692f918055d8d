"""Types of single values of `wake` in an inventory: hardware addresses, broadcast addresses and commands."""

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, Field

from inventory.action_targets import find_command_fault
from inventory.schema.value_types import build_validation_error

_MULTICAST_BIT = 1


def _validate_mac(value: str) -> str:
    """Return a hardware address as aa:bb:cc:dd:ee:ff."""
    digits = re.sub(r"[:.-]", "", value.strip()).lower()
    if not re.fullmatch(r"[0-9a-f]{12}", digits):
        raise build_validation_error(
            f"{value[:80]!r} is no hardware address", "Give six pairs of hexadecimal digits such as 52:54:00:12:34:56."
        )
    if int(digits, 16) == 0 or int(digits[:2], 16) & _MULTICAST_BIT:
        hint = "Give the hardware address of its network card: `ip link` on the machine shows it."
        raise build_validation_error(f"{value[:80]!r} is the address of no single machine", hint)
    return ":".join(digits[index : index + 2] for index in range(0, 12, 2))


def validate_ipv4(value: str) -> str:
    """Return a valid IPv4 address.

    Raises:
        PydanticCustomError: the text is no IPv4 address.
    """
    try:
        return str(ipaddress.IPv4Address(value.strip()))
    except ValueError:
        hint = "Give the broadcast address of the machine's network, such as 192.0.2.255."
        raise build_validation_error(f"{value[:80]!r} is no IPv4 address", hint) from None


def _validate_command(value: str) -> str:
    if fault := find_command_fault(value):
        raise build_validation_error(f"this command {fault}", "Write it as one command line. No shell reads it.")
    return value


MacAddress = Annotated[str, AfterValidator(_validate_mac)]
ControllerCommand = Annotated[str, Field(min_length=1, max_length=4000), AfterValidator(_validate_command)]
