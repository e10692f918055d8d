"""What became of each update: the package database says, whatever exit codes did."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tasks.model import PackageState, TransactionResult, UnfinishedPackage, Update, UpdateResult
from tasks.states import Classification, UpdateState

_WAITS = re.compile(r" is not set up because \S+ failed")
"""How a job says that an update waits for another one (see PackageManager)."""
_NO_TURN = "the job ended before its turn came"
_BY_OTHERS = "somebody else installed it"


def settle(
    chosen: Sequence[Update],
    before: PackageState,
    versions_now: Mapping[str, str],
    transactions: Sequence[TransactionResult],
    not_attempted: Mapping[str, str],
    changed_by: str = "",
) -> tuple[UpdateResult, ...]:
    """Return one result for each chosen update, in their order.

    Versions are only compared for being the same: which of two is newer is the package manager's knowledge.

    Args:
        chosen: what was to be installed.
        before: the state that it was chosen from.
        versions_now: update id -> version, of what is whole and configured now.
        transactions: those that the job told of.
        not_attempted: update id -> why its transaction was not begun.
        changed_by: who else was changing packages as ``versions_now`` was read; "" for nobody.
    """
    had = {update.id: update.installed for update in before.updates}
    ran = {
        update_id: transaction
        for transaction in sorted(transactions, key=lambda transaction: transaction.number)
        if transaction.started_at is not None
        for update_id in transaction.updates
    }
    by_others = f"came along with another one, or {_BY_OTHERS}" if ran else _BY_OTHERS
    return tuple(
        _settle_one(
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


def as_update(package: UnfinishedPackage) -> Update:
    """Return a half installed package as what a result is about: the version that it was brought to."""
    name, version = package.name, package.version
    return Update(package.id, name, package.arch, version, version, Classification.UNCLASSIFIED)


def repaired(
    packages: Sequence[UnfinishedPackage],
    results: Sequence[UpdateResult],
    versions_now: Mapping[str, str],
    unjudged: str = "",
) -> tuple[UpdateResult, ...]:
    """Return the results of updates, and one for each repaired package that no update is about.

    Args:
        packages: that were half installed before a repair, which helped.
        results: of updates.
        versions_now: id -> version, of what is whole and configured now.
        unjudged: why that says nothing of what is missing from it; "" when it does.
    """
    ids = {package.id: package for package in packages}
    noted = [
        replace(result, reason="; ".join(filter(None, (result.reason, _before(ids[result.update.id])))))
        if result.update.id in ids
        else result
        for result in results
    ]
    told = {result.update.id for result in results}
    return (*noted, *(_repaired(each, versions_now.get(each.id), unjudged) for each in packages if each.id not in told))


def _repaired(package: UnfinishedPackage, now: str | None, unjudged: str) -> UpdateResult:
    if now is None and unjudged:
        reason = f"{_before(package)}; whether it is whole now is not known: {unjudged}"
        return UpdateResult(as_update(package), UpdateState.REPAIRED, reason, None)
    if now is None:
        reason = f"{_before(package)}, and nothing whole is there now"
        return UpdateResult(as_update(package), UpdateState.FAILED, reason, None)
    return UpdateResult(as_update(package), UpdateState.REPAIRED, _before(package), now)


def _before(package: UnfinishedPackage) -> str:
    return f"it was {package.status} at {package.version} before this run, which finished that first"


def came_along(skipped: Sequence[UpdateResult], versions_now: Mapping[str, str]) -> tuple[UpdateResult, ...]:
    """Return the skipped updates with those that changed all the same, as dependencies, told as Installed."""
    return tuple(_moved(result, versions_now.get(result.update.id)) for result in skipped)


def _moved(result: UpdateResult, now: str | None) -> UpdateResult:
    if now is None or now == result.update.installed:
        return result
    along = f"came along as a dependency, or {_BY_OTHERS}"
    if result.state is not UpdateState.NOT_SELECTED:
        along = f"{along}, although it was to be left alone: {result.reason}"
    return replace(result, state=UpdateState.INSTALLED, reason=along, version_after=now)


def _settle_one(
    update: Update,
    had: str | None,
    now: str | None,
    ran: TransactionResult | None,
    why_not: str,
    changed_by: str,
    by_others: str,
) -> UpdateResult:
    if now is not None and now != had:
        unbegun = f"{by_others} ({why_not})" if why_not else by_others
        return UpdateResult(update, UpdateState.INSTALLED, _note(update, now, ran, unbegun), now)
    if now is not None and now == update.available:
        return UpdateResult(update, UpdateState.INSTALLED, "it was there already", now)
    if now is None and had is not None:
        others = f"packages were being changed by {changed_by}"
        if changed_by and ran is None:
            reason = f"{why_not or _NO_TURN}; what became of it is not known: {others}"
            return UpdateResult(update, UpdateState.NOT_ATTEMPTED, reason, None)
        words = _ending(ran, update) if ran else why_not
        detail = f": {words}" if words else ""
        detail += f"; {others}" if changed_by else ""
        reason = f"left half-configured or gone: {had} was there before and nothing whole is there now{detail}"
        return UpdateResult(update, UpdateState.FAILED, reason, None)
    if ran is None:
        return UpdateResult(update, UpdateState.NOT_ATTEMPTED, why_not or _NO_TURN, now)
    still = f"version {now} is still there" if now else "it is not there"
    return UpdateResult(update, UpdateState.FAILED, f"{still} afterwards: {_ending(ran, update)}", now)


def _note(update: Update, now: str, ran: TransactionResult | None, unbegun: str) -> str:
    """Return what is unusual about an update that is installed now, or ""."""
    notes = [] if now == update.available else [f"version {now} was installed in place of {update.available}"]
    if ran is None:
        notes.append(unbegun)
    elif ran.exit_code not in (0, None) and _words_about(update, ran):  # it may only say "reboot me"
        notes.append(f"installed, and its transaction complained of it: {_ending(ran, update)}")
    return "; ".join(notes)


def _words_about(update: Update, ran: TransactionResult) -> str:
    """Return what a transaction's complaint says of one of its updates; "" when it is about others."""
    if len(ran.updates) == 1:
        return ran.detail
    name = re.compile(rf"(?<![\w.+-]){re.escape(update.name)}(?![\w+-])")
    found = [part for part in ran.detail.split("; ") if name.search(part)]
    others = [part for part in found if _WAITS.search(part) and not part.startswith(f"{update.name} ")]
    return "; ".join(part for part in found if part not in others)


def _ending(ran: TransactionResult, update: Update) -> str:
    """Return how a transaction ended, in words: those about one update, where there are any."""
    detail = _words_about(update, ran) or ran.detail
    if ran.exit_code is None:
        return detail or "its transaction began and its end was not seen"
    if ran.exit_code == 0:
        return detail or "its transaction reported success and yet did not change it"
    return f"{detail} (exit code {ran.exit_code})" if detail else f"exit code {ran.exit_code}"
