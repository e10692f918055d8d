"""Reads the output of a script while it arrives, and separates its framed records from all other output.

Framed lines begin with a mark. The mark has a nonce that only this exchange uses. A record comes in pieces (``MARK+
piece``), its last one is ``MARK= piece``. ``MARK! 0`` is the end and the exit code. ``MARK! 0 1234`` also says how many
bytes all pieces have: a connection that was repaired meanwhile may have lost some. Everything else is unframed output.

Here a machine's texts come in, so here they are redacted: records, unframed output, and what errors quote. The events
and the log of a job are read in pieces, so script_host.py redacts them by lines.
"""

import json
import math
import re
import secrets
from collections.abc import Collection, Mapping
from typing import Final, cast

from inventory.data_class import dataclass
from tasks.domain.errors import ConnectionLost, NoShell, ProtocolViolation
from tasks.domain.protocols.transport import ScriptRecord
from tasks.rules.redaction import redact_text, redact_value

MAX_LINE_BYTES: Final = 1024 * 1024
"""The maximum of bytes in one framed line; prelude.sh cuts its pieces at 60 000."""


MAX_RECORDS_BYTES: Final = 16 * 1024 * 1024
"""The maximum of bytes in all records of one exchange."""


MAX_UNFRAMED_BYTES: Final = 64 * 1024 * 1024
"""The maximum of unframed bytes on both streams together: a start-up file may print without end."""


MAX_INTEGER_DIGITS: Final = 20
"""The maximum of digits in an integer, including its sign: 64 bits need no more."""


UNFRAMED_HEAD_BYTES: Final = 8 * 1024


UNFRAMED_TAIL_BYTES: Final = 56 * 1024


_SHELL_HINT: Final = (
    "The login must run the command that it is given. Look at what may replace or disturb that: ForceCommand in its "
    "sshd_config, command= in authorized_keys, its shell (nologin), its start-up files (.bashrc, .profile) and /bin/sh."
)
_BEHIND_ECHOED_MARK: Final = b" FP_TOKEN="  # in a script's input (posix_shell.py)


def generate_nonce() -> str:
    """Return 128 random bits in hexadecimal."""
    return secrets.token_hex(16)


def build_frame_mark(nonce: str) -> str:
    """Return the start of framed lines."""
    return f"@fleetpatch-{nonce}"


@dataclass(frozen=True, slots=True)
class ScriptOutput:
    """A complete answer."""

    # Bytes that are not UTF-8 are lone surrogates (``surrogateescape``), so that lengths in bytes stay known;
    # ``replace_invalid_utf8`` makes them printable.
    records: tuple[ScriptRecord, ...]
    exit_code: int
    unframed_output: str  # everything that was not framed; a long text has a gap in the middle


def replace_invalid_utf8(value: object) -> object:
    """Return a record (or a part of one) with bytes that are not UTF-8 replaced by U+FFFD."""
    if isinstance(value, str):
        if value.isascii():
            return value
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {str(replace_invalid_utf8(key)): replace_invalid_utf8(element) for key, element in value.items()}
    if isinstance(value, list | tuple):
        return [replace_invalid_utf8(element) for element in value]
    return value


def parse_record(line: bytes) -> ScriptRecord:
    """Read one record from a line of JSON. Raise ValueError if it is not a JSON object with a string "kind"."""
    try:
        text = line.decode("utf-8", "surrogateescape")
        record = _JSON_DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not (isinstance(record, dict) and isinstance(record.get("kind"), str)):
        raise ValueError("not an object that says its kind")  # noqa: TRY004 (it is the text that is wrong)
    if b"\\u" in line:
        _require_valid_unicode(record)
    return record


def _parse_float(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"{digits} is no number that can be used")
    return number


def _parse_integer(digits: str) -> int:
    # no database column or report can hold a larger number, and no machine sends one on purpose
    if len(digits) > MAX_INTEGER_DIGITS:
        raise ValueError(f"{digits[:20]}… is no number that can be used")
    return int(digits)


_JSON_DECODER: Final = json.JSONDecoder(parse_constant=_parse_float, parse_float=_parse_float, parse_int=_parse_integer)


