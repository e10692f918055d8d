"""Decides whether a machine is rebooted now, and its reboot state if it is not."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from inventory.data_class import dataclass
from inventory.name_lists import format_count, join_first_names
from tasks.domain.model import Assessment, Facts, RebootNeed, UpdateResult, Window
from tasks.domain.states import INSTALLED_UPDATE_STATES, RebootPolicy, RebootState, YesNoUnknown
from tasks.rules.calendar.local_time import format_date_and_time
from tasks.rules.timing.maintenance_window import TimeFit

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


def compute_reserved_reboot(reserve: float) -> float:
    """Return the learned seconds of a reboot for which ``compute_reboot_reserve`` returns this reserve."""
    return reserve / _LEARNED_TIME_FACTOR


_DRIFT_SHARE = 0.01
"""By how much of the time a counter may differ from the clock."""
_DRIFT_SECONDS = 300.0


def find_uptime(counted: float | None, booted_at: float | None, now: float) -> float | None:
    """Return the seconds since a machine's boot; None when unknown.

    A counter drifts from the clock, by minutes in some months, and on a virtual machine it may not begin at 0. The time
    of the boot is wrong if somebody has set the clock since, unless the system has moved it along. So the time of the
    boot decides, and if the two differ by more than a drift, the shorter uptime: who has just booted needs patience.

    ``counted`` is what a counter says, ``booted_at`` and ``now`` are by its own clock, in seconds since the epoch.
    """
    since_boot = None if booted_at is None or booted_at > now else now - booted_at
    if since_boot is None or counted is None:
        return counted if since_boot is None else since_boot
    is_drift = abs(since_boot - counted) <= max(_DRIFT_SECONDS, counted * _DRIFT_SHARE)
    return since_boot if is_drift else min(since_boot, counted)


@dataclass(frozen=True, slots=True)
class RebootDecision:
    """The decision. ``state_without_reboot`` is the machine's reboot state if it is not rebooted now."""

    reboot: bool
    state_without_reboot: RebootState
    reason: str
    mitigated_by: str = ""  # the live patches because of which a required reboot waits; "" otherwise


@dataclass(frozen=True, slots=True)
class LivePatchPolicy:
    """What a run does with a required reboot that live patches mitigate.

    Attributes:
        reboot: reboot all the same. False: the reboot waits.
        max_days: the days that it may wait since the machine first needed it; None: no deadline.
        window: of the run. A deadline that its opening has not reached is for a later run, so that a run decides as its
            plan says.
    """

    reboot: bool = True
    max_days: float | None = None
    window: Window | None = None

    def may_wait(self, need: RebootNeed, policy: RebootPolicy) -> bool:
        """Return whether a required reboot is left for later. The policy Always never waits."""
        is_left = self._covers(need) and policy is not RebootPolicy.ALWAYS
        return is_left and not self.is_overdue(need)

    def is_overdue(self, need: RebootNeed) -> bool:
        """Return whether a reboot that was put off may wait no longer."""
        deadline = self._find_deadline(need)
        return deadline is not None and self.window is not None and self.window.start >= deadline

    def describe_deadline(self, need: RebootNeed) -> str:
        """Return until when a reboot is put off, or since when it is due; "" when there is no deadline."""
        deadline = self._find_deadline(need)
        if deadline is None or need.since is None or self.window is None:
            return ""
        deadline_text = format_date_and_time(deadline.replace(second=0, microsecond=0), self.window.zone)
        if not self.is_overdue(need):
            return f"put off until {deadline_text}"
        waited = (self.window.start - need.since).days
        waits = f"it has waited {format_count(waited, 'day')}, and may wait {self.max_days:g}"
        return f"due since {deadline_text}: live patches mitigate it, but {waits}"

    def _covers(self, need: RebootNeed) -> bool:
        return need.answer is YesNoUnknown.YES and bool(need.mitigated_by) and not self.reboot

    def _find_deadline(self, need: RebootNeed) -> datetime | None:
        if not self._covers(need) or self.max_days is None or need.since is None:
            return None
        return need.since + timedelta(days=self.max_days)


def is_boot(noted: str, boot_id: str) -> bool:
    """Return whether a boot is the noted one. Release 0.1.0 has noted the kernel's boot id alone (prelude.sh)."""
    return noted in {boot_id, boot_id.partition(".")[0]}


def date_reboot_need(need: RebootNeed, facts: Facts | None, previous: Assessment | None, now: datetime) -> RebootNeed:
    """Return a reboot need with the time since when the machine has it: the earliest that anything says.

    The machine may have removed the first newer kernel when it installed the next ones. So an earlier assessment of the
    same boot counts too. Nothing before the boot counts.
    """
    if need.answer is not YesNoUnknown.YES:
        return need
    times = [now] if need.since is None else [need.since, now]
    before = previous.facts if previous is not None else None
    is_same_boot = facts is not None and before is not None and facts.boot_id and is_boot(before.boot_id, facts.boot_id)
    if previous is not None and previous.packages is not None and is_same_boot:
        earlier = previous.packages.reboot
        times += [earlier.since or previous.at] if earlier.answer is YesNoUnknown.YES else []
    since = min(times)
    if facts is not None and facts.boot_epoch is not None:
        since = min(max(since, datetime.fromtimestamp(max(facts.boot_epoch, 0), UTC)), now)
    return replace(need, since=since)


