"""Seals of records: who can write the database can't decide what a run does.

What a process reads from the records and then does as root is sealed when it is written: HMAC-SHA-256 (RFC 2104) with a
private key that stands outside the database (inventory/files/own_keys.py). A seal also names its key, so that a
process with another key can say so. What is not sealed can be shown, and is never executed.

A key file may have several lines, each a key. The first one seals, all of them are accepted: so a key is replaced.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

from sqlalchemy import Column, RowMapping, Table

from inventory.files.own_keys import KeyFileError, ensure_key, find_key_path, read_key
from tasks.domain.errors import RecordsError, SealBroken, SealKeyMissing
from tasks.records import maintenance_schema, page_schema, schema, snapshot_schema
from tasks.records.fleets import DEFAULT_FLEET
from tasks.records.storage.column_types import KeyType, TextType, replace_unstorable, to_index_key

RUN_KEY: Final = "records-seal"
"""The key of processes that execute runs."""
DECISION_KEY: Final = "decisions"
"""The key of processes that write people's decisions: the pages, the command, and those that execute runs."""

SEALED_COLUMNS: Final[Mapping[Table, Sequence[str]]] = {
    schema.runs: ("id", "document"),
    schema.run_plans: ("run_id", "document"),
    schema.machine_plans: ("run_id", "machine", "document", "updates"),
    schema.assessments: ("run_id", "machine", "document", "updates"),
    schema.journal: ("run_id", "machine", "document"),
    schema.rollouts: ("id", "state", "document", "updates"),
    schema.approvals: ("run_id", "digest", "expires_at", "decision", "who", "remark", "decided_at"),
    schema.decisions: ("key_id", "number", "previous", "kind", "subject", "decision", "at"),
    page_schema.requested_runs: ("key", "flow", "request_digest", "who", "at", "scope"),
    snapshot_schema.snapshots: ("snapshot", "machine", "provider", "run_id", "expires_at", "state"),
    snapshot_schema.provided_machines: (
        "machine",
        "provider",
        "address",
        "identity",
        "proven_at",
        "notes",
        "loss",
    ),
    maintenance_schema.held_packages: ("group_name", "number", "first_seen", "applies_at", "ended_at", "how"),
}
"""By table, the columns that a seal covers. A row of another run or machine doesn't fit."""
_ID_LENGTH: Final = 8


class Seals:
    """Makes and checks the seals of one key. All threads of a process may share an object.

    ``fleet``: the fleet whose rows they are: a row of another one, which may have the same key, doesn't fit.
    """

    def __init__(self, key_name: str, fleet: str = DEFAULT_FLEET) -> None:
        self._key_name = key_name
        self._place = () if fleet == DEFAULT_FLEET else (f"fleet {fleet}".encode(),)

    def seal(self, table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row with its seal. The first call makes the key.

        Raises:
            RecordsError: the key can't be read or made.
        """
        key_id, key = next(iter(self._sealing_keys.items()))
        return {**row, "seal": f"{key_id}:{self._compute_code(key, table, row)}"}

    def get_key_id(self) -> str:
        """Return the id of the key that seals. The first call makes the key.

        Raises:
            RecordsError: the key can't be read or made.
        """
        return next(iter(self._sealing_keys))

    def read_key_ids(self) -> Sequence[str]:
        """Return the ids of all keys that this process has. No key is made.

        Raises:
            RecordsError: the key can't be read.
        """
        return tuple(self._read_keys())

    def has_key(self, seal: str | None) -> bool:
        """Return whether this process has the key with which a row was sealed. No key is made.

        Raises:
            RecordsError: the key can't be read.
        """
        return (seal or "").partition(":")[0] in self._read_keys()

    def check(self, table: Table, row: Mapping[str, Any] | RowMapping, subject: str) -> None:
        """Check the seal of a row.

        ``row``: the row as the database has it, with the column "seal".
        ``subject``: what it is, for the error: "run 20261124-...".

        Raises:
            SealBroken: the row has no seal, or it doesn't fit: the row was written by something else.
            SealKeyMissing: the row was sealed with a key that this process doesn't have.
            RecordsError: the key can't be read.
        """
        key_id, _, code = (row["seal"] or "").partition(":")
        if not code:
            raise SealBroken(f"{subject} has no seal: something else than fleetpatch wrote it", hint=_BROKEN_HINT)
        key = self._read_keys().get(key_id)
        if key is None:
            raise SealKeyMissing(
                f"{subject} was sealed with the key {key_id}, and {find_key_path(self._key_name)} doesn't have it",
                hint=_MISSING_HINT + (_LOST_HINT if self._key_name == RUN_KEY else ""),
            )
        if not hmac.compare_digest(code, self._compute_code(key, table, row)):
            raise SealBroken(f"{subject} doesn't fit its seal: it was changed in the database", hint=_BROKEN_HINT)

    def _compute_code(self, key: bytes, table: Table, row: Mapping[str, Any] | RowMapping) -> str:
        """Return the code over fleet, table's name and values of its sealed columns, each with its length before it."""
        code = hmac.new(key, digestmod=hashlib.sha256)
        values = (_to_bytes(table.c[name], row[name]) for name in SEALED_COLUMNS[table])
        for part in (*self._place, table.name.encode(), *values):
            code.update(len(part).to_bytes(8))
            code.update(part)
        return code.hexdigest()

    @cached_property
    def _sealing_keys(self) -> Mapping[str, bytes]:
        try:
            return _parse_keys(ensure_key(self._key_name))
        except KeyFileError as error:
            raise RecordsError(error.message, hint=error.hint) from error

    def _read_keys(self) -> Mapping[str, bytes]:
        """Return the keys by their id. No check makes a key: a new one fits nothing."""
        if "_sealing_keys" not in self.__dict__:
            try:
                if (key := read_key(self._key_name)) is None:
                    return {}
            except KeyFileError as error:
                raise RecordsError(error.message, hint=error.hint) from error
            return _parse_keys(key)
        return self._sealing_keys


_BROKEN_HINT: Final = (
    "Nothing of it is done. Find out who can write the database. Start a new run; "
    "`fleetpatch resume RUN --finalize` ends this one without a look at any machine."
)

_MISSING_HINT: Final = (
    "Another controller or another user sealed it. Continue there, or copy its key: all that share records share it. "
    "Beside the units of systemd, run: fleetpatch-admin, as root."
)
_LOST_HINT: Final = (
    " If the key is lost: `fleetpatch resume RUN --finalize` ends a run without a look at any machine. "
    "Then assess its machines."
)


def _parse_keys(content: bytes) -> Mapping[str, bytes]:
    keys = (line.strip() for line in content.splitlines())
    return {hashlib.sha256(b"fleetpatch key id\0" + key).hexdigest()[:_ID_LENGTH]: key for key in keys if key}


def _to_bytes(column: Column[Any], value: object) -> bytes:
    """Return a value as the database has it, after a letter for its kind."""
    if value is None:
        return b"n"
    if isinstance(value, bytes):
        return b"b" + value
    if isinstance(value, datetime):
        return b"t" + value.astimezone(UTC).isoformat().encode()
    text = str(value)
    if isinstance(column.type, KeyType):
        text = to_index_key(text)
    elif isinstance(column.type, TextType):
        text = replace_unstorable(text)
    return b"s" + text.encode()
