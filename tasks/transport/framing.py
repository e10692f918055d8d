"""What goes over a line to a POSIX shell, and what comes back. Pure: no connection is known here.

There: one compound command on stdin. The shell reads it to its closing brace before it runs any of it, so that a cut
line runs nothing; parameters are JSON in base64, never script text.

Back: lines that begin with a mark, which holds a nonce that only this exchange knows. A record comes in pieces
(``MARK+ piece``), its last one is ``MARK= piece``; ``MARK! 0`` is the end and the exit code. All else is noise.
"""

import base64
import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from tasks.errors import ProtocolViolation, RequestError
from tasks.seams.transport import ParameterValue, ScriptRecord

LINE_LIMIT: Final = 1024 * 1024
"""Bytes that one framed line may have; prelude.sh cuts its pieces at 60 000."""
RECORDS_LIMIT: Final = 16 * 1024 * 1024
"""Bytes that all records of one exchange may have together."""
NOISE_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of what is no answer that are read, on both streams together: a start-up file may print without end."""
INTEGER_DIGITS: Final = 20
"""Of a whole number, its sign included: those of 64 bits have no more."""
NOISE_HEAD: Final = 8 * 1024
NOISE_TAIL: Final = 56 * 1024


@cache
def load_script(name: str) -> str:
    """Return the text of tasks/scripts/<name>.sh.

    Raises:
        RequestError: there is no such script.
    """
    source = files("tasks").joinpath("scripts", f"{name}.sh")
    if "/" in name or not source.is_file():
        raise RequestError(f"there is no script named '{name}' for POSIX systems")
    return source.read_text(encoding="utf-8")


def new_nonce() -> str:
    """Return 128 random bits in hexadecimal."""
    return secrets.token_hex(16)


def encode_params(params: Mapping[str, ParameterValue]) -> str:
    """Return parameters as one token of base64 letters: a flat JSON object in the subset that prelude.sh reads.

    Raises:
        RequestError: a value that a shell can't hold: NUL, lone surrogates, or a newline within an item of a list.
    """
    parts = []
    for name, value in params.items():
        if isinstance(value, str):
            text = _quoted(name, value)
        else:
            broken = next((item for item in value if "\n" in item), None)
            if broken is not None:
                raise RequestError(f"parameter '{name}': an item of a list holds a line break: {broken!r}")
            text = "[" + ",".join(_quoted(name, item) for item in value) + "]"
        parts.append(f"{_quoted('name', name)}:{text}")
    return base64.b64encode(("{" + ",".join(parts) + "}").encode()).decode("ascii")


# What the reader in prelude.sh knows: \n, and \u for the other control characters, the quote and the backslash.
_ESCAPES: Final = {code: f"\\u{code:04x}" for code in (*range(1, 32), ord('"'), ord("\\"))} | {ord("\n"): "\\n"}


def _quoted(name: str, text: str) -> str:
    if "\x00" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise RequestError(f"parameter '{name}' holds NUL or half a character: {text[:80]!r}")
    return f'"{text.translate(_ESCAPES)}"'


def compose(script: str, params: Mapping[str, ParameterValue], nonce: str) -> bytes:
    """Return what to put on the stdin of ``/bin/sh -s``: prelude and script, framed with the nonce.

    The script runs in a subshell, so that whatever it does (exit, set -e, a syntax error that only running shows) its
    end is still told. Its stdin is /dev/null; its stdout goes to stderr, for only records go to the controller.
    """
    head = f"fp_mark={mark_of(nonce)} FP_TOKEN={encode_params(params)}\nexec 3>&1 1>&2"
    tail = 'fp_code=$?\nprintf \'\\n%s! %s\\n\' "$fp_mark" "$fp_code" >&3\nexit "$fp_code"'
    text = f"{{\n{head}\n(\n{load_script('prelude')}\n{script}\n)\n{tail}\n}} </dev/null\n"
    return text.encode()


def compose_job(script: str) -> str:
    """Return the text of a job's ``script`` file: it is sourced by job_run.sh, which gives it its parameters."""
    return f"{load_script('prelude')}\n{script}\n"


def mark_of(nonce: str) -> str:
    """Return what framed lines begin with."""
    return f"@fleetpatch-{nonce}"


@dataclass(frozen=True, slots=True)
class Decoded:
    """A whole answer.

    Attributes:
        records: bytes that are no UTF-8 are in there as lone surrogates (``surrogateescape``), so that lengths in
            bytes can still be told; ``readable`` makes them fit for people.
        noise: everything that was not framed, the middle left out when it was long.
    """

    records: tuple[ScriptRecord, ...]
    exit_code: int
    noise: str


