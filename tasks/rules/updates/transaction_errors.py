"""What the errors of transactions mean: for an update, for the machine, and for its next boot. Pure."""

import re
from collections.abc import Iterable, Sequence

from inventory.name_lists import join_first_names
from tasks.domain.model import TransactionResult, Update, UpdateResult
from tasks.domain.states import PRESENT_UPDATE_STATES, UpdateState

_WAITS_FOR_OTHER_PATTERN = re.compile(r" is not set up because \S+ failed")
"""The text of a job for an update that waits for another update (see PackageManager)."""
_BOOT_WORDS = r"initramfs|initrd|mkinitrd|dracut|grub\w*|kernel|vmlinuz|dkms|boot"
_BOOT_PATTERN = re.compile(rf"\b(?:{_BOOT_WORDS})\b", re.IGNORECASE)


def find_messages_about(update: Update, ran: TransactionResult) -> str:
    """Return the parts of a transaction's error about one update; "" when it is about other updates."""
    if len(ran.updates) == 1:
        return ran.detail
    return _find_parts(update, ran, _BEFORE_NAME + _build_name_pattern(update))


def find_setup_error(update: Update, ran: TransactionResult) -> str:
    """Return the parts of a transaction's error that name an update as the package whose script or trigger failed.

    The update is whole now. So it no longer waits for another one, for which it was not set up in this transaction.
    A name such as "file" may also be a word of a sentence. It counts with its version, at the beginning, behind
    "package", or in quotes or brackets.
    """
    with_version = rf"{_BEFORE_NAME}{re.escape(update.name)}{_build_version_pattern(update)}"
    named_as_package = rf"(?:^(?:[a-z-]+: )?|\bpackage |[\"'(<]){_build_name_pattern(update)}|{with_version}"
    parts = _find_parts(update, ran, named_as_package).split("; ")
    return "; ".join(part for part in parts if not _WAITS_FOR_OTHER_PATTERN.search(part))


def find_unattributed_errors(
    transactions: Iterable[TransactionResult], results: Sequence[UpdateResult]
) -> tuple[str, ...]:
    """Return the errors of transactions that name none of their updates: of a hook, a plugin, another package.

    An error that one of the reasons of ``results`` has is not repeated, nor one that names an update that failed, or
    whose last transaction is a later one: its reason is of that.
    """
    transactions = tuple(transactions)
    last = {update_id: ran for ran in transactions if ran.started_at for update_id in ran.updates}
    reasons = [result.reason for result in results]
    errors: dict[str, None] = {}
    for ran in (ran for ran in transactions if ran.started_at and ran.exit_code is not None and _has_error(ran)):
        own_results = [result for result in results if result.update.id in ran.updates]
        parts = [part for part in ran.detail.split("; ") if part]
        again = (
            result.update
            for result in own_results
            if result.state is UpdateState.FAILED or last[result.update.id] is not ran
        )
        known_texts = (*reasons, *(find_setup_error(update, ran) for update in again))
        installed = [result.update for result in own_results if result.state is UpdateState.INSTALLED]
        errors |= dict.fromkeys(
            part
            for part in parts
            if not any(part in text for text in known_texts)
            and not any(_is_waiting(update, part) for update in installed)
        )
        if not parts and all(result.state in PRESENT_UPDATE_STATES for result in own_results):
            errors[f"exit code {ran.exit_code}"] = None
    return tuple(errors)


def find_boot_danger(
    results: Sequence[UpdateResult], transactions: Sequence[TransactionResult], broken_before: Sequence[str]
) -> str:
    """Return why the machine might not boot after these transactions, or "".

    It might not if a transaction changed packages of the boot and ended with an error, or if an error is about the
    boot. An error about a package that was broken before this run is none of these transactions, unless it is about the
    boot.
    """
    patterns_before = [rf"(?<![\w.+-]){re.escape(name)}(?![\w+-])" for name in broken_before]
    last = {update_id: ran for ran in transactions if ran.started_at for update_id in ran.updates}
    for ran in transactions:
        if ran.started_at is None:
            continue
        changed = [
            result.update.name
            for result in results
            if result.update.changes_boot
            and last.get(result.update.id) is ran
            # changed, perhaps only half, or that is not known
            and (
                result.state in (*PRESENT_UPDATE_STATES, UpdateState.PENDING)
                or (result.state is UpdateState.FAILED and result.version_after is None)
            )
        ]
        parts = [part for part in ran.detail.split("; ") if part] if _has_error(ran) else []
        new = [part for part in parts if not any(re.search(pattern, part) for pattern in patterns_before)]
        error = next((part for part in parts if _BOOT_PATTERN.search(part)), "")
        if changed and (new or (_has_error(ran) and not parts)):
            end = "its end was not seen" if ran.exit_code is None else f"exit code {ran.exit_code}"
            error = "; ".join(new) or end
            return f"a transaction changed {join_first_names(changed)}, and ended with an error: {error}"
        if error:
            return f"a transaction ended with an error that may be about the boot: {error}"
    return ""


def _find_parts(update: Update, ran: TransactionResult, pattern: str) -> str:
    """Return the parts of a transaction's error that a pattern finds, without those of an update that only waits."""
    finder = re.compile(pattern)
    return "; ".join(
        part
        for part in ran.detail.split("; ")
        if finder.search(part) and (_is_waiting(update, part) or not _WAITS_FOR_OTHER_PATTERN.search(part))
    )


def _has_error(ran: TransactionResult) -> bool:
    return ran.exit_code != 0 or bool(ran.detail)


def _is_waiting(update: Update, part: str) -> bool:
    """Return whether a part of an error says that this update waits for another one."""
    match = _WAITS_FOR_OTHER_PATTERN.search(part)
    return match is not None and part[: match.start()].partition(":")[0] == update.name


_BEFORE_NAME = r"(?<![\w.+-])"


def _build_version_pattern(update: Update) -> str:
    versions = "|".join(
        re.escape(version.rpartition(":")[2]) for version in (update.available, update.installed) if version
    )
    arch = r"\w+" if update.arch in {"", "noarch"} else f"(?:{re.escape(update.arch)}|noarch)"
    return rf"-(?:[0-9]+:)?(?:{versions})(?:\.{arch}(?!\w)|(?!\.\w))"


def _build_name_pattern(update: Update) -> str:
    """Return what a text has for an update: its name, or NAME-VERSION.ARCHITECTURE with one of its versions.

    "%post(glibc-2:2.34-1.i686)" is about glibc.i686, and neither about glibc on x86_64 nor about a package "glibc-2".
    """
    return rf"{re.escape(update.name)}(?:{_build_version_pattern(update)})?(?![\w+-]|[:.][0-9])"
