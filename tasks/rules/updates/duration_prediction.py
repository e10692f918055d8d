"""Predicts how long the updates and the reboot of a machine take. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from tasks.model import DurationPrediction, RebootNeed, Update
from tasks.rules.updates.installation_order import is_boot_component
from tasks.states import RebootPolicy, YesNoUnknown

_DEFAULT_UPDATE_BYTES = 2 * 1024**2  # mean size of an update on a Debian or Fedora server


@dataclass(frozen=True, slots=True)
class Rates:
    """The speed of a machine, in seconds and in bytes per second.

    Attributes:
        transaction_seconds: fixed duration of a transaction, without its updates.
        basis: source of the figures, in words.
    """

    transaction_seconds: float
    install_seconds_per_update: float
    download_bytes_per_second: float
    reboot_seconds: float
    validate_seconds: float
    basis: str = "defaults"

    @classmethod
    def build_default(cls, manager: str) -> "Rates":
        """Return the default rates of a package manager; the slowest rates for an unknown name.

        Azure's agent assumes 90 s per update (240 s for zypper), because it installs updates one by one; in a batch the
        time is much shorter. Its 5 minutes for a reboot are used here too.
        """
        return _DEFAULT_RATES.get(manager, _CAUTIOUS_RATES)

    @classmethod
    def build_learned(cls, manager: str, lookup: Callable[[str], float | None]) -> "Rates":
        """Return the default rates, replaced by learned values of this machine where they exist.

        Args:
            manager: name of the package manager.
            lookup: measure (see ``Records.read_measure``) -> mean of past runs, or None.
        """
        rates = cls.build_default(manager)
        found = {measure: lookup(measure) for measure in _LEARNED_MEASURES}
        good = {measure: value for measure, value in found.items() if value is not None and isfinite(value)}
        good = {measure: value for measure, value in good.items() if value > 0}
        if not good:
            return rates
        basis = "learned" if len(good) == len(_LEARNED_MEASURES) else f"defaults; learned: {', '.join(sorted(good))}"
        return cls(
            transaction_seconds=good.get("transaction_seconds", rates.transaction_seconds),
            install_seconds_per_update=good.get("install_seconds_per_update", rates.install_seconds_per_update),
            download_bytes_per_second=good.get("download_bytes_per_second", rates.download_bytes_per_second),
            reboot_seconds=good.get("reboot_seconds", rates.reboot_seconds),
            validate_seconds=rates.validate_seconds,
            basis=basis,
        )

    def predict_install_seconds(self, count: int) -> float:
        """Return the predicted seconds of one transaction with ``count`` updates."""
        return self.transaction_seconds + count * self.install_seconds_per_update if count else 0.0


_LEARNED_MEASURES = ("transaction_seconds", "install_seconds_per_update", "download_bytes_per_second", "reboot_seconds")
_BATCH_RATES = Rates(15.0, 2.0, 1e6, 300.0, 30.0)
_CAUTIOUS_RATES = Rates(60.0, 120.0, 1e6, 600.0, 60.0)
_DEFAULT_RATES = {
    "apt": _BATCH_RATES,
    "dnf": _BATCH_RATES,
    "zypper": replace(_BATCH_RATES, transaction_seconds=30.0, install_seconds_per_update=4.0),
    "windows_update": _CAUTIOUS_RATES,
}


def predict_reboot_need(updates: Sequence[Update], need: RebootNeed) -> YesNoUnknown:
    """Return whether a machine will need a reboot after these updates; UNKNOWN when it can't be predicted."""
    if need.answer is YesNoUnknown.YES or any(
        update.requires_reboot or is_boot_component(update) for update in updates
    ):
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


def estimate_download_bytes(updates: Sequence[Update]) -> float:
    """Return the bytes to download. An unknown size counts as the mean of the known sizes."""
    known = [update.size_bytes for update in updates if update.size_bytes is not None]
    mean = sum(known) / len(known) if known else _DEFAULT_UPDATE_BYTES
    return sum(known) + mean * (len(updates) - len(known))
