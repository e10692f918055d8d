"""What the agent's own history tells: which updates are installed, and which fail again and again. Pure.

That history also has the tries of Automatic Updates and of other tools: of those, only what a boot undid counts. A
machine that is reset to an earlier state has the history of that state. Clearing the agent's data
(SoftwareDistribution) ends the count, and so does a new revision of the update.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Final

from inventory.data_class import dataclass
from inventory.name_lists import format_count
from tasks.domain.model import Update
from tasks.domain.protocols.transport import ScriptResult
from tasks.machines.managers.windows_update.hresults import ErrorCode, RetryClass, explain_code
from tasks.machines.managers.windows_update.offered_updates import OfferedUpdate, format_update_revision
from tasks.machines.managers.windows_update.records import Count, Epoch, Guid, Record, Text, parse_records

MAX_TRIES: Final = 3
"""After so many tries that failed by the update's own fault, only an include that names it selects it."""

_ONE_TRY_SECONDS: Final = 7200
"""A failure so soon after another entry belongs to the same try: a boot undid it, or it was repeated at once."""
_PASSING: Final = frozenset({RetryClass.TRANSIENT, RetryClass.REBOOT})
_OWN_CLIENT: Final = "fleetpatch"  # the ClientApplicationID of wua_agent.ps1
_FAILED: Final = 4
_MAX_TOLD: Final = 20


class HistoryEntry(Record):
    """An entry of the agent's history: record "history"."""

    id: Guid
    revision: Count = 0
    at: Epoch = None
    operation: int  # 1 installation, 2 removal
    result_code: int  # 2 succeeded, 3 succeeded with errors, 4 failed, 5 aborted
    hresult: int = 0
    title: Text = ""
    client: Text = ""  # which program asked for it

    @property
    def is_installation(self) -> bool:
        """Whether it was installed then."""
        return self.operation == 1 and self.result_code in {2, 3}

    @property
    def is_removal(self) -> bool:
        """Whether it was removed then."""
        return self.operation == 2 and self.result_code in {2, 3}

    @property
    def has_failed(self) -> bool:
        """Whether fleetpatch's own try to install it failed."""
        return self.operation == 1 and self.result_code == _FAILED and self.client == _OWN_CLIENT

    @property
    def seconds(self) -> int:
        """When, in seconds since the epoch; 0 when unknown."""
        return self.at or 0

    @property
    def day(self) -> date:
        """Its day in UTC; in 1970 when unknown."""
        return datetime.fromtimestamp(self.seconds, UTC).date()


class RemovalRecord(Record):
    """An update that somebody removed with servicing, of which the history has no entry: record "removal"."""

    kb: Text
    at: Epoch = None


def add_removals(
    history: Sequence[HistoryEntry], removals: Sequence[RemovalRecord], offered: Sequence[OfferedUpdate]
) -> tuple[HistoryEntry, ...]:
    """Return a history with the removals of offered updates as entries."""
    pairs = ((update.id, record.at) for update in offered for record in removals if record.kb in update.name.split("+"))
    return (*history, *(HistoryEntry(id=update_id, at=at, operation=2, result_code=2) for update_id, at in pairs))


@dataclass(frozen=True, slots=True)
class _Try:
    """One try: its last entry, and whether the agent said that the update was installed."""

    last: HistoryEntry
    was_installed: bool


def explain_failing_updates(offered: Sequence[OfferedUpdate], history: Sequence[HistoryEntry]) -> dict[str, str]:
    """Return the offered updates whose last MAX_TRIES tries or more failed by their own fault: id -> how, in words."""
    return _describe_failing(_find_tries(offered, history, lambda code: code.is_update_fault))


