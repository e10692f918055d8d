"""Stores machines as their providers had them last: who they are, and what the providers have written down of them."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, select

from tasks.domain.errors import SealBroken, SealKeyMissing
from tasks.domain.provided_machines import HardwareIdentity, ProviderNotes, ProviderRecord
from tasks.records.seals import Seals
from tasks.records.snapshot_schema import provided_machines
from tasks.records.statements import upsert_row
from tasks.records.storage.database import Database

logger = logging.getLogger(__name__)


_NOTHING: Final = {"address": "", "identity": "", "proven_at": None, "notes": "", "loss": ""}
_KEY_REMEDY: Final = (
    "Do it as the user of the service, or copy that key: all that share records share it. If the key is lost, and the"
    " disks of the machine are right: fleetpatch snapshots adopt MACHINE --as-it-is"
)


class SqlProvidedMachines:
    """The machines at their providers, in the database of the records. All threads of a process may share an object."""

    def __init__(self, database: Database, seals: Seals) -> None:
        """``seals`` makes and checks the seals of rows."""
        self._database, self._seals = database, seals

    def save_identity(self, record: ProviderRecord) -> None:
        """Store who a machine is, not its notes. Unreadable ones stay. Raise RecordsError if it can't be stored."""
        identity = json.dumps(asdict(record.identity)) if record.identity is not None else ""
        self._save(record, {"address": record.address, "identity": identity, "proven_at": record.proven_at})

    def save_notes(self, record: ProviderRecord, *, replaces_unreadable: bool = False) -> None:
        """Store the notes of a machine, and what was lost of them. See ProviderRecords."""
        notes = json.dumps(asdict(record.notes)) if record.notes is not None else ""
        self._save(record, {"notes": notes, "loss": record.loss}, replaces_unreadable)

    def _save(self, record: ProviderRecord, changes: Mapping[str, Any], replaces_unreadable: bool = False) -> None:
        with self._database.begin_write(f"store {record.machine} as its provider has it") as connection:
            row = self._read(connection, record.machine, record.provider)
            if row is not None and _build_record(row).is_unreadable and not replaces_unreadable:
                return
            key = {"machine": record.machine, "provider": record.provider}
            values = {**(_NOTHING if row is None else row), **key, **changes}
            upsert_row(connection, provided_machines, self._seals.seal(provided_machines, values))

    def find(self, machine: str, provider: str) -> ProviderRecord | None:
        """Return what is stored of a machine at a provider; None: nothing.

        A row that something else has written is nothing: it must not keep a machine from its way back. So is one of a
        key that is not here, but its notes, if it has any, are unreadable. Raise RecordsError if it can't be read.
        """
        with self._database.begin_read("read a machine as its provider had it") as connection:
            row = self._read(connection, machine, provider)
        return _build_record(row) if row is not None else None

    def _read(self, connection: Connection, machine: str, provider: str) -> Mapping[str, Any] | None:
        columns = provided_machines.c
        query = select(provided_machines).where(columns.machine == machine, columns.provider == provider)
        row = connection.execute(query).mappings().one_or_none()
        return self._unseal(row) if row is not None else None

    def _unseal(self, row: RowMapping) -> Mapping[str, Any] | None:
        try:
            self._seals.check(provided_machines, row, "what its provider has noted")
        except (SealBroken, SealKeyMissing) as error:
            logger.warning("%s at %s: %s", row["machine"], row["provider"], error.message)
            if isinstance(error, SealKeyMissing) and (row["notes"] or row["loss"]):
                return {**row, **_NOTHING, "loss": f"{error.message}\n{_KEY_REMEDY}"}
            return None
        return {**row}

    def find_losses(self) -> Sequence[ProviderRecord]:
        """Return the machines of which something was lost when somebody looked last, or whose notes are unreadable."""
        columns = provided_machines.c
        query = select(provided_machines).where((columns.loss != "") | (columns.notes != "")).order_by(columns.machine)
        with self._database.begin_read("look for lost disks") as connection:
            rows = connection.execute(query).mappings().all()
        return [_build_record(row) for row in map(self._unseal, rows) if row is not None and row["loss"]]


def _build_record(row: Mapping[str, Any]) -> ProviderRecord:
    identity: dict[str, Any] | None = json.loads(row["identity"]) if row["identity"] else None
    notes: dict[str, Any] | None = json.loads(row["notes"]) if row["notes"] else None
    return ProviderRecord(
        row["machine"],
        row["provider"],
        row["address"],
        HardwareIdentity(**identity | {"macs": tuple(identity["macs"])}) if identity is not None else None,
        row["proven_at"],
        ProviderNotes(**notes | {"ids": tuple(notes["ids"])}) if notes is not None else None,
        row["loss"],
    )
