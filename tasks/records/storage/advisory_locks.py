"""Locks for writers that store assessments of the same machine at the same time."""

from collections.abc import Iterable
from hashlib import blake2b

from sqlalchemy import Connection, text

from tasks.records.storage.column_types import to_index_key

_LOCK_NAMESPACE = 0x666C6565
"""The first of the two keys of fleetpatch's advisory locks on PostgreSQL."""
_LOCK_COUNT = 256
"""Small enough that a transaction cannot fill the server's lock table. Machines with the same lock wait a little."""
_LOCK_STATEMENT = text("SELECT pg_advisory_xact_lock(:ours, turn) FROM unnest(CAST(:turns AS integer[])) AS turn")


def acquire_assessment_locks(connection: Connection, machines: Iterable[str]) -> None:
    """Lock the assessments of some machines for other writers until the transaction ends.

    Two assessments of one machine are two rows, so row locks do not separate their writers: each writer would replace
    only the pending updates that it sees. All locks are taken in one statement, in a fixed order and before any row
    changes, which prevents deadlocks. SQLite needs no locks here: only one transaction writes at a time.

    Args:
        connection: a connection in a transaction that has changed nothing yet.
        machines: the machines' names.
    """
    lock_numbers = sorted({_compute_lock_number(name) for name in machines})
    if lock_numbers and connection.dialect.name == "postgresql":
        connection.execute(_LOCK_STATEMENT, {"ours": _LOCK_NAMESPACE, "turns": lock_numbers})


def _compute_lock_number(machine: str) -> int:
    return int.from_bytes(blake2b(to_index_key(machine).encode(), digest_size=4).digest()) % _LOCK_COUNT