def find_blameless_failures(offered: Sequence[OfferedUpdate], history: Sequence[HistoryEntry]) -> tuple[str, ...]:
    """Return remarks about updates that fail again and again, by no fault of theirs that is known.

    They stay selected: the machine may be repaired before the next try. A passing failure is not among them, and the
    run in which a try fails has failed itself.
    """
    described = _describe_failing(_find_tries(offered, history, lambda code: code.retry not in _PASSING))
    given_up = explain_failing_updates(offered, history)
    return tuple(
        f"{update.name} fails again and again: {described[update.id]}. It is tried again, as nothing says that it is "
        "the update's own fault: mend the cause on the machine"
        for update in offered
        if update.id in described and update.id not in given_up
    )[:_MAX_TOLD]


def find_repeated_updates(offered: Sequence[OfferedUpdate], history: Sequence[HistoryEntry]) -> tuple[str, ...]:
    """Return warnings about updates that were installed and are offered again in the same revision.

    Windows undid them during a boot, or their installer does not tell the agent that they are there. To install them
    again and again, with a reboot each time, does not help. What somebody removed since is not among them.
    """
    tries_by_update = _find_tries(offered, history, lambda code: code.is_update_fault)
    counts = ((update, sum(entry.was_installed for entry in tries_by_update[update.id])) for update in offered)
    return tuple(
        f"{update.name} was installed {'once' if count == 1 else f'{count} times'}, and is offered again: "
        "Windows undid it during a boot, or does not notice it; read the Setup and the System event log before the "
        "next try"
        for update, count in counts
        if count
    )[:_MAX_TOLD]


def _find_tries(
    offered: Sequence[OfferedUpdate], history: Sequence[HistoryEntry], counts: Callable[[ErrorCode], bool]
) -> Mapping[str, Sequence[_Try]]:
    """Return id -> the tries of an offered update in its revision, since somebody removed it: none of them has held.

    A try that failed with a code is among them if the code ``counts``.
    """
    entries_by_update: dict[str, list[HistoryEntry]] = {update.id: [] for update in offered}
    for entry in sorted(history, key=lambda entry: entry.seconds):
        entries_by_update.setdefault(entry.id, []).append(entry)
    tries_by_update: dict[str, list[_Try]] = {}
    for update in offered:
        entries = entries_by_update[update.id]
        removed = max((entry.seconds for entry in entries if entry.is_removal), default=0)
        tries: list[_Try] = []
        for entry in entries:
            if entry.revision != update.revision or entry.seconds < removed:
                continue
            if entry.is_installation:
                tries.append(_Try(entry, was_installed=True))
            elif not entry.has_failed or not counts(explain_code(entry.hresult)):
                continue
            elif tries and entry.seconds - tries[-1].last.seconds <= _ONE_TRY_SECONDS:
                tries[-1] = _Try(entry, tries[-1].was_installed)
            else:
                tries.append(_Try(entry, was_installed=False))
        tries_by_update[update.id] = tries
    return tries_by_update


def _describe_failing(tries_by_update: Mapping[str, Sequence[_Try]]) -> dict[str, str]:
    return {update_id: _describe(tries) for update_id, tries in tries_by_update.items() if len(tries) >= MAX_TRIES}


def _describe(tries: Sequence[_Try]) -> str:
    last = tries[-1].last
    outcome = "installed, and offered again" if last.is_installation else explain_code(last.hresult).text
    on = f" on {datetime.fromtimestamp(last.at, UTC):%Y-%m-%d}" if last.at else ""
    undone = sum(entry.was_installed for entry in tries)
    undone_text = (
        f"{format_count(undone, 'time')} Windows undid it during a boot, or did not notice it; " if undone else ""
    )
    return (
        f"its last {format_count(len(tries), 'try')} on this machine failed ({undone_text}the last one{on}: {outcome})"
    )


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
    entries = sorted(parse_records(HistoryEntry, result.find_records("history")), key=lambda entry: entry.seconds)
    last_entries = {entry.id: entry for entry in entries if entry.result_code in _FINAL_RESULTS}
    for name, entry in last_entries.items():
        if name not in present and name not in offered and entry.is_installation:
            versions[name] = format_update_revision(entry.revision)
    update_ids = {update.id for update in updates}
    return {name: version for name, version in versions.items() if name in update_ids}
