"""Decides whether a machine is rebooted now, and its reboot state if it is not."""

from dataclasses import dataclass

from tasks.model import RebootNeed
from tasks.rules.timing.time_fit import TimeFit
from tasks.states import RebootPolicy, RebootState, YesNoUnknown

REBOOT_MEASURE = "reboot_seconds"
"""The measure in the records: seconds from the reboot command until a login succeeded."""
_LEARNED_TIME_FACTOR = 1.5
_MIN_REBOOT_SECONDS = 60.0


def compute_reboot_reserve(reserve: float, learned: float | None) -> float:
    """Return the seconds of the window that a reboot needs.

    Args:
        reserve: the reboot reserve of the request or of the machine's inventory entry. It counts while there is no
            learned value.
        learned: mean duration of past reboots of the machine, or None. The result is 1.5 times this value, since the
            next reboot may take longer, but at least 60 s (or ``reserve``, if that is less).
    """
    return reserve if learned is None else max(learned * _LEARNED_TIME_FACTOR, min(reserve, _MIN_REBOOT_SECONDS))


@dataclass(frozen=True, slots=True)
class RebootDecision:
    """The decision. ``state_without_reboot`` is the machine's reboot state if it is not rebooted now.

    Attributes:
        mitigated_by: the live patches because of which a required reboot waits; "" otherwise.
    """

    reboot: bool
    state_without_reboot: RebootState
    reason: str
    mitigated_by: str = ""


def may_reboot_wait(need: RebootNeed, policy: RebootPolicy, *, reboot_if_live_patched: bool) -> bool:
    """Return whether a required reboot is left for later because live patches mitigate it. Always never waits."""
    is_mitigated = need.answer is YesNoUnknown.YES and bool(need.mitigated_by)
    return is_mitigated and not reboot_if_live_patched and policy is not RebootPolicy.ALWAYS


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
    reboot_if_live_patched: bool = True,
) -> RebootDecision:
    """Return whether to reboot a machine after the installation.

    IfRequired reboots only after a clear yes; after UNKNOWN it does not reboot, and the reboot state is Unknown. Always
    reboots once after the installation, even if nothing was installed, and again only when the machine needs it.

    Args:
        policy: the request's reboot policy.
        need: the reboot need that the machine reports.
        installed: number of updates that this run installed.
        can_reboot: False in containers that only their host can restart.
        reboots_so_far: number of reboots in this run.
        max_reboots: allowed number of reboots in one run.
        time_fit: whether a reboot fits into the window.
        reboots_since_install: number of ``reboots_so_far`` since the installation; None: all of them.
        reboot_if_live_patched: False: a reboot that live patches mitigate waits, unless the policy is Always.
    """
    since = reboots_so_far if reboots_since_install is None else reboots_since_install
    state = _determine_reboot_state(need, reboots_so_far)
    if may_reboot_wait(need, policy, reboot_if_live_patched=reboot_if_live_patched):
        reason = f"the machine asks for a reboot{_render_reasons(need)}, and the request lets such a reboot wait"
        return RebootDecision(reboot=False, state_without_reboot=state, reason=reason, mitigated_by=need.mitigated_by)
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
    """Return what prevents a wanted reboot, or ""."""
    if not can_reboot:
        return "it can't reboot itself: its host must restart it"
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
        return "the reboot policy is Always"
    return ""


def _describe_no_reboot(policy: RebootPolicy, need: RebootNeed, installed: int, reboots_so_far: int) -> str:
    if need.answer is YesNoUnknown.YES:
        return f"the machine asks for a reboot{_render_reasons(need)}, and the reboot policy is Never"
    if need.answer is YesNoUnknown.UNKNOWN:
        after = f" after {installed} updates" if installed else ""
        return (
            f"whether a reboot is needed{after} is not known{_render_reasons(need)}; "
            f"with reboot policy {policy}, fleetpatch does not reboot then"
        )
    return "rebooted, and no further reboot is asked for" if reboots_so_far else "no reboot is asked for"


def _render_reasons(need: RebootNeed) -> str:
    return f" ({need.explanation})" if need.explanation else ""
