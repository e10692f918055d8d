"""Prints readiness: a mark for each check of each machine, then each problem and its remedy."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rich.table import Column
from rich.text import Text

from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.output import (
    print_detail,
    print_to_stdout,
    render_mark,
    render_marked_line,
    render_state,
    shorten_list,
    to_safe_text,
)
from fleetpatch.cli.runtime.row_table import Fact, build_list_json
from fleetpatch.cli.runtime.table import build_column, build_table
from flows.doctor import CUSTOM_CHECK_PREFIX, Readiness
from flows.recording import RecordedBundle
from tasks.domain.model import Finding
from tasks.domain.states import FindingLevel
from tasks.reports.formatting import NO_FIGURE, format_count
from tasks.reports.sanitizing import sanitize_to_one_line
from tasks.rules.machine_checks.findings import CHECK_NAMES, PACKAGE_LISTS_CHECK, SETTINGS_CHECK, find_worst_level
from tasks.rules.machine_checks.packages import PACKAGE_LOCK_CHECK

MAX_NAMES = 6
_CHECKS_BY_COLUMN: Mapping[str, tuple[str, ...]] = {
    "reach": ("reach",),
    "key": ("host key",),
    "login": ("login",),
    "root": ("privilege",),
    "facts": ("facts", SETTINGS_CHECK),
    "clock": ("clock",),
    "disk": ("disk",),
    "pkgs": ("packages", "repositories", PACKAGE_LOCK_CHECK, PACKAGE_LISTS_CHECK),
    "boot": ("pending-reboot",),
    "auto": ("auto-updater",),
    "held": ("held",),
}
_READINESS = {
    FindingLevel.GOOD: render_state("ready"),
    FindingLevel.REMARK: render_state("ready"),
    FindingLevel.WARN: Text("ready", style="yellow"),
    FindingLevel.BLOCK: render_state("not ready"),
}


def to_doctor_exit_code(own_findings: Sequence[Finding], machines: Sequence[Readiness]) -> ExitCode:
    """Return the exit code of the worst finding."""
    if find_worst_level(own_findings) is FindingLevel.BLOCK:
        return ExitCode.CANNOT_RUN
    levels = {machine.level for machine in machines} | {find_worst_level(own_findings)}
    if FindingLevel.BLOCK in levels:
        return ExitCode.MACHINE_FAILED
    return ExitCode.WARNINGS if FindingLevel.WARN in levels else ExitCode.SUCCESS


FINDING_FACTS: Final[Sequence[Fact[Finding]]] = (
    Fact("check", lambda finding: finding.check),
    Fact("level", lambda finding: finding.level),
    Fact("message", lambda finding: finding.message),
    Fact("remedy", lambda finding: finding.remedy),
)
MACHINE_FACTS: Final[Sequence[Fact[Readiness]]] = (
    Fact("machineName", lambda machine: machine.machine),
    Fact("ready", lambda machine: machine.level is not FindingLevel.BLOCK),
    Fact("level", lambda machine: machine.level),
    Fact("findings", lambda machine: build_list_json(FINDING_FACTS, machine.findings)),
)
BUNDLE_FACTS: Final[Sequence[Fact[RecordedBundle]]] = (
    Fact("folder", lambda bundle: str(bundle.folder)),
    Fact("answers", lambda bundle: bundle.scripts),
    Fact("failed", lambda bundle: bundle.failed),
    Fact("replaced", lambda bundle: dict(bundle.replaced)),
    Fact("kept", lambda bundle: bundle.kept),
    Fact("knowsOwnNames", lambda bundle: bundle.knows_own_names),
)


def build_doctor_json(
    own_findings: Sequence[Finding],
    machines: Sequence[Readiness],
    server_findings: Sequence[Finding] = (),
    bundle: RecordedBundle | None = None,
) -> dict[str, object]:
    """Return it as JSON data."""
    return {
        "fleetpatch": build_list_json(FINDING_FACTS, own_findings),
        "server": build_list_json(FINDING_FACTS, server_findings),
        "machines": build_list_json(MACHINE_FACTS, machines),
        "exitCode": int(to_doctor_exit_code((*own_findings, *server_findings), machines)),
        **({} if bundle is None else {"recorded": build_list_json(BUNDLE_FACTS, [bundle])[0]}),
    }


def print_installation_findings(findings: Sequence[Finding]) -> None:
    """Print the findings about fleetpatch itself; one line when all are good."""
    if find_worst_level(findings) is FindingLevel.GOOD:
        line = " fleetpatch itself: libraries, packages and records are good"
        print_to_stdout(Text.assemble(render_mark(FindingLevel.GOOD), line))
    else:
        print_findings(findings)


def print_findings(findings: Sequence[Finding]) -> None:
    """Print all findings about fleetpatch itself or the Prefect server."""
    for finding in findings:
        print_to_stdout(render_marked_line(finding.level, finding.check, finding.message))
        if finding.remedy and finding.level is not FindingLevel.GOOD:
            print_detail(finding.remedy, "dim")


def print_machine_readiness(machines: Sequence[Readiness]) -> None:
    """Print machines as a table of marks, then each warning and fault once, with its machines."""
    has_custom_checks = any(_find_custom_check_findings(machine) for machine in machines)
    headings = (*_CHECKS_BY_COLUMN, *(["own"] if has_custom_checks else []))
    table = build_table(
        build_column("machine"),
        build_column(""),
        *(Column(heading, justify="center", no_wrap=True) for heading in headings),
        gap=1,  # a dozen columns with one mark each
    )
    for machine in machines:
        custom_findings = _find_custom_check_findings(machine)
        mark = render_mark(find_worst_level(custom_findings)) if custom_findings else Text(NO_FIGURE, style="dim")
        marks = [*_render_check_marks(machine), *([mark] if has_custom_checks else [])]
        table.add_row(to_safe_text(machine.machine), _READINESS[machine.level], *marks)
    print_to_stdout("", table)
    for (check, level, message, remedy), names in _group_findings(machines).items():
        whom = ", ".join(sanitize_to_one_line(name) for name in shorten_list(names, MAX_NAMES))
        line = Text.assemble(render_marked_line(level, check, message), (f"  [{whom}]", "cyan"))
        print_to_stdout("", line)
        if remedy:
            print_detail(remedy)
    ready = sum(machine.level is not FindingLevel.BLOCK for machine in machines)
    warnings = sum(machine.level is FindingLevel.WARN for machine in machines)
    warned = f", {warnings} with warnings" if warnings else ""
    verb = "is" if len(machines) == 1 else "are"
    print_to_stdout("", f"{ready} of {format_count(len(machines), 'machine')} {verb} ready{warned}.")


def print_recording(bundle: RecordedBundle | None) -> None:
    """Print what was recorded, and what was replaced in it; None: nothing was."""
    if bundle is None:
        print_to_stdout("", "Nothing was recorded: the machine has answered no script.")
        return
    replaced = ", ".join(f"{kind} {count}" for kind, count in bundle.replaced.items()) or "nothing"
    print_to_stdout("", f"Recorded: {format_count(bundle.scripts, 'answer')} in {bundle.folder}")
    if bundle.failed:
        print_to_stdout(f"Without an answer: {', '.join(bundle.failed)}; bundle.json says why.")
    print_to_stdout(f"Replaced (different values): {replaced}. Passwords and tokens are ***.")
    if bundle.kept:
        names = ", ".join(sanitize_to_one_line(name) for name in bundle.kept)
        print_to_stdout(f"Not replaced, as they are common words or too short: {names}")
    if not bundle.knows_own_names:
        print_to_stdout("The machine has not said its own names: only those of the inventory are replaced.")
    print_to_stdout("Read the files before you give them to anybody: a name that nobody knows here is still there.")


def _find_custom_check_findings(machine: Readiness) -> list[Finding]:
    """Return the findings of the user's own checks."""
    return [finding for finding in machine.findings if finding.check.startswith(CUSTOM_CHECK_PREFIX)]


