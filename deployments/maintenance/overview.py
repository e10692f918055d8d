"""What is held for each group, as rows for people and programs, and the decision whether a person may apply it now."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from deployments.maintenance.groups import HoldGroup, HoldGroups
from inventory.files.problems import did_you_mean
from tasks.domain.errors import RequestError
from tasks.domain.rows.maintenance import HeldPackageRow, HeldUpdateRow
from tasks.domain.states import Classification, ImpactType, MaintenanceStatus
from tasks.records.maintenance import GroupRecord
from tasks.rules.calendar.freezes import find_freeze
from tasks.rules.calendar.local_time import format_date_and_time
from tasks.rules.calendar.schedule import Occurrence
from tasks.rules.maintenance.model import GroupState, HeldPackage
from tasks.rules.maintenance.status import find_ended_status, find_maintenance_status

_URGENT = frozenset(kind.value for kind in Classification if kind.is_urgent)


def build_held_rows(
    records: Mapping[str, GroupRecord], groups: HoldGroups | None, now: datetime
) -> tuple[HeldPackageRow, ...]:
    """Return a row for each group, the one whose last day comes first on top. Pure.

    Args:
        records: what is remembered, by group.
        groups: those of the configurations; None: these can't be read here, so all that is remembered is shown.
        now: the present time, aware.
    """
    names = {name for name, record in records.items() if record.removed_at is None}
    if groups is not None:
        known = {name for name in names if records[name].configuration in groups.unknown}
        names = known | set(groups.by_name)
    rows = [
        _build_row(name, records.get(name), groups.by_name.get(name) if groups is not None else None, now)
        for name in names
    ]
    return tuple(sorted(rows, key=lambda row: (row.not_before is None, row.not_before or now, row.group)))


def _build_row(name: str, record: GroupRecord | None, group: HoldGroup | None, now: datetime) -> HeldPackageRow:
    state = record.state if record is not None else GroupState(name)
    is_removed = record is not None and record.removed_at is not None
    package = state.package or (record.last_ended if record is not None else None)
    hold = _find_hold(record, group)
    last = package.compute_last_moment(hold) if package is not None and hold is not None else None
    application = state.last_application
    updates = record.updates if record is not None else ()
    return HeldPackageRow(
        group=name,
        configuration=group.configuration.name if group is not None else record.configuration if record else name,
        status=_find_status(state, package, group, now),
        number=package.number if package is not None else 0,
        machines=len(record.machines) if record is not None else len(group.machines) if group is not None else 0,
        unread=record.unread if record is not None else len(group.machines) if group is not None else 0,
        updates=len(updates),
        urgent=sum(update.classification in _URGENT for update in updates),
        impact=ImpactType(record.impact) if record is not None and record.impact and updates else None,
        first_seen=package.first_seen if package is not None else None,
        not_before=last,
        applies_at=package.applies_at if package is not None else None,
        is_overdue=state.package is not None and last is not None and now >= last,
        is_removed=is_removed,
        looked_at=state.looked_at,
        cause=application.cause.value if application is not None else "",
        who=application.who if application is not None else "",
        run_id=(application.run_id or None) if application is not None else None,
        reason=application.refusal if application is not None else "",
        ended_at=package.ended_at if package is not None else None,
    )


def _find_hold(record: GroupRecord | None, group: HoldGroup | None) -> timedelta | None:
    if group is not None:
        return group.policy.hold
    return timedelta(seconds=record.hold_seconds) if record is not None else None


def _find_status(
    state: GroupState, package: HeldPackage | None, group: HoldGroup | None, now: datetime
) -> MaintenanceStatus:
    if state.package is None and package is not None:
        return find_ended_status(package)
    return find_maintenance_status(state, is_frozen=group is not None and _is_frozen(group, now))


def _is_frozen(group: HoldGroup, now: datetime) -> bool:
    window = Occurrence(now, now + group.policy.window, now.replace(tzinfo=None))
    return find_freeze(window, group.configuration.build_freezes(group.zone)) is not None


def build_update_rows(record: GroupRecord | None) -> tuple[HeldUpdateRow, ...]:
    """Return the contents of a package: what most machines lack comes first. Pure."""
    updates = sorted(record.updates, key=lambda update: (-update.machines, update.name)) if record is not None else ()
    return tuple(
        HeldUpdateRow(
            name=update.name,
            version=update.version,
            classification=update.classification,
            machines=update.machines,
            since=update.since,
        )
        for update in updates
    )


def select_groups(groups: HoldGroups, names: Iterable[str]) -> tuple[HoldGroup, ...]:
    """Return groups by the names that people give: of a group, or of a configuration with a group for each zone.

    Raises:
        RequestError: there is no such group, or it can't be read now.
    """
    chosen: dict[str, HoldGroup] = {}
    for name in names:
        found = [group for group in groups.by_name.values() if name in {group.name, group.configuration.name}]
        if not found and name in groups.unknown:
            raise RequestError(
                f"{name}: what is held is not known: {groups.unknown[name].problem}", hint="fleetpatch config check"
            )
        if not found:
            known = sorted(groups.by_name)
            hint = f"{did_you_mean(name, known)}The groups are: {', '.join(known) or 'none'}."
            raise RequestError(f"no configuration {name!r} holds updates", hint=hint)
        chosen |= {group.name: group for group in found}
    return tuple(chosen.values())


def require_applicable(group: HoldGroup, record: GroupRecord | None, now: datetime) -> None:
    """Refuse to apply what is held for a group if nothing is, or if it can't be applied now.

    The run itself is refused as well, whatever this has seen: it asks when it begins.

    Raises:
        RequestError: nothing is held, another run applies it, or a freeze is in force.
    """
    state = record.state if record is not None and record.removed_at is None else GroupState(group.name)
    if state.package is None:
        looked = f" at the last look, {format_date_and_time(state.looked_at, group.zone)}" if state.looked_at else ""
        raise RequestError(
            f"nothing is held for {group.name}{looked}: {MaintenanceStatus.NO_UPDATES_PENDING}",
            hint="`fleetpatch assess` reads what is pending; maintenance control looks every 15 minutes.",
        )
    application = state.last_application
    if application is not None and application.is_active:
        run = f"run {application.run_id}" if application.run_id else "a run that has not begun"
        raise RequestError(
            f"what is held for {group.name} is being applied already: {run}, by {application.who}",
            hint="Wait for its end, or cancel it.",
        )
    window = Occurrence(now, now + group.policy.window, now.replace(tzinfo=None))
    freeze = find_freeze(window, group.configuration.build_freezes(group.zone))
    if freeze is not None:
        reason = f" ({freeze.reason})" if freeze.reason else ""
        raise RequestError(
            f"{group.name} is frozen until {format_date_and_time(freeze.end, group.zone)}{reason}",
            hint="Apply it then.",
        )


def count_overdue(rows: Sequence[HeldPackageRow]) -> int:
    """Return how many groups are overdue. Pure."""
    return sum(row.is_overdue for row in rows)
