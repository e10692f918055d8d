"""Reads and validates the answers of a script: everything that a machine sends is untrusted before."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeVar

from inventory.data_class import dataclass
from tasks.domain.errors import ProtocolViolation, ScriptFailed
from tasks.domain.protocols.transport import ScriptRecord, ScriptResult
from tasks.machines.managers.tool_errors import describe_failure
from tasks.rules.machine_checks.report_limits import MAX_LINES, require_count

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

ENDED_CODES: Final = frozenset({124, 137})
"""The exit codes of a command that fp_limited has ended, because it took too long."""


@dataclass(frozen=True, slots=True)
class ScriptSection:
    """The output of one command on the machine: its standard output, and the end of its standard error."""

    exit_code: int
    text: str
    stderr: str = ""


def parse_sections(result: ScriptResult, script: str, *required: str) -> Mapping[str, ScriptSection]:
    """Return a script's sections by name.

    Raises:
        ScriptFailed: the script did not end with 0.
        ProtocolViolation: a required section is missing, or one is malformed.
        ReportTooLarge: one has more lines than any real machine prints.
    """
    if result.exit_code != 0:
        raise ScriptFailed(
            describe_failure(f"{script} ended with {result.exit_code}", result.unframed_output),
            exit_code=result.exit_code,
            output_tail=result.unframed_output,
        )
    sections: dict[str, ScriptSection] = {}
    for record in result.find_records("section"):
        text, stderr = require_text(record, "text"), record.get("stderr", "")
        require_count(text.count("\n"), MAX_LINES, f"lines of {str(record.get('name'))[:100]!r}")
        exit_code = require_integer(record, "exit_code")
        sections[require_text(record, "name")] = ScriptSection(
            exit_code, text, stderr if isinstance(stderr, str) else ""
        )
    for name in required:
        if name not in sections:
            raise ProtocolViolation(f"{script} said nothing about {name}")
    return sections


def split_rows(text: str, *lengths: int) -> Iterator[list[str]]:
    """Yield the cells of each line, which tabs separate. Lines with another number of cells are left out."""
    return (cells for line in text.splitlines() if len(cells := line.split("\t")) in lengths)


def clean_text(text: str) -> str:
    """Return a text from the machine in one line, without control characters."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def get_text(sections: Mapping[str, ScriptSection], name: str) -> str:
    """Return a section's text; "" if the script did not write that section."""
    return sections[name].text if name in sections else ""


def describe_unread(sections: Mapping[str, ScriptSection], meanings: Mapping[str, str]) -> tuple[str, ...]:
    """Return a sentence for each of these sections whose command failed: an empty answer of it says nothing."""
    failed = {name: sections[name] for name in meanings if name in sections and sections[name].exit_code}
    return tuple(
        describe_failure(f"{meanings[name]} can't be read", section.stderr.strip() or section.text)
        for name, section in failed.items()
    )


def require_single_record(result: ScriptResult, script: str, kind: str) -> ScriptRecord:
    """Return the one record of that kind. Raise ProtocolViolation if there is none, or more than one."""
    records = result.find_records(kind)
    if len(records) != 1:
        raise ProtocolViolation(f"{script} gave {len(records)} records of kind {kind!r}, not one")
    return records[0]


def require_native(result: ScriptResult, script: str) -> str:
    """Return the machine's own architecture: "native" of the record "state".

    Raises:
        ProtocolViolation: the script did not say it.
    """
    records = result.find_records("state")
    if not records:
        raise ProtocolViolation(f"{script} did not say the machine's architecture")
    return require_text(records[0], "native")


def require_text(record: ScriptRecord, key: str) -> str:
    """Return a record's string. Raise ProtocolViolation if it is missing, or not a string."""
    return _require(record, key, str, "text")


def require_integer(record: ScriptRecord, key: str) -> int:
    """Return a record's integer. Raise ProtocolViolation if it is missing, or not an integer."""
    return _require(record, key, int, "whole number")


def require_boolean(record: ScriptRecord, key: str) -> bool:
    """Return a record's boolean. Raise ProtocolViolation if it is missing, or not a boolean."""
    return _require(record, key, bool, "true or false")


def _require(record: ScriptRecord, key: str, kind: type[T], name: str) -> T:
    value = record.get(key)
    if not isinstance(value, kind) or type(value) is not kind:  # true is an int too
        raise ProtocolViolation(f"record {record.get('kind')!r} has no {name} {key!r}")
    return value


def parse_natural(text: str) -> int | None:
    """Return a natural number of at most 18 digits, or None."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def group_values(pairs: Iterable[tuple[K, V]]) -> Mapping[K, tuple[V, ...]]:
    """Return the values of each key, in their order."""
    values: dict[K, list[V]] = {}
    for key, value in pairs:
        values.setdefault(key, []).append(value)
    return {key: tuple(group) for key, group in values.items()}


def find_pro_attribute(text: str, name: str) -> object:
    """Return an attribute of an answer of Ubuntu Pro's client (``pro api``); None when there is none."""
    try:
        return json.loads(text)["data"]["attributes"][name]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
