"""Rules for the snapshot that a run takes of a machine before its first change, and for the way back to it. Pure."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from inventory.data_class import dataclass
from inventory.name_lists import format_count, join_first_names
from tasks.domain.errors import (
    BrokenPackages,
    JobLost,
    LockLost,
    LoginBroken,
    ManagerError,
    ProtocolViolation,
    RebootFailed,
    ScriptFailed,
    TransportError,
)
from tasks.domain.model import Finding, Outcome, UpdateResult
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.provided_machines import Consistency, ProvidedMachine, Snapshot, SnapshotResult
from tasks.domain.states import FindingLevel, OperationState, RebootState, UpdateState
from tasks.rules.components.tries import COMPONENT_CHECK

SNAPSHOT_ACT: Final = "snapshot"
"""The act of journal entries about the snapshot before a machine's first change; their key is its id."""
REVERT_ACT: Final = "revert"
"""The act of journal entries about a machine that is put back to its snapshot; their key is its id."""
CARRIED_OUT_ACT: Final = "revert-carried-out"
"""The act of journal entries that say that a revert needs no further order; their key is the snapshot's id."""
SNAPSHOT_CHECK: Final = "snapshot"
"""The check of findings about both."""
PROVIDER_CHECK: Final = "provider"
"""The check of findings about who holds the disks of a machine. One that blocks: it does not answer now."""
DISKS_CHECK: Final = "disks"
"""The check of findings about disks on which somebody has taken back what fleetpatch has done."""
SNAPSHOT_PREFIX: Final = "fleetpatch-"
"""Begins the ids of snapshots that runs take."""

SNAPSHOT_MEASURE: Final = "snapshot_seconds"
REVERT_MEASURE: Final = "revert_seconds"
USUAL_SNAPSHOT_SECONDS: Final = 60.0
USUAL_REVERT_SECONDS: Final = 300.0
"""Of the window, as long as nothing was learned: until the machine answers again."""

_CHANGING_ACTS: Final = frozenset({"install", "repair", "roll-back", "remove", "reboot", "restart"})
_FAULTS: Final = (BrokenPackages, JobLost, LoginBroken, ManagerError, ProtocolViolation, RebootFailed, ScriptFailed)
_UNSAFE_ID_CHARACTERS: Final = re.compile(r"[^A-Za-z0-9-]+")


@dataclass(frozen=True, slots=True)
class SnapshotPolicy:
    """What a run does with snapshots."""

    keep_days: float = 3.0  # after which the snapshot is deleted
    reverts_on_failure: bool = False  # a machine on which the run fails is put back by the run
    patches_without: bool = False  # a machine is also changed if no snapshot can be taken. Otherwise it is not.
    with_data_disks: bool = False  # a revert puts data disks back, too

    def find_expiry(self, taken_at: datetime) -> datetime:
        """Return from when a snapshot is deleted."""
        return taken_at + timedelta(days=self.keep_days)


def build_snapshot_id(run_id: str, machine: str) -> str:
    """Return the id of the snapshot that a run takes of a machine: always the same, at most 40 characters.

    Providers allow few characters, and short names.
    """
    digest = hashlib.sha256(f"{run_id}/{machine}".encode()).hexdigest()[:10]
    return f"{SNAPSHOT_PREFIX}{_UNSAFE_ID_CHARACTERS.sub('-', run_id)[:15]}-{digest}"


def explain_unusable(machine: ProvidedMachine, snapshot_id: str) -> str:
    """Return why the snapshot with this id is none that a machine can be put back to, or ""."""
    snapshot = machine.find_snapshot(snapshot_id)
    if snapshot is None:
        return "the provider does not have it"
    if not machine.os_disks:
        return "the provider does not say which disk has the operating system"
    if missing := [disk.id for disk in machine.os_disks if disk.id not in snapshot.disks]:
        return f"it lacks the disk {', '.join(missing)}"
    return snapshot.fault


