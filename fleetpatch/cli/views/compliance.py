"""Prints which machines miss a deadline of automatic patching, or builds the JSON of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from rich.text import Text

from deployments.preview.automatic_status import AutomaticStatus
from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.output import get_stdout_console, print_to_stdout, to_safe_text
from fleetpatch.cli.runtime.table import build_number_column, build_table, build_unwrapped_column
from tasks.reports.formatting import NO_FIGURE, format_count, format_iso_utc
from tasks.rules.automatic.fleet_index import FleetIndex
from tasks.rules.automatic.forecast import MachineForecast

_WIDE_TERMINAL_COLUMNS = 100
_MAX_ROWS = 40


class DeadlineState(StrEnum):
    """How a machine stands with its deadlines, the most urgent first."""

    BREACHED = "breached"
    WILL_BREACH = "will breach"
    UNKNOWN = "unknown"  # not assessed lately: what it lacks is not known
    DUE = "in time"
    NOTHING_DUE = "nothing due"


_STYLES = {
    DeadlineState.BREACHED: "bold red",
    DeadlineState.WILL_BREACH: "yellow",
    DeadlineState.UNKNOWN: "magenta",
    DeadlineState.DUE: "green",
    DeadlineState.NOTHING_DUE: "dim",
}
_ORDER = list(DeadlineState)


@dataclass(frozen=True, slots=True)
class ComplianceView:
    """The forecasts that are shown.

    Attributes:
        now: the time from which they look ahead.
        forecasts: one for each machine.
        not_seen: when machines were assessed last that were not seen lately; None: never.
    """

    now: datetime
    forecasts: Sequence[MachineForecast]
    not_seen: Mapping[str, datetime | None] = field(default_factory=dict)


def build_compliance_view(status: AutomaticStatus, forecasts: Sequence[MachineForecast]) -> ComplianceView:
    """Return the forecasts with what is known of their machines."""
    index = FleetIndex(status.policy, status.view, status.now)
    not_seen = {machine.name: machine.assessed_at for machine in status.view.machines if not index.is_seen(machine)}
    return ComplianceView(status.now, forecasts, not_seen)


def find_deadline_state(view: ComplianceView, forecast: MachineForecast) -> DeadlineState:
    """Return how a machine stands with its deadlines."""
    now = view.now
    if forecast.update is None:
        return DeadlineState.UNKNOWN if forecast.machine in view.not_seen else DeadlineState.NOTHING_DUE
    if forecast.breaches_at is None:
        return DeadlineState.DUE
    return DeadlineState.BREACHED if forecast.breaches_at <= now else DeadlineState.WILL_BREACH


def sort_by_urgency(view: ComplianceView) -> list[MachineForecast]:
    """Return forecasts: missed deadlines first, then those that will be missed, then by deadline."""
    latest = view.now + timedelta(days=36_500)
    return sorted(
        view.forecasts,
        key=lambda each: (_ORDER.index(find_deadline_state(view, each)), each.due or latest, each.machine),
    )


def to_compliance_exit_code(view: ComplianceView) -> ExitCode:
    """Return MACHINE_FAILED if a deadline is missed, WARNINGS if one will be or a machine is unknown, else SUCCESS.

    Without a machine it is WARNINGS: a wrong scope must not look like a fleet in which all is well.
    """
    states = {find_deadline_state(view, machine_forecast) for machine_forecast in view.forecasts}
    if DeadlineState.BREACHED in states:
        return ExitCode.MACHINE_FAILED
    is_warned = not states or bool(states & {DeadlineState.WILL_BREACH, DeadlineState.UNKNOWN})
    return ExitCode.WARNINGS if is_warned else ExitCode.SUCCESS


def build_compliance_json(view: ComplianceView) -> dict[str, object]:
    """Return all machines as JSON data, the most urgent first."""
    now = view.now
    counts = Counter(find_deadline_state(view, machine_forecast) for machine_forecast in view.forecasts)
    return {
        "at": format_iso_utc(now),
        "counts": {state.value: counts[state] for state in DeadlineState},
        "machines": [
            {
                "machineName": machine_forecast.machine,
                "state": find_deadline_state(view, machine_forecast).value,
                "patchName": machine_forecast.update.name if machine_forecast.update else None,
                "version": machine_forecast.update.version if machine_forecast.update else None,
                "due": format_iso_utc(machine_forecast.due),
                "daysLeft": round((machine_forecast.due - now) / timedelta(days=1), 2)
                if machine_forecast.due
                else None,
                "patchedAt": format_iso_utc(machine_forecast.patched_at),
                "breachesAt": format_iso_utc(machine_forecast.breaches_at),
                "reason": _describe_reason(view, machine_forecast) or None,
            }
            for machine_forecast in sort_by_urgency(view)
        ],
    }


def print_compliance(view: ComplianceView, *, show_all: bool = False) -> None:
    """Print machines with due updates and unknown machines, the most urgent first, and a summary line."""
    now = view.now
    rows = [
        machine_forecast
        for machine_forecast in sort_by_urgency(view)
        if find_deadline_state(view, machine_forecast) is not DeadlineState.NOTHING_DUE
    ]
    is_wide = get_stdout_console().width >= _WIDE_TERMINAL_COLUMNS
    grid = build_table(
        build_unwrapped_column("machine"),
        build_unwrapped_column("deadlines"),
        build_unwrapped_column("due"),
        build_number_column("days left"),
        build_unwrapped_column("patched"),
        *(["update"] if is_wide else []),
        "why",
    )
    shown = rows if show_all else rows[:_MAX_ROWS]
    for machine_forecast in shown:
        state = find_deadline_state(view, machine_forecast)
        grid.add_row(
            to_safe_text(machine_forecast.machine),
            Text(state.value, style=_STYLES[state]),
            Text(_format_day(machine_forecast.due)),
            Text(
                _format_days_left(machine_forecast.due, now),
                style=_STYLES[state] if state is DeadlineState.BREACHED else "",
            ),
            Text(_format_patched(machine_forecast)),
            *([to_safe_text(machine_forecast.update.name if machine_forecast.update else "")] if is_wide else []),
            to_safe_text(_describe_reason(view, machine_forecast), style="dim"),
        )
    if rows:
        print_to_stdout(grid)
        if len(rows) > len(shown):
            print_to_stdout(f"… and {len(rows) - len(shown)} more: --all shows them.")
        print_to_stdout("")
    print_to_stdout(_render_summary(view))


def _describe_reason(view: ComplianceView, forecast: MachineForecast) -> str:
    if find_deadline_state(view, forecast) is not DeadlineState.UNKNOWN:
        return forecast.reason
    assessed_at = view.not_seen[forecast.machine]
    return f"it was last assessed on {_format_day(assessed_at)}" if assessed_at else "it was never assessed"


def _format_patched(forecast: MachineForecast) -> str:
    if forecast.update is None:
        return NO_FIGURE
    return _format_day(forecast.patched_at) if forecast.patched_at else "not foreseen"


def _render_summary(view: ComplianceView) -> Text:
    if not view.forecasts:
        return Text("No machine of the scope is patched automatically, so nothing is known of deadlines.")
    counts = Counter(find_deadline_state(view, machine_forecast) for machine_forecast in view.forecasts)
    parts = [
        f"{counts[DeadlineState.BREACHED]} missed a deadline",
        f"{counts[DeadlineState.WILL_BREACH]} will miss one at the present pace",
        f"{counts[DeadlineState.DUE]} will be patched in time",
        f"{counts[DeadlineState.NOTHING_DUE]} have nothing due",
        *([f"{counts[DeadlineState.UNKNOWN]} are unknown"] if counts[DeadlineState.UNKNOWN] else []),
    ]
    return Text(f"{format_count(len(view.forecasts), 'machine')}: {', '.join(parts)}.")


def _format_day(moment: datetime | None) -> str:
    return f"{moment.astimezone():%Y-%m-%d}" if moment else NO_FIGURE


def _format_days_left(due: datetime | None, now: datetime) -> str:
    return f"{(due - now) / timedelta(days=1):.1f}" if due else NO_FIGURE
