"""The limits of a component's way through the fleet, with Azure's figures: 20 % everywhere. Pure."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.components import ComponentTry
from tasks.domain.images import RolloutLimits
from tasks.domain.services import Services
from tasks.rules.calendar.local_time import format_duration

AZURE_LIMITS: Final = RolloutLimits()
SOAK_LOOKS: Final = 4
"""So many times a machine is asked in its soak, if that is not short."""
SHORTEST_PAUSE: Final = timedelta(seconds=1)


class RolloutFault(StrEnum):
    """Why a way through the machines was ended. Azure's error codes of rolling upgrades."""

    BEFORE = "MaxUnhealthyInstancePercentExceededBeforeRollingUpgrade"
    DURING = "MaxUnhealthyInstancePercentExceededInRollingUpgrade"
    UPGRADED = "MaxUnhealthyUpgradedInstancePercentExceededInRollingUpgrade"
    FAILED = "RollingUpgradeInProgressWithFailedUpgradedVMs"
    TIME = "RollingUpgradeTimeoutError"
    INTERNAL = "InternalExecutionError"


def exceeds_percent(count: int, total: int, percent: int) -> bool:
    """Return whether a number of machines is more than a share of a total. Exactly the share is allowed."""
    return count * 100 > total * percent


def explain_unhealthy_scope(
    unhealthy: Collection[str], total: int, limits: RolloutLimits = AZURE_LIMITS, *, has_begun: bool = False
) -> str:
    """Return why no further machine may be upgraded: too many of the scope are unhealthy or failed. Or ""."""
    if not exceeds_percent(len(unhealthy), total, limits.unhealthy):
        return ""
    fault = RolloutFault.DURING if has_begun else RolloutFault.BEFORE
    what = "are unhealthy or have failed" if has_begun else "are unhealthy"
    return f"{len(unhealthy)} of {total} machines of the scope {what}, and {limits.unhealthy} % may be ({fault})"


def explain_unhealthy_upgraded(tries: Iterable[ComponentTry], limits: RolloutLimits = AZURE_LIMITS) -> str:
    """Return why no further machine may be upgraded: too many of those that were are unhealthy. Or "".

    A machine on which nothing was changed was not upgraded.
    """
    upgraded = [one for one in tries if not one.was_refused]
    unhealthy, share = sum(not one.succeeded for one in upgraded), limits.unhealthy_upgraded
    if not exceeds_percent(unhealthy, len(upgraded), share):
        return ""
    fault = RolloutFault.UPGRADED
    return f"{unhealthy} of {len(upgraded)} upgraded machines became unhealthy, and {share} % may be ({fault})"


@dataclass(frozen=True, slots=True)
class HealthAnswer:
    """What the checks of a machine said at one time.

    Attributes:
        is_healthy: None: at least one of them was not answered.
        problem: why it is not healthy, or why that is not known.
        services: those of the machine then, with their runs; None: they were not read.
    """

    at: datetime
    is_healthy: bool | None
    problem: str = ""
    services: Services | None = None


@dataclass(frozen=True, slots=True)
class HealthWatch:
    """Watches the health of a machine after an upgrade, from when it answers again.

    It must become good in ``seconds``, and then stay good for ``soak_seconds``, up to a last good answer after them. A
    bad answer begins the soak again, until the seconds are over. Unknown is neither: absence is never health.

    Attributes:
        since: when the machine answered for the first time after the upgrade.
        soak_seconds: how long it must stay healthy.
    """

    since: datetime
    seconds: float
    soak_seconds: float

    @property
    def until(self) -> datetime:
        """When it must have become good at the latest."""
        return self.since + timedelta(seconds=self.seconds)

    def find_first_good(self, answers: Sequence[HealthAnswer]) -> HealthAnswer | None:
        """Return the answer since which no other was bad; None: there is none, or it came too late."""
        first = None
        for answer in answers:
            if answer.is_healthy is False:
                first = None
            elif answer.is_healthy and first is None:
                first = answer
        return first if first is not None and first.at <= self.until else None

    def judge(self, answers: Sequence[HealthAnswer], now: datetime) -> bool | None:
        """Return whether the machine is still healthy after the soak; None: it is asked again."""
        first = self.find_first_good(answers)
        if first is None:
            return None if now < self.until else False
        soaked_at = first.at + timedelta(seconds=self.soak_seconds)
        if answers[-1].is_healthy and answers[-1].at >= soaked_at:
            return True
        lost_at = max(self.until, soaked_at + timedelta(seconds=self.seconds))
        return None if now < lost_at else False

    def find_next_look(self, answers: Sequence[HealthAnswer], now: datetime) -> datetime | None:
        """Return when a machine is asked again that is good so far: some times in its soak. None: it is not good."""
        first = self.find_first_good(answers)
        if first is None or not answers[-1].is_healthy:
            return None
        pause = max(timedelta(seconds=self.soak_seconds / SOAK_LOOKS), SHORTEST_PAUSE)
        return min(now + pause, max(now, first.at + timedelta(seconds=self.soak_seconds)))

    def explain(self, answers: Sequence[HealthAnswer]) -> str:
        """Return why a machine counts as unhealthy, from its last answer that was not good."""
        if not answers:
            return f"nothing was known of its health in {self.seconds / 60:g} minutes"
        last = next((answer for answer in reversed(answers) if not answer.is_healthy), answers[-1])
        problem = last.problem or "no reason was given"
        good = next((answer for answer in answers if answer.is_healthy and answer.at < last.at), None)
        if good is not None:
            after = format_duration((last.at - good.at).total_seconds())
            prefix = "no longer healthy" if last.is_healthy is False else "its health was no longer known"
            return f"{prefix} {after} after it was: {problem}"
        prefix = "not healthy" if last.is_healthy is False else "its health was not known"
        return f"{prefix} in {self.seconds / 60:g} minutes: {problem}"
