"""Stores rollouts of automatic patching, on SQLite and PostgreSQL."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Row, select

from tasks.domain.errors import SealBroken, SealKeyMissing
from tasks.records import schema
from tasks.records.decisions import Decision, DecisionKind, SqlDecisions
from tasks.records.encoding.codec import decode, encode
from tasks.records.encoding.rows import compress_text, decompress_text
from tasks.records.seals import RUN_KEY, Seals
from tasks.records.statements import build_insert
from tasks.records.storage.database import Database
from tasks.rules.automatic.model import Rollout, RolloutState, UpdateKey

_ROLLOUTS = schema.rollouts


@dataclass(frozen=True, slots=True)
class _FrozenUpdates:
    """The frozen set of a rollout: about 90 percent of it, so it has its own column, compressed."""

    updates: tuple[UpdateKey, ...]


class SqlRollouts:
    """Rollouts in a database. All threads of one process may share an object.

    Every method raises RecordsError when the database cannot be reached.

    Args:
        database: the database of the records.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seals = Seals(RUN_KEY, database.fleet)
        self._decisions = SqlDecisions(database)

    def save(self, rollout: Rollout) -> bool:
        """Store a rollout or its new state. A rollout that is over is never changed again.

        A person may cancel a rollout while a decision about it is carried out: then the decision does not undo that.

        Returns:
            Whether it was stored.
        """
        row = {
            "id": rollout.id,
            "state": rollout.state.value,
            "created_at": rollout.created_at,
            "ended_at": rollout.ended_at,
            "document": encode(replace(rollout, updates=frozenset())),
            "updates": compress_text(encode(_FrozenUpdates(tuple(sorted(rollout.updates))))),
        }
        row, is_over = self._seals.seal(_ROLLOUTS, row), rollout.state is not RolloutState.ROLLING_FORWARD
        with self._database.begin_write(f"save rollout {rollout.id}") as connection:
            statement = build_insert(connection.dialect.name, _ROLLOUTS).values(row)
            statement = statement.on_conflict_do_update(
                index_elements=["id"],
                set_={name: value for name, value in row.items() if name != "id"},
                where=_ROLLOUTS.c.state == RolloutState.ROLLING_FORWARD.value,
            )
            stored = connection.execute(statement.returning(_ROLLOUTS.c.id)).first() is not None
            if stored and is_over:
                self._decisions.append(connection, DecisionKind.ROLLOUT, rollout.id, rollout.state.value)
        if stored and is_over:
            self._decisions.note_newest()
        return stored

    def find(self, rollout_id: str, *, require_seal: bool = False) -> Rollout | None:
        """Return the rollout with this id; None if there is none.

        Args:
            rollout_id: the id.
            require_seal: whether it must have its seal. For what is installed, not for what is only shown.

        Raises:
            SealBroken: it was changed in the database, or an earlier state of it was put back.
            SealKeyMissing: another controller has sealed it.
        """
        decided = self._decisions.find_all(DecisionKind.ROLLOUT) if require_seal else {}
        with self._database.begin_read("look up a rollout") as connection:
            row = connection.execute(select(_ROLLOUTS).where(_ROLLOUTS.c.id == rollout_id)).one_or_none()
        if row is None:
            return None
        if require_seal:
            self._check_seal(row, decided)
        return _to_rollout(row)

    def find_newest(self) -> Rollout | None:
        """Return the newest rollout; None if there was none yet."""
        return next(iter(self.read_newest(1)), None)

    def read_newest(self, limit: int = 20, *, require_seals: bool = False) -> tuple[Rollout, ...]:
        """Return the newest rollouts, the newest last.

        Args:
            limit: how many at most.
            require_seals: whether each that is under way must have its seal, because it is changed and sealed again.
                One that is over is never changed.

        Raises:
            SealBroken: one that is under way was changed in the database, or was over before.
            SealKeyMissing: another controller has sealed one that is under way.
        """
        query = select(_ROLLOUTS)
        query = query.order_by(_ROLLOUTS.c.created_at.desc(), _ROLLOUTS.c.id.desc()).limit(limit)
        decided = self._decisions.find_all(DecisionKind.ROLLOUT) if require_seals else {}
        with self._database.begin_read("read the rollouts") as connection:
            rows = connection.execute(query).all()
        rollouts = []
        for row in reversed(rows):
            rollout = _to_rollout(row)
            if require_seals and rollout.state is RolloutState.ROLLING_FORWARD:
                self._check_seal(row, decided)
            rollouts.append(rollout)
        return tuple(rollouts)

    def _check_seal(self, row: Row[Any], decided: Mapping[str, Decision]) -> None:
        try:
            self._seals.check(_ROLLOUTS, row._mapping, f"rollout {row.id}")  # noqa: SLF001 - SQLAlchemy's name
            newest = decided.get(row.id)
            if newest is not None and newest.text != row.state:
                raise SealBroken(f"rollout {row.id} was {newest.text}: an earlier state of it was put back")
        except (SealBroken, SealKeyMissing) as error:
            way = f"`fleetpatch automatic cancel {row.id}` ends it; the next rollout begins by itself."
            cause = "Find out who can write the database. " if isinstance(error, SealBroken) else ""
            raise type(error)(error.message, hint=f"Nothing of it starts. {cause}{way}") from error


def _to_rollout(row: Row[Any]) -> Rollout:
    frozen = decode(_FrozenUpdates, decompress_text(row.updates, "frozen set of a rollout"))
    return replace(decode(Rollout, row.document), updates=frozenset(frozen.updates))
