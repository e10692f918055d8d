"""What of an earlier run can be taken back on one machine, and why the rest can't. Pure.

The version that is there now decides: only what is still as the run has left it goes back. What has changed again
since belongs to somebody else.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from inventory.data_class import dataclass
from inventory.name_lists import join_first_names
from tasks.domain.components import COMPONENT_PREFIX, DISK_PREFIX, build_upgrade_command
from tasks.domain.model import (
    Finding,
    InstallResult,
    MachinePlan,
    RebootNeed,
    RunReport,
    Selection,
    Update,
    UpdateResult,
)
from tasks.domain.protocols.package_manager import InstalledKernels, PackageNeeds
from tasks.domain.states import INSTALLED_UPDATE_STATES, RebootPolicy, UpdateState, YesNoUnknown
from tasks.domain.undo import InstalledChange, UndoOrder, UndoSnapshot
from tasks.rules.calendar.local_time import format_duration
from tasks.rules.updates.selection import find_exclude_mask

LEFT_REBOOT: Final = "a reboot was pending before this undo, which leaves it: --reboot Always does it"
REMOVAL_TERMS: Final = "never purged, and only if nobody has chosen it and nothing needs it by then"
UNDO_CHECK: Final = "undo"
REMOVAL_REASON: Final = "the run has newly installed it, so it is removed when the others are back"
CHOSEN_REASON: Final = "it stays: somebody has chosen it since"
_NOT_BACK = frozenset({UpdateState.BLOCKED, UpdateState.EXCLUDED, UpdateState.FAILED, UpdateState.NOT_ATTEMPTED})


@dataclass(frozen=True, slots=True)
class UndoChoice:
    """What goes back on one machine.

    Attributes:
        back: updates to the versions before, to be installed.
        snapshot: by which it all goes back; "": by packages.
        skipped: the others, each with the reason. What is to be removed is among them: see find_removals.
    """

    back: tuple[Update, ...]
    skipped: tuple[UpdateResult, ...]
    snapshot: str = ""


def collect_order(report: RunReport) -> UndoOrder:
    """Return what a run has changed, from its report.

    Which update came, and from which version, its plans say: they are sealed, outcomes are not. Outcomes only say what
    became of it.
    """
    planned = {
        plan.machine: {u.id: u for u in (*(r.update for r in plan.skipped), *plan.chosen)} for plan in report.plans
    }
    changes: dict[str, tuple[InstalledChange, ...]] = {}
    unknown: dict[str, tuple[str, ...]] = {}
    for outcome in report.outcomes:
        known = planned.get(outcome.machine, {})
        changed = [result for result in outcome.updates if _may_have_changed(result, outcome.install)]
        found = [InstalledChange(known[r.update.id], _find_after(r, known)) for r in changed if r.update.id in known]
        if found:
            changes[outcome.machine] = tuple(found)
        # components that a new OS disk got again are in no plan: they come and go with the disk
        has_new_disk = any(name.startswith(DISK_PREFIX) for name in known)
        came_again = COMPONENT_PREFIX if has_new_disk else ()
        lacking = [r.update.id for r in changed if r.update.id not in known and not r.update.id.startswith(came_again)]
        if lacking:
            unknown[outcome.machine] = tuple(lacking)
    commands = {outcome.machine: _list_commands(outcome.install) for outcome in report.outcomes}
    return UndoOrder(report.run.id, changes, unknown, {name: found for name, found in commands.items() if found})


def _may_have_changed(result: UpdateResult, install: InstallResult | None) -> bool:
    if _is_end_unseen(result):
        return install is not None
    may_have = result.state in INSTALLED_UPDATE_STATES or result.state is UpdateState.FAILED
    return may_have and bool(result.version_after) and result.version_after != result.update.installed


def _is_end_unseen(result: UpdateResult) -> bool:
    """Return whether the run did not see what its installation has left. A version that was read is no proof of it."""
    return result.state is UpdateState.PENDING or (result.state is UpdateState.FAILED and not result.version_after)


def _find_after(result: UpdateResult, known: Mapping[str, Update]) -> str:
    """Return the version that the run has left; or would have left, if its end was not seen."""
    return (known[result.update.id].available if _is_end_unseen(result) else result.version_after) or ""


def _list_commands(install: InstallResult | None) -> tuple[str, ...]:
    return tuple(part.undo for part in install.transactions if part.undo) if install is not None else ()


def choose_changes(
    changes: Sequence[InstalledChange],
    now: Mapping[str, str],
    kernels: InstalledKernels,
    held: Collection[str],
    selection: Selection,
    run_id: str,
    *,
    needs: PackageNeeds = PackageNeeds(),  # noqa: B008  # it is frozen
    removes: bool = False,
) -> UndoChoice:
    """Return what goes back.

    Args:
        changes: what the run has changed on this machine.
        now: the installed versions, by the id of the update.
        kernels: of the machine.
        held: packages that its administrator holds.
        selection: of the request: its exclude masks win.
        run_id: of the run that is taken back.
        needs: for the packages that the run has newly installed. What somebody has chosen since stays.
        removes: a removal is the way back itself, and needs nothing before it.
    """
    back: list[Update] = []
    skipped: list[UpdateResult] = []
    for change in changes:
        update = _turn_round(change)
        if result := _find_obstacle(change, update, now.get(update.id), kernels, held, selection, run_id):
            skipped.append(result)
        elif not update.available and not removes and (needs.obstacle or update.id in needs.chosen):
            skipped.append(UpdateResult(update, UpdateState.BLOCKED, needs.obstacle or CHOSEN_REASON))
        elif update.available or removes:
            back.append(update)
        else:
            skipped.append(UpdateResult(update, UpdateState.NOT_SELECTED, REMOVAL_REASON))
    # with nothing to go back before, what is needed now stays
    staying = {} if back else explain_staying(find_removals(skipped), needs)
    return UndoChoice(tuple(back), mark_removals(skipped, now, staying))


def choose_all_changes(changes: Sequence[InstalledChange], now: Mapping[str, str], snapshot: str) -> UndoChoice:
    """Return what goes back by a snapshot: all, also what has changed again since. ``now``: versions by id."""
    back: list[Update] = []
    skipped: list[UpdateResult] = []
    for change in changes:
        update = replace(_turn_round(change), installed=now.get(change.update.id))
        if (update.installed or "") == update.available:
            skipped.append(UpdateResult(update, UpdateState.NOT_SELECTED, "it is as before already"))
        else:
            back.append(update)
    return UndoChoice(tuple(back), tuple(skipped), snapshot)


def keep_reverted(choice: UndoChoice) -> UndoChoice:
    """Return the choice for a machine that this run has put back already: that is never done a second time."""
    reason = "the snapshot, to which it was put back, has another version"
    differing = (UpdateResult(update, UpdateState.BLOCKED, reason) for update in choice.back)
    return UndoChoice((), (*differing, *choice.skipped))


def describe_snapshot_plan(run_id: str, snapshot: UndoSnapshot, now: datetime) -> tuple[str, ...]:
    """Return the notes of a plan that puts a machine back to a snapshot: above all, what is lost."""
    row = snapshot.row
    notes = [
        f"undo of run {run_id} by the snapshot of {row.ordered_at:%Y-%m-%d %H:%M} UTC ({row.consistency})",
        describe_loss(row.ordered_at, now),
    ]
    if snapshot.later_runs:
        notes.append(f"later runs are taken back with it: {', '.join(snapshot.later_runs)}")
    return tuple(notes)


def describe_loss(taken_at: datetime, now: datetime, *, with_data_disks: bool = False) -> str:
    """Return what a machine loses that goes back to a snapshot."""
    since = f"{taken_at:%Y-%m-%d %H:%M} UTC ({format_duration((now - taken_at).total_seconds())})"
    if with_data_disks:
        return f"all that was written to its OS and data disks since {since} is lost"
    return f"all that was written to its OS disks since {since} is lost, also data on them; data disks stay as they are"


def describe_losses(snapshots: Mapping[str, UndoSnapshot], machines: Sequence[str], now: datetime) -> str:
    """Return what each machine loses that goes back to its snapshot, and which have none, in sentences."""
    lines = [f"{name}: {describe_loss(snapshots[name].row.ordered_at, now)}." for name in machines if name in snapshots]
    lines += [f"{name}: the run has no snapshot of it, and it stays." for name in machines if name not in snapshots]
    return " ".join(lines)


def describe_new_packages(order: UndoOrder, machines: Iterable[str]) -> str:
    """Return a sentence on what an undo by packages removes; "" if the run has newly installed nothing."""
    changes = (change for name in machines for change in order.changes.get(name, ()))
    names = sorted({c.update.name for c in changes if not c.update.installed and not c.update.kb})
    return f"What the run has newly installed is removed ({REMOVAL_TERMS}): {join_first_names(names)}." if names else ""


def describe_other_way(run_id: str, snapshot: UndoSnapshot, now: datetime) -> str:
    """Return the note of a plan by packages that there is a snapshot, too, and how it is used."""
    how = f"fleetpatch undo {run_id} {snapshot.row.machine} --by snapshot"
    loss = describe_loss(snapshot.row.ordered_at, now)
    return f"that run has a snapshot of the machine, which this run leaves alone: {how} (then {loss})"


def _turn_round(change: InstalledChange) -> Update:
    """Return the way back. What the update said of itself, beside its need of a reboot, is not true of the way back."""
    update = change.update
    return Update(
        id=update.id,
        name=update.name,
        arch=update.arch,
        installed=change.after,
        available=update.installed or "",
        classification=update.classification,
        group=update.group,
        requires_reboot=update.requires_reboot,
        kb=update.kb,
        changes_boot=update.changes_boot,
        title=update.title,
        goes_back=True,
    )


def _find_obstacle(
    change: InstalledChange,
    update: Update,
    now: str | None,
    kernels: InstalledKernels,
    held: Collection[str],
    selection: Selection,
    run_id: str,
) -> UpdateResult | None:
    """Return why a change is not taken back, with what is there now; or None."""
    names, here = {update.id, update.name}, replace(update, installed=now)
    if now is not None and now == update.available:
        return UpdateResult(here, UpdateState.NOT_SELECTED, f"version {now} is there already")
    if now is None and not update.available:
        return UpdateResult(here, UpdateState.NOT_SELECTED, "it is not installed any more")
    if mask := find_exclude_mask(names, selection):
        return UpdateResult(here, UpdateState.EXCLUDED, f'excluded by mask "{mask}"')
    if names & set(held):
        return UpdateResult(here, UpdateState.EXCLUDED, "a hold on the machine excludes it")
    reason = _explain_changed(change, now, run_id) or _explain_kernel(update, kernels)
    return UpdateResult(here, UpdateState.BLOCKED, reason) if reason else None


def _explain_changed(change: InstalledChange, now: str | None, run_id: str) -> str:
    if change.update.id.startswith(COMPONENT_PREFIX):
        return _explain_component(change.update)
    if now is None:
        return f"it is not wholly installed now; run {run_id} has installed {change.after}"
    if now != change.after:
        return f"it has changed again since (run {run_id} has installed {change.after}, {now} is there now)"
    return ""


def _explain_component(update: Update) -> str:
    is_disk = update.id.startswith(DISK_PREFIX)
    noun = "an OS disk" if is_disk else "a component"
    if not update.installed:
        return f"it is {noun}, and its version before is not known"
    command = f"`{build_upgrade_command(update.name)} --to {update.installed}`"
    return f"it is {noun}: {command} {'gives all machines of the group that version' if is_disk else 'puts it back'}"


def _explain_kernel(update: Update, kernels: InstalledKernels) -> str:
    """Return why a kernel, or what may be one, stays. A new kernel stands beside the older one."""
    mine = [k for k in kernels.packages if (k.package.name, k.package.available) == (update.name, update.installed)]
    if any(kernel.is_running for kernel in mine):
        return f"it belongs to the running kernel {kernels.running}, which is never taken away"
    if mine:
        return f"a kernel stays beside the others ({kernels.running} is running): choose one in the boot menu"
    if kernels.obstacle and not update.available:
        return f"whether it belongs to a kernel is not known: {kernels.obstacle}"
    return ""


def leaves_pending_reboot(pending: RebootNeed, policy: RebootPolicy, chosen: Iterable[Update]) -> bool:
    """Return whether an undo leaves a reboot that was pending before it: another run's, which may have been told Never.

    It is another matter if the policy is Always, or if something that goes back asks for a reboot itself.
    """
    is_pending = pending.answer is YesNoUnknown.YES and policy is RebootPolicy.IF_REQUIRED
    return is_pending and not any(update.requires_reboot for update in chosen)


def is_in_vain(plans: Iterable[MachinePlan]) -> bool:
    """Return whether an undo has nothing that it can take back, though not all is back already."""
    plans = tuple(plans)
    stays = any(r.update.goes_back and r.state in _NOT_BACK for plan in plans for r in plan.skipped)
    return stays and not any(plan.chosen or plan.snapshot or find_removals(plan.skipped) for plan in plans)


def keep_others(selection: Selection, skipped: Iterable[UpdateResult]) -> Selection:
    """Return a selection that lets nothing that stays change as a dependency."""
    staying = {r.update.name for r in skipped if r.update.goes_back and r.state is not UpdateState.NOT_SELECTED}
    return replace(selection, exclude=(*selection.exclude, *sorted(staying)))


def find_removals(results: Iterable[UpdateResult]) -> tuple[Update, ...]:
    """Return the packages that are to be removed, as a job of kind REMOVE takes them."""
    return tuple(
        replace(result.update, available=result.update.installed or "")
        for result in results
        if result.update.goes_back and not result.update.available and result.state is UpdateState.NOT_SELECTED
        if result.reason == REMOVAL_REASON
    )


def explain_staying(removals: Iterable[Update], needs: PackageNeeds) -> dict[str, str]:
    """Return why packages are not removed, by id: only what the package manager itself counts as needless is."""
    needed = "something needs it, or a setting of the machine keeps it"
    return {
        update.id: needs.obstacle or (CHOSEN_REASON if update.id in needs.chosen else needed)
        for update in removals
        if needs.obstacle or update.id in needs.chosen or update.id not in needs.needless
    }


def mark_removals(
    results: Iterable[UpdateResult], now: Mapping[str, str], reasons: Mapping[str, str]
) -> tuple[UpdateResult, ...]:
    """Return the results, with what became of packages that were to be removed.

    Args:
        results: of all updates.
        now: the installed versions, by id; without those that are gone.
        reasons: ids of what was to be removed, each with the reason why it may be there still.
    """
    return tuple(
        _mark_removal(r, now.get(r.update.id), reasons[r.update.id]) if r.update.id in reasons else r for r in results
    )


def _mark_removal(result: UpdateResult, now: str | None, reason: str) -> UpdateResult:
    if now is None:
        return replace(
            result, state=UpdateState.INSTALLED, reason="removed: it was not there before", version_after=None
        )
    return replace(result, state=UpdateState.BLOCKED, reason=f"not removed: {reason}", version_after=now)


def group_reasons(results: Iterable[UpdateResult]) -> list[str]:
    """Return why ways back are not taken: each reason once, with its packages, the most frequent one first."""
    reasons = [
        (r.update.name, r.reason.replace(f"{r.update.name} {r.update.available}", "the version"))
        for r in results
        if r.state in _NOT_BACK and r.update.goes_back
    ]
    counts = Counter(reason for _, reason in reasons)
    heads = Counter(reason.partition(" (")[0] for reason, count in counts.items() if count == 1)
    names: dict[str, list[str]] = {}
    for name, reason in reasons:
        head = reason.partition(" (")[0]  # what differs between packages stands in brackets
        names.setdefault(head if counts[reason] == 1 and heads[head] > 1 else reason, []).append(name)
    return [
        f"{len(group)} packages: {reason}: {join_first_names(group)}" if len(group) > 1 else f"{group[0]}: {reason}"
        for reason, group in sorted(names.items(), key=lambda item: -len(item[1]))
    ]


def describe_undo(results: Iterable[UpdateResult], unknown: Sequence[str]) -> tuple[Finding, ...]:
    """Return findings about what is not back on a machine, and how the same is kept from coming again.

    Args:
        results: what became of each way back.
        unknown: ids of changes of which the sealed plans know nothing.
    """
    ways = [result for result in results if result.update.goes_back]
    findings: list[Finding] = []
    stays = group_reasons(ways)
    stays += [f"the run's plans, which are sealed, do not have {join_first_names(unknown)}"] if unknown else []
    if stays:
        remedy = "Read the reasons. If the package manager can't take an update back, use a backup or a snapshot."
        findings.append(Finding.warn(UNDO_CHECK, f"not taken back: {'; '.join(stays)}", remedy))
    done = [result.update for result in ways if result.state in INSTALLED_UPDATE_STATES]
    if names := sorted({update.name for update in done if update.available or update.kb}):
        findings.append(Finding.good(UNDO_CHECK, describe_return(names)))
    return tuple(findings)


def describe_return(names: Sequence[str]) -> str:
    """Return that the next run brings the same updates again, and the line of a request that prevents it."""
    masks = ", ".join(f'"{name}"' for name in names)
    return f"the next run installs them again unless its request has this line below `updates`: exclude: [{masks}]"


def describe_plan(run_id: str, how: str, caution: str, choice: UndoChoice, commands: Sequence[str]) -> tuple[str, ...]:
    """Return the notes of a plan that takes a run back. ``how`` names its means."""
    notes = [f"undo of run {run_id} {how}"]
    if choice.back and caution:
        notes.append(caution)
    stays = group_reasons(choice.skipped)
    if removals := find_removals(choice.skipped):
        names = ", ".join(update.id for update in removals)
        notes.append(f"to be removed ({REMOVAL_TERMS}), because the run has newly installed it: {names}")
    if stays:
        notes.append(f"can't be undone: {'; '.join(stays)}")
    if choice.back:
        notes.append("files and data that have changed since stay as they are")
        notes.append(describe_return(sorted({update.name for update in choice.back})))
    notes += [f"the package manager said after that run: {command}" for command in commands]
    return tuple(notes)
