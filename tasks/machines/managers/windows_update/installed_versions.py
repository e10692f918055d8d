"""Which updates are installed, by what the agent says of them now, and by its history. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from tasks.domain.model import Update
from tasks.domain.protocols.transport import ScriptResult
from tasks.machines.managers.windows_update.records import HistoryEntry, OfferedUpdate, format_version, parse_records

_FINAL_RESULTS: Final = frozenset({2, 3, 4, 5})


def find_installed_versions(updates: Sequence[Update], result: ScriptResult) -> Mapping[str, str]:
    """Return the installed versions: update id -> version.

    What the agent says now decides: an update that it offers is not installed, whatever its history says. That is how
    Windows shows that it undid an update during a boot. One that waits for a reboot counts as installed. The history
    decides only for updates that the agent neither offers nor lists as installed: a newer one has superseded them.

    Args:
        updates: the updates in question.
        result: of wua_installed.ps1.

    Raises:
        ProtocolViolation: a record is malformed.
    """
    records = parse_records(OfferedUpdate, result.find_records("update"))
    present = {record.id: record for record in records if record.installed or record.reboot_required}
    offered = {record.id for record in records if record.id not in present}
    versions = {name: each.version for name, each in present.items()}
    for name, entry in _find_last_entries(result).items():
        if name not in present and name not in offered and entry.is_installation:
            versions[name] = format_version(entry.revision)
    update_ids = {update.id for update in updates}
    return {name: version for name, version in versions.items() if name in update_ids}


def _find_last_entries(result: ScriptResult) -> Mapping[str, HistoryEntry]:
    """Return the last completed entry of each update."""
    entries = parse_records(HistoryEntry, result.find_records("history"))
    done = [each for each in entries if each.result_code in _FINAL_RESULTS]
    return {each.id: each for each in sorted(done, key=lambda entry: entry.at or 0)}
