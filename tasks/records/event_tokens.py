"""Stores the tokens of machines for their scheduled events, as SHA-256 digests."""

from datetime import datetime

from sqlalchemy import delete, select

from inventory.data_class import dataclass
from tasks.records.event_schema import event_tokens
from tasks.records.statements import build_row, upsert_row
from tasks.records.storage.database import Database


@dataclass(frozen=True, slots=True)
class EventToken:
    """The token of a machine. It lets who has it read the machine's events and approve them, and nothing else."""

    machine: str
    digest: str
    created_by: str
    created_at: datetime


class SqlEventTokens:
    """The tokens of machines in a database. All threads of one process may share an object."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, token: EventToken) -> None:
        """Store the token of a machine. It replaces the one before, which is no longer valid."""
        with self._database.begin_write(f"store the token of {token.machine}") as connection:
            upsert_row(connection, event_tokens, build_row(event_tokens, token))

    def find_machine(self, digest: str) -> str:
        """Return the machine whose token has this digest; "": there is none."""
        query = select(event_tokens.c.machine).where(event_tokens.c.digest == digest)
        names = self._database.read_values("look for the token of a machine", query)
        return str(names[0]) if names else ""

    def list_tokens(self) -> tuple[EventToken, ...]:
        """Return all tokens, by the names of their machines."""
        query = select(event_tokens).order_by(event_tokens.c.machine)
        rows = self._database.read_rows("list the tokens of machines", query)
        return tuple(EventToken(row.machine, row.digest, row.created_by, row.created_at) for row in rows)

    def remove(self, machine: str) -> bool:
        """End the token of a machine. Return whether it had one."""
        with self._database.begin_write(f"end the token of {machine}") as connection:
            removed = delete(event_tokens).where(event_tokens.c.machine == machine)
            return connection.execute(removed.returning(event_tokens.c.machine)).first() is not None
