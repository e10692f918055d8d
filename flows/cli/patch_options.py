"""Everything that can be said of a patch run, as options; and the request that they make."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import InventoryOption, JsonOption, NoRefreshOption, RecordsOption, ReportOption, parse_path
from tasks.states import Classification, RebootPolicy

if TYPE_CHECKING:
    from flows.request.patch_request import PatchRequest

UPDATES_PANEL, WINDOW_PANEL, WAVES_PANEL, POLICY_PANEL, RUN_PANEL = (
    "Which updates",
    "When",
    "In what order",
    "What may happen",
    "How it is run",
)

OptionalScopeArgument = Annotated[
    str | None,
    typer.Argument(metavar="SCOPE", help='Which machines, e.g. "env=prod,!ring=canary" or a name; "*" is all.'),
]
ClassificationOption = Annotated[
    list[Classification] | None,
    typer.Option(
        "--classification",
        "-c",
        case_sensitive=False,
        rich_help_panel=UPDATES_PANEL,
        help="Kind of updates; again for more. Default: Critical and Security.",
    ),
]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option("--include", metavar="MASK", rich_help_panel=UPDATES_PANEL, help="Wanted besides, e.g. nginx=1.22*."),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude", metavar="MASK", rich_help_panel=UPDATES_PANEL, help="Never wanted; wins over everything."
    ),
]
OnlyIncludedOption = Annotated[
    bool | None,
    typer.Option("--only-included", rich_help_panel=UPDATES_PANEL, help="Nothing but what --include names."),
]
ExcludeRequiringRebootOption = Annotated[
    bool | None,
    typer.Option(
        "--exclude-requiring-reboot", rich_help_panel=UPDATES_PANEL, help="Leave out what is known to need a reboot."
    ),
]
NewestOption = Annotated[
    bool | None,
    typer.Option(
        "--newest",
        rich_help_panel=UPDATES_PANEL,
        help="Of security fixes, the newest version of all, not the newest that a security repository offers.",
    ),
]
PublishedBeforeOption = Annotated[
    str | None,
    typer.Option(
        "--published-before",
        metavar="WHEN",
        rich_help_panel=UPDATES_PANEL,
        help='Leave out what was published later than, e.g., "2026-11-01", read in --zone.',
    ),
]
WindowStartOption = Annotated[
    str | None,
    typer.Option(
        "--window-start",
        metavar="WHEN",
        rich_help_panel=WINDOW_PANEL,
        help='When the window opens, e.g. "2026-11-21 02:00", read in --zone. Default: now.',
    ),
]
OutsideWindowOption = Annotated[
    bool | None,
    typer.Option(
        "--outside-window",
        rich_help_panel=WINDOW_PANEL,
        help="Of a request file that names a configuration: patch now, outside of its windows.",
    ),
]
MinutesOption = Annotated[
    float | None, typer.Option("--minutes", rich_help_panel=WINDOW_PANEL, help="How long it is open. Default: 120.")
]
ZoneOption = Annotated[
    str | None, typer.Option("--zone", rich_help_panel=WINDOW_PANEL, help="IANA time zone of the window. Default: UTC.")
]
RebootReserveOption = Annotated[
    float | None,
    typer.Option(
        "--reserve", metavar="MINUTES", rich_help_panel=WINDOW_PANEL, help="Part of it kept for a reboot. Default: 15."
    ),
]
CanaryOption = Annotated[
    str | None,
    typer.Option(
        "--canary", metavar="N|N%", rich_help_panel=WAVES_PANEL, help="Machines (or share of them) in a first wave."
    ),
]
WaveSizeOption = Annotated[
    int | None, typer.Option("--wave-size", rich_help_panel=WAVES_PANEL, help="Machines a wave.")
]
WavePercentOption = Annotated[
    float | None,
    typer.Option("--wave-percent", rich_help_panel=WAVES_PANEL, help="Share of machines a wave. Default: 20."),
]
AtOnceOption = Annotated[
    int | None,
    typer.Option("--at-once", rich_help_panel=WAVES_PANEL, help="Machines side by side in a wave. Default: 20."),
]
PauseOption = Annotated[
    float | None, typer.Option("--pause", metavar="MINUTES", rich_help_panel=WAVES_PANEL, help="Rest between waves.")
]
FailureBudgetOption = Annotated[
    str | None,
    typer.Option(
        "--failure-budget",
        metavar="N|N%",
        rich_help_panel=WAVES_PANEL,
        help="Machines that may fail; with more, no further machine is begun. Default: 20%.",
    ),
]
UnreachablePercentOption = Annotated[
    float | None,
    typer.Option(
        "--unreachable-percent",
        rich_help_panel=WAVES_PANEL,
        help="Share of machines that may be unreachable; with more, no further machine is begun. Default: 50.",
    ),
]
GoOnAfterFailedCanaryOption = Annotated[
    bool | None,
    typer.Option(
        "--go-on-after-failed-canary",
        rich_help_panel=WAVES_PANEL,
        help="Let the failure budget alone decide. Else a failed canary is the last machine that is begun.",
    ),
]
KeepLocationsApartOption = Annotated[
    bool | None,
    typer.Option("--keep-locations-apart", rich_help_panel=WAVES_PANEL, help="Never two locations in the same wave."),
]
RebootOption = Annotated[
    RebootPolicy | None,
    typer.Option("--reboot", case_sensitive=False, rich_help_panel=POLICY_PANEL, help="Default: IfRequired."),
]
RebootPendingFirstOption = Annotated[
    bool | None,
    typer.Option(
        "--reboot-pending-first", rich_help_panel=POLICY_PANEL, help="Take a reboot pending from before first."
    ),
]
MaxRebootsOption = Annotated[
    int | None,
    typer.Option("--max-reboots", rich_help_panel=POLICY_PANEL, help="Reboots a machine may see. Default: 2."),
]
RestartServicesOption = Annotated[
    bool | None,
    typer.Option(
        "--restart-services",
        rich_help_panel=POLICY_PANEL,
        help="Restart services that run replaced files, on machines that are not rebooted.",
    ),
]
RestartExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--restart-exclude", metavar="MASK", rich_help_panel=POLICY_PANEL, help="Units not to restart; repeatable."
    ),
]
AllowRemovalsOption = Annotated[
    bool | None,
    typer.Option("--allow-removals", rich_help_panel=POLICY_PANEL, help="Allow updates that remove other packages."),
]
RepairOption = Annotated[
    bool | None,
    typer.Option(
        "--repair", rich_help_panel=POLICY_PANEL, help="Finish a package transaction that was interrupted before."
    ),
]
NoStageOption = Annotated[
    bool | None,
    typer.Option(
        "--no-stage", rich_help_panel=POLICY_PANEL, help="Don't download everything before the first installation."
    ),
]
RequestFileOption = Annotated[
    Path | None,
    typer.Option(
        "--request",
        metavar="FILE",
        parser=parse_path,
        rich_help_panel=RUN_PANEL,
        help="A request as YAML or JSON; options win.",
    ),
]


PATCH_OPTIONS: Mapping[str, Any] = {
    "scope": OptionalScopeArgument,
    "inventory": InventoryOption,
    "records": RecordsOption,
    "as_json": JsonOption,
    "report": ReportOption,
    "request": RequestFileOption,
    "classification": ClassificationOption,
    "include": IncludeOption,
    "exclude": ExcludeOption,
    "only_included": OnlyIncludedOption,
    "exclude_requiring_reboot": ExcludeRequiringRebootOption,
    "newest": NewestOption,
    "published_before": PublishedBeforeOption,
    "window_start": WindowStartOption,
    "outside_window": OutsideWindowOption,
    "minutes": MinutesOption,
    "zone": ZoneOption,
    "reserve": RebootReserveOption,
    "canary": CanaryOption,
    "wave_size": WaveSizeOption,
    "wave_percent": WavePercentOption,
    "at_once": AtOnceOption,
    "pause": PauseOption,
    "failure_budget": FailureBudgetOption,
    "unreachable_percent": UnreachablePercentOption,
    "go_on_after_failed_canary": GoOnAfterFailedCanaryOption,
    "keep_locations_apart": KeepLocationsApartOption,
    "reboot": RebootOption,
    "reboot_pending_first": RebootPendingFirstOption,
    "max_reboots": MaxRebootsOption,
    "restart_services": RestartServicesOption,
    "restart_exclude": RestartExcludeOption,
    "allow_removals": AllowRemovalsOption,
    "repair": RepairOption,
    "no_stage": NoStageOption,
    "no_refresh": NoRefreshOption,
}


def with_patch_options(
    extra_options: Mapping[str, Any],
) -> Callable[[Callable[[dict[str, Any]], None]], Callable[..., None]]:
    """Give a verb all these options, and its own besides; it is handed them as one map.

    Typer reads a function's signature. Thirty parameters written out for each verb would differ one day.
    """

    def decorate(body: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
        def command(**options: Any) -> None:  # noqa: ANN401 - as many types as options
            body(options)

        all_options = {**PATCH_OPTIONS, **extra_options}
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters = [
            inspect.Parameter(name, kind, default=None, annotation=hint) for name, hint in all_options.items()
        ]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
        command.__annotations__ = all_options
        command.__name__, command.__doc__ = body.__name__, body.__doc__
        return command

    return decorate


def build_patch_request(options: Mapping[str, Any]) -> "PatchRequest":
    """Return the request that options, over a request file, make.

    Raises:
        RequestError: it can't be carried out as written.
    """
    from flows.cli.runtime.request_parsing import build_request, load_request_file, merge_trees, remove_unset_values
    from flows.request.patch_request import PatchRequest

    file = options["request"]
    base = load_request_file(file) if isinstance(file, Path) else {}
    source = file if isinstance(file, Path) else None
    verb = "plan" if options.get("dry_run") else "patch"
    request = build_request(
        PatchRequest, merge_trees(base, remove_unset_values(_build_request_tree(options))), source, verb
    )
    if options["only_included"] and not request.updates.include:
        raise typer.BadParameter("--only-included leaves nothing to be installed: name it with --include")
    return request


def _build_request_tree(options: Mapping[str, Any]) -> dict[str, object]:
    """Lay options out as the request has them. None is what was not given."""
    canary_count, canary_percent = _parse_count_or_percent("--canary", options["canary"])
    budget_count, budget_percent = _parse_count_or_percent("--failure-budget", options["failure_budget"])
    only_included = options["only_included"]
    if only_included and options["classification"]:
        raise typer.BadParameter("--only-included and --classification contradict each other: leave one of them out")
    return {
        "scope": options["scope"],
        "inventory": options["inventory"],
        "dry_run": options.get("dry_run") or None,
        "updates": {
            "classifications": [] if only_included else options["classification"] or None,
            "include": options["include"] or None,
            "exclude": options["exclude"] or None,
            "exclude_requiring_reboot": options["exclude_requiring_reboot"],
            "newest": options["newest"],
            "published_before": options["published_before"],
        },
        "window": {"start": options["window_start"], "minutes": options["minutes"], "zone": options["zone"]},
        "outside_window": options["outside_window"] or None,
        "waves": {
            "canary_count": canary_count,
            "canary_percent": canary_percent,
            "size": options["wave_size"],
            "percent": options["wave_percent"],
            "at_once": options["at_once"],
            "pause_minutes": options["pause"],
            "failure_budget_count": budget_count,
            "failure_budget_percent": budget_percent,
            "unreachable_percent": options["unreachable_percent"],
            "go_on_after_failed_canary": options["go_on_after_failed_canary"],
            "keep_locations_apart": options["keep_locations_apart"],
        },
        "reboot": options["reboot"],
        "reboot_pending_first": options["reboot_pending_first"],
        "reboot_reserve_minutes": options["reserve"],
        "max_reboots": options["max_reboots"],
        "restart_services": "IfRequired" if options["restart_services"] else None,
        "restart_services_exclude": options["restart_exclude"] or None,
        "allow_removals": options["allow_removals"],
        "repair": options["repair"],
        "stage": False if options["no_stage"] else None,
        "refresh": False if options["no_refresh"] else None,
        "report_directory": options["report"],
    }


def _parse_count_or_percent(option: str, text: object) -> tuple[int | None, float | None]:
    """Return a count or a percentage, whichever was written."""
    if text is None:
        return None, None
    words = str(text).strip()
    try:
        return (None, float(words.removesuffix("%"))) if words.endswith("%") else (int(words), None)
    except ValueError:
        raise typer.BadParameter(f"{option}: {words!r:.80} is neither a number of machines nor a percentage") from None
