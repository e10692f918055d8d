"""Sends the magic packet of Wake-on-LAN, which powers a machine on by its hardware address.

The packet is six bytes of 255 and sixteen times the address: 102 bytes that have not changed since 1995. A library for
them would be one more dependency to watch, and none of them says more than this.
"""

import re
import socket

from tasks.domain.errors import RequestError, TransportError

PACKET_COUNT = 3  # UDP may lose one; a second one changes nothing
_MAC_PATTERN = re.compile(r"[0-9A-Fa-f]{12}")


def build_magic_packet(mac: str) -> bytes:
    """Return the magic packet for a hardware address, written with colons, hyphens, dots or nothing between its digits.

    Raises:
        RequestError: it is not a hardware address of 48 bits.
    """
    digits = re.sub(r"[:.-]", "", mac)
    if not _MAC_PATTERN.fullmatch(digits):
        raise RequestError(f"{mac!r} is not a hardware address", hint="Write six bytes: 52:54:00:12:34:56.")
    return b"\xff" * 6 + bytes.fromhex(digits) * 16


def send_magic_packet(mac: str, broadcast: str, port: int) -> None:
    """Send the magic packet to an IPv4 address, usually the broadcast address of the machine's network.

    Raises:
        RequestError: it is not a hardware address.
        TransportError: this system could not send it.
    """
    packet = build_magic_packet(mac)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            for _ in range(PACKET_COUNT):
                sender.sendto(packet, (broadcast, port))
    except OSError as error:
        raise TransportError(f"the magic packet could not be sent to {broadcast}:{port}: {error}") from error
