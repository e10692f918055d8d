"""Reads the journal of a run with the journals of its shards, for people."""

from contextlib import suppress

from tasks.domain.errors import RunNotFound
from tasks.domain.protocols.records import SHARD_ACT, JournalEntry, JournalMark
from tasks.records.queries.history import History


def read_whole_journal(history: History, run_id: str, machine: str | None = None) -> tuple[JournalEntry, ...]:
    """Return the journal of a run and of its shards, oldest entry first; or what it has of one machine.

    Raises:
        RecordsError: it can't be read.
    """
    entries = list(history.read_journal(run_id, machine))
    own_entries = entries if machine is None else history.read_journal(run_id, "")
    shards = [entry.key for entry in own_entries if entry.act == SHARD_ACT and entry.mark is JournalMark.BEFORE]
    for shard in shards:
        with suppress(RunNotFound):  # it has not begun
            entries += history.read_journal(shard, machine)
    return tuple(sorted(entries, key=lambda entry: entry.at))
