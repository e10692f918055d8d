"""How the fleet stands, on the screen and as JSON."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from rich.text import Text

from flows.cli.doctor_view import verdict
from flows.cli.run_view import versions
from flows.cli.screen import lines_of, number, right, safe, say, solid, state, table
from flows.doctor import judged, worst
from inventory.machine import Machine
from tasks.model import Assessment, Update
from tasks.reporting.text import NOTHING, iso, one_line, plural
from tasks.states import URGENT, Compliance

NAMES_SHOWN = 5

Lacking = Sequence[tuple[Machine, Update]]


def machine_document(machine: Machine, latest: Assessment | None) -> dict[str, object]:
    """Return a machine and how it stands as JSON data."""
    facts = latest.facts if latest else None
    known = latest is not None and latest.packages is not None
    return {
        "machineName": machine.name,
        "address": machine.address,
        "environment": machine.environment,
        "location": machine.location,
        "groups": list(machine.groups),
        "tags": dict(machine.tags),
        "owner": machine.owner.value,
        "complianceState": (latest.compliance if latest else Compliance.NOT_ASSESSED).value,
        "osName": facts.os_name if facts else None,
        "criticalAndSecurityPatchCount": latest.urgent if latest and known else None,
        "otherPatchCount": latest.other if latest and known else None,
        "servicesToRestart": list(latest.packages.services_to_restart) if latest and latest.packages else None,
        "readiness": worst(judged(latest)).value if latest else None,
        "assessedDateTime": iso(latest.at) if latest else None,
        "error": latest.error.message if latest and latest.error else None,
    }


def tell_machines(found: Sequence[Machine], latest: Mapping[str, Assessment]) -> None:
    """Show machines as a table."""
    now, names = datetime.now(UTC), [machine.name for machine in found]
    grid = table(
        solid("machine"),
        solid("compliance"),
        solid("env"),
        solid("system"),
        right("crit+sec"),
        right("other"),
        right("restart"),
        solid("readiness"),
        right("assessed"),
    )
    for machine in found:
        mine = latest.get(machine.name)
        known = mine is not None and mine.packages is not None
        facts = mine.facts if mine else None
        grid.add_row(
            safe(machine.name),
            state(mine.compliance if mine else Compliance.NOT_ASSESSED),
            safe(machine.environment or NOTHING, limit=12),
            safe(f"{facts.os_id} {facts.os_version}" if facts else NOTHING, limit=16),
            number(mine.urgent, "red") if mine and known else Text(NOTHING),
            number(mine.other) if mine and known else Text(NOTHING),
            number(len(mine.packages.services_to_restart), "yellow") if mine and mine.packages else Text(NOTHING),
            verdict(worst(judged(mine))) if mine else Text(NOTHING),
            _ago(mine, now),
        )
    say(grid)
    if any(mine.packages and mine.packages.services_to_restart for mine in map(latest.get, names) if mine):
        say(
            "", "restart: services that still run files which updates have replaced; fleetpatch why MACHINE names them."
        )
    never = [name for name in names if name not in latest]
    if never:
        say("", f"Never assessed: {', '.join(lines_of(never, NAMES_SHOWN))}. Do it with: fleetpatch assess")


def missing(found: Sequence[Machine], latest: Mapping[str, Assessment], *, urgent: bool) -> Lacking:
    """Return every update that a machine lacks, in the machines' order."""
    return [
        (machine, update)
        for machine in found
        if (mine := latest.get(machine.name)) is not None and mine.packages is not None
        for update in mine.packages.updates
        if not urgent or update.classification in URGENT
    ]


def updates_document(lacking: Lacking) -> dict[str, object]:
    """Return missing updates as JSON data."""
    return {
        "updates": [
            {
                "machineName": machine.name,
                "patchName": update.name,
                "versionBefore": update.installed,
                "version": update.available,
                "classifications": [update.classification.value],
                "severity": update.severity,
                "cves": None if update.cves is None else list(update.cves),
                "origins": list(update.origins),
                "sizeBytes": update.size_bytes,
                "held": update.held,
                "blocked": update.blocked,
            }
            for machine, update in lacking
        ]
    }


def tell_by_update(lacking: Lacking, found: Sequence[Machine], latest: Mapping[str, Assessment]) -> None:
    """Show a line for each update and version, with the machines that lack it: security first, then the widest."""
    groups: dict[tuple[str, str], list[tuple[Machine, Update]]] = {}
    for machine, update in lacking:
        groups.setdefault((update.name, update.available), []).append((machine, update))
    grid = table("update", solid("classification"), "new version", right("machines"), "which")
    for (name, version), every in sorted(
        groups.items(), key=lambda item: (item[1][0][1].classification not in URGENT, -len(item[1]), item[0])
    ):
        names = ", ".join(one_line(each) for each in lines_of([m.name for m, _ in every], NAMES_SHOWN))
        grid.add_row(safe(name), _kind(every[0][1]), safe(version), str(len(every)), Text(names, style="dim"))
    _tell(grid if groups else None, f"{plural(len(groups), 'update')}", found, latest)


def tell_by_machine(lacking: Lacking, found: Sequence[Machine], latest: Mapping[str, Assessment]) -> None:
    """Show a line for each update of each machine."""
    grid = table(solid("machine"), "update", solid("classification"), "installed → new", "")
    before = ""
    for machine, update in sorted(
        lacking, key=lambda pair: (pair[0].name, pair[1].classification not in URGENT, pair[1].name)
    ):
        remark = "held" if update.held else update.blocked
        shown = machine.name if machine.name != before else ""
        grid.add_row(safe(shown), safe(update.name), _kind(update), versions(update), safe(remark, "yellow", 40))
        before = machine.name
    _tell(grid if lacking else None, plural(len(lacking), "missing update"), found, latest)


def _tell(grid: object, count: str, found: Sequence[Machine], latest: Mapping[str, Assessment]) -> None:
    known = [machine for machine in found if machine.name in latest]
    if grid is not None:
        say(grid, "")  # type: ignore[arg-type]  # a table
    say(f"{count} on {plural(len(known), 'assessed machine')}." if grid is not None else "Nothing is missing.")
    unknown = [machine.name for machine in found if machine.name not in latest]
    if unknown:
        say(f"Not known, as they were never assessed: {', '.join(lines_of(unknown, NAMES_SHOWN))}")


def _kind(update: Update) -> Text:
    return Text(update.classification, style="red" if update.classification in URGENT else "")


def _ago(mine: Assessment | None, now: datetime) -> str:
    if mine is None:
        return "never"
    seconds = max(0.0, (now - mine.at).total_seconds())
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit} ago"
    return "just now"
