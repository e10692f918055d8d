"""How fast a machine works, and how long its updates and its reboot will take. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from tasks.model import DurationPrediction, RebootNeed, Update
from tasks.rules.updates.installation_order import is_boot_component
from tasks.states import RebootPolicy, YesNoUnknown

_DEFAULT_UPDATE_BYTES = 2 * 1024**2  # bytes; the mean of an update on a Debian or Fedora server


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast a machine works. Seconds, and bytes a second.

    Attributes:
        transaction_seconds: what a transaction costs before its first update.
        basis: where the figures come from, in words.
    """

    transaction_seconds: float
    install_seconds_per_update: float
    download_bytes_per_second: float
    reboot_seconds: float
    validate_seconds: float
    basis: str = "defaults"

    @classmethod
    def build_default(cls, manager: str) -> "Rates":
        """Return cautious figures for a package manager by name; the slowest known ones for a name that is unknown.

        Azure's agent reckons 90 s an update (240 s for zypper), measured installing one by one; in a batch it is far
        less. Its 5 minutes for a machine to come back are kept.
        """
        return _DEFAULT_RATES.get(manager, _CAUTIOUS_RATES)

    @classmethod
    def build_learned(cls, manager: str, lookup: Callable[[str], float | None]) -> "Rates":
        """Return the defaults, bettered by what the records learned about this machine.

        Args:
            manager: name of the package manager.
            lookup: measure (see ``Records.build_learned``) -> mean of past runs, or None.
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
        """Return the seconds that one transaction of so many updates is predicted to take."""
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
    """Return whether a machine will ask for a reboot once these are installed, as far as can be told beforehand."""
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
    """Return the seconds that patching one machine is expected to take, phase by phase.

    Args:
        updates: what is chosen.
        rates: how fast the machine works.
        reboot: whether it is expected to ask for a reboot; UNKNOWN counts as yes when something is installed.
        policy: the request's reboot policy.
        download_bytes: still to be fetched; None: the updates' own sizes are added up.
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
    """Return the bytes to fetch; an unknown size counts as the mean of the known ones."""
    known = [update.size_bytes for update in updates if update.size_bytes is not None]
    mean = sum(known) / len(known) if known else _DEFAULT_UPDATE_BYTES
    return sum(known) + mean * (len(updates) - len(known))
