"""Prints which machines miss a deadline of automatic patching, or builds the JSON of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime, timedelta
from enum import StrEnum

from rich.text import Text

from deployments.preview.automatic_status import AutomaticStatus
from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.output import get_stdout_console, print_to_stdout
from fleetpatch.cli.runtime.row_table import Fact, build_list_json, build_list_table
from inventory.data_class import dataclass
from tasks.domain.assessment import strip_update_id
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
    """The forecasts that are shown."""

    now: datetime  # the time from which they look ahead
    forecasts: Sequence[MachineForecast]  # one for each machine
    # When the machines that were not seen lately were assessed last; None: never.
    not_seen_lately: Mapping[str, datetime | None] = field(default_factory=dict)


def build_compliance_view(status: AutomaticStatus, forecasts: Sequence[MachineForecast]) -> ComplianceView:
    """Return the forecasts with what is known of their machines."""
    index = FleetIndex(status.policy, status.view, status.now)
    not_seen_lately = {
        machine.name: machine.assessed_at for machine in status.view.machines if not index.is_seen(machine)
    }
    return ComplianceView(status.now, forecasts, not_seen_lately)


def find_deadline_state(view: ComplianceView, forecast: MachineForecast) -> DeadlineState:
    """Return how a machine stands with its deadlines."""
    now = view.now
    if forecast.update is None:
        return DeadlineState.UNKNOWN if forecast.machine in view.not_seen_lately else DeadlineState.NOTHING_DUE
    if forecast.breaches_at is None:
        return DeadlineState.DUE
    return DeadlineState.BREACHED if forecast.breaches_at <= now else DeadlineState.WILL_BREACH


def sort_by_urgency(view: ComplianceView) -> list[MachineForecast]:
    """Return forecasts: missed deadlines first, then those that will be missed, then by deadline."""
    latest = view.now + timedelta(days=36_500)
    return sorted(
        view.forecasts,
        key=lambda forecast: (
            _ORDER.index(find_deadline_state(view, forecast)),
            forecast.due or latest,
            forecast.machine,
        ),
    )


def to_compliance_exit_code(view: ComplianceView) -> ExitCode:
    """Return MACHINE_FAILED if a deadline is missed, WARNINGS if one will be or a machine is unknown, else SUCCESS.

    Without a machine it is WARNINGS: a wrong scope must not look like a fleet in which all is well.
    """
    states = {find_deadline_state(view, forecast) for forecast in view.forecasts}
    if DeadlineState.BREACHED in states:
        return ExitCode.MACHINE_FAILED
    is_warned = not states or bool(states & {DeadlineState.WILL_BREACH, DeadlineState.UNKNOWN})
    return ExitCode.WARNINGS if is_warned else ExitCode.SUCCESS


def _list_facts(view: ComplianceView) -> Sequence[Fact[MachineForecast]]:
    def render_state(forecast: MachineForecast) -> Text:
        state = find_deadline_state(view, forecast)
        return Text(state.value, style=_STYLES[state])

    def count_days_left(forecast: MachineForecast) -> float | None:
        return (forecast.due - view.now) / timedelta(days=1) if forecast.due else None

    def render_days_left(forecast: MachineForecast) -> Text:
        days = count_days_left(forecast)
        is_breached = find_deadline_state(view, forecast) is DeadlineState.BREACHED
        style = _STYLES[DeadlineState.BREACHED] if is_breached else ""
        return Text(NO_FIGURE if days is None else f"{days:.1f}", style=style)

    def describe_patched(forecast: MachineForecast) -> str:
        is_unforeseen = forecast.update is not None and forecast.patched_at is None
        return "not foreseen" if is_unforeseen else _format_day(forecast.patched_at)

    def describe_reason(forecast: MachineForecast) -> str:
        if find_deadline_state(view, forecast) is not DeadlineState.UNKNOWN:
            return forecast.reason
        assessed_at = view.not_seen_lately[forecast.machine]
        return f"it was last assessed on {_format_day(assessed_at)}" if assessed_at else "it was never assessed"

    return (
        Fact("machineName", lambda forecast: forecast.machine, "machine"),
        Fact("state", lambda forecast: find_deadline_state(view, forecast), "deadlines", render_state),
        Fact("patchName", lambda forecast: forecast.update.name if forecast.update else None),
        Fact("version", lambda forecast: strip_update_id(forecast.update.version) if forecast.update else None),
        Fact("due", lambda forecast: forecast.due, "due", lambda forecast: _format_day(forecast.due)),
        Fact(
            "daysLeft",
            lambda forecast: _round(count_days_left(forecast)),
            "days left",
            render_days_left,
            is_number=True,
        ),
        Fact("patchedAt", lambda forecast: forecast.patched_at, "patched", describe_patched),
        Fact("breachesAt", lambda forecast: forecast.breaches_at),
        Fact("", lambda forecast: forecast.update.name if forecast.update else "", "update", wraps=True),
        Fact("reason", lambda forecast: describe_reason(forecast) or None, "why", describe_reason, "dim", wraps=True),
    )


def build_compliance_json(view: ComplianceView) -> dict[str, object]:
    """Return all machines as JSON data, the most urgent first."""
    counts = Counter(find_deadline_state(view, forecast) for forecast in view.forecasts)
    return {
        "at": format_iso_utc(view.now),
        "counts": {state.value: counts[state] for state in DeadlineState},
        "machines": build_list_json(_list_facts(view), sort_by_urgency(view)),
    }


def print_compliance(view: ComplianceView, *, show_all: bool = False) -> None:
    """Print machines with due updates and unknown machines, the most urgent first, and a summary line."""
    forecasts = [
        forecast
        for forecast in sort_by_urgency(view)
        if find_deadline_state(view, forecast) is not DeadlineState.NOTHING_DUE
    ]
    listed = forecasts if show_all else forecasts[:_MAX_ROWS]
    without = [] if get_stdout_console().width >= _WIDE_TERMINAL_COLUMNS else ["update"]
    if forecasts:
        print_to_stdout(build_list_table(_list_facts(view), listed, without=without))
        if len(forecasts) > len(listed):
            print_to_stdout(f"… and {len(forecasts) - len(listed)} more: --all shows them.")
        print_to_stdout("")
    print_to_stdout(_render_summary(view))


def _render_summary(view: ComplianceView) -> Text:
    if not view.forecasts:
        return Text("No machine of the scope is patched automatically, so nothing is known of deadlines.")
    counts = Counter(find_deadline_state(view, forecast) for forecast in view.forecasts)
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


def _round(days: float | None) -> float | None:
    return None if days is None else round(days, 2)
