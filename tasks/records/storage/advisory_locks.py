"""Turns of those who store what is pending on the same machine at the same time."""

from collections.abc import Iterable
from hashlib import blake2b

from sqlalchemy import Connection, text

from tasks.records.storage.column_types import to_index_key

_LOCK_NAMESPACE = 0x666C6565
"""The first half of our advisory locks' names on PostgreSQL."""
_LOCK_COUNT = 256
"""So few that a transaction never fills the server's table of locks; machines that share one only wait a little."""
_LOCK_STATEMENT = text("SELECT pg_advisory_xact_lock(:ours, turn) FROM unnest(CAST(:turns AS integer[])) AS turn")


def acquire_assessment_locks(connection: Connection, machines: Iterable[str]) -> None:
    """Wait until nobody else stores assessments of these machines, and keep others waiting to the transaction's end.

    Two assessments of one machine are two rows, so that no row's lock stands between their writers: each would replace
    the pending updates that it sees, and leave the other's. All turns are taken at once and in one order, before
    any row is changed: nobody waits in a circle. On SQLite one writes at a time anyway.

    Args:
        connection: in a transaction that has changed nothing yet.
        machines: by name.
    """
    lock_numbers = sorted({_compute_lock_number(name) for name in machines})
    if lock_numbers and connection.dialect.name == "postgresql":
        connection.execute(_LOCK_STATEMENT, {"ours": _LOCK_NAMESPACE, "turns": lock_numbers})


def _compute_lock_number(machine: str) -> int:
    return int.from_bytes(blake2b(to_index_key(machine).encode(), digest_size=4).digest()) % _LOCK_COUNT
