"""The freezes between two moments, for calendars: also those in which no window would open anyway. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from deployments.preview.zone_schedules import ZoneSchedule
from flows.request.policies import FreezeRequest

_WHOLE_FLEET: Final = ""


@dataclass(frozen=True, slots=True)
class CalendarFreeze:
    """A freeze of some configurations. ``is_general``: of the whole fleet, or of all that the calendar has."""

    start: datetime
    end: datetime
    reason: str
    configurations: tuple[str, ...]
    is_general: bool


def list_freezes(
    zone_schedules: Sequence[ZoneSchedule],
    since: datetime,
    until: datetime,
    common: Iterable[FreezeRequest] = (),
    zones: Iterable[str] = (),
) -> tuple[CalendarFreeze, ...]:
    """Return the freezes between two moments, with the configurations that have them.

    A freeze without an offset is another time in each zone: those of one reason that overlap are shown as one.

    Args:
        zone_schedules: the windows of configurations, with their freezes.
        since: aware.
        until: aware, excluded.
        common: the freezes of the whole fleet.
        zones: IANA names of the zones of the machines, for these.
    """
    everybody = {zone_schedule.configuration.name for zone_schedule in zone_schedules}
    clocks = {*zones, *(zone_schedule.schedule.zone for zone_schedule in zone_schedules)} or {"UTC"}
    general = {(freeze, _WHOLE_FLEET) for freeze_form in common for freeze in map(freeze_form.to_freeze, clocks)}
    own = {
        (freeze, zone_schedule.configuration.name)
        for zone_schedule in zone_schedules
        for freeze in zone_schedule.freezes
    }
    spans = sorted(
        (freeze.reason, freeze.start, freeze.end, name)
        for freeze, name in (*general, *own)
        if freeze.start < until and freeze.end > since
    )
    calendar_freezes: list[CalendarFreeze] = []
    names: set[str] = set()
    for reason, start, end, name in spans:
        last = calendar_freezes[-1] if calendar_freezes else None
        if last is not None and last.reason == reason and start <= last.end:
            names.add(name)
            begins, ends = last.start, max(last.end, end)
            calendar_freezes.pop()
        else:
            names, begins, ends = {name}, start, end
        is_general = _WHOLE_FLEET in names or names == everybody
        calendar_freezes.append(CalendarFreeze(begins, ends, reason, tuple(sorted(names - {_WHOLE_FLEET})), is_general))
    return tuple(
        sorted(calendar_freezes, key=lambda freeze_form: (freeze_form.start, freeze_form.end, freeze_form.reason))
    )
