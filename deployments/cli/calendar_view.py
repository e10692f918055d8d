"""The calendar on the screen and as JSON. Times are shown in the window's zone, and in that of whoever looks."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from rich.text import Text

from deployments.config.agenda import Agenda
from deployments.config.coming import Coming, Gap
from deployments.config.zones import MACHINE
from flows.cli.screen import lines_of, note, out, safe, say, solid, table
from tasks.reporting.text import NOTHING, iso, one_line, plural
from tasks.rules.window import say_duration, zone_of

_WIDE = 100
_NAMES = 8


def calendar_document(agenda: Agenda) -> dict[str, object]:
    """Return the calendar as JSON data."""
    return {
        "at": iso(agenda.now),
        "machine": agenda.machine or None,
        "windows": [_document(each) for each in agenda.windows],
        "gaps": [{"name": each.name, "start": iso(each.start), "end": iso(each.end)} for each in agenda.gaps],
        "machinesWithoutConfiguration": list(agenda.left_out),
        "switchedOff": list(agenda.switched_off),
        "unknown": list(agenda.unknown),
        "inventoryFaults": list(agenda.faults),
    }


def _document(each: Coming) -> dict[str, object]:
    freeze = each.freeze
    return {
        "configuration": each.lane.configuration.name,
        "zone": each.lane.schedule.zone,
        "start": iso(each.window.start),
        "end": iso(each.window.end),
        "localStart": each.window.start.astimezone(zone_of(each.lane.schedule.zone)).isoformat(),
        "runStart": iso(each.run_start),
        "startedByPrefect": each.by_schedule,
        "machineCount": len(each.lane.machines),
        "frozen": {"start": iso(freeze.start), "end": iso(freeze.end), "reason": freeze.reason} if freeze else None,
        "overlaps": list(each.meets),
        "openNow": each.now,
        "note": each.window.note,
    }


def tell_calendar(agenda: Agenda) -> None:
    """Show the calendar."""
    for fault in agenda.faults:
        note(Text.assemble(("machines are not known: ", "yellow"), safe(fault)))
    if agenda.windows:
        _tell_windows(agenda)
    else:
        say(safe(f"{agenda.machine or 'nothing'} has no window ahead"))
    for gap in agenda.gaps:
        say(Text.assemble(("! ", "yellow"), _gap_words(gap)))
    if agenda.left_out:
        names = ", ".join(lines_of(agenda.left_out, _NAMES))
        say(Text.assemble(("! ", "yellow"), safe(f"in no configuration: {names}")))
    for name in agenda.unknown:
        say(Text.assemble(("! ", "yellow"), safe(f"{name} opens by its machines' clocks, and there are no machines")))
    if agenda.switched_off:
        say(Text.assemble("switched off: ", safe(", ".join(agenda.switched_off)), style="dim"))


def _tell_windows(agenda: Agenda) -> None:
    wide = out().width >= _WIDE
    here = [_mine(each.window.start) != _theirs(each) for each in agenda.windows]
    grid = table(solid("window"), *([solid("yours")] if any(here) else []), solid("run starts"), "configuration")
    for each in agenda.windows:
        style = "dim" if each.freeze else ""
        cells = [Text(_span(each), style=style)]
        if any(here):
            cells.append(Text(_short(_local(each.window.start), each, wide), style=style))
        run = NOTHING if each.freeze else _run(each)
        grid.add_row(*cells, Text(run, style=style), _about(each, style))
    say(grid, "")
    frozen = sum(each.freeze is not None for each in agenda.windows)
    met = sum(bool(each.meets) for each in agenda.windows)
    parts = [plural(len(agenda.windows), "window")]
    parts += [f"{frozen} frozen"] * bool(frozen) + [f"{met} overlapping"] * bool(met)
    say(safe(f"{', '.join(parts)}, from {_local(agenda.now):%Y-%m-%d %H:%M %Z} on{_whose(agenda)}"))


def _whose(agenda: Agenda) -> str:
    return f", on {agenda.machine}" if agenda.machine else ""


def _span(each: Coming) -> str:
    start, end = (
        moment.astimezone(zone_of(each.lane.schedule.zone)) for moment in (each.window.start, each.window.end)
    )
    until = f"{end:%H:%M}" if end - start < timedelta(days=1) else f"{end:%d %b %H:%M}"
    zone = end.tzname() or ""
    zone = f"UTC{zone}" if zone.startswith(("+", "-")) else zone
    return f"{start:%a %Y-%m-%d %H:%M}–{until} {zone}"  # noqa: RUF001


def _short(moment: datetime, each: Coming, wide: bool) -> str:
    same_day = moment.date() == each.window.start.astimezone(zone_of(each.lane.schedule.zone)).date()
    shown = f"{moment:%H:%M}" if same_day else f"{moment:%a %H:%M}"
    return f"{shown} {moment:%Z}" if wide else shown  # which clocks are yours stands below as well


def _run(each: Coming) -> str:
    """Return when the run starts by the window's clocks; whether Prefect starts it is said beside it."""
    if each.run_start == each.window.start:
        return "with it"
    zone = zone_of(each.lane.schedule.zone)
    start, run = each.window.start.astimezone(zone), each.run_start.astimezone(zone)
    return f"{run:%H:%M}" if run.date() == start.date() else f"{run:%a %H:%M}"


def _about(each: Coming, style: str) -> Text:
    configuration = each.lane.configuration
    name = configuration.name
    text = Text.assemble(safe(name, style=style or "bold"))  # a style of the whole would hold for what follows too
    if configuration.zone == MACHINE:
        text.append_text(Text.assemble(" ", safe(f"({each.lane.schedule.zone})", style="dim")))
    if each.lane.machines:
        text.append_text(Text(f", {plural(len(each.lane.machines), 'machine')}", style="dim"))
    for line, colour in _remarks(each):
        text.append_text(Text.assemble("\n", safe(line, style=colour)))
    return text


def _remarks(each: Coming) -> Iterator[tuple[str, str]]:
    zone = zone_of(each.lane.schedule.zone)
    if each.freeze:
        why = f" ({one_line(each.freeze.reason, 80)})" if each.freeze.reason else ""
        yield f"frozen until {each.freeze.end.astimezone(zone):%Y-%m-%d %H:%M}{why}", "cyan"
        return
    if each.now:
        yield "open now", "green"
    if each.meets:
        yield f"overlaps {', '.join(each.meets)}", "yellow"
    if each.too_late:
        yield "its run has started by now, or Prefect starts none for it any more", "yellow"
    elif not each.by_schedule:
        yield "Prefect can't be told of it yet: `fleetpatch deploy` has to run again before", "yellow"
    if each.window.note:
        yield each.window.note, "yellow"


def _gap_words(gap: Gap) -> Text:
    if gap.end is None:
        return safe(f"{gap.name} has no window after {_local(gap.start):%Y-%m-%d %H:%M}")
    length = say_duration((gap.end - gap.start).total_seconds())
    return safe(f"{gap.name} has no window for {length}: {_local(gap.start):%Y-%m-%d} to {_local(gap.end):%Y-%m-%d}")


def _local(moment: datetime) -> datetime:
    return moment.astimezone()


def _mine(moment: datetime) -> datetime:
    return _local(moment).replace(tzinfo=None)


def _theirs(each: Coming) -> datetime:
    return each.window.start.astimezone(zone_of(each.lane.schedule.zone)).replace(tzinfo=None)
