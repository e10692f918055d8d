"""Whether a machine is rebooted now, and where it stands when it isn't."""

from dataclasses import dataclass

from tasks.model import RebootNeed
from tasks.rules.timing.time_fit import TimeFit
from tasks.states import RebootPolicy, RebootState, YesNoUnknown

REBOOT_MEASURE = "reboot_seconds"
"""What the records call the time from a reboot's order until a login worked."""
_LEARNED_TIME_FACTOR = 1.5
_MIN_REBOOT_SECONDS = 60.0


def compute_reboot_reserve(reserve: float, learned: float | None) -> float:
    """Return the seconds of the window that a reboot needs.

    Args:
        reserve: what the request, or the machine's entry in the inventory, keeps for it: what counts while nothing was
            learned.
        learned: mean of past reboots of the machine, or None. Half as much again is needed, since the next one may take
            longer; and a minute at least, where the reserve has one.
    """
    return reserve if learned is None else max(learned * _LEARNED_TIME_FACTOR, min(reserve, _MIN_REBOOT_SECONDS))


@dataclass(frozen=True, slots=True)
class RebootDecision:
    """The decision. ``state_without_reboot`` is the machine's reboot state when it is not rebooted (now)."""

    reboot: bool
    state_without_reboot: RebootState
    reason: str


def decide_reboot(
    policy: RebootPolicy,
    need: RebootNeed,
    *,
    installed: int,
    can_reboot: bool,
    reboots_so_far: int,
    max_reboots: int,
    time_fit: TimeFit,
    reboots_since_install: int | None = None,
) -> RebootDecision:
    """Return whether to reboot a machine that was worked on.

    Under IfRequired only a clear yes reboots: UNKNOWN leaves the machine up, and its state says so. Always reboots once
    after the installation, whether or not anything was installed, and again only when that is asked for.

    Args:
        policy: the request's reboot policy.
        need: what the machine says.
        installed: updates that were installed in this run.
        can_reboot: False in containers that their host must restart.
        reboots_so_far: in this run.
        max_reboots: allowed in one run.
        time_fit: whether a reboot fits into the window.
        reboots_since_install: of ``reboots_so_far``; None: all of them.
    """
    since = reboots_so_far if reboots_since_install is None else reboots_since_install
    state = _determine_reboot_state(need, reboots_so_far)
    why = _find_reboot_reason(policy, need, since)
    if not why:
        reason = _describe_no_reboot(policy, need, installed, reboots_so_far)
        return RebootDecision(reboot=False, state_without_reboot=state, reason=reason)
    obstacle = _find_obstacle(can_reboot, reboots_so_far, max_reboots, time_fit)
    if obstacle:
        return RebootDecision(
            reboot=False, state_without_reboot=state, reason=f"not rebooted although {why}: {obstacle}"
        )
    return RebootDecision(reboot=True, state_without_reboot=state, reason=why)


def _find_obstacle(can_reboot: bool, reboots_so_far: int, max_reboots: int, time_fit: TimeFit) -> str:
    """Return what stands in the way of a reboot that is wanted, or ""."""
    if not can_reboot:
        return "it can't reboot itself: whatever hosts it must restart it"
    if reboots_so_far >= max_reboots:
        return f"{reboots_so_far} of {max_reboots} allowed reboots are used up"
    return "" if time_fit.fits else time_fit.explanation


def _determine_reboot_state(need: RebootNeed, reboots_so_far: int) -> RebootState:
    if need.answer is YesNoUnknown.YES:
        return RebootState.REQUIRED
    if need.answer is YesNoUnknown.UNKNOWN:
        return RebootState.UNKNOWN
    return RebootState.COMPLETED if reboots_so_far else RebootState.NOT_NEEDED


def _find_reboot_reason(policy: RebootPolicy, need: RebootNeed, since_install: int) -> str:
    """Return why a reboot is wanted, or ""."""
    if policy is RebootPolicy.NEVER:
        return ""
    if need.answer is YesNoUnknown.YES:
        return f"the machine asks for a reboot{_render_reasons(need)}"
    if policy is RebootPolicy.ALWAYS and since_install == 0:
        return "the policy is to reboot always"
    return ""


def _describe_no_reboot(policy: RebootPolicy, need: RebootNeed, installed: int, reboots_so_far: int) -> str:
    if need.answer is YesNoUnknown.YES:
        return f"the machine asks for a reboot{_render_reasons(need)}, and the policy is to reboot never"
    if need.answer is YesNoUnknown.UNKNOWN:
        after = f" after {installed} updates" if installed else ""
        return (
            f"whether a reboot is needed{after} could not be told{_render_reasons(need)}; "
            f"under {policy} that is no reason"
        )
    return "rebooted, and no further reboot is asked for" if reboots_so_far else "no reboot is asked for"


def _render_reasons(need: RebootNeed) -> str:
    return f" ({'; '.join(need.reasons)})" if need.reasons else ""
