"""Why Windows may restart a machine by itself: policies of groups or an MDM, and deadlines of its update server. Pure.

The names are those of WindowsUpdate.admx and of the Update Policy CSP. With a deadline for quality updates, Windows
ignores its other policies of restarts. The names with "ForQU" and "ForQualityUpdates" are those of newer templates.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tasks.domain.model import SelfRestart
from tasks.machines.managers.windows_update.offered_updates import OfferedUpdate
from tasks.machines.managers.windows_update.other_managers import AUTOMATIC_UPDATES
from tasks.rules.machine_checks.packages import describe_server_deadline

_MDM: Final = "mdm:"
_RESTARTING: Final = frozenset({2, 3, 4})
"""Values of the MDM's AllowAutoUpdate with which Windows restarts without asking."""


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
    mdm = {name.removeprefix(_MDM): value for name, value in policy.items() if name.startswith(_MDM)}
    lasting = [*_list_policies(policy, "a group policy", is_mdm=False), *_list_policies(mdm, "the MDM", is_mdm=True)]
    if unread is None or unread:
        lasting.append("whether policies restart it could not be read")
    lasting += [f"{update.name}, which waits for it, {when}" for update, when in _list_deadlines(waiting)]
    passing = [f"{update.name} {when}" for update, when in _list_deadlines(offered)]
    if any(name == AUTOMATIC_UPDATES for name, _ in updaters):
        is_polite = policy.get("NoAutoRebootWithLoggedOnUsers") == "1"
        who = ", if nobody is logged in" if is_polite else ""
        passing.append(f"{AUTOMATIC_UPDATES} restarts it after its own installations{who}")
    return (*map(SelfRestart, lasting), *(SelfRestart(reason, is_lasting=False) for reason in passing))


def _list_deadlines(updates: Sequence[OfferedUpdate]) -> Iterator[tuple[OfferedUpdate, str]]:
    yield from ((update, describe_server_deadline(until)) for update in updates if (until := update.deadline_at))


def _list_policies(values: Mapping[str, str], whose: str, *, is_mdm: bool) -> Iterator[str]:
    """Yield what each policy does. One of a group needs its switch, one of an MDM is on when it is there."""

    def is_on(*switches: str) -> bool:
        return is_mdm or any(values.get(switch) == "1" for switch in switches)

    def read(name: str) -> int | None:
        text = values.get(name, "")
        return int(text) if text.isascii() and text.isdigit() else None

    days = read("ConfigureDeadlineForQualityUpdates")
    if days is not None and is_on("SetComplianceDeadline", "SetComplianceDeadlineForQU"):
        latest = f"at the latest {days} days after an update is offered"
        grace = read("ConfigureDeadlineGracePeriod")
        latest += f", and {grace} days after it is installed" if grace is not None else ""
        late = ("ConfigureDeadlineNoAutoReboot", "ConfigureDeadlineNoAutoRebootForQualityUpdates")
        before = "" if any(values.get(name) == "1" for name in late) else ", and outside of active hours before"
        yield f"{whose} (ConfigureDeadlineForQualityUpdates) restarts it {latest}{before}"
        return
    if (days := read("AutoRestartDeadlinePeriodInDays")) and is_on("SetAutoRestartDeadline"):
        yield f"{whose} (AutoRestartDeadlinePeriodInDays) restarts it at the latest {days} days after a reboot is due"
    if (days := read("EngagedRestartDeadline")) and is_on("SetEngagedRestartTransitionSchedule"):
        yield f"{whose} (EngagedRestartDeadline) restarts it at the latest {days} days after a reboot is due"
    if read("AlwaysAutoRebootAtScheduledTime") == 1 and read("NoAutoRebootWithLoggedOnUsers") != 1:
        minutes = read("AlwaysAutoRebootAtScheduledTimeMinutes") or 15
        yield f"{whose} (AlwaysAutoRebootAtScheduledTime) restarts it {minutes} minutes after an installation"
    if (value := read("AllowAutoUpdate")) in _RESTARTING:
        yield f"{whose} (AllowAutoUpdate {value}) lets Windows restart it after its installations"
