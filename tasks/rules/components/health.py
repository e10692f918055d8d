"""The limits of a component's way through the fleet, with Azure's figures: 20 % everywhere. Pure."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.components import ComponentTry
from tasks.domain.images import RolloutLimits

AZURE_LIMITS: Final = RolloutLimits()


class RolloutFault(StrEnum):
    """Why a way through the machines was ended. Azure's error codes of rolling upgrades."""

    BEFORE = "MaxUnhealthyInstancePercentExceededBeforeRollingUpgrade"
    DURING = "MaxUnhealthyInstancePercentExceededInRollingUpgrade"
    UPGRADED = "MaxUnhealthyUpgradedInstancePercentExceededInRollingUpgrade"
    FAILED = "RollingUpgradeInProgressWithFailedUpgradedVMs"
    TIME = "RollingUpgradeTimeoutError"
    INTERNAL = "InternalExecutionError"


def compute_batch_size(total: int, limits: RolloutLimits = AZURE_LIMITS) -> int:
    """Return how many machines are upgraded together: at most their share of all, at least one."""
    return max(1, total * limits.batch // 100)


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
    """

    at: datetime
    is_healthy: bool | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class HealthWatch:
    """Watches the health of a machine after an upgrade, from when it answers again.

    One good answer within the time is enough. Without one at its end the machine is unhealthy, also when nothing is
    known: absence is never health.

    Attributes:
        since: when the machine answered for the first time after the upgrade.
    """

    since: datetime
    seconds: float

    @property
    def until(self) -> datetime:
        """When an answer must be good at the latest."""
        return self.since + timedelta(seconds=self.seconds)

    def judge(self, answers: Sequence[HealthAnswer], now: datetime) -> bool | None:
        """Return whether the machine is healthy; None: it is asked again."""
        if any(answer.is_healthy and answer.at <= self.until for answer in answers):
            return True
        return None if now < self.until else False

    def explain(self, answers: Sequence[HealthAnswer]) -> str:
        """Return why a machine counts as unhealthy, from its last answer."""
        if not answers:
            return f"nothing was known of its health in {self.seconds / 60:g} minutes"
        last = answers[-1]
        prefix = "not healthy" if last.is_healthy is False else "its health was not known"
        return f"{prefix} in {self.seconds / 60:g} minutes: {last.problem or 'no reason was given'}"
