"""Why Windows may restart a machine by itself: policies of groups or an MDM, and deadlines of its update server. Pure.

The names are those of WindowsUpdate.admx (SetComplianceDeadlineForQU: of newer ones) and of the Update Policy CSP.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from tasks.domain.model import SelfRestart
from tasks.machines.managers.windows_update.offered_updates import OfferedUpdate
from tasks.machines.managers.windows_update.other_managers import AUTOMATIC_UPDATES
from tasks.machines.managers.windows_update.reboot_need import RebootRecord
from tasks.rules.machine_checks.packages import describe_server_deadline

_QUALITY: Final = "ConfigureDeadlineForQualityUpdates"
_ALWAYS: Final = "AlwaysAutoRebootAtScheduledTime"
_OFFERED, _DUE = "with a deadline of {} days after an update is offered", "at the latest {} days after a reboot is due"
_POLICIES: Final = (
    (_QUALITY, ("SetComplianceDeadline", "SetComplianceDeadlineForQU"), "7", _OFFERED),
    ("AutoRestartDeadlinePeriodInDays", ("SetAutoRestartDeadline",), "7", _DUE),
    ("EngagedRestartDeadline", ("SetEngagedRestartTransitionSchedule",), "0", _DUE),
    (_ALWAYS, (_ALWAYS,), "", "15 minutes or more after an installation"),
)
"""Policies, what switches each on in a group policy (one of an MDM is on), Windows' days without a value, and when it
restarts. 0 days: never."""


def find_self_restarts(
    policy: Mapping[str, str],
    unread: Sequence[str] | None,
    updaters: Sequence[tuple[str, float | None]],
    marks: RebootRecord | None,
    waiting: Sequence[OfferedUpdate],
    offered: Sequence[OfferedUpdate],
) -> tuple[SelfRestart, ...]:
    """Return why the machine may restart by itself.

    ``unread``: the keys of policies that could not be read; None: nothing is known of them. ``updaters``: as
    PackageState.auto_updaters. ``waiting``: the installed updates that wait for a reboot.
    """
    lasting: list[str] = []
    for name, switches, default, when in _POLICIES:
        is_polite = name == _ALWAYS and policy.get("NoAutoRebootWithLoggedOnUsers") == "1"  # then it has no effect
        is_on = any(policy.get(switch) == "1" for switch in switches) and not is_polite
        of_group = policy.get(name, default) if is_on else None
        for whose, days in (("a group policy", of_group), ("the MDM", policy.get(f"mdm:{name}"))):
            if days is not None and (days != "0" or name == _QUALITY):
                lasting.append(f"{whose} ({name}) restarts it {when.format(days)}")
    if (value := policy.get("mdm:AllowAutoUpdate")) in {"2", "3", "4"}:
        lasting.append(f"the MDM (AllowAutoUpdate {value}) lets Windows restart it after its installations")
    if unread is None or unread:
        lasting.append("whether policies restart it could not be read")
    config_manager = marks.config_manager_restarts if marks is not None else False
    if config_manager:
        lasting.append("ConfigMgr's client restarts it after a countdown")
    lasting += [
        f"{u.name}, which waits for it, {describe_server_deadline(u.deadline_at)}" for u in waiting if u.deadline_at
    ]
    passing = [f"{u.name} {describe_server_deadline(u.deadline_at)}" for u in offered if u.deadline_at]
    if any(name == AUTOMATIC_UPDATES for name, _ in updaters):
        condition = ", if nobody is logged in" if policy.get("NoAutoRebootWithLoggedOnUsers") == "1" else ""
        passing.append(f"{AUTOMATIC_UPDATES} restarts it after its own installations{condition}")
    if config_manager is None:
        passing.append("whether ConfigMgr's client restarts it could not be read")
    return (*map(SelfRestart, lasting), *(SelfRestart(reason, is_lasting=False) for reason in passing))
