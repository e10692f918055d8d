"""Encrypted messages inside HTTP (MS-WSMV 2.2.9.1): a multipart body whose second part is signed and encrypted."""

import re
import struct

from spnego import ContextProxy
from spnego.exceptions import SpnegoError

_BOUNDARY = b"--Encrypted Boundary"
_OCTETS = b"\tContent-Type: application/octet-stream\r\n"
_LENGTH = re.compile(rb"OriginalContent:[^\r\n]*;\s*Length=(\d+)", re.IGNORECASE)
PIECE = 16 * 1024
"""CredSSP encrypts no more than this at once: a longer message is several pairs of parts."""
PROTOCOLS = {
    "negotiate": "application/HTTP-SPNEGO-session-encrypted",
    "kerberos": "application/HTTP-SPNEGO-session-encrypted",
    "ntlm": "application/HTTP-SPNEGO-session-encrypted",
    "credssp": "application/HTTP-CredSSP-session-encrypted",
}


class BadSeal(Exception):
    """A body that was not encrypted in this connection's context, or was changed on its way."""


def unseal(context: ContextProxy, body: bytes) -> bytes:
    """The message in an encrypted body."""
    parts = [part for part in body.split(_BOUNDARY + b"\r\n") if part]
    if not parts or len(parts) % 2:
        raise BadSeal("not pairs of parts")
    return b"".join(_unseal_part(context, *parts[n : n + 2]) for n in range(0, len(parts), 2))


def _unseal_part(context: ContextProxy, header: bytes, payload: bytes) -> bytes:
    length = _LENGTH.search(header)
    payload = payload.removesuffix(_BOUNDARY + b"--\r\n")
    if not length or not payload.startswith(_OCTETS):
        raise BadSeal("parts without their headers")
    blob = payload.removeprefix(_OCTETS)
    try:
        (size,) = struct.unpack("<i", blob[:4])
        message = context.unwrap_winrm(blob[4 : 4 + size], blob[4 + size :])
    except (SpnegoError, struct.error, ValueError, OSError) as error:
        raise BadSeal(str(error)) from error
    if len(message) != int(length[1]):
        raise BadSeal("another length than was said")
    return message


def seal(context: ContextProxy, method: str, message: bytes) -> tuple[str, bytes]:
    """The content type and the body for a message."""
    protocol = PROTOCOLS[method]
    whole = method != "credssp" or len(message) <= PIECE
    pieces = [message] if whole else [message[n : n + PIECE] for n in range(0, len(message), PIECE)]
    body = b"".join(_seal_part(context, protocol, piece) for piece in pieces) + _BOUNDARY + b"--\r\n"
    kind = "multipart/encrypted" if whole else "multipart/x-multi-encrypted"
    return f'{kind};protocol="{protocol}";boundary="Encrypted Boundary"', body


def _seal_part(context: ContextProxy, protocol: str, message: bytes) -> bytes:
    sealed = context.wrap_winrm(message)
    length = len(message) + sealed.padding_length
    header = (
        f"\tContent-Type: {protocol}\r\n\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length={length}\r\n"
    )
    size = struct.pack("<i", len(sealed.header))
    start = _BOUNDARY + b"\r\n"
    return start + header.encode() + start + _OCTETS + size + sealed.header + sealed.data