def readable(value: object) -> object:
    """Return a record (or a part of one) with bytes that are no UTF-8 replaced by U+FFFD."""
    if isinstance(value, str):
        if value.isascii():
            return value
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {str(readable(key)): readable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [readable(item) for item in value]
    return value


def parse_record(line: bytes) -> ScriptRecord:
    """Read one record from a line of JSON.

    Raises:
        ValueError: it is no JSON object with a text named "kind".
    """
    try:
        text = line.decode("utf-8", "surrogateescape")
        record = json.loads(text, parse_constant=_refuse, parse_float=_float, parse_int=_int)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not (isinstance(record, dict) and isinstance(record.get("kind"), str)):
        raise ValueError("not an object that says its kind")  # noqa: TRY004 (it is the text that is wrong)
    _check_text(record)
    return record


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number that can be used")


def _float(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits)


def _int(digits: str) -> int:
    # what no column of a database or a report could hold, no machine means
    return int(digits) if len(digits) <= INTEGER_DIGITS else int(_refuse(f"{digits[:20]}…"))


def _check_text(value: object) -> None:
    # JSON may name half a character (\ud800), which is neither text nor an escaped byte
    if isinstance(value, str):
        if not value.isascii():
            value.encode("utf-8", "surrogateescape")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check_text(item)
    elif isinstance(value, list):
        for item in value:
            _check_text(item)


class Noise:
    """Text for people: the first and the last of what came, whatever its length.

    Args:
        secret: never to be shown: what goes before a script may be echoed by a shell that was not asked for it.

    Attributes:
        size: bytes that came, those left out included.
    """

    def __init__(self, secret: bytes = b"") -> None:
        self._secret = secret.strip()
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0
        self.size = 0

    def add(self, data: bytes) -> None:
        """Take more in."""
        self.size += len(data)
        room = NOISE_HEAD - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data[-NOISE_TAIL:]
        self._dropped += max(0, len(data) - NOISE_TAIL)
        if len(self._tail) > NOISE_TAIL:
            self._dropped += len(self._tail) - NOISE_TAIL
            del self._tail[:-NOISE_TAIL]

    def text(self) -> str:
        """Return it all, with a note where bytes were left out."""
        gap = f"\n[{self._dropped} bytes left out]\n".encode() if self._dropped else b""
        whole = bytes(self._head + gap + self._tail)
        if self._secret:
            whole = whole.replace(self._secret, b"***")
        return whole.decode("utf-8", "replace").strip("\n")


class Decoder:
    """Reads an answer as it comes in, in chunks of any size. Hostile output costs bounded memory.

    Args:
        nonce: of the frame.
        secret: masked in noise.
    """

    def __init__(self, nonce: str, secret: bytes = b"") -> None:
        self._mark = mark_of(nonce).encode()
        self._rest = bytearray()
        self._pieces = bytearray()
        self._size = 0
        self._records: list[ScriptRecord] = []
        self._noise = Noise(secret)
        self._exit_code: int | None = None

    @property
    def ended(self) -> bool:
        """Whether the end record was seen; nothing that follows it counts."""
        return self._exit_code is not None

    def feed(self, data: bytes) -> bool:
        """Take in bytes of stdout; returns whether the answer is complete.

        Raises:
            ProtocolViolation: what is framed makes no sense, or is too much.
        """
        start = max(0, len(self._rest) - 1)
        self._rest += data
        begin = 0
        while not self.ended and (newline := self._rest.find(b"\n", max(start, begin))) >= 0:
            self._line(bytes(self._rest[begin:newline]))
            begin = newline + 1
        del self._rest[:begin]
        self._shed()
        self._bound_noise()
        return self.ended

    def note(self, data: bytes) -> None:
        """Take in bytes of stderr.

        Raises:
            ProtocolViolation: it is too much.
        """
        self._noise.add(data)
        self._bound_noise()

    def result(self) -> Decoded:
        """Return the whole answer.

        Raises:
            ProtocolViolation: the end record is missing.
        """
        if self._exit_code is None:
            raise self._violation("the answer has no end")
        return Decoded(tuple(self._records), self._exit_code, self._noise.text())

    def noise(self) -> str:
        """Return what was not framed, so far."""
        return self._noise.text()

    def _bound_noise(self) -> None:
        if self._noise.size > NOISE_LIMIT and not self.ended:
            raise self._violation(f"more than {NOISE_LIMIT} bytes came that are no answer")

    def _shed(self) -> None:
        if self.ended:
            self._rest.clear()
            return
        if len(self._rest) <= LINE_LIMIT:
            return
        if self._mark in self._rest:
            raise self._violation(f"a line has more than {LINE_LIMIT} bytes")
        keep = len(self._mark) - 1  # the mark may have begun in there
        self._noise.add(bytes(self._rest[:-keep]))
        del self._rest[:-keep]

    def _line(self, line: bytes) -> None:
        at = line.find(self._mark)
        if at < 0:
            if line:
                self._noise.add(line + b"\n")
            return
        if at:  # noise that had no line break at its end
            self._noise.add(line[:at] + b"\n")
        body = line[at + len(self._mark) :].removesuffix(b"\r")
        if len(body) > LINE_LIMIT:
            raise self._violation(f"a line has more than {LINE_LIMIT} bytes")
        kind, content = body[:2], body[2:]
        if kind == b"! ":
            self._end(content)
        elif kind in {b"+ ", b"= "}:
            self._piece(content, last=kind == b"= ")
        else:
            raise self._violation(f"a framed line is neither a record nor an end: {_shown(body)}")

    def _end(self, content: bytes) -> None:
        if self._pieces:
            raise self._violation(f"a record has no end: {_shown(bytes(self._pieces))}")
        if not content.isdigit() or len(content) > 3:
            raise self._violation(f"no exit code: {_shown(content)}")
        self._exit_code = int(content)

    def _piece(self, content: bytes, *, last: bool) -> None:
        self._size += len(content)
        if self._size > RECORDS_LIMIT:
            raise self._violation(f"the records have more than {RECORDS_LIMIT} bytes")
        self._pieces += content
        if not last:
            return
        line = bytes(self._pieces)
        self._pieces.clear()
        try:
            self._records.append(parse_record(line))
        except ValueError as error:
            raise self._violation(f"a record can't be read ({error}): {_shown(line)}") from error

    def _violation(self, why: str) -> ProtocolViolation:
        noise = self._noise.text()[-500:]
        seen = f"; it also said: {noise}" if noise else ""
        return ProtocolViolation(
            f"the machine's answer can't be understood: {why}{seen}",
            hint="Look at what the login's start-up files (.bashrc, .profile) and /bin/sh do on that machine.",
        )


def _shown(data: bytes) -> str:
    return repr(data[:200].decode("utf-8", "replace"))
