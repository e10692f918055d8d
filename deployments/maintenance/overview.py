"""What is held for each group, as rows for people and programs, and the decision whether a person may apply it now."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from deployments.maintenance.groups import HoldGroup, HoldGroups
from inventory.files.problems import did_you_mean
from tasks.domain.errors import RequestError
from tasks.domain.rows.maintenance import HeldPackageRow
from tasks.domain.states import MaintenanceStatus
from tasks.records.maintenance import GroupRecord
from tasks.records.maintenance_rows import build_held_row, build_unknown_group
from tasks.rules.calendar.freezes import find_freeze
from tasks.rules.calendar.local_time import format_date_and_time
from tasks.rules.calendar.schedule import Occurrence
from tasks.rules.maintenance.look import is_look_missing
from tasks.rules.maintenance.model import GroupState


def build_held_rows(
    records: Mapping[str, GroupRecord], groups: HoldGroups | None, now: datetime
) -> tuple[HeldPackageRow, ...]:
    """Return a row for each group, the one whose last day comes first on top. Pure.

    Args:
        records: what is remembered, by group.
        groups: those of the configurations; None: these can't be read here, so all that is remembered is shown.
        now: the present time, aware.
    """
    chosen = {name: record for name, record in records.items() if record.removed_at is None}
    by_name = groups.by_name if groups is not None else {}
    if groups is not None:
        chosen = {
            name: record for name, record in chosen.items() if name in by_name or record.configuration in groups.unknown
        }
    for name, group in by_name.items():
        if name not in chosen:
            names = tuple(machine.name for machine in group.machines)
            chosen[name] = build_unknown_group(name, group.configuration.name, group.policy.hold, names)
    rows = [_build_row(record, by_name.get(name), now) for name, record in chosen.items()]
    return tuple(sorted(rows, key=lambda row: (row.not_before is None, row.not_before or now, row.name)))


def _build_row(record: GroupRecord, group: HoldGroup | None, now: datetime) -> HeldPackageRow:
    if group is None:
        return build_held_row(record, now)
    return build_held_row(record, now, hold=group.policy.hold, frozen=_explain_freeze(group, now))


def _explain_freeze(group: HoldGroup, now: datetime) -> str:
    """Return until when a freeze keeps people from applying a package, and why; "": none does."""
    window = Occurrence(now, now + group.policy.window, now.replace(tzinfo=None))
    freeze = find_freeze(window, group.configuration.build_freezes(group.zone))
    if freeze is None:
        return ""
    reason = f" ({freeze.reason})" if freeze.reason else ""
    return f"frozen until {format_date_and_time(freeze.end, group.zone)}{reason}"


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
    if frozen := _explain_freeze(group, now):
        raise RequestError(f"{group.name} is {frozen}", hint="Apply it then.")


def need_people(rows: Sequence[HeldPackageRow], now: datetime) -> bool:
    """Return whether a group is overdue, nobody looks at it, or a machine of it was never read. Pure."""
    return any(row.is_overdue or row.unread or is_look_missing(row.looked_at, now) for row in rows)
