"""calendar: the next windows of all configurations."""

from typing import TYPE_CHECKING, Annotated

import typer

from fleetpatch.cli.app import ConfigurationsOption, InventoryOption, JsonOption, RecordsOption, app
from fleetpatch.cli.runtime.completion import complete_machine

if TYPE_CHECKING:
    from deployments.preview.window_calendar import HotpatchForecast, WindowCalendar


@app.command("calendar", rich_help_panel="Schedule")
def show_calendar(
    machine: Annotated[
        str | None,
        typer.Option(
            "--machine",
            "-m",
            metavar="NAME",
            help="Only windows that this machine is in.",
            autocompletion=complete_machine,
        ),
    ] = None,
    count: Annotated[int, typer.Option("--next", "-n", min=1, max=1000, help="How many windows.")] = 12,
    config: ConfigurationsOption = None,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the next windows, when their runs start, what prevents them, and expected reboots. Changes nothing."""
    from deployments.configuration.loader import find_configurations, load_configurations
    from deployments.configuration.model import load_inventories
    from deployments.preview.automatic_status import describe_off_peak
    from deployments.preview.window_calendar import build_calendar
    from deployments.preview.window_fit import read_learned
    from fleetpatch.cli.runtime.exit_codes import ExitCode
    from fleetpatch.cli.runtime.output import print_json, print_to_stderr, print_to_stdout, to_safe_text
    from fleetpatch.cli.views.calendar import build_calendar_json, print_calendar
    from tasks.domain.protocols.clock import SystemClock

    now = SystemClock().now()
    configurations = load_configurations(find_configurations(config), now.date())
    inventories = load_inventories(configurations, inventory)
    learned, remark = read_learned(records)
    if remark:
        print_to_stderr(to_safe_text(remark))
    window_calendar = build_calendar(configurations, inventories, now, count, machine, learned)
    forecast = _read_forecast(window_calendar, records)
    if as_json:
        print_json(build_calendar_json(window_calendar, forecast))
    else:
        print_calendar(window_calendar, forecast)
        if configurations.automatic is not None and configurations.automatic.enabled and machine is None:
            hours = describe_off_peak(configurations.automatic)
            print_to_stdout(f"automatic patching: {hours}. `fleetpatch automatic` shows its next runs.")
    if window_calendar.is_over:
        raise typer.Exit(int(ExitCode.WARNINGS))


def _read_forecast(window_calendar: "WindowCalendar", records: str | None) -> "HotpatchForecast":
    """Return what is expected of hotpatches, as far as the records tell. A calendar needs no records."""
    from deployments.preview.window_calendar import HotpatchForecast, build_forecast
    from fleetpatch.cli.commands.hotpatch import read_enrolment_requests
    from fleetpatch.cli.runtime.run_lookup import open_history
    from flows.hotpatch.baseline_file import load_baseline_calendar
    from flows.hotpatch.overview import build_hotpatch_overview
    from tasks.domain.errors import RecordsError
    from tasks.records.queries.machines import read_hotpatch_enrolments

    calendar, now = load_baseline_calendar(), window_calendar.now
    names = sorted({name for window in window_calendar.windows for name in window.zone_schedule.machines})
    try:
        enrolments = read_hotpatch_enrolments(open_history(records).database)
        overview = build_hotpatch_overview(
            names, enrolments, read_enrolment_requests(names, records), calendar, now.date()
        )
    except RecordsError as error:
        return HotpatchForecast(remark=f"hotpatches are not known: {error.message}")
    enrolled = {name: row.enrolment.product for name, row in overview.items() if row.baseline and row.enrolment}
    return build_forecast(window_calendar.windows, enrolled, calendar, now)
