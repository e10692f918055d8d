"""Configurations and what was found about them, on the screen and as JSON."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.text import Text

from deployments.config.configuration import Configuration, Configurations
from deployments.config.finding import Finding
from deployments.config.findings import known_zones
from deployments.config.fleets import Fleets
from deployments.config.zones import MACHINE
from flows.cli.exits import Code
from flows.cli.screen import safe, safe_lines, say, solid, table
from inventory.errors import InventoryError
from tasks.reporting.text import NOTHING, iso, plural
from tasks.rules.calendar.freezes import frozen
from tasks.rules.calendar.overlaps import Severity
from tasks.rules.calendar.schedule import occurrences
from tasks.rules.calendar.words import described
from tasks.rules.window import zone_of

_PATIENCE = 200
"""Windows that are looked through for one that no freeze takes away."""


def code_of(fleets: Fleets, about: Sequence[Finding], inventory: Path | None) -> Code:
    """Return the exit code of a check. An inventory that is missing matters when somebody named it."""
    if any(each.severity is Severity.BLOCKS for each in about):
        return Code.USAGE
    named = [path for path in fleets.faults if path is not None or inventory is not None]
    if named:
        return Code.USAGE
    return Code.WARNINGS if about or fleets.faults else Code.GOOD


def fault_document(place: Path, problems: Sequence[InventoryError]) -> dict[str, object]:
    """Return the faults of files as JSON data."""
    faults = [
        {
            "file": str(each.file) if each.file else None,
            "line": each.line,
            "key": each.key,
            "message": each.message,
            "hint": each.hint,
        }
        for each in problems
    ]
    return {"source": str(place), "valid": False, "problems": faults, "configurations": [], "findings": []}


def tell_faults(place: Path, problems: Sequence[InventoryError]) -> None:
    """Show every fault with its place and remedy."""
    for each in problems:
        say(Text.assemble(("✗ ", "bold red"), safe_lines(each.message)))
        if each.hint:
            say(Text.assemble("    ", safe_lines(each.hint)))
    say("", Text.assemble(safe(str(place)), (f": {plural(len(problems), 'fault')}", "bold red")))


def check_document(found: Configurations, fleets: Fleets, about: Sequence[Finding], now: datetime) -> dict[str, object]:
    """Return the result of a check as JSON data."""
    return {
        "source": str(found.source),
        "valid": not any(each.severity is Severity.BLOCKS for each in about),
        "problems": [],
        "configurations": [_document(one, fleets, now) for one in found.every],
        "findings": [
            {
                "configuration": each.configuration,
                "severity": each.severity.value,
                "key": each.key,
                "message": each.message,
                "hint": each.remedy,
            }
            for each in about
        ],
        "inventoryFaults": [
            {"inventory": str(path) if path else None, "message": error.message, "hint": error.hint}
            for path, error in fleets.faults.items()
        ],
    }


def _document(one: Configuration, fleets: Fleets, now: datetime) -> dict[str, object]:
    return {
        "name": one.name,
        "file": str(one.place.file),
        "line": one.place.line,
        "enabled": one.enabled,
        "scope": one.scope,
        "inventory": str(one.inventory) if one.inventory else None,
        "machineCount": machine_count(one, fleets),
        "when": in_words(one, fleets),
        "zone": one.zone,
        "windowMinutes": one.minutes,
        "leadMinutes": one.lead_minutes,
        "nextWindowStart": iso(next_window(one, fleets, now)),
    }


def tell_checked(found: Configurations, fleets: Fleets, about: Sequence[Finding], now: datetime) -> None:
    """Show configurations in a table, and below it what a person should know."""
    grid = table(solid("configuration"), "when", solid("machines"), solid("next window"))
    for one in found.every:
        count = machine_count(one, fleets)
        opens = next_window(one, fleets, now) if one.enabled else None
        name = safe(one.name, style="" if one.enabled else "dim")
        grid.add_row(
            name,
            safe(in_words(one, fleets)),
            Text(NOTHING if count is None else str(count), justify="right"),
            Text(f"{opens:%Y-%m-%d %H:%M}" if opens else "switched off" if not one.enabled else NOTHING),
        )
    say(grid, "")
    for finding in about:
        tell_finding(finding)
    for path, error in fleets.faults.items():
        what = f"the inventory {path}" if path else "no inventory"
        say(Text.assemble(("! ", "yellow"), safe(f"{what}: machines, scopes and overlaps were not looked at")))
        say(Text.assemble("    ", safe_lines(f"{error.message}  {error.hint}")))
    _verdict(found, about, fleets)


def tell_finding(finding: Finding) -> None:
    """Show what a person should know about a configuration, and the remedy."""
    blocks = finding.severity is Severity.BLOCKS
    mark = ("✗ ", "bold red") if blocks else ("! ", "yellow")
    name = safe(finding.configuration, style="bold")
    say(Text.assemble(mark, name, ": ", safe(f"{finding.key}: {finding.message}")))
    say(Text.assemble("    ", safe_lines(finding.remedy)))


def _verdict(found: Configurations, about: Sequence[Finding], fleets: Fleets) -> None:
    blocked = sum(finding.severity is Severity.BLOCKS for finding in about)
    warned = len(about) - blocked + len(fleets.faults)
    parts = [f"{plural(blocked, 'fault')}"] * bool(blocked) + [plural(warned, "warning")] * bool(warned)
    mark = ("✗ ", "bold red") if blocked else ("✓ ", "green")
    told = f": {plural(len(found.every), 'configuration')}{', ' if parts else ''}{', '.join(parts)}"
    if about or fleets.faults:
        say("")
    say(Text.assemble(mark, safe(str(found.source)), told))


def machine_count(one: Configuration, fleets: Fleets) -> int | None:
    """Return for how many machines it is, or None when nobody can say."""
    if fleets.of(one) is None:
        return None
    try:
        return len(fleets.machines_of(one))
    except InventoryError:
        return 0


def in_words(one: Configuration, fleets: Fleets) -> str:
    """Return when its windows open, in plain words."""
    zone = known_zones(one, fleets)[0]
    words = described(one.schedule(zone))
    return words.replace(f" {zone}", " in each machine's own zone", 1) if one.zone == MACHINE else words


def next_window(one: Configuration, fleets: Fleets, now: datetime) -> datetime | None:
    """Return when the next window opens that no freeze takes away, in whichever of its zones that is first."""
    found = []
    for zone in known_zones(one, fleets):
        freezes = one.frozen_times(zone)
        windows = occurrences(one.schedule(zone), now, limit=_PATIENCE)
        opens = next((each.start for each in windows if frozen(each, freezes) is None), None)
        found += [opens.astimezone(zone_of(zone))] if opens is not None else []
    return min(found, default=None)
