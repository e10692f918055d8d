"""Predicts how long updates take, orders them, and divides them into transactions that fit before the cut-off. Pure.

Transactions near the cut-off are smaller.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from math import isfinite
from typing import NamedTuple

from inventory.data_class import dataclass
from tasks.domain.model import DurationPrediction, RebootNeed, Update, UpdateResult
from tasks.domain.protocols.package_manager import Rates, Transaction
from tasks.domain.states import Classification, RebootPolicy, UpdateState, YesNoUnknown
from tasks.rules.timing.maintenance_window import check_time_fit

_DEFAULT_UPDATE_BYTES = 2 * 1024**2  # mean size of an update on a server

_LEARNED_MEASURES = ("transaction_seconds", "install_seconds_per_update", "download_bytes_per_second", "reboot_seconds")


def learn_rates(default_rates: Rates, lookup: Callable[[str], float | None]) -> Rates:
    """Return the default rates of a package manager, replaced by learned values of one machine where they exist.

    ``lookup`` returns the mean of a measure in past runs (see ``Records.read_measure``), or None.
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

    With updates, an UNKNOWN ``reboot`` counts as yes. ``download_bytes`` are those that are not downloaded yet; None:
    the sum of the sizes of the updates.
    """
    to_fetch = estimate_download_bytes(updates) if download_bytes is None else download_bytes
    needs_reboot = reboot is YesNoUnknown.YES or (reboot is YesNoUnknown.UNKNOWN and bool(updates))
    reboots = policy is RebootPolicy.ALWAYS or (policy is RebootPolicy.IF_REQUIRED and needs_reboot)
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

    Whether a reboot is needed is unknown, and counts as yes. ``is_downloaded``: the updates are downloaded before the
    window.
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


def must_install_last(update: Update) -> bool:
    """Return whether an update is installed after the others: it changes what is booted, or needs a reboot."""
    return update.requires_reboot is True or update.changes_boot


def rank_place(unit: Iterable[Update], *, manager_first: bool = True) -> int:
    """Return the place of a unit: 0 with an update of the package manager itself, 2 if it must be last, else 1.

    A new package manager may know what the old one does not, so it has to install the rest. SUSE's own tool has this
    rule for its update stack. ``manager_first``: that is so also for an update that is neither critical nor security.
    """
    unit = tuple(unit)
    if any(update.updates_manager and (manager_first or update.classification.is_urgent) for update in unit):
        return 0
    return 2 if any(must_install_last(update) for update in unit) else 1


def rank_urgency(update: Update) -> int:
    """Return the rank of an update: 0 for critical, 1 for security, 2 for others. Lower ranks get time first."""
    if update.classification is Classification.CRITICAL:
        return 0
    return 1 if update.classification.is_urgent else 2


def group_updates(updates: Iterable[Update]) -> list[list[Update]]:
    """Return the inseparable units: each group as one list, each update without a group alone. Keep the order."""
    units: dict[str, list[Update]] = {}
    for update in updates:
        key = f"group {update.group}" if update.group else f"alone {update.id}"
        units.setdefault(key, []).append(update)
    return list(units.values())


_MAX_TRANSACTION_TIME_SHARE = 1 / 3
"""Share of the remaining time that one transaction may take: a prediction may be wrong by a factor of 3."""


@dataclass(frozen=True, slots=True)
class _UpdateCosts:
    """The predicted seconds of updates: the rest of their download, and their installation."""

    rates: Rates
    fetch_seconds: Mapping[str, float]  # by update id

    @classmethod
    def build(cls, updates: Sequence[Update], rates: Rates, download_seconds: float) -> "_UpdateCosts":
        """Divide the download seconds among updates by size."""
        usual = estimate_download_bytes(updates) / len(updates) if updates else 0.0
        sizes = {update.id: usual if update.size_bytes is None else update.size_bytes for update in updates}
        rate = download_seconds / (sum(sizes.values()) or 1)
        return cls(rates, {name: size * rate for name, size in sizes.items()})

    def compute_seconds(self, updates: Sequence[Update]) -> float:
        return self.rates.predict_install_seconds(len(updates)) + sum(
            self.fetch_seconds[update.id] for update in updates
        )

    def describe_work(self, unit: Sequence[Update]) -> str:
        """Return the work of a unit, as a noun."""
        with_others = f" and the {len(unit) - 1} that go with it" if len(unit) > 1 else ""
        fetched = any(self.fetch_seconds[update.id] >= 1 for update in unit)
        return f"{'download and install' if fetched else 'install'} of {unit[0].name}{with_others}"


def plan_transactions(
    updates: Sequence[Update],
    *,
    rates: Rates,
    now: datetime,
    cut_off: datetime,
    skew_seconds: float,
    one_by_one: bool = False,
    first_number: int = 0,
    zone: str = "",
    cut_off_reason: str = "",
    download_seconds: float = 0.0,
) -> tuple[tuple[Transaction, ...], tuple[UpdateResult, ...]]:
    """Divide updates into transactions that fit into the time, and return the updates that do not fit.

    Updates of the package manager itself are first, in transactions of their own. One that is neither critical nor
    security is not, if fewer critical and security updates fit then. Then come critical and security updates. Boot
    components and updates that need a reboot are last. Groups stay together. All updates are in ONE transaction when
    its prediction is under a third of the remaining time. Otherwise each transaction gets at most a third of the time
    that remains at its predicted start, so that transactions near the cut-off are smaller. The smallest transactions
    (one update, one group) may use all remaining time. Latest starts are by the machine's clock, which is
    ``skew_seconds`` ahead of the controller's. With ``one_by_one``, each update (or group) is alone, after a
    transaction with many updates failed. ``download_seconds`` are those of all updates: each transaction downloads its
    own part first. Reasons have times in ``zone`` (IANA; "": that of ``cut_off``) and the source of the cut-off (see
    ``describe_cut_off``).

    Returns:
        The transactions in order, and a NotAttempted result with the calculation for every other update.
    """
    costs = _UpdateCosts.build(updates, rates, download_seconds)
    available = (cut_off - now).total_seconds()
    orders = (
        _divide_time(updates, costs, available, one_by_one=one_by_one, manager_first=first) for first in (True, False)
    )
    order = min(orders, key=_Division.count_urgent_left_out)  # of equal ones, the one with the manager first
    planned: list[Transaction] = []
    for number, (together, _) in enumerate(order.planned, start=first_number):
        seconds = rates.predict_install_seconds(len(together))
        planned.append(Transaction(number, tuple(together), cut_off.timestamp() - seconds + skew_seconds, seconds))
    left_out: list[UpdateResult] = []
    for unit, after in order.left_out:
        starts = now + timedelta(seconds=after)
        explanation = check_time_fit(
            starts, costs.compute_seconds(unit), cut_off, costs.describe_work(unit), cut_off_reason, zone=zone
        ).explanation
        if starts > now:
            explanation += ", once the updates before it are installed"
        left_out += [UpdateResult(update, UpdateState.NOT_ATTEMPTED, f"no time left: {explanation}") for update in unit]
    return tuple(planned), tuple(left_out)


def find_shortest_installation(updates: Sequence[Update], rates: Rates, download_seconds: float) -> tuple[str, float]:
    """Return the work that takes the least time of all that ``plan_transactions`` could begin with, and its seconds."""
    costs = _UpdateCosts.build(updates, rates, download_seconds)
    shortest = min(group_updates(updates), key=costs.compute_seconds)
    return costs.describe_work(shortest), costs.compute_seconds(shortest)


class _Division(NamedTuple):
    """The updates of each transaction, and the units that do not fit; with the seconds before each."""

    planned: list[tuple[list[Update], float]]
    left_out: list[tuple[list[Update], float]]

    def count_urgent_left_out(self) -> int:
        return sum(update.classification.is_urgent for unit, _ in self.left_out for update in unit)


def _divide_time(
    updates: Sequence[Update], costs: _UpdateCosts, available: float, *, one_by_one: bool, manager_first: bool
) -> _Division:
    def find_place(unit: Sequence[Update]) -> int:
        return rank_place(unit, manager_first=manager_first)

    waiting = sorted(group_updates(updates), key=lambda unit: (find_place(unit), min(map(rank_urgency, unit))))
    manager_units = sum(find_place(unit) == 0 for unit in waiting)  # the manager's updates, which are alone
    division, after = _Division([], []), 0.0
    while waiting:
        together = waiting[:manager_units] or waiting
        size = _count_fitting_units(together, costs, available - after, one_by_one=one_by_one)
        manager_units = max(0, manager_units - (size or 1))
        if size == 0:
            division.left_out.append((waiting.pop(0), after))
            continue
        chosen = [update for unit in waiting[:size] for update in unit]
        del waiting[:size]
        division.planned.append((chosen, after))
        after += costs.compute_seconds(chosen)
    return division


def _count_fitting_units(units: list[list[Update]], costs: _UpdateCosts, left: float, *, one_by_one: bool) -> int:
    """Return how many of the first units form the next transaction; 0 when the first unit does not fit."""
    together = list(units[0])
    if costs.compute_seconds(together) > left:
        return 0
    if one_by_one:
        return 1
    for number, unit in enumerate(units[1:], start=1):
        together += unit
        too_long = costs.compute_seconds(together) > left * _MAX_TRANSACTION_TIME_SHARE
        if too_long or len(together) > costs.rates.max_transaction_updates:
            return number
    return len(units)
