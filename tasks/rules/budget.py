"""What fits into the time: rates, predictions, and transactions that shrink as the window's end comes near."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import isfinite

from tasks.model import Prediction, RebootNeed, Update, UpdateResult
from tasks.rules.kinds import comes_last, is_booted, urgency
from tasks.rules.rehearsal import units_of
from tasks.rules.window import fit
from tasks.seams.manager import Transaction
from tasks.states import Answer, RebootPolicy, UpdateState

MAX_UPDATES = 300
"""Updates in one transaction, as Azure's Linux agent has it. A group that is larger stays whole all the same."""

_SHARE = 1 / 3
"""Part of the time left that one transaction may be predicted to take: predictions are wrong by less than that."""

_UNKNOWN_SIZE = 2 * 1024**2  # bytes; the mean of an update on a Debian or Fedora server


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
    def defaults(cls, manager: str) -> "Rates":
        """Return cautious figures for a package manager by name; the slowest known ones for a name that is unknown.

        Azure's agent reckons 90 s an update (240 s for zypper), measured installing one by one; in a batch it is far
        less. Its 5 minutes for a machine to come back are kept.
        """
        return _DEFAULTS.get(manager, _CAUTIOUS)

    @classmethod
    def learned(cls, manager: str, lookup: Callable[[str], float | None]) -> "Rates":
        """Return the defaults, bettered by what the records learned about this machine.

        Args:
            manager: name of the package manager.
            lookup: measure (see ``Records.learned``) -> mean of past runs, or None.
        """
        rates = cls.defaults(manager)
        found = {measure: lookup(measure) for measure in _MEASURES}
        good = {measure: value for measure, value in found.items() if value is not None and isfinite(value)}
        good = {measure: value for measure, value in good.items() if value > 0}
        if not good:
            return rates
        basis = "learned" if len(good) == len(_MEASURES) else f"defaults; learned: {', '.join(sorted(good))}"
        return cls(
            transaction_seconds=good.get("transaction_seconds", rates.transaction_seconds),
            install_seconds_per_update=good.get("install_seconds_per_update", rates.install_seconds_per_update),
            download_bytes_per_second=good.get("download_bytes_per_second", rates.download_bytes_per_second),
            reboot_seconds=good.get("reboot_seconds", rates.reboot_seconds),
            validate_seconds=rates.validate_seconds,
            basis=basis,
        )

    def install_seconds(self, count: int) -> float:
        """Return the seconds that one transaction of so many updates is predicted to take."""
        return self.transaction_seconds + count * self.install_seconds_per_update if count else 0.0


_MEASURES = ("transaction_seconds", "install_seconds_per_update", "download_bytes_per_second", "reboot_seconds")
_BATCHED = Rates(15.0, 2.0, 1e6, 300.0, 30.0)
_CAUTIOUS = Rates(60.0, 120.0, 1e6, 600.0, 60.0)
_DEFAULTS = {
    "apt": _BATCHED,
    "dnf": _BATCHED,
    "zypper": replace(_BATCHED, transaction_seconds=30.0, install_seconds_per_update=4.0),
    "windows_update": _CAUTIOUS,
}


def reboot_expected(updates: Sequence[Update], need: RebootNeed) -> Answer:
    """Return whether a machine will ask for a reboot once these are installed, as far as can be told beforehand."""
    if need.answer is Answer.YES or any(update.requires_reboot or is_booted(update) for update in updates):
        return Answer.YES
    if need.answer is Answer.NO and all(update.requires_reboot is False for update in updates):
        return Answer.NO
    return Answer.UNKNOWN


def predict(
    updates: Sequence[Update],
    rates: Rates,
    reboot: Answer,
    policy: RebootPolicy,
    download_bytes: int | None = None,
) -> Prediction:
    """Return the seconds that patching one machine is expected to take, phase by phase.

    Args:
        updates: what is chosen.
        rates: how fast the machine works.
        reboot: whether it is expected to ask for a reboot; UNKNOWN counts as yes when something is installed.
        policy: the request's reboot policy.
        download_bytes: still to be fetched; None: the updates' own sizes are added up.
    """
    to_fetch = _sizes(updates) if download_bytes is None else download_bytes
    asked = reboot is Answer.YES or (reboot is Answer.UNKNOWN and bool(updates))
    reboots = policy is RebootPolicy.ALWAYS or (policy is RebootPolicy.IF_REQUIRED and asked)
    return Prediction(
        stage=to_fetch / rates.download_bytes_per_second,
        install=rates.install_seconds(len(updates)),
        reboot=rates.reboot_seconds if reboots else 0.0,
        validate=rates.validate_seconds if updates or reboots else 0.0,
        basis=rates.basis,
    )


def _sizes(updates: Sequence[Update]) -> float:
    """Return the bytes to fetch; an unknown size counts as the mean of the known ones."""
    known = [update.size_bytes for update in updates if update.size_bytes is not None]
    mean = sum(known) / len(known) if known else _UNKNOWN_SIZE
    return sum(known) + mean * (len(updates) - len(known))


