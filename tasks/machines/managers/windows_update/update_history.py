"""What the agent's own history tells: which updates are installed, and which fail again and again. Pure.

That history also has the tries of Automatic Updates and of other tools, and a machine that is reset to an earlier state
has the history of that state. Clearing the agent's data (SoftwareDistribution) ends the count, and so does a new
revision of the update.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from inventory.name_lists import format_count
from tasks.domain.model import Update
from tasks.domain.protocols.package_manager import FailureCause
from tasks.domain.protocols.transport import ScriptResult
from tasks.machines.managers.windows_update.hresults import RetryClass, explain_code
from tasks.machines.managers.windows_update.records import (
    HistoryEntry,
    OfferedUpdate,
    format_update_revision,
    parse_records,
)

MAX_TRIES: Final = 3
"""After so many failed tries in a row, only an include that names the update selects it."""

_ONE_TRY_SECONDS: Final = 7200
"""A failure so soon after another entry belongs to the same try: a boot undid it, or it was repeated at once."""
_OWN_CAUSES: Final = frozenset({FailureCause.SCRIPT, FailureCause.FAILED})
"""Causes that the next try meets again. A lock, a full disk, licence terms or the network say nothing about it."""
_PASSING: Final = frozenset({RetryClass.TRANSIENT, RetryClass.REBOOT, RetryClass.CONFIGURATION})
_FAILED: Final = 4
_MAX_WARNINGS: Final = 20


@dataclass(frozen=True, slots=True)
class _Try:
    """One try: its last entry, and whether the agent said that the update was installed."""

    last: HistoryEntry
    was_installed: bool


def explain_failing_updates(offered: Sequence[OfferedUpdate], history: Sequence[HistoryEntry]) -> dict[str, str]:
    """Return the offered updates whose last MAX_TRIES tries or more failed: id -> how, in words."""
    by_update = _index_history(history)
    tries_by_update = {update.id: list(_find_tries(update, by_update.get(update.id, ()))) for update in offered}
    return {update_id: _describe(tries) for update_id, tries in tries_by_update.items() if len(tries) >= MAX_TRIES}


def find_repeated_updates(offered: Sequence[OfferedUpdate], history: Sequence[HistoryEntry]) -> tuple[str, ...]:
    """Return warnings about updates that were installed and are offered again in the same revision.

    Windows undid them during a boot, or their installer does not tell the agent that they are there. To install them
    again and again, with a reboot each time, does not help. What somebody removed since is not among them.
    """
    by_update = _index_history(history)
    counts = (
        (update, sum(entry.was_installed for entry in _find_tries(update, by_update.get(update.id, ()))))
        for update in offered
    )
    return tuple(
        f"{update.name} was installed {'once' if count == 1 else f'{count} times'}, and is offered again: "
        "Windows undid it during a boot, or does not notice it; read the Setup and the System event log before the "
        "next try"
        for update, count in counts
        if count
    )[:_MAX_WARNINGS]


def _index_history(history: Sequence[HistoryEntry]) -> Mapping[str, Sequence[HistoryEntry]]:
    """Return the entries of each update."""
    entries_by_update: dict[str, list[HistoryEntry]] = {}
    for entry in history:
        entries_by_update.setdefault(entry.id, []).append(entry)
    return entries_by_update


def _find_tries(update: OfferedUpdate, history: Sequence[HistoryEntry]) -> Iterator[_Try]:
    """Yield the tries of an offered update in its revision, since somebody removed it: none of them has held."""
    mine = sorted(history, key=_get_time)
    removed = max((_get_time(entry) for entry in mine if entry.is_removal), default=0)
    tries = [
        entry
        for entry in mine
        if entry.revision == update.revision
        and _get_time(entry) >= removed
        and (entry.is_installation or _failed(entry))
    ]
    current: _Try | None = None
    for entry in tries:
        is_late = current is None or _get_time(entry) - _get_time(current.last) > _ONE_TRY_SECONDS
        if current is not None and not is_late and not entry.is_installation:
            current = _Try(entry, current.was_installed)
            continue
        if current is not None:
            yield current
        current = _Try(entry, entry.is_installation)
    if current is not None:
        yield current


def _failed(entry: HistoryEntry) -> bool:
    """Return whether an installation failed for a cause of its own."""
    if entry.operation != 1 or entry.result_code != _FAILED:
        return False
    error_code = explain_code(entry.hresult)
    return error_code.cause in _OWN_CAUSES and error_code.retry not in _PASSING


def _describe(tries: Sequence[_Try]) -> str:
    last = tries[-1].last
    outcome = "installed, and offered again" if last.is_installation else explain_code(last.hresult).text
    on = f" on {datetime.fromtimestamp(last.at, UTC):%Y-%m-%d}" if last.at else ""
    undone = sum(entry.was_installed for entry in tries)
    how = f"{format_count(undone, 'time')} Windows undid it during a boot, or did not notice it; " if undone else ""
    return f"its last {format_count(len(tries), 'try')} on this machine failed ({how}the last one{on}: {outcome})"


def _get_time(entry: HistoryEntry) -> int:
    return entry.at or 0


_FINAL_RESULTS: Final = frozenset({2, 3, 4, 5})


def find_installed_versions(updates: Sequence[Update], result: ScriptResult) -> Mapping[str, str]:
    """Return the installed versions: update id -> version.

    What the agent says now decides: an update that it offers is not installed, whatever its history says. That is how
    Windows shows that it undid an update during a boot. One that waits for a reboot counts as installed. The history
    decides only for updates that the agent neither offers nor lists as installed: a newer one has superseded them.

    Raises:
        ProtocolViolation: a record is malformed.
    """
    records = parse_records(OfferedUpdate, result.find_records("update"))
    present = {record.id: record for record in records if record.installed or record.reboot_required}
    offered = {record.id for record in records if record.id not in present}
    versions = {name: record.version for name, record in present.items()}
    entries = parse_records(HistoryEntry, result.find_records("history"))
    done = [entry for entry in entries if entry.result_code in _FINAL_RESULTS]
    last_entries = {entry.id: entry for entry in sorted(done, key=_get_time)}
    for name, entry in last_entries.items():
        if name not in present and name not in offered and entry.is_installation:
            versions[name] = format_update_revision(entry.revision)
    update_ids = {update.id for update in updates}
    return {name: version for name, version in versions.items() if name in update_ids}
