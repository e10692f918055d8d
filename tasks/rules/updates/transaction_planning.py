"""Divides updates into transactions that fit into the time before the cut-off. Pure.

Transactions near the cut-off are smaller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from tasks.domain.model import Update, UpdateResult
from tasks.domain.protocols.package_manager import Rates, Transaction
from tasks.domain.states import UpdateState
from tasks.rules.timing.time_fit import check_time_fit
from tasks.rules.updates.duration_prediction import estimate_download_bytes
from tasks.rules.updates.installation_order import group_updates, is_urgent, rank_place, rank_urgency

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
    (one update, one group) may use all remaining time.

    Args:
        updates: the updates to install.
        rates: the speed of the machine.
        now: the current time.
        cut_off: when the last transaction must end.
        skew_seconds: the machine's clock minus the controller's clock; ``latest_start`` is by the machine's clock.
        one_by_one: whether each update (or group) is alone, after a transaction with many updates failed.
        first_number: number of the first transaction.
        zone: IANA name of the zone for times in reasons; the zone of ``cut_off`` when empty.
        cut_off_reason: source of the cut-off, in words (see ``describe_cut_off``).
        download_seconds: predicted seconds to download all updates. Each transaction downloads its own part first.

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
        left_out += _build_not_attempted_results(unit, costs, starts, now, cut_off, zone, cut_off_reason)
    return tuple(planned), tuple(left_out)


def find_shortest_installation(updates: Sequence[Update], rates: Rates, download_seconds: float) -> tuple[str, float]:
    """Return the work that takes the least time of all that ``plan_transactions`` could begin with, and its seconds.

    Args:
        updates: the updates to install; at least one.
        rates: the speed of the machine.
        download_seconds: predicted seconds to download all updates.
    """
    costs = _UpdateCosts.build(updates, rates, download_seconds)
    shortest = min(group_updates(updates), key=costs.compute_seconds)
    return costs.describe_work(shortest), costs.compute_seconds(shortest)


class _Division(NamedTuple):
    """The updates of each transaction, and the units that do not fit; with the seconds before each."""

    planned: list[tuple[list[Update], float]]
    left_out: list[tuple[list[Update], float]]

    def count_urgent_left_out(self) -> int:
        return sum(is_urgent(update) for unit, _ in self.left_out for update in unit)


def _divide_time(
    updates: Sequence[Update], costs: _UpdateCosts, available: float, *, one_by_one: bool, manager_first: bool
) -> _Division:
    def find_place(unit: Sequence[Update]) -> int:
        return rank_place(unit, manager_first=manager_first)

    waiting = sorted(group_updates(updates), key=lambda unit: (find_place(unit), min(map(rank_urgency, unit))))
    own = sum(find_place(unit) == 0 for unit in waiting)  # the manager's updates, which are alone
    division, after = _Division([], []), 0.0
    while waiting:
        together = waiting[:own] or waiting
        size = _count_fitting_units(together, costs, available - after, one_by_one=one_by_one)
        own = max(0, own - (size or 1))
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


def _build_not_attempted_results(
    unit: list[Update],
    costs: _UpdateCosts,
    starts: datetime,
    now: datetime,
    cut_off: datetime,
    zone: str,
    cut_off_reason: str,
) -> list[UpdateResult]:
    explanation = check_time_fit(
        starts, costs.compute_seconds(unit), cut_off, costs.describe_work(unit), cut_off_reason, zone=zone
    ).explanation
    if starts > now:
        explanation += ", once the updates before it are installed"
    return [UpdateResult(update, UpdateState.NOT_ATTEMPTED, f"no time left: {explanation}") for update in unit]