def describe_left_snapshots(machine: ProvidedMachine, policy: SnapshotPolicy, now: datetime) -> tuple[Finding, ...]:
    """Return a warning of snapshots of runs that are older than a policy keeps its own, or nothing.

    A snapshot grows with every write. One that is forgotten fills what holds the disks.
    """
    ours = (snapshot for snapshot in machine.snapshots if snapshot.id.startswith(SNAPSHOT_PREFIX))
    old = [snapshot for snapshot in ours if snapshot.taken_at and policy.find_expiry(snapshot.taken_at) <= now]
    if not old:
        return ()
    oldest = min(snapshot.taken_at for snapshot in old if snapshot.taken_at)
    room = [snapshot.used_bytes for snapshot in old if snapshot.used_bytes is not None]
    size = f"{sum(room):,} bytes" if len(room) == len(old) else "their size is not known"
    message = (
        f"{format_count(len(old), 'snapshot')} of earlier runs may be forgotten, the oldest of "
        f"{oldest:%Y-%m-%d %H:%M} UTC ({size}): {join_first_names([snapshot.id for snapshot in old])}"
    )
    return (Finding.warn(SNAPSHOT_CHECK, message, "fleetpatch snapshots list shows whose they are."),)


def complete_result(
    result: SnapshotResult, snapshot: Snapshot, policy: SnapshotPolicy, now: datetime
) -> SnapshotResult:
    """Return the result with what the provider has. Times are those of this controller's clock."""
    return replace(
        result,
        taken_at=now,
        expires_at=policy.find_expiry(now),
        consistency=snapshot.consistency,
        used_bytes=snapshot.used_bytes,
        seconds=(now - result.ordered_at).total_seconds(),
        failure="",
    )


def build_end_detail(result: SnapshotResult) -> dict[str, object]:
    """Return the detail of the journal entry for a snapshot, or a revert, that has ended."""
    times = {"taken_at": result.taken_at, "expires_at": result.expires_at, "reverted_at": result.reverted_at}
    return {name: moment.isoformat() if moment else None for name, moment in times.items()} | {
        "consistency": result.consistency.value,
        "used_bytes": result.used_bytes,
        "seconds": result.seconds,
        "failure": result.failure,
        "revert_seconds": result.revert_seconds,
        "revert_note": result.revert_note,
    }


def restore_snapshot(entries: Iterable[JournalEntry]) -> SnapshotResult | None:
    """Return what the journal of a machine says about its snapshot; None: none was ordered.

    ``entries`` are of this machine in this run, oldest first.
    """
    result: SnapshotResult | None = None
    for entry in entries:
        if entry.act not in {SNAPSHOT_ACT, REVERT_ACT}:
            continue
        if entry.mark is JournalMark.AFTER and result is not None:
            result = _take_end(result, entry.detail)
        elif entry.act == SNAPSHOT_ACT:
            result = result or SnapshotResult(entry.key, entry.at)
        elif result is not None:
            boots = entry.detail.get("boots_before")
            result = replace(
                result,
                revert_reason=str(entry.detail.get("reason") or "it failed"),
                boots_before=tuple(map(str, boots)) if isinstance(boots, list | tuple) else (),
            )
    return result


def _take_end(result: SnapshotResult, detail: Mapping[str, object]) -> SnapshotResult:
    def read_time(name: str) -> datetime | None:
        text = detail.get(name)
        return datetime.fromisoformat(text) if isinstance(text, str) else None

    def read_number(name: str) -> float | None:
        number = detail.get(name)
        return float(number) if isinstance(number, int | float) else None

    used = read_number("used_bytes")
    return replace(
        result,
        taken_at=read_time("taken_at"),
        expires_at=read_time("expires_at"),
        consistency=Consistency(str(detail.get("consistency", Consistency.UNKNOWN))),
        used_bytes=None if used is None else int(used),
        seconds=read_number("seconds"),
        failure=str(detail.get("failure", "")),
        reverted_at=read_time("reverted_at"),
        revert_seconds=read_number("revert_seconds"),
        revert_note=str(detail.get("revert_note", "")),
    )


@dataclass(frozen=True, slots=True)
class RevertProgress:
    """What the journal of a machine says about a revert."""

    has_begun: bool = False  # it may have been ordered
    is_carried_out: bool = False  # the machine was put back. A second order would take away what was written since.
    boots_before: tuple[str, ...] = ()  # the ids of the boots before it that were known when it began


