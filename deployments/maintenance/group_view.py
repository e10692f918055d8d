"""What is known of the machines of a group: what waits there, since when, and when its windows open."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from deployments.maintenance.groups import HoldGroup, HoldGroups
from inventory.guests import GuestAction
from tasks.domain.model import Assessment, Selection
from tasks.domain.states import ImpactType
from tasks.records.automatic.sightings import with_first_seen
from tasks.records.maintenance import GroupRecord, PackageUpdate, SqlMaintenance
from tasks.records.queries.newest_assessments import NewestAssessments, read_newest_assessments
from tasks.records.queries.pending_since import read_pending_since
from tasks.records.storage.database import Database
from tasks.rules.calendar.freezes import Freeze
from tasks.rules.calendar.schedule import find_occurrences
from tasks.rules.maintenance.look import look_at_group
from tasks.rules.maintenance.model import (
    CLOCK_TOLERANCE,
    GroupMachine,
    GroupState,
    GroupView,
    HoldPolicy,
    PackageEnd,
    WaitingUpdate,
)
from tasks.rules.maintenance.status import find_impact
from tasks.rules.updates.selection import is_not_held, select_updates

_LOOK_AHEAD = timedelta(days=62)
"""So far beyond the last day windows are looked for: the next window of an overdue package is one of them."""
_GUEST_IMPACTS = {
    GuestAction.SHUTDOWN: ImpactType.RESTART,
    GuestAction.MOVE: ImpactType.REDEPLOY,
    GuestAction.PAUSE: ImpactType.FREEZE,
}
"""What guests suffer when their host reboots, the worst first."""
PendingSince = Mapping[tuple[str, str], datetime]


def read_group_machines(database: Database, group: HoldGroup, now: datetime) -> tuple[GroupMachine, ...]:
    """Return what waits on the machines of a group, by their newest answers.

    Answers that are later than now were dated by a wrong clock, and do not count.

    Raises:
        RecordsError: the records can't be read.
    """
    names = [machine.name for machine in group.machines]
    newest = read_newest_assessments(database, names, now + CLOCK_TOLERANCE)
    since = read_pending_since(database, names)
    states = (found.answered.packages for found in newest.values() if found.answered is not None)
    selection = with_first_seen(database, group.scheduled.request.to_patch_options().selection, states)
    return tuple(_build_machine(name, newest.get(name), since, selection, group.policy) for name in names)


def _build_machine(
    name: str, newest: NewestAssessments | None, since: PendingSince, selection: Selection, policy: HoldPolicy
) -> GroupMachine:
    answer = newest.answered if newest is not None else None
    if answer is None:
        return GroupMachine(name, None)
    return GroupMachine(name, answer.at, tuple(_list_waiting(answer, since, selection, policy)))


def _list_waiting(
    answer: Assessment, since: PendingSince, selection: Selection, policy: HoldPolicy
) -> Iterable[WaitingUpdate]:
    """Yield each update that a run would install, and that has to wait; of several architectures one."""
    if answer.packages is None:
        return
    chosen, _ = select_updates(answer.packages, selection)
    by_name = {update.name: update for update in reversed(chosen) if not is_not_held(update, policy.not_held)}
    for update in sorted(by_name.values(), key=lambda update: update.name):
        first_seen = min(since.get((answer.machine, update.name), answer.at), answer.at)
        yield WaitingUpdate(update.name, update.available, update.classification, first_seen, update.requires_reboot)


def build_group_view(
    group: HoldGroup,
    machines: tuple[GroupMachine, ...],
    freezes: Sequence[Freeze],
    now: datetime,
    inherited: datetime | None = None,
) -> GroupView:
    """Return everything that a look at a group depends on. Pure."""
    if group.problem:
        return GroupView(problem=group.problem)
    since = now - timedelta(minutes=group.configuration.window_minutes)
    since = since.replace(minute=0, second=0, microsecond=0)  # equal in each look of an hour: the windows are cached
    windows = find_occurrences(group.scheduled.schedule, since, since + group.policy.hold + _LOOK_AHEAD)
    return GroupView(machines, windows, tuple(freezes), inherited)


def build_record(group: HoldGroup, state: GroupState, machines: Sequence[GroupMachine]) -> GroupRecord:
    """Return a group as a look at it leaves it. Pure."""
    return GroupRecord(
        state=state,
        configuration=group.configuration.name,
        hold_seconds=group.policy.hold.total_seconds(),
        machines=tuple(machine.name for machine in machines),
        unread=sum(machine.answered_at is None for machine in machines),
        updates=build_contents(machines),
        impact=find_group_impact(group, machines).value,
    )


def read_records(database: Database, groups: HoldGroups | None, now: datetime) -> dict[str, GroupRecord]:
    """Return what is remembered of all groups. What was applied since the last look is as the next look will find it.

    Raises:
        RecordsError: the records can't be read.
    """
    records = SqlMaintenance(database).read_groups()
    for name, group in groups.by_name.items() if groups is not None else ():
        record = records.get(name)
        if record is None or record.fault or record.removed_at is not None or group.problem:
            continue
        state, application = record.state, record.state.last_application
        ended_at = application.ended_at if application is not None else None
        if ended_at is None or (state.looked_at is not None and ended_at <= state.looked_at):
            continue
        machines = read_group_machines(database, group, now)
        freezes = group.configuration.build_freezes(group.zone)
        look = look_at_group(group.policy, state, build_group_view(group, machines, freezes, now), now, group.zone)
        found = build_record(group, replace(look.state, looked_at=state.looked_at), machines)
        records[name] = replace(found, last_ended=look.ended or record.last_ended)
    return records


def find_inherited(
    group: HoldGroup, machines: Collection[GroupMachine], records: Iterable[GroupRecord], now: datetime
) -> datetime | None:
    """Return the first moment of a package that a group follows, because a configuration got another name; or None.

    It follows a package of a removed group if one of its machines was in that group, and still lacks what was seen
    before the removal. A removal that is longer ago than the hold does not count. Pure.
    """
    moments = []
    for record in records:
        removed_at, ended = record.removed_at, record.last_ended
        if removed_at is None or ended is None or ended.end is not PackageEnd.REMOVED:
            continue
        if now - removed_at > group.policy.hold:
            continue
        names = frozenset(record.machines)
        if any(
            machine.name in names and any(update.since <= removed_at for update in machine.updates)
            for machine in machines
        ):
            moments.append(ended.first_seen)
    return min(moments, default=None)


def build_contents(machines: Iterable[GroupMachine]) -> tuple[PackageUpdate, ...]:
    """Return the contents of a package, by update. Pure."""
    grouped: dict[tuple[str, str], list[WaitingUpdate]] = {}
    for machine in machines:
        for update in machine.updates:
            grouped.setdefault((update.name, update.version), []).append(update)
    return tuple(_merge(updates) for _, updates in sorted(grouped.items()))


def _merge(updates: Sequence[WaitingUpdate]) -> PackageUpdate:
    needs = {update.requires_reboot for update in updates}
    return PackageUpdate(
        name=updates[0].name,
        version=updates[0].version,
        classification=updates[0].classification.value,
        machines=len(updates),
        since=min(update.since for update in updates),
        requires_reboot=True if True in needs else None if None in needs else False,
    )


def find_group_impact(group: HoldGroup, machines: Iterable[GroupMachine]) -> ImpactType:
    """Return what the machines of a group suffer while its package is applied. Pure."""
    updates = (update for machine in machines for update in machine.updates)
    actions = {machine.guests.action for machine in group.machines if machine.guests is not None}
    guests = next((impact for action, impact in _GUEST_IMPACTS.items() if action in actions), None)
    return find_impact(updates, group.scheduled.request.reboot, guests)