def _require_valid_unicode(value: object) -> None:
    # JSON may contain half a character (\ud800), which is neither text nor an escaped byte
    if isinstance(value, str):
        if not value.isascii():
            value.encode("utf-8", "surrogateescape")
    elif isinstance(value, dict | list):
        for element in (*value, *value.values()) if isinstance(value, dict) else value:
            _require_valid_unicode(element)


class UnframedOutput:
    """Unframed output: the beginning and the end of it, in bounded memory.

    Args:
        secret: never shown. A shell may echo the input that precedes a script.

    Attributes:
        byte_count: bytes received, including those left out.
    """

    def __init__(self, secret: bytes = b"") -> None:
        self._secret = secret.strip()
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped_bytes = 0
        self.byte_count = 0

    def add(self, data: bytes) -> None:
        """Add bytes."""
        self.byte_count += len(data)
        room = UNFRAMED_HEAD_BYTES - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data[-UNFRAMED_TAIL_BYTES:]
        self._dropped_bytes += max(0, len(data) - UNFRAMED_TAIL_BYTES)
        if len(self._tail) > UNFRAMED_TAIL_BYTES:
            self._dropped_bytes += len(self._tail) - UNFRAMED_TAIL_BYTES
            del self._tail[:-UNFRAMED_TAIL_BYTES]

    def render(self) -> str:
        """Return the text, with a note where bytes were left out."""
        data = bytes(self._head + self._tail)
        if self._dropped_bytes:  # half a word may be half a secret, which nothing shows
            head, tail = cut_torn_end(bytes(self._head)), re.sub(rb"\A\S*", b"", bytes(self._tail))
            dropped = self._dropped_bytes + len(data) - len(head) - len(tail)
            data = head + f"\n[{dropped} bytes left out]\n".encode() + tail
        if self._secret:
            data = data.replace(self._secret, b"***")
        return redact_text(data.decode("utf-8", "replace")).strip("\n")


def cut_torn_line(data: bytes) -> bytes:
    """Return bytes without the line at their end that is not complete."""
    return data[: max(data.rfind(b"\n"), data.rfind(b"\r")) + 1]


def cut_torn_end(data: bytes) -> bytes:
    """Return bytes without the line at their end that is not complete; of a single line, without its last word."""
    return cut_torn_line(data) or data[: max(data.rfind(b" "), data.rfind(b"\t")) + 1]