@dataclass(frozen=True, slots=True)
class _Costs:
    """What updates cost together, in seconds: their download, as far as it is still to come, and their installation."""

    rates: Rates
    fetch: Mapping[str, float]  # by update id

    @classmethod
    def of(cls, updates: Sequence[Update], rates: Rates, download_seconds: float) -> "_Costs":
        """Divide the seconds of a download among updates, by their sizes."""
        usual = _sizes(updates) / len(updates) if updates else 0.0
        sizes = {update.id: usual if update.size_bytes is None else update.size_bytes for update in updates}
        rate = download_seconds / (sum(sizes.values()) or 1)
        return cls(rates, {name: size * rate for name, size in sizes.items()})

    def seconds(self, updates: Sequence[Update]) -> float:
        return self.rates.install_seconds(len(updates)) + sum(self.fetch[update.id] for update in updates)

    def what(self, unit: Sequence[Update]) -> str:
        """Return what these seconds are for, as a noun."""
        with_others = f" and the {len(unit) - 1} that go with it" if len(unit) > 1 else ""
        fetched = any(self.fetch[update.id] >= 1 for update in unit)
        return f"{'download and install' if fetched else 'install'} of {unit[0].name}{with_others}"


def transactions(
    updates: Sequence[Update],
    *,
    rates: Rates,
    now: datetime,
    cut_off: datetime,
    skew_seconds: float,
    one_by_one: bool = False,
    first_number: int = 0,
    zone: str = "",
    why_cut_off: str = "",
    download_seconds: float = 0.0,
) -> tuple[tuple[Transaction, ...], tuple[UpdateResult, ...]]:
    """Split updates into transactions that the time can hold, and say which updates it can't.

    Critical and security updates go first; what replaces the kernel or asks for a reboot goes last. Groups stay
    whole. All go in ONE transaction when that is predicted to take under a third of the time left; else each gets
    at most a third of what is left when it is predicted to begin, so that they shrink as the end comes near. The
    smallest ones (one update, one group) may use all that is left.

    Args:
        updates: what is to be installed.
        rates: how fast the machine works.
        now: the present moment.
        cut_off: when the last transaction must be over.
        skew_seconds: the machine's clock minus ours; ``latest_start`` is told in its own clock.
        one_by_one: each update (or group) alone: after a transaction of many failed.
        first_number: number of the first transaction.
        zone: IANA name that times in reasons are shown in; ``cut_off``'s own when empty.
        why_cut_off: where the cut-off comes from, in words (see ``window.why_cut_off``).
        download_seconds: what fetching all of them is predicted to take; each transaction fetches its own part first.

    Returns:
        The transactions in their order, and a NotAttempted result with the arithmetic for every other update.
    """
    waiting = sorted(units_of(updates), key=_rank)
    costs = _Costs.of(updates, rates, download_seconds)
    begun: list[Transaction] = []
    left_out: list[UpdateResult] = []
    starts = now
    while waiting:
        left = (cut_off - starts).total_seconds()
        size = _units_that_fit(waiting, costs, left, one_by_one=one_by_one)
        if size == 0:
            left_out += _not_attempted(waiting.pop(0), costs, starts, now, cut_off, zone, why_cut_off)
            continue
        together = tuple(update for unit in waiting[:size] for update in unit)
        del waiting[:size]
        seconds = rates.install_seconds(len(together))
        latest = cut_off.timestamp() - seconds + skew_seconds
        begun.append(Transaction(first_number + len(begun), together, latest, seconds))
        starts += timedelta(seconds=costs.seconds(together))
    return tuple(begun), tuple(left_out)


def _rank(unit: Sequence[Update]) -> tuple[bool, int]:
    return any(comes_last(update) for update in unit), min(urgency(update) for update in unit)


def _units_that_fit(units: list[list[Update]], costs: _Costs, left: float, *, one_by_one: bool) -> int:
    """Return how many units, from the first, make the next transaction; 0 when not even the first fits."""
    together = list(units[0])
    if costs.seconds(together) > left:
        return 0
    if one_by_one:
        return 1
    for number, unit in enumerate(units[1:], start=1):
        together += unit
        if len(together) > MAX_UPDATES or costs.seconds(together) > left * _SHARE:
            return number
    return len(units)


def _not_attempted(
    unit: list[Update],
    costs: _Costs,
    starts: datetime,
    now: datetime,
    cut_off: datetime,
    zone: str,
    why: str,
) -> list[UpdateResult]:
    sum_up = fit(starts, costs.seconds(unit), cut_off, costs.what(unit), why, zone=zone).arithmetic
    if starts > now:
        sum_up += ", once the updates before it are installed"
    return [UpdateResult(update, UpdateState.NOT_ATTEMPTED, f"no time left: {sum_up}") for update in unit]
