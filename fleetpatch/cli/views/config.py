"""Prints configurations, findings and the policy, or returns them as JSON."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.text import Text

from deployments.checks.finding import ConfigurationFinding
from deployments.configuration.model import Configuration, Configurations, Inventories
from deployments.configuration.prefect_names import AUTOMATIC_NAME
from deployments.preview.automatic_status import count_managed_machines, describe_off_peak
from deployments.preview.zone_schedules import find_known_zones, is_all_over, is_over, list_over
from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.output import print_to_stdout, print_warning, to_safe_lines, to_safe_text
from fleetpatch.cli.runtime.row_table import Fact, build_list_json, build_list_table
from fleetpatch.cli.views.inventory import PROBLEM_FACTS
from flows.freezes.time_values import MACHINE_ZONE
from inventory.errors import InventoryError
from inventory.machine import Machine
from inventory.name_lists import join_first_names
from tasks.reports.formatting import NO_FIGURE, format_count
from tasks.rules.calendar.checks import FindingSeverity
from tasks.rules.calendar.description import describe_schedule
from tasks.rules.calendar.freezes import find_freeze
from tasks.rules.calendar.local_time import get_time_zone
from tasks.rules.calendar.schedule import iterate_occurrences
from tasks.rules.policy.decision import describe_refusal
from tasks.rules.policy.model import Policy, PolicyDecision, describe_limits

_ENABLED = "enabled"
_ALL_FROZEN = "none: a freeze"
"""The state of a configuration whose windows open."""
ALL_OVER = "All windows are over: nothing here will ever be patched by a schedule. Give one a later window."
OVER = "over, its last window has ended: it patches nothing any more"
_MAX_FROZEN_WINDOWS = 200
"""Maximum number of windows that are searched for one without a freeze."""


def to_check_exit_code(
    inventories: Inventories, findings: Sequence[ConfigurationFinding], inventory: Path | None
) -> ExitCode:
    """Return the exit code of a check. A missing inventory is an error only if the user named it."""
    if any(finding.severity is FindingSeverity.BLOCKS for finding in findings):
        return ExitCode.BAD_INPUT
    named = [path for path in inventories.errors if path is not None or inventory is not None]
    if named:
        return ExitCode.BAD_INPUT
    return ExitCode.WARNINGS if findings or inventories.errors else ExitCode.SUCCESS


def build_faulty_configurations_json(path: Path, problems: Sequence[InventoryError]) -> dict[str, object]:
    """Return the result of a check of files with problems as JSON data."""
    problem_documents = build_list_json(PROBLEM_FACTS, problems)
    results: dict[str, object] = {"configurations": [], "automatic": None, "findings": []}
    return {"source": str(path), "valid": False, "problems": problem_documents, **results}


def build_check_json(
    configurations: Configurations, inventories: Inventories, findings: Sequence[ConfigurationFinding], now: datetime
) -> dict[str, object]:
    """Return the result of a check as JSON data."""
    return {
        "source": str(configurations.source_path),
        "valid": not any(finding.severity is FindingSeverity.BLOCKS for finding in findings),
        "problems": [],
        "configurations": build_list_json(_list_facts(inventories, now), configurations.all_configurations),
        "automatic": _build_automatic_json(configurations, inventories),
        "findings": [
            {
                "configuration": finding.configuration,
                "severity": finding.severity.value,
                "key": finding.key,
                "message": finding.message,
                "hint": finding.remedy,
            }
            for finding in findings
        ],
        "inventoryFaults": [
            {"inventory": str(path) if path else None, "message": error.message, "hint": error.hint}
            for path, error in inventories.errors.items()
        ],
    }


def _list_facts(inventories: Inventories, now: datetime) -> Sequence[Fact[Configuration]]:
    def render_count(configuration: Configuration) -> Text:
        count = count_machines(configuration, inventories)
        return Text(NO_FIGURE if count is None else str(count), justify="right")

    def describe_next_window(configuration: Configuration) -> str:
        opens, state = find_next_window(configuration, inventories, now), find_state(configuration)
        return state if state != _ENABLED else f"{opens:%Y-%m-%d %H:%M}" if opens else _ALL_FROZEN

    def find_state(configuration: Configuration) -> str:
        if not configuration.is_enabled:
            return "disabled"
        return "over" if is_over(configuration, inventories, now) else _ENABLED

    return (
        Fact(
            "name",
            lambda configuration: configuration.name,
            "configuration",
            lambda configuration: _render_name(configuration.name, configuration.is_enabled),
        ),
        Fact("file", lambda configuration: str(configuration.source_location.file)),
        Fact("line", lambda configuration: configuration.source_location.line),
        Fact("enabled", lambda configuration: configuration.is_enabled),
        Fact("state", find_state),
        Fact("scope", lambda configuration: configuration.scope),
        Fact(
            "inventory",
            lambda configuration: str(configuration.inventory_path) if configuration.inventory_path else None,
        ),
        Fact("", lambda configuration: describe_windows(configuration, inventories), "when", wraps=True),
        Fact(
            "machineCount", lambda configuration: count_machines(configuration, inventories), "machines", render_count
        ),
        Fact("when", lambda configuration: describe_windows(configuration, inventories)),
        Fact("zone", lambda configuration: configuration.zone),
        Fact("windowMinutes", lambda configuration: configuration.window_minutes),
        Fact("leadMinutes", lambda configuration: configuration.lead_minutes),
        Fact(
            "nextWindowStart",
            lambda configuration: find_next_window(configuration, inventories, now),
            "next window",
            describe_next_window,
        ),
    )


def _render_name(name: str, is_enabled: bool) -> Text:
    return to_safe_text(name, style="" if is_enabled else "dim")


def _build_automatic_json(configurations: Configurations, inventories: Inventories) -> dict[str, object] | None:
    automatic = configurations.automatic_configuration
    if automatic is None:
        return None
    request = automatic.request
    return {
        "file": str(automatic.source_location.file),
        "line": automatic.source_location.line,
        "enabled": request.enabled,
        "scope": request.scope,
        "inventory": str(request.inventory) if request.inventory else None,
        "machineCount": count_managed_machines(request, inventories.by_path.get(request.inventory)),
        "when": describe_off_peak(request),
        "windowMinutes": request.off_peak.window_minutes,
    }


def print_check_result(
    configurations: Configurations, inventories: Inventories, findings: Sequence[ConfigurationFinding], now: datetime
) -> None:
    """Print a table of configurations, and the findings below it."""
    table = build_list_table(_list_facts(inventories, now), configurations.all_configurations)
    if (request := configurations.automatic) is not None:
        managed = count_managed_machines(request, inventories.by_path.get(request.inventory))
        table.add_row(
            _render_name(AUTOMATIC_NAME, request.enabled),
            to_safe_text(describe_off_peak(request)),
            Text(NO_FIGURE if managed is None else str(managed), justify="right"),
            Text(NO_FIGURE if request.enabled else "disabled"),
        )
    print_to_stdout(table, "")
    for finding in findings:
        print_configuration_finding(finding)
    for path, error in inventories.errors.items():
        subject = f"the inventory {path}" if path else "no inventory"
        print_warning(f"{subject}: machines, scopes and overlaps are not checked")
        print_to_stdout(Text.assemble("    ", to_safe_lines(f"{error.message}  {error.hint}")))
    blocked = sum(finding.severity is FindingSeverity.BLOCKS for finding in findings)
    warned = len(findings) - blocked + len(inventories.errors)
    parts = [f"{format_count(blocked, 'fault')}"] * bool(blocked) + [format_count(warned, "warning")] * bool(warned)
    mark = ("✗ ", "bold red") if blocked else ("✓ ", "green")
    automatic = ["automatic patching"] if configurations.automatic is not None else []
    count = len(configurations.all_configurations)
    configured = [format_count(count, "configuration")] if count or not automatic else []
    counts = ": " + ", ".join((*configured, *automatic, *parts))
    if findings or inventories.errors:
        print_to_stdout("")
    print_to_stdout(Text.assemble(mark, to_safe_text(str(configurations.source_path)), counts))
    if is_all_over(configurations, list_over(configurations, inventories, now)):
        print_warning(ALL_OVER)


def print_configuration_finding(finding: ConfigurationFinding) -> None:
    """Print a finding and its remedy."""
    blocks = finding.severity is FindingSeverity.BLOCKS
    mark = ("✗ ", "bold red") if blocks else ("! ", "yellow")
    name = to_safe_text(finding.configuration, style="bold")
    print_to_stdout(Text.assemble(mark, name, ": ", to_safe_text(f"{finding.key}: {finding.message}")))
    print_to_stdout(Text.assemble("    ", to_safe_lines(finding.remedy)))


def count_machines(configuration: Configuration, inventories: Inventories) -> int | None:
    """Return the number of machines of a configuration, or None without an inventory."""
    if inventories.get_inventory(configuration) is None:
        return None
    try:
        return len(inventories.select_machines(configuration))
    except InventoryError:
        return 0


def describe_windows(configuration: Configuration, inventories: Inventories) -> str:
    """Return a sentence about when the windows open."""
    zone = find_known_zones(configuration, inventories)[0]
    schedule_text = describe_schedule(configuration.build_schedule(zone))
    return (
        schedule_text.replace(f" {zone}", " in each machine's own zone", 1)
        if configuration.zone == MACHINE_ZONE
        else schedule_text
    )


def find_next_window(configuration: Configuration, inventories: Inventories, now: datetime) -> datetime | None:
    """Return the start of the next window without a freeze. With several zones, return the earliest."""
    lines = []
    for zone in find_known_zones(configuration, inventories):
        freezes = configuration.build_freezes(zone)
        windows = iterate_occurrences(configuration.build_schedule(zone), now, limit=_MAX_FROZEN_WINDOWS)
        opens = next((window.start for window in windows if find_freeze(window, freezes) is None), None)
        lines += [opens.astimezone(get_time_zone(zone))] if opens is not None else []
    return min(lines, default=None)


def build_policy_json(policy: Policy, machines: Sequence[Machine], decision: PolicyDecision) -> dict[str, object]:
    """Return the rules that hold for machines, and the decision on a request, as JSON data."""
    return {
        "files": [file.path for file in policy.files],
        "machines": [machine.name for machine in machines],
        "rules": [
            {
                "name": rule.name,
                "place": rule.place,
                "scope": str(rule.scope),
                "ask": rule.ask,
                "machines": list(names),
                "limits": dict(describe_limits(rule)),
            }
            for rule, names in decision.rules
        ],
        "refusals": [
            {
                "rule": refusal.place or None,
                "key": refusal.key,
                "reason": refusal.reason,
                "machines": list(refusal.machines),
                "ask": refusal.ask or None,
            }
            for refusal in decision.refusals
        ],
        "approvers": [sorted(names) for names in decision.approvers],
        "machinesAtOnce": decision.at_once,
    }


def print_policy(policy: Policy, machines: Sequence[Machine], decision: PolicyDecision, subject: str) -> None:
    """Print the rules that hold for machines, and the decision on a request. ``subject`` begins a sentence."""
    if not policy.files:
        print_to_stdout("There is no policy file here: no rule holds.")
        return
    for file in policy.files:
        print_to_stdout(Text.assemble("policy: ", to_safe_text(file.path)))
    for rule, names in decision.rules:
        names_text = "all of them" if len(names) == len(machines) else join_first_names(names)
        print_to_stdout(
            "",
            Text.assemble(
                to_safe_text(rule.name, "bold"),
                " ",
                to_safe_text(f"({rule.place}), {rule.scope}: {names_text}. Ask {rule.ask}"),
            ),
        )
        for key, limit_text in describe_limits(rule):
            print_to_stdout(Text.assemble("  ", to_safe_text(key, "bold"), ": ", to_safe_text(limit_text)))
    if not decision.rules:
        print_to_stdout(f"No rule is about {format_count(len(machines), 'machine')} of this scope.")
    print_to_stdout("")
    if decision.refusals:
        print_to_stdout(f"{subject} would be refused:")
    for refusal in decision.refusals:
        print_to_stdout(Text.assemble(("refused: ", "red"), to_safe_text(describe_refusal(refusal))))
    if not decision.refusals:
        more = [f"after an approval by {' and by '.join(', '.join(sorted(names)) for names in decision.approvers)}"]
        more = more if decision.approvers else []
        if decision.at_once is not None:
            more.append(f"with {format_count(decision.at_once, 'machine')} at once")
        print_to_stdout(to_safe_text(f"{subject} may begin{' ' if more else ''}{', '.join(more)}."))
