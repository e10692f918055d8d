"""Builds the row of a group of maintenance control, in one place for command, pages, API and queries."""

from datetime import datetime, timedelta

from tasks.domain.rows.maintenance import HeldPackageRow, HeldUpdateRow
from tasks.domain.states import Classification, ImpactType, MaintenanceStatus
from tasks.records.maintenance import GroupRecord
from tasks.rules.maintenance.model import GroupState, HeldPackage
from tasks.rules.maintenance.status import explain_wait, find_ended_status, find_maintenance_status

_URGENT = frozenset(kind.value for kind in Classification if kind.is_urgent)


def build_unknown_group(name: str, configuration: str, hold: timedelta, machines: tuple[str, ...]) -> GroupRecord:
    """Return a group that nobody has looked at: what its machines lack is not known. Pure."""
    return GroupRecord(GroupState(name), configuration, hold.total_seconds(), machines, len(machines))


def build_held_row(
    record: GroupRecord, now: datetime, *, hold: timedelta | None = None, frozen: str = ""
) -> HeldPackageRow:
    """Return the row of a group. Pure.

    Args:
        record: what is remembered of it.
        now: the present time, aware.
        hold: as its configuration says now; None: as at the last look.
        frozen: why a freeze keeps people from applying the package now; "": none does.
    """
    state = record.state
    package = state.package or record.last_ended
    last = None
    if package is not None:
        last = package.compute_last_moment(hold or timedelta(seconds=record.hold_seconds))
    application = state.last_application
    return HeldPackageRow(
        name=state.group,
        configuration=record.configuration,
        status=_find_status(record, package, is_frozen=bool(frozen)),
        number=package.number if package is not None else 0,
        machines=len(record.machines),
        unread=record.unread,
        updates=len(record.updates),
        urgent=sum(update.classification in _URGENT for update in record.updates),
        impact=ImpactType(record.impact) if record.impact and record.updates else None,
        first_seen=package.first_seen if package is not None else None,
        not_before=last,
        applies_at=package.applies_at if package is not None else None,
        is_overdue=state.package is not None and last is not None and now >= last,
        is_removed=record.removed_at is not None,
        looked_at=state.looked_at,
        cause=application.cause.value if application is not None else "",
        who=application.who if application is not None else "",
        run_id=(application.run_id or None) if application is not None else None,
        reason=explain_wait(state, record.machines, frozen=frozen),
        ended_at=package.ended_at if package is not None else None,
    )


def _find_status(record: GroupRecord, package: HeldPackage | None, *, is_frozen: bool) -> MaintenanceStatus | None:
    state = record.state
    if state.package is None and package is not None:
        return find_ended_status(package)
    if state.package is None and (state.looked_at is None or record.unread):
        return None
    return find_maintenance_status(state, is_frozen=is_frozen)


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