class ScriptOutputDecoder:
    """Reads an answer while it arrives, in chunks of any size. Hostile output uses bounded memory.

    Args:
        nonce: of the frame.
        secret: masked in unframed output.
        hint: what an operator looks at if the answer can't be understood.
        raw_sections: names of the sections that are not redacted here.
    """

    def __init__(
        self, nonce: str, secret: bytes = b"", *, hint: str = _SHELL_HINT, raw_sections: Collection[str] = ()
    ) -> None:
        self._mark = build_frame_mark(nonce).encode()
        self._hint = hint
        self._raw_sections = raw_sections
        self._incomplete_line = bytearray()
        self._record_fragments = bytearray()
        self._record_bytes = 0
        self._records: list[ScriptRecord] = []
        self._unframed_output = UnframedOutput(secret)
        self._exit_code: int | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the end record was read. Everything after it is ignored."""
        return self._exit_code is not None

    def feed_stdout(self, data: bytes) -> bool:
        """Read bytes of stdout. Return whether the answer is complete.

        Raises:
            ConnectionLost: the end says that more came before it.
            ProtocolViolation: a framed line is not valid, or the output is too long.
        """
        start = max(0, len(self._incomplete_line) - 1)
        self._incomplete_line += data
        begin = 0
        while not self.is_complete and (newline := self._incomplete_line.find(b"\n", max(start, begin))) >= 0:
            self._decode_line(bytes(self._incomplete_line[begin:newline]))
            begin = newline + 1
        del self._incomplete_line[:begin]
        self._trim_incomplete_line()
        self._require_unframed_within_limit()
        return self.is_complete

    def feed_stderr(self, data: bytes) -> None:
        """Read bytes of stderr. Raise ProtocolViolation if the output is too long."""
        self._unframed_output.add(data)
        self._require_unframed_within_limit()

    def build_output(self) -> ScriptOutput:
        """Return the complete answer. Raise ProtocolViolation if the end record is missing."""
        if self._exit_code is None:
            raise self._build_violation("the answer has no end")
        return ScriptOutput(tuple(self._records), self._exit_code, self._unframed_output.render())

    def render_unframed_output(self) -> str:
        """Return the unframed output so far."""
        return self._unframed_output.render()

    def _require_unframed_within_limit(self) -> None:
        if self._unframed_output.byte_count > MAX_UNFRAMED_BYTES and not self.is_complete:
            raise self._build_violation(f"more than {MAX_UNFRAMED_BYTES} bytes came that are no answer")

    def _trim_incomplete_line(self) -> None:
        if self.is_complete:
            self._incomplete_line.clear()
            return
        if len(self._incomplete_line) <= MAX_LINE_BYTES:
            return
        if self._mark in self._incomplete_line:
            raise self._build_violation(f"a line has more than {MAX_LINE_BYTES} bytes")
        keep = len(self._mark) - 1  # the mark may begin here
        self._unframed_output.add(bytes(self._incomplete_line[:-keep]))
        del self._incomplete_line[:-keep]

    def _decode_line(self, line: bytes) -> None:
        at = line.find(self._mark)
        if at < 0:
            if line:
                self._unframed_output.add(line + b"\n")
            return
        if line[at + len(self._mark) :].startswith(_BEHIND_ECHOED_MARK):
            raise ProtocolViolation("the machine sent the script back, and did not run it", hint=self._hint)
        if at:  # unframed output without a line break at its end
            self._unframed_output.add(line[:at] + b"\n")
        body = line[at + len(self._mark) :].removesuffix(b"\r")
        if len(body) > MAX_LINE_BYTES:
            raise self._build_violation(f"a line has more than {MAX_LINE_BYTES} bytes")
        kind, content = body[:2], body[2:]
        if kind == b"! ":
            self._decode_end(content)
        elif kind in {b"+ ", b"= "}:
            self._decode_fragment(content, last=kind == b"= ")
        else:
            raise self._build_violation(f"a framed line is neither a record nor an end: {_quote_bytes(body)}")

    def _decode_end(self, content: bytes) -> None:
        if self._record_fragments and b" " not in content:
            raise self._build_violation(f"a record has no end: {_quote_bytes(bytes(self._record_fragments))}")
        code, space, length = content.partition(b" ")
        if not code.isdigit() or len(code) > 3 or (space and not (length.isdigit() and len(length) <= 12)):
            raise self._build_violation(f"no exit code: {_quote_bytes(content)}")
        if space and int(length) != self._record_bytes:
            raise ConnectionLost(
                f"a part of the machine's answer was lost: {self._record_bytes} of {int(length)} bytes came"
            )
        self._exit_code = int(code)

    def _decode_fragment(self, content: bytes, *, last: bool) -> None:
        self._record_bytes += len(content)
        if self._record_bytes > MAX_RECORDS_BYTES:
            raise self._build_violation(f"the records have more than {MAX_RECORDS_BYTES} bytes")
        self._record_fragments += content
        if not last:
            return
        line = bytes(self._record_fragments)
        self._record_fragments.clear()
        try:
            record = parse_record(line)
        except ValueError as error:
            raise self._build_violation(f"a record can't be read ({error}): {_quote_bytes(line)}") from error
        is_raw = record["kind"] == "section" and record.get("name") in self._raw_sections
        self._records.append(record if is_raw else cast("ScriptRecord", redact_value(record)))

    def _build_violation(self, why: str) -> ProtocolViolation:
        noise = self._unframed_output.render()[-500:]
        also = f"; it also said: {noise}" if noise else ""
        is_silent = self._exit_code is None and not self._record_bytes
        return (NoShell if is_silent else ProtocolViolation)(
            f"the machine's answer can't be understood: {why}{also}", hint=self._hint
        )


def _quote_bytes(data: bytes) -> str:
    return repr(redact_text(data[:4_000].decode("utf-8", "replace"))[:200])
