"""Splits updates into transactions that fit into the time before the cut-off. Pure.

Transactions get smaller as the cut-off comes near.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tasks.model import Update, UpdateResult
from tasks.protocols.package_manager import Transaction
from tasks.rules.timing.time_fit import check_time_fit
from tasks.rules.updates.duration_prediction import Rates, estimate_download_bytes
from tasks.rules.updates.installation_order import group_updates, must_install_last, rank_urgency
from tasks.states import UpdateState

MAX_TRANSACTION_UPDATES = 300
"""Updates in one transaction, as Azure's Linux agent has it. A group that is larger stays whole all the same."""


_MAX_TRANSACTION_TIME_SHARE = 1 / 3
"""Part of the time left that one transaction may be predicted to take: predictions are wrong by less than that."""


@dataclass(frozen=True, slots=True)
class _UpdateCosts:
    """What updates cost together, in seconds: their download, as far as it is still to come, and their installation."""

    rates: Rates
    fetch_seconds: Mapping[str, float]  # by update id

    @classmethod
    def build(cls, updates: Sequence[Update], rates: Rates, download_seconds: float) -> "_UpdateCosts":
        """Divide the seconds of a download among updates, by their sizes."""
        usual = estimate_download_bytes(updates) / len(updates) if updates else 0.0
        sizes = {update.id: usual if update.size_bytes is None else update.size_bytes for update in updates}
        rate = download_seconds / (sum(sizes.values()) or 1)
        return cls(rates, {name: size * rate for name, size in sizes.items()})

    def compute_seconds(self, updates: Sequence[Update]) -> float:
        return self.rates.predict_install_seconds(len(updates)) + sum(
            self.fetch_seconds[update.id] for update in updates
        )

    def describe_work(self, unit: Sequence[Update]) -> str:
        """Return what these seconds are for, as a noun."""
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
        skew_seconds: the machine's clock minus ours; ``latest_start`` is by the machine's own clock.
        one_by_one: each update (or group) alone: after a transaction of many failed.
        first_number: number of the first transaction.
        zone: IANA name that times in reasons are shown in; ``cut_off``'s own when empty.
        cut_off_reason: where the cut-off comes from, in words (see ``describe_cut_off``).
        download_seconds: what fetching all of them is predicted to take; each transaction fetches its own part first.

    Returns:
        The transactions in their order, and a NotAttempted result with the arithmetic for every other update.
    """
    waiting = sorted(group_updates(updates), key=_rank_unit)
    costs = _UpdateCosts.build(updates, rates, download_seconds)
    planned: list[Transaction] = []
    left_out: list[UpdateResult] = []
    starts = now
    while waiting:
        left = (cut_off - starts).total_seconds()
        size = _count_fitting_units(waiting, costs, left, one_by_one=one_by_one)
        if size == 0:
            left_out += _build_not_attempted_results(waiting.pop(0), costs, starts, now, cut_off, zone, cut_off_reason)
            continue
        together = tuple(update for unit in waiting[:size] for update in unit)
        del waiting[:size]
        seconds = rates.predict_install_seconds(len(together))
        latest = cut_off.timestamp() - seconds + skew_seconds
        planned.append(Transaction(first_number + len(planned), together, latest, seconds))
        starts += timedelta(seconds=costs.compute_seconds(together))
    return tuple(planned), tuple(left_out)


def _rank_unit(unit: Sequence[Update]) -> tuple[bool, int]:
    return any(must_install_last(update) for update in unit), min(rank_urgency(update) for update in unit)


def _count_fitting_units(units: list[list[Update]], costs: _UpdateCosts, left: float, *, one_by_one: bool) -> int:
    """Return how many units, from the first, make the next transaction; 0 when not even the first fits."""
    together = list(units[0])
    if costs.compute_seconds(together) > left:
        return 0
    if one_by_one:
        return 1
    for number, unit in enumerate(units[1:], start=1):
        together += unit
        if (
            len(together) > MAX_TRANSACTION_UPDATES
            or costs.compute_seconds(together) > left * _MAX_TRANSACTION_TIME_SHARE
        ):
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
