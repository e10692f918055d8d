"""Determines the result of each update. The package database decides, not the exit code. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from tasks.domain.model import (
    Finding,
    InstallResult,
    PackageState,
    TransactionResult,
    UnfinishedPackage,
    Update,
    UpdateResult,
)
from tasks.domain.states import INSTALLED_UPDATE_STATES, Classification, UpdateState
from tasks.rules.updates.transaction_errors import find_messages_about, find_setup_error

_JOB_ENDED_REASON = "the job ended before its turn came"
_INSTALLED_BY_OTHERS_REASON = "it was installed by others"
REMOVED_REASON = "its package was removed, along with another update as the request allows, or by others"
"""Why an update is Excluded whose package is gone. The reason why it was not to be installed follows."""


def build_update_results(
    chosen: Sequence[Update],
    before: PackageState,
    versions_now: Mapping[str, str],
    transactions: Sequence[TransactionResult],
    not_attempted: Mapping[str, str],
    changed_by: str = "",
) -> tuple[UpdateResult, ...]:
    """Return one result for each chosen update, in their order.

    Versions are only compared for equality: only the package manager knows which version is newer. ``versions_now`` has
    each package that is complete and configured now, ``not_attempted`` why the transaction of an update did not begin.
    ``changed_by`` is another process that changed packages while they were read; "" for none.
    """
    had = {update.id: update.installed for update in before.updates}
    ran = {
        update_id: transaction
        for transaction in sorted(transactions, key=lambda transaction: transaction.number)
        if transaction.started_at is not None
        for update_id in transaction.updates
    }
    by_others = (
        f"it came along with another update, or {_INSTALLED_BY_OTHERS_REASON}" if ran else _INSTALLED_BY_OTHERS_REASON
    )
    return tuple(
        _build_update_result(
            update,
            had.get(update.id, update.installed),
            versions_now.get(update.id),
            ran.get(update.id),
            not_attempted.get(update.id, ""),
            changed_by,
            by_others,
        )
        for update in chosen
    )


def to_update(package: UnfinishedPackage) -> Update:
    """Return the Update object for the result of a half installed package; its version is the installed one."""
    name, version = package.name, package.version
    return Update(package.id, name, package.arch, version, version, Classification.UNCLASSIFIED)


def add_repair_results(
    packages: Sequence[UnfinishedPackage],
    results: Sequence[UpdateResult],
    versions_now: Mapping[str, str],
    unknown_reason: str = "",
) -> tuple[UpdateResult, ...]:
    """Return the results of updates, and a result for each repaired package without an update.

    The ``packages`` were half installed before a successful repair. ``versions_now`` has each package that is complete
    and configured now. ``unknown_reason`` says why one that is missing there is unknown; "": it is really missing.
    """
    repairs = {
        package.id: f"it was {package.status} at {package.version} before this run, which finished that first"
        for package in packages
    }
    all_results = [
        replace(result, reason="; ".join(filter(None, (result.reason, repairs.get(result.update.id)))))
        for result in results
    ]
    reported_ids = {result.update.id for result in results}
    for package in packages:
        if package.id in reported_ids:
            continue
        now, state, reason = versions_now.get(package.id), UpdateState.REPAIRED, repairs[package.id]
        if now is None and unknown_reason:
            reason += f"; whether it is whole now is not known: {unknown_reason}"
        elif now is None:
            state, reason = UpdateState.FAILED, f"{reason}, and nothing whole is there now"
        all_results.append(UpdateResult(to_update(package), state, reason, now))
    return tuple(all_results)


def mark_changed_dependencies(
    skipped: Sequence[UpdateResult],
    versions_now: Mapping[str, str],
    lost: Collection[str] = (),
    broken: Collection[str] = (),
) -> tuple[UpdateResult, ...]:
    """Return the skipped updates, with what became of those whose packages changed along with others.

    ``versions_now`` has each package that is complete and configured now. ``lost`` are the ids of those that were whole
    before, and are not now, as far as that is known; ``broken`` of those that are half installed now.
    """
    return tuple(
        _mark_if_lost(result, is_broken=result.update.id in broken)
        if result.update.id in lost
        else _mark_if_changed(result, versions_now.get(result.update.id))
        for result in skipped
    )


def _mark_if_lost(result: UpdateResult, *, is_broken: bool) -> UpdateResult:
    """Return Failed for a package that is half installed. One that is gone was removed by a request or a person."""
    if is_broken:
        reason = f"it changed along with another update, and is left half-configured: {result.reason}"
        return replace(result, state=UpdateState.FAILED, reason=reason, version_after=None)
    reason = f"{REMOVED_REASON}: {result.reason}"
    return replace(result, state=UpdateState.EXCLUDED, reason=reason, version_after=None)


def _mark_if_changed(result: UpdateResult, now: str | None) -> UpdateResult:
    if now is None or now == result.update.installed:
        return result
    if result.update.installed is None and now != result.update.available:  # it was there before, in another version
        return result
    dependency_reason = f"it came along as a dependency, or {_INSTALLED_BY_OTHERS_REASON}"
    if result.state is not UpdateState.NOT_SELECTED:
        dependency_reason = f"{dependency_reason}, although it was not to be installed: {result.reason}"
    return replace(result, state=UpdateState.INSTALLED, reason=dependency_reason, version_after=now)


def _build_update_result(
    update: Update,
    had: str | None,
    now: str | None,
    ran: TransactionResult | None,
    not_attempted_reason: str,
    changed_by: str,
    by_others: str,
) -> UpdateResult:
    if now is not None and now != had:
        return _build_changed_result(
            update, now, ran, f"{by_others} ({not_attempted_reason})" if not_attempted_reason else by_others
        )
    if now is None and had is not None:
        return _build_gone_result(update, had, ran, not_attempted_reason, changed_by)
    if now is not None and now == update.available:
        return UpdateResult(update, UpdateState.INSTALLED, "it was there already", now)
    if ran is None:
        return UpdateResult(update, UpdateState.NOT_ATTEMPTED, not_attempted_reason or _JOB_ENDED_REASON, now)
    still = f"version {now} is still there" if now else "it is not there"
    return UpdateResult(
        update, UpdateState.FAILED, f"{still} afterwards: {_describe_transaction_end(ran, update)}", now
    )


def _build_gone_result(
    update: Update, had: str, ran: TransactionResult | None, not_attempted_reason: str, changed_by: str
) -> UpdateResult:
    """Return the result of an update of which nothing whole is there now: its removal was wanted, or it is broken."""
    if update.goes_back and not update.available:
        reason = "removed: it was not there before" if ran is not None else "somebody else has removed it"
        return UpdateResult(update, UpdateState.INSTALLED, reason, None)
    changes = f"packages were being changed by {changed_by}"
    if changed_by and ran is None:
        reason = f"{not_attempted_reason or _JOB_ENDED_REASON}; its state now is not known: {changes}"
        return UpdateResult(update, UpdateState.NOT_ATTEMPTED, reason, None)
    reason_text = _describe_transaction_end(ran, update) if ran else not_attempted_reason
    detail = f": {reason_text}" if reason_text else ""
    detail += f"; {changes}" if changed_by else ""
    reason = f"left half-configured or gone: {had} was there before and nothing whole is there now{detail}"
    return UpdateResult(update, UpdateState.FAILED, reason, None)


def _build_changed_result(
    update: Update, now: str, ran: TransactionResult | None, not_begun_reason: str
) -> UpdateResult:
    setup_error = find_setup_error(update, ran) if ran is not None and ran.exit_code is not None else ""
    notes = [] if now == update.available else [f"version {now} was installed in place of {update.available}"]
    if setup_error:
        notes.append(f"installed, and its setup failed: {setup_error}")
    elif ran is None:
        notes.append(not_begun_reason)
    state = UpdateState.SETUP_FAILED if setup_error else UpdateState.INSTALLED
    return UpdateResult(update, state, "; ".join(notes), now)


def _describe_transaction_end(ran: TransactionResult, update: Update) -> str:
    """Return in words how a transaction ended, with the error about this update if there is one."""
    detail = find_messages_about(update, ran) or ran.detail
    if ran.exit_code is None:
        return detail or "its transaction began and its end was not seen"
    if ran.exit_code == 0:
        return detail or "its transaction reported success and yet did not change it"
    return f"{detail} (exit code {ran.exit_code})" if detail else f"exit code {ran.exit_code}"


_CHECK = "versions"
_MAX_NAMES = 10


def find_lost_updates(installed: Sequence[UpdateResult], wrong: Mapping[str, str | None]) -> Mapping[str, str | None]:
    """Return the updates that the machine no longer has after its reboot: update id -> version now.

    One that is not there now, and was there before, is not among them: perhaps it is only not complete. ``wrong`` are
    those that are not at the version that was installed (update id -> version now).
    """
    before = {result.update.id: result.update.installed for result in installed}
    return {name: now for name, now in wrong.items() if now is not None or before[name] is None}


def find_rolled_back_updates(
    installed: Sequence[UpdateResult], wrong: Mapping[str, str | None]
) -> Mapping[str, str | None]:
    """Return the updates that are back at the version of before: update id -> that version, None for none.

    A reboot can do that: a system that could not start as updated, or failed its health check, falls back to the state
    of before.
    """
    before = {result.update.id: result.update.installed for result in installed}
    return {name: now for name, now in wrong.items() if now == before[name]}


def check_installed_versions(
    installed: Sequence[UpdateResult], wrong: Mapping[str, str | None], rolled_back: Mapping[str, str | None]
) -> list[Finding]:
    """Return findings about updates that are not at the version that was installed."""
    if not wrong:
        count = len(installed)
        counted = "1 update is at its new version" if count == 1 else f"{count} updates are at their new version"
        return [Finding.good(_CHECK, counted)]
    # the id has the architecture, unless it is only a number for the machine
    labels = {u.id: u.id if u.name in u.id else u.name for u in (result.update for result in installed)}
    changed = ", ".join(sorted(labels[update_id] for update_id in set(wrong) - set(rolled_back))[:_MAX_NAMES])
    findings = []
    if rolled_back:
        names = "; ".join(
            f"{label} is at {now} again" if now else f"{label} is not installed any more"
            for label, now in sorted((labels[update_id], now or "") for update_id, now in rolled_back.items())[
                :_MAX_NAMES
            ]
        )
        remedy = "Read why it did not start: the log of the boot before, and its health checks."
        findings.append(Finding.block(_CHECK, f"rolled back during the boot: {names}", remedy))
    if changed:
        message = f"not at the version that was installed: {changed}"
        findings.append(Finding.block(_CHECK, message, "Look at who changed them."))
    return findings


def mark_lost(install: InstallResult | None, lost: Mapping[str, str | None]) -> InstallResult | None:
    """Return the result of an installation, in which updates that the machine has lost in its reboot have failed."""
    if install is None or not lost:
        return install
    results = []
    for result in install.results:
        if result.update.id in lost and result.state in INSTALLED_UPDATE_STATES:
            now = lost[result.update.id]
            reason = f"the machine has {now} after the reboot, not {result.version_after}"
            if now is None:
                reason = "rolled back during the boot: it is not installed any more"
            elif now == result.update.installed:
                reason = f"rolled back during the boot: {now} runs again"
            result = replace(result, state=UpdateState.FAILED, reason=reason, version_after=now)  # noqa: PLW2901
        results.append(result)
    return replace(install, results=tuple(results))
