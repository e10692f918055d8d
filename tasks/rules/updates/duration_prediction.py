"""Predicts how long the updates and the reboot of a machine take. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isfinite

from tasks.domain.model import DurationPrediction, RebootNeed, Update
from tasks.domain.protocols.package_manager import Rates
from tasks.domain.states import RebootPolicy, YesNoUnknown

_DEFAULT_UPDATE_BYTES = 2 * 1024**2  # mean size of an update on a server


_LEARNED_MEASURES = ("transaction_seconds", "install_seconds_per_update", "download_bytes_per_second", "reboot_seconds")


def learn_rates(default_rates: Rates, lookup: Callable[[str], float | None]) -> Rates:
    """Return the default rates of a package manager, replaced by learned values of one machine where they exist.

    Args:
        default_rates: the rates of a machine on which nothing was measured.
        lookup: measure (see ``Records.read_measure``) -> mean of past runs, or None.
    """
    learned = {measure: lookup(measure) for measure in _LEARNED_MEASURES}
    good = {measure: value for measure, value in learned.items() if value is not None and isfinite(value) and value > 0}
    if not good:
        return default_rates
    basis = "learned" if len(good) == len(_LEARNED_MEASURES) else f"defaults; learned: {', '.join(sorted(good))}"
    unlearned = default_rates.max_transaction_updates
    return replace(default_rates, **good, basis=basis, max_transaction_updates=unlearned)


def predict_reboot_need(updates: Sequence[Update], need: RebootNeed) -> YesNoUnknown:
    """Return whether a machine will need a reboot after these updates; UNKNOWN when it can't be predicted."""
    if need.answer is YesNoUnknown.YES or any(update.requires_reboot or update.changes_boot for update in updates):
        return YesNoUnknown.YES
    if need.answer is YesNoUnknown.NO and all(update.requires_reboot is False for update in updates):
        return YesNoUnknown.NO
    return YesNoUnknown.UNKNOWN


def predict_durations(
    updates: Sequence[Update],
    rates: Rates,
    reboot: YesNoUnknown,
    policy: RebootPolicy,
    download_bytes: int | None = None,
) -> DurationPrediction:
    """Return the predicted seconds for each phase of patching one machine.

    Args:
        updates: the chosen updates.
        rates: the speed of the machine.
        reboot: whether the machine will need a reboot; with updates, UNKNOWN counts as yes.
        policy: the request's reboot policy.
        download_bytes: bytes that are not downloaded yet; None: the sum of the sizes of the updates.
    """
    to_fetch = estimate_download_bytes(updates) if download_bytes is None else download_bytes
    asked = reboot is YesNoUnknown.YES or (reboot is YesNoUnknown.UNKNOWN and bool(updates))
    reboots = policy is RebootPolicy.ALWAYS or (policy is RebootPolicy.IF_REQUIRED and asked)
    return DurationPrediction(
        stage=to_fetch / rates.download_bytes_per_second,
        install=rates.predict_install_seconds(len(updates)),
        reboot=rates.reboot_seconds if reboots else 0.0,
        validate=rates.validate_seconds if updates or reboots else 0.0,
        basis=rates.basis,
    )


def predict_typical_durations(
    count: int, rates: Rates, policy: RebootPolicy, *, is_downloaded: bool
) -> DurationPrediction:
    """Return the predicted seconds for a machine whose updates are not known yet, as for updates of unknown size.

    Args:
        count: the number of updates.
        rates: the speed of the machine.
        policy: the request's reboot policy. Whether a reboot is needed is unknown, and counts as yes.
        is_downloaded: whether the updates are downloaded before the window.
    """
    reboots = policy is not RebootPolicy.NEVER
    return DurationPrediction(
        stage=0.0 if is_downloaded else count * _DEFAULT_UPDATE_BYTES / rates.download_bytes_per_second,
        install=rates.predict_install_seconds(count),
        reboot=rates.reboot_seconds if reboots else 0.0,
        validate=rates.validate_seconds,
        basis=rates.basis,
    )


def estimate_download_bytes(updates: Sequence[Update]) -> float:
    """Return the bytes to download. An unknown size counts as the mean of the known sizes."""
    known_sizes = [update.size_bytes for update in updates if update.size_bytes is not None]
    mean = sum(known_sizes) / len(known_sizes) if known_sizes else _DEFAULT_UPDATE_BYTES
    return sum(known_sizes) + mean * (len(updates) - len(known_sizes))