def _render_check_marks(machine: Readiness) -> list[Text]:
    """Return a mark for each check; a dash where it could not run."""
    findings = machine.findings
    reached = max(
        (CHECK_NAMES.index(finding.check) for finding in findings if finding.check in CHECK_NAMES), default=-1
    )
    blocked = any(finding.level is FindingLevel.BLOCK and CHECK_NAMES.index("facts") >= reached for finding in findings)
    complete = not blocked and not machine.has_unread_lists
    marks = []
    for checks in _CHECKS_BY_COLUMN.values():
        check_findings = [finding for finding in findings if finding.check in checks]
        is_known = bool(check_findings) or complete or CHECK_NAMES.index(checks[0]) < reached
        level = find_worst_level(check_findings)  # good without any
        marks.append(render_mark(level) if is_known else Text(NO_FIGURE, style="dim"))
    return marks


def _group_findings(machines: Iterable[Readiness]) -> dict[tuple[str, FindingLevel, str, str], list[str]]:
    """Return warnings and faults, faults first, with the names of their machines."""
    groups: dict[tuple[str, FindingLevel, str, str], list[str]] = {}
    for machine in machines:
        for finding in machine.findings:
            if finding.level is not FindingLevel.GOOD:
                key = (finding.check, finding.level, finding.message, finding.remedy)
                groups.setdefault(key, []).append(machine.machine)
    order = {check: position for position, check in enumerate(CHECK_NAMES)}
    by_urgency = sorted(groups, key=lambda key: (key[1] is not FindingLevel.BLOCK, order.get(key[0], len(order))))
    return {key: groups[key] for key in by_urgency}
