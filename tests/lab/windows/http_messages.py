"""HTTP/1.1 as far as WS-Management uses it: requests with a length, answers with a length."""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import BinaryIO

SOAP = "application/soap+xml;charset=UTF-8"
MAX_LINE = 64 * 1024
MAX_BODY = 8 * 1024 * 1024


class BadRequest(Exception):
    """What came is no request that can be understood."""


@dataclass(frozen=True)
class Request:
    """A request; the names of its headers are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def encrypted(self) -> bool:
        return self.headers.get("content-type", "").startswith(("multipart/encrypted", "multipart/x-multi-encrypted"))


@dataclass(frozen=True)
class Response:
    """An answer.

    Attributes:
        close: whether the connection ends after it, as it says.
        hang_up: whether the connection ends after it, and it says nothing.
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = SOAP
    close: bool = False
    hang_up: bool = False

    def encoded(self) -> bytes:
        reason = HTTPStatus(self.status).phrase
        lines = [f"HTTP/1.1 {self.status} {reason}"]
        if self.body:
            lines.append(f"Content-Type: {self.content_type}")
        lines += ["Server: Microsoft-HTTPAPI/2.0", f"Date: {formatdate(usegmt=True)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines += ["Connection: close"] if self.close else []
        lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


def read_request(stream: BinaryIO) -> Request | None:
    """The next request; None at the end of the connection."""
    first = stream.readline(MAX_LINE)
    if not first:
        return None
    try:
        method, path, version = first.decode("latin-1").split()
    except ValueError as error:
        raise BadRequest("no request line") from error
    if not version.startswith("HTTP/1."):
        raise BadRequest(version)
    headers = _headers(stream)
    try:
        length = int(headers.get("content-length", "0"))
    except ValueError as error:
        raise BadRequest("no length") from error
    if "transfer-encoding" in headers or not 0 <= length <= MAX_BODY:
        raise BadRequest("a body whose length is not said, or that is too long")
    body = stream.read(length)
    return Request(method, path, headers, body) if len(body) == length else None


def _headers(stream: BinaryIO) -> dict[str, str]:
    headers: dict[str, str] = {}
    while line := stream.readline(MAX_LINE).strip():
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise BadRequest("a header without a value")
        headers[name.strip().lower()] = value.strip()
    return headers
