"""Stores machines as their providers had them last: who they are, and the layers of their disks."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import RowMapping, select

from tasks.domain.provided_machines import MachineIdentity, ProviderRecord
from tasks.records.seals import Seals
from tasks.records.snapshot_schema import provided_machines
from tasks.records.statements import upsert_row
from tasks.records.storage.database import Database


class SqlProvidedMachines:
    """The machines at their providers, in the database of the records. All threads of a process may share an object."""

    def __init__(self, database: Database, seals: Seals) -> None:
        """``seals`` makes and checks the seals of rows."""
        self._database, self._seals = database, seals

    def save(self, record: ProviderRecord) -> None:
        """Store a record, or replace what is stored of that machine at that provider."""
        values = {
            **asdict(record),
            "identity": json.dumps(asdict(record.identity)) if record.identity is not None else "",
            "layers": json.dumps(record.layers),
        }
        with self._database.begin_write(f"store {record.machine} as its provider has it") as connection:
            upsert_row(connection, provided_machines, self._seals.seal(provided_machines, values))

    def find(self, machine: str, provider: str) -> ProviderRecord | None:
        """Return what is stored of a machine at a provider; None: nothing.

        Raises:
            SealBroken: something else has written or changed the row.
            SealKeyMissing: another controller has sealed it.
        """
        columns = provided_machines.c
        query = select(provided_machines).where(columns.machine == machine, columns.provider == provider)
        with self._database.begin_read("read a machine as its provider had it") as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            return None
        self._seals.check(provided_machines, row, f"{machine} at {provider}")
        return _build_record(row)


def _build_record(row: RowMapping) -> ProviderRecord:
    identity: dict[str, Any] | None = json.loads(row["identity"]) if row["identity"] else None
    layers: Mapping[str, list[str]] = json.loads(row["layers"])
    return ProviderRecord(
        row["machine"],
        row["provider"],
        row["address"],
        MachineIdentity(**identity | {"macs": tuple(identity["macs"])}) if identity is not None else None,
        row["proven_at"],
        {disk: tuple(paths) for disk, paths in layers.items()},
        row["layers_at"],
    )
