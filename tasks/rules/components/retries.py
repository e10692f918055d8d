"""When an upgrade that failed is tried again. Pure. It is decided from what the records have of earlier tries."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.components import ComponentTry
from tasks.rules.components.health import explain_unhealthy_upgraded

FIRST_DELAY: Final = timedelta(days=1)
LONGEST_DELAY: Final = timedelta(days=7)
"""After each failure the delay doubles, up to this. Azure tries again "every few days"."""


@dataclass(frozen=True, slots=True)
class RetryWait:
    """Until when an upgrade is not tried again, and why."""

    until: datetime
    reason: str


def compute_delay(failures: int) -> timedelta:
    """Return how long after the last of so many failures in a row the next try may begin."""
    doublings: int = min(max(failures, 1) - 1, 10)
    return min(FIRST_DELAY * (1 << doublings), LONGEST_DELAY)


def find_retry_wait(tries: Iterable[ComponentTry], machine: str, now: datetime) -> RetryWait | None:
    """Return the wait of a machine for a version of a component, or None: it may be tried now.

    A machine waits after its own failures in a row. All machines wait after a run that was stopped, because too many of
    the machines that it upgraded became unhealthy.

    A record of the future was written by a clock that was wrong, or was set back since. It counts as of now: nothing
    is tried again earlier than its delay.

    ``tries``: of this version of this component, on all machines, in any order.
    ``machine``: its name.
    """
    ordered = sorted(tries, key=lambda one: one.at)
    waits = (_find_own_wait([one for one in ordered if one.machine == machine], now), _find_fleet_wait(ordered, now))
    return max((wait for wait in waits if wait is not None), key=lambda wait: wait.until, default=None)


def _find_own_wait(tries: Sequence[ComponentTry], now: datetime) -> RetryWait | None:
    failures = 0
    for one in reversed(tries):
        if one.succeeded:
            break
        failures += 1
    return _build_wait(tries[-1], failures, now, "it failed here") if failures else None


def _find_fleet_wait(tries: Sequence[ComponentTry], now: datetime) -> RetryWait | None:
    by_run: dict[str, list[ComponentTry]] = defaultdict(list)
    for one in tries:
        by_run[one.run_id].append(one)
    # the runs in the order of their ends
    runs = sorted(by_run.values(), key=lambda run: run[-1].at)
    stopped = 0
    for run in reversed(runs):
        if not explain_unhealthy_upgraded(run):
            break
        stopped += 1
    return _build_wait(runs[-1][-1], stopped, now, "its upgrade was stopped") if stopped else None


def _build_wait(last: ComponentTry, failures: int, now: datetime, reason: str) -> RetryWait | None:
    until = min(last.at, now) + compute_delay(failures)
    if until <= now:
        return None
    times = "once" if failures == 1 else f"{failures} times in a row"
    return RetryWait(
        until, f"{reason} {times}, last in run {last.run_id} on {last.machine}: {last.reason}".rstrip(": ")
    )