def add_updates_need(need: RebootNeed, results: Iterable[UpdateResult]) -> RebootNeed:
    """Return the reboot need of a machine after an installation: also if only the updates said that they need one.

    The plan believes them, so the result does. Of what changes the boot, the machine itself says which one runs.
    """
    said = [
        result.update
        for result in results
        if result.state in INSTALLED_UPDATE_STATES and result.update.requires_reboot and not result.update.changes_boot
    ]
    if need.answer is YesNoUnknown.YES or not said:
        return need
    return RebootNeed(YesNoUnknown.YES, (f"by its publisher, {join_first_names([u.name for u in said])} needs one",))


_NO_WAIT = LivePatchPolicy()


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
    live_patch_policy: LivePatchPolicy = _NO_WAIT,
) -> RebootDecision:
    """Return whether to reboot a machine after the installation.

    IfRequired reboots only after a clear yes; after UNKNOWN it does not reboot, and the reboot state is Unknown. Always
    reboots once after the installation, even if nothing was installed, and again only when the machine needs it.
    ``can_reboot`` is False in containers that only their host can restart. ``reboots_since_install`` None: all of
    ``reboots_so_far``.
    """
    since = reboots_so_far if reboots_since_install is None else reboots_since_install
    without_need = RebootState.COMPLETED if reboots_so_far else RebootState.NOT_NEEDED
    states = {YesNoUnknown.YES: RebootState.REQUIRED, YesNoUnknown.UNKNOWN: RebootState.UNKNOWN}
    state = states.get(need.answer, without_need)
    if live_patch_policy.may_wait(need, policy):
        reason = describe_wait(need, live_patch_policy)
        return RebootDecision(reboot=False, state_without_reboot=state, reason=reason, mitigated_by=need.mitigated_by)
    wish = _find_reboot_reason(policy, need, since, live_patch_policy)
    if not wish:
        reason = _describe_no_reboot(policy, need, installed, reboots_so_far) + _render_due(need, live_patch_policy)
        return RebootDecision(reboot=False, state_without_reboot=state, reason=reason)
    obstacle = _find_obstacle(can_reboot, reboots_so_far, max_reboots, time_fit)
    if obstacle:
        return RebootDecision(
            reboot=False, state_without_reboot=state, reason=f"not rebooted although {wish}: {obstacle}"
        )
    return RebootDecision(reboot=True, state_without_reboot=state, reason=wish)


def describe_wait(need: RebootNeed, live_patch_policy: LivePatchPolicy) -> str:
    """Return why a required reboot waits, and until when."""
    deadline = live_patch_policy.describe_deadline(need)
    until = f"; {deadline}" if deadline else ""
    return f"the machine asks for a reboot{_render_reasons(need)}, and the request lets such a reboot wait{until}"


def _render_due(need: RebootNeed, live_patch_policy: LivePatchPolicy) -> str:
    return f"; {live_patch_policy.describe_deadline(need)}" if live_patch_policy.is_overdue(need) else ""


def _find_obstacle(can_reboot: bool, reboots_so_far: int, max_reboots: int, time_fit: TimeFit) -> str:
    """Return what prevents a wanted reboot, or ""."""
    if not can_reboot:
        return "it can't reboot itself: its host must restart it"
    if reboots_so_far >= max_reboots:
        return f"{reboots_so_far} of {max_reboots} allowed reboots are used up"
    return "" if time_fit.fits else time_fit.explanation


def _find_reboot_reason(policy: RebootPolicy, need: RebootNeed, since_install: int, live: LivePatchPolicy) -> str:
    """Return why a reboot is wanted, or ""."""
    if policy is RebootPolicy.NEVER:
        return ""
    if need.answer is YesNoUnknown.YES:
        return f"the machine asks for a reboot{_render_reasons(need)}{_render_due(need, live)}"
    if policy is RebootPolicy.ALWAYS and since_install == 0:
        return "the reboot policy is Always"
    return ""


def _describe_no_reboot(policy: RebootPolicy, need: RebootNeed, installed: int, reboots_so_far: int) -> str:
    if need.answer is YesNoUnknown.YES:
        return f"the machine asks for a reboot{_render_reasons(need)}, and the reboot policy is Never"
    if need.answer is YesNoUnknown.UNKNOWN:
        after = f" after {format_count(installed, 'update')}" if installed else ""
        return (
            f"whether a reboot is needed{after} is not known{_render_reasons(need)}; "
            f"with reboot policy {policy}, fleetpatch does not reboot then"
        )
    return "rebooted, and no further reboot is asked for" if reboots_so_far else "no reboot is asked for"


def _render_reasons(need: RebootNeed) -> str:
    return f" ({need.explanation})" if need.explanation else ""
