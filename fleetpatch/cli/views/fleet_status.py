"""Prints the state of the fleet, and builds its JSON."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.text import Text

from fleetpatch.cli.runtime.output import print_to_stdout, render_count, render_state, shorten_list, to_safe_text
from fleetpatch.cli.runtime.table import build_number_column, build_table, build_unwrapped_column
from fleetpatch.cli.views.doctor import render_readiness
from fleetpatch.cli.views.hotpatch import build_row_json, format_short_status
from fleetpatch.cli.views.plan import render_classification, render_update_name, render_version_change
from flows.doctor import check_assessment, find_worst_level
from flows.hotpatch.overview import HotpatchRow
from inventory.machine import Machine
from tasks.domain.compliance import judge_present_compliance
from tasks.domain.model import Assessment, Update
from tasks.domain.states import URGENT_CLASSIFICATIONS, Compliance
from tasks.reports.formatting import NO_FIGURE, format_age, format_count, format_iso_utc
from tasks.reports.sanitizing import sanitize_to_one_line
from tasks.rules.machine_checks.live_patching import describe_live_patching

MAX_NAMES = 5

MissingUpdates = Sequence[tuple[Machine, Update]]


def build_machine_status_json(
    machine: Machine, assessment: Assessment | None, answer: Assessment | None, hotpatch: HotpatchRow, now: datetime
) -> dict[str, object]:
    """Return a machine and its state as JSON data.

    Args:
        machine: the machine.
        assessment: its newest assessment, with or without an answer.
        answer: its newest assessment with an answer: what it lacks.
        hotpatch: its enrolment.
        now: the present time.
    """
    facts = answer.facts if answer else None
    packages = answer.packages if answer else None
    return {
        "machineName": machine.name,
        "address": machine.address,
        "environment": machine.environment,
        "location": machine.location,
        "availabilityZone": machine.availability_zone,
        "groups": list(machine.groups),
        "tags": dict(machine.tags),
        "owner": machine.owner.value,
        "complianceState": find_compliance(assessment, answer, now).value,
        "lastKnownComplianceState": answer.compliance.value if answer else None,
        "osName": facts.os_name if facts else None,
        "criticalAndSecurityPatchCount": answer.urgent_count if answer else None,
        "otherPatchCount": answer.other_count if answer else None,
        "servicesToRestart": list(packages.services_to_restart) if packages else None,
        "rebootMitigatedBy": (packages.reboot.mitigated_by or None) if packages else None,
        "livePatches": (describe_live_patching(packages.live_patching) or None) if packages else None,
        **build_row_json(hotpatch),
        "readiness": find_worst_level(check_assessment(assessment)).value if assessment else None,
        "assessedDateTime": format_iso_utc(answer.at) if answer else None,
        "lastTryDateTime": format_iso_utc(assessment.at) if assessment else None,
        "error": assessment.error.message if assessment and assessment.error else None,
    }


def find_compliance(latest: Assessment | None, answer: Assessment | None, now: datetime) -> Compliance:
    """Return whether a machine is compliant now: see ``judge_present_compliance``.

    Args:
        latest: its newest assessment, with or without an answer.
        answer: the newest one with an answer.
        now: the present time.
    """
    error_kind = latest.error.kind if latest and latest.error else ""
    if answer is None:
        return Compliance.NOT_ASSESSED
    return judge_present_compliance(answer.compliance, answer.at, now, error_kind)


def print_machine_statuses(
    machines: Sequence[Machine],
    latest: Mapping[str, Assessment],
    answers: Mapping[str, Assessment],
    hotpatches: Mapping[str, HotpatchRow],
    now: datetime,
) -> None:
    """Print machines as a table. Without any enrolment for hotpatches, their column is left out.

    Args:
        machines: the machines.
        latest: the newest assessment of each, with or without an answer.
        answers: the newest one with an answer: what a machine lacks.
        hotpatches: the enrolment of each.
        now: the present time.
    """
    has_hotpatches = any(row.status is not None for row in hotpatches.values())
    names = [machine.name for machine in machines]
    grid = build_table(
        build_unwrapped_column("machine"),
        build_unwrapped_column("compliance"),
        build_unwrapped_column("env"),
        build_unwrapped_column("system"),
        build_number_column("crit+sec"),
        build_number_column("other"),
        build_number_column("restart"),
        *([build_unwrapped_column("hotpatch")] if has_hotpatches else []),
        build_unwrapped_column("readiness"),
        build_number_column("answered"),
    )
    for machine in machines:
        assessment, answer = latest.get(machine.name), answers.get(machine.name)
        facts = answer.facts if answer else None
        grid.add_row(
            to_safe_text(machine.name),
            render_state(find_compliance(assessment, answer, now)),
            to_safe_text(machine.environment or NO_FIGURE, limit=12),
            to_safe_text(f"{facts.os_id} {facts.os_version}" if facts else NO_FIGURE, limit=16),
            render_count(answer.urgent_count, "red") if answer else Text(NO_FIGURE),
            render_count(answer.other_count) if answer else Text(NO_FIGURE),
            render_count(len(answer.packages.services_to_restart), "yellow")
            if answer and answer.packages
            else Text(NO_FIGURE),
            *([format_short_status(hotpatches[machine.name], now.date())] if has_hotpatches else []),
            render_readiness(find_worst_level(check_assessment(assessment))) if assessment else Text(NO_FIGURE),
            format_age(answer.at, now) if answer else "never",
        )
    print_to_stdout(grid)
    _print_silent_machines(names, latest, answers, now)
    if any(mine.packages and mine.packages.services_to_restart for mine in map(answers.get, names) if mine):
        print_to_stdout("", "restart: number of services that run replaced files. fleetpatch why MACHINE names them.")
    never = [name for name in names if name not in latest]
    if never:
        print_to_stdout(
            "", f"Never assessed: {', '.join(shorten_list(never, MAX_NAMES))}. To assess them: fleetpatch assess"
        )


def find_missing_updates(
    machines: Sequence[Machine], latest: Mapping[str, Assessment], *, urgent: bool
) -> MissingUpdates:
    """Return every missing update of every machine, in the order of the machines."""
    return [
        (machine, update)
        for machine in machines
        if (assessment := latest.get(machine.name)) is not None and assessment.packages is not None
        for update in assessment.packages.updates
        if not urgent or update.classification in URGENT_CLASSIFICATIONS
    ]


def build_missing_updates_json(missing_updates: MissingUpdates) -> dict[str, object]:
    """Return missing updates as JSON data."""
    return {
        "updates": [
            {
                "machineName": machine.name,
                "patchName": update.name,
                "patchTitle": update.title or None,
                "versionBefore": update.installed,
                "version": update.available,
                "classifications": [update.classification.value],
                "severity": update.severity,
                "cves": None if update.cves is None else list(update.cves),
                "origins": list(update.origins),
                "sizeBytes": update.size_bytes,
                "held": update.held,
                "blocked": update.blocked,
                "needsLicence": update.needs_licence,
            }
            for machine, update in missing_updates
        ]
    }


def print_missing_by_update(
    missing_updates: MissingUpdates, machines: Sequence[Machine], latest: Mapping[str, Assessment]
) -> None:
    """Print a line for each update and version, with its machines: security first, then the most machines."""
    groups: dict[tuple[str, str], list[tuple[Machine, Update]]] = {}
    for machine, update in missing_updates:
        groups.setdefault((update.name, update.available), []).append((machine, update))
    grid = build_table(
        "update", build_unwrapped_column("classification"), "new version", build_number_column("machines"), "names"
    )
    for (_, version), every in sorted(
        groups.items(),
        key=lambda item: (item[1][0][1].classification not in URGENT_CLASSIFICATIONS, -len(item[1]), item[0]),
    ):
        names = ", ".join(sanitize_to_one_line(each) for each in shorten_list([m.name for m, _ in every], MAX_NAMES))
        grid.add_row(
            render_update_name(every[0][1]),
            render_classification(every[0][1]),
            to_safe_text(version),
            str(len(every)),
            Text(names, style="dim"),
        )
    _print_missing_table(grid if groups else None, f"{format_count(len(groups), 'update')}", machines, latest)


def print_missing_by_machine(
    missing_updates: MissingUpdates, machines: Sequence[Machine], latest: Mapping[str, Assessment]
) -> None:
    """Print a line for each update of each machine."""
    grid = build_table(
        build_unwrapped_column("machine"), "update", build_unwrapped_column("classification"), "installed → new", ""
    )
    before = ""
    for machine, update in sorted(
        missing_updates,
        key=lambda pair: (pair[0].name, pair[1].classification not in URGENT_CLASSIFICATIONS, pair[1].name),
    ):
        shown = machine.name if machine.name != before else ""
        grid.add_row(
            to_safe_text(shown),
            render_update_name(update),
            render_classification(update),
            render_version_change(update),
            to_safe_text(update.remark, "yellow", 40),
        )
        before = machine.name
    _print_missing_table(
        grid if missing_updates else None, format_count(len(missing_updates), "missing update"), machines, latest
    )


def _print_missing_table(
    grid: object, count: str, machines: Sequence[Machine], latest: Mapping[str, Assessment]
) -> None:
    known = [machine for machine in machines if machine.name in latest]
    if grid is not None:
        print_to_stdout(grid, "")  # type: ignore[arg-type]  # a table
    print_to_stdout(
        f"{count} on {format_count(len(known), 'assessed machine')}." if grid is not None else "No update is missing."
    )
    unknown = [machine.name for machine in machines if machine.name not in latest]
    if unknown:
        print_to_stdout(f"Not known, because never assessed: {', '.join(shorten_list(unknown, MAX_NAMES))}")


def _print_silent_machines(
    names: Sequence[str], latest: Mapping[str, Assessment], answers: Mapping[str, Assessment], now: datetime
) -> None:
    """Print the machines that did not answer the last time: when that was, and what they were when they last did."""
    silent = [name for name in names if name in latest and latest[name].packages is None]
    if silent:
        print_to_stdout("", f"No answer at the last assessment ({format_count(len(silent), 'machine')}):")
    for name in silent[:MAX_NAMES]:
        known = answers.get(name)
        before = f"{known.compliance.value} {format_age(known.at, now)}" if known else "it has never answered"
        print_to_stdout(to_safe_text(f"  {name}: asked {format_age(latest[name].at, now)}; last known: {before}"))
    if len(silent) > MAX_NAMES:
        print_to_stdout(f"  and {len(silent) - MAX_NAMES} more")