def read_revert_progress(entries: Iterable[JournalEntry], snapshot_id: str) -> RevertProgress:
    """Return how far the revert to a snapshot has come. ``entries`` are of the machine in this run, oldest first."""
    own = [entry for entry in entries if entry.key == snapshot_id and entry.act in {REVERT_ACT, CARRIED_OUT_ACT}]
    orders = [entry for entry in own if entry.act == REVERT_ACT and entry.mark is JournalMark.BEFORE]
    boots = orders[0].detail.get("boots_before") if orders else None
    return RevertProgress(
        has_begun=bool(orders),
        is_carried_out=any(entry.act == CARRIED_OUT_ACT or entry.detail.get("reverted_at") for entry in own),
        boots_before=tuple(map(str, boots)) if isinstance(boots, list | tuple) else (),
    )


def find_revert_reason(outcome: Outcome, entries: Iterable[JournalEntry]) -> str:
    """Return why a machine is put back to the snapshot of before, or "": it is good, or that is not known.

    A machine that does not answer is a fault only after a reboot that this run has ordered. Faults of the records, of
    the controller and of other runs are none of the machine. ``outcome`` is as the machine would end now.
    """
    acts = {entry.act for entry in entries if entry.mark is JournalMark.BEFORE}
    if outcome.state is not OperationState.FAILED or not acts & _CHANGING_ACTS:
        return ""
    error = outcome.error
    if error is not None:
        is_lost_after_reboot = error.is_a(TransportError) and "reboot" in acts
        if error.is_a(LockLost) or not (is_lost_after_reboot or error.is_a(*_FAULTS)):
            return ""
    return "" if _is_component_back(outcome) else outcome.reason


def _is_component_back(outcome: Outcome) -> bool:
    """Return whether all that failed is a component, and its version before is there again."""
    blocking = {finding.check for finding in outcome.findings if finding.level is FindingLevel.BLOCK}
    failed = [result for result in outcome.updates if result.state is UpdateState.FAILED]
    is_back = all(result.version_after == result.update.installed for result in outcome.updates)
    return blocking == {COMPONENT_CHECK} and bool(failed) and is_back and outcome.reboot is not RebootState.FAILED


def mark_reverted(
    results: Iterable[UpdateResult], versions: Mapping[str, str | None], reason: str
) -> tuple[UpdateResult, ...]:
    """Return the results on a machine that was put back: what was tried is Failed. See mark_doubtful."""
    return _mark_tried(results, UpdateState.FAILED, versions, reason)


def _mark_tried(
    results: Iterable[UpdateResult], state: UpdateState, versions: Mapping[str, str | None], reason: str
) -> tuple[UpdateResult, ...]:
    tried = {UpdateState.INSTALLED, UpdateState.SETUP_FAILED, UpdateState.FAILED, UpdateState.PENDING}
    return tuple(
        replace(result, state=state, reason=reason, version_after=versions.get(result.update.id))
        if result.state in tried
        else result
        for result in results
    )


def mark_doubtful(
    results: Iterable[UpdateResult], versions: Mapping[str, str | None] | None, reason: str
) -> tuple[UpdateResult, ...]:
    """Return the results on a machine that may have been put back.

    ``versions`` are there now, by the update's id. Without an entry, one is not known; None: the machine does not say.
    """
    if versions is None:
        return _mark_tried(results, UpdateState.PENDING, {}, reason)
    changed = {result.update.id for result in results if versions.get(result.update.id) != result.version_after}
    marked = {result.update.id: result for result in mark_reverted(results, versions, reason)}
    return tuple(marked[result.update.id] if result.update.id in changed else result for result in results)


def list_version_differences(results: Iterable[UpdateResult], versions: Mapping[str, str | None]) -> tuple[str, ...]:
    """Return which updates are not at the version of before the run, in words."""
    return tuple(
        f"{result.update.name} is {versions.get(result.update.id) or 'not installed'}, and was "
        f"{result.update.installed or 'not installed'}"
        for result in results
        if result.state is not UpdateState.REPAIRED and versions.get(result.update.id) != result.update.installed
    )
