"""Why Windows may restart a machine by itself: policies of groups or an MDM, and deadlines of its update server. Pure.

The names are those of WindowsUpdate.admx (SetComplianceDeadlineForQU: of newer ones) and of the Update Policy CSP.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tasks.domain.model import SelfRestart
from tasks.machines.managers.windows_update.offered_updates import OfferedUpdate
from tasks.machines.managers.windows_update.other_managers import AUTOMATIC_UPDATES
from tasks.rules.machine_checks.packages import describe_server_deadline

_QUALITY: Final = "ConfigureDeadlineForQualityUpdates"
_ALWAYS: Final = "AlwaysAutoRebootAtScheduledTime"
_POLICIES: Final = (
    (
        _QUALITY,
        ("SetComplianceDeadline", "SetComplianceDeadlineForQU"),
        "with a deadline of {} days after an update is offered",
    ),
    ("AutoRestartDeadlinePeriodInDays", ("SetAutoRestartDeadline",), "at the latest {} days after a reboot is due"),
    ("EngagedRestartDeadline", ("SetEngagedRestartTransitionSchedule",), "at the latest {} days after a reboot is due"),
    (_ALWAYS, (_ALWAYS,), "15 minutes or more after an installation"),
)
"""Policies, what switches each on in a group policy (one of an MDM is on), and when Windows restarts. 0 days: never."""


def find_self_restarts(
    policy: Mapping[str, str],
    unread: Sequence[str] | None,
    updaters: Sequence[tuple[str, float | None]],
    waiting: Sequence[OfferedUpdate],
    offered: Sequence[OfferedUpdate],
) -> tuple[SelfRestart, ...]:
    """Return why the machine may restart by itself.

    ``unread``: the keys of policies that could not be read; None: nothing is known of them. ``updaters``: as
    PackageState.auto_updaters. ``waiting``: the installed updates that wait for a reboot.
    """
    lasting = list(_list_policies(policy))
    if unread is None or unread:
        lasting.append("whether policies restart it could not be read")
    lasting += [
        f"{u.name}, which waits for it, {describe_server_deadline(u.deadline_at)}" for u in waiting if u.deadline_at
    ]
    passing = [f"{u.name} {describe_server_deadline(u.deadline_at)}" for u in offered if u.deadline_at]
    if any(name == AUTOMATIC_UPDATES for name, _ in updaters):
        spares_people = policy.get("NoAutoRebootWithLoggedOnUsers") == "1"
        condition = ", if nobody is logged in" if spares_people else ""
        passing.append(f"{AUTOMATIC_UPDATES} restarts it after its own installations{condition}")
    return (*map(SelfRestart, lasting), *(SelfRestart(reason, is_lasting=False) for reason in passing))


def _list_policies(policy: Mapping[str, str]) -> Iterator[str]:
    for name, switches, when in _POLICIES:
        is_polite = name == _ALWAYS and policy.get("NoAutoRebootWithLoggedOnUsers") == "1"  # then it has no effect
        is_on = any(policy.get(switch) == "1" for switch in switches) and not is_polite
        for whose, days in (
            ("a group policy", policy.get(name) if is_on else None),
            ("the MDM", policy.get(f"mdm:{name}")),
        ):
            if days is not None and (days != "0" or name == _QUALITY):
                yield f"{whose} ({name}) restarts it {when.format(days)}"
    if (value := policy.get("mdm:AllowAutoUpdate")) in {"2", "3", "4"}:
        yield f"the MDM (AllowAutoUpdate {value}) lets Windows restart it after its installations"
