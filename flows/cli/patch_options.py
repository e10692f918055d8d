"""The options of a patch run, and the request that they make."""

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
    "Updates",
    "Window",
    "Waves",
    "Policies",
    "Run",
)

OptionalScopeArgument = Annotated[
    str | None,
    typer.Argument(metavar="SCOPE", help='Machines, e.g. "env=prod,!ring=canary" or a name. "*" selects all.'),
]
ClassificationOption = Annotated[
    list[Classification] | None,
    typer.Option(
        "--classification",
        "-c",
        metavar="NAME",
        case_sensitive=False,
        rich_help_panel=UPDATES_PANEL,
        help=f"{', '.join(Classification)}. Repeatable. Default: Critical and Security.",
    ),
]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--include", metavar="MASK", rich_help_panel=UPDATES_PANEL, help="Also install, e.g. nginx=1.22*. Repeatable."
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="MASK",
        rich_help_panel=UPDATES_PANEL,
        help="Never install. Overrides all other options. Repeatable.",
    ),
]
OnlyIncludedOption = Annotated[
    bool | None,
    typer.Option("--only-included", rich_help_panel=UPDATES_PANEL, help="Install only what --include names."),
]
ExcludeRequiringRebootOption = Annotated[
    bool | None,
    typer.Option(
        "--exclude-requiring-reboot",
        rich_help_panel=UPDATES_PANEL,
        help="Exclude updates that are known to need a reboot.",
    ),
]
NewestOption = Annotated[
    bool | None,
    typer.Option(
        "--newest",
        rich_help_panel=UPDATES_PANEL,
        help="Install the newest version of a security fix, even if no security repository offers it.",
    ),
]
PublishedBeforeOption = Annotated[
    str | None,
    typer.Option(
        "--published-before",
        metavar="WHEN",
        rich_help_panel=UPDATES_PANEL,
        help='Exclude updates published after this time, e.g. "2026-11-01", in --zone.',
    ),
]
WindowStartOption = Annotated[
    str | None,
    typer.Option(
        "--window-start",
        metavar="WHEN",
        rich_help_panel=WINDOW_PANEL,
        help='When the window opens, e.g. "2026-11-21 02:00", in --zone. Default: now.',
    ),
]
OutsideWindowOption = Annotated[
    bool | None,
    typer.Option(
        "--outside-window",
        rich_help_panel=WINDOW_PANEL,
        help="Patch now, outside the windows of the configuration that the request file names.",
    ),
]
MinutesOption = Annotated[
    float | None, typer.Option("--minutes", rich_help_panel=WINDOW_PANEL, help="Length of the window. Default: 120.")
]
ZoneOption = Annotated[
    str | None, typer.Option("--zone", rich_help_panel=WINDOW_PANEL, help="IANA time zone of the window. Default: UTC.")
]
RebootReserveOption = Annotated[
    float | None,
    typer.Option(
        "--reserve",
        metavar="MINUTES",
        rich_help_panel=WINDOW_PANEL,
        help="Reboot reserve at the end of the window. Default: 15.",
    ),
]
CanaryOption = Annotated[
    str | None,
    typer.Option(
        "--canary",
        metavar="N|N%",
        rich_help_panel=WAVES_PANEL,
        help="Machines (or share of them) in a first canary wave.",
    ),
]
WaveSizeOption = Annotated[
    int | None, typer.Option("--wave-size", rich_help_panel=WAVES_PANEL, help="Machines in each wave.")
]
WavePercentOption = Annotated[
    float | None,
    typer.Option(
        "--wave-percent", rich_help_panel=WAVES_PANEL, help="Share of machines in each wave, in percent. Default: 20."
    ),
]
AtOnceOption = Annotated[
    int | None,
    typer.Option("--at-once", rich_help_panel=WAVES_PANEL, help="Machines of a wave at the same time. Default: 20."),
]
PauseOption = Annotated[
    float | None, typer.Option("--pause", metavar="MINUTES", rich_help_panel=WAVES_PANEL, help="Pause between waves.")
]
FailureBudgetOption = Annotated[
    str | None,
    typer.Option(
        "--failure-budget",
        metavar="N|N%",
        rich_help_panel=WAVES_PANEL,
        help="How many machines may fail. With more, no further machine begins. Default: 20%.",
    ),
]
UnreachablePercentOption = Annotated[
    float | None,
    typer.Option(
        "--unreachable-percent",
        rich_help_panel=WAVES_PANEL,
        help="Percent of machines that may be unreachable. With more, no further machine begins. Default: 50.",
    ),
]
GoOnAfterFailedCanaryOption = Annotated[
    bool | None,
    typer.Option(
        "--go-on-after-failed-canary",
        rich_help_panel=WAVES_PANEL,
        help="Continue within the failure budget. Without it, no machine begins after a failed canary.",
    ),
]
KeepLocationsApartOption = Annotated[
    bool | None,
    typer.Option(
        "--keep-locations-apart", rich_help_panel=WAVES_PANEL, help="Never put two locations in the same wave."
    ),
]
RebootOption = Annotated[
    RebootPolicy | None,
    typer.Option(
        "--reboot",
        metavar="POLICY",
        case_sensitive=False,
        rich_help_panel=POLICY_PANEL,
        help=f"{', '.join(RebootPolicy)}. Default: IfRequired.",
    ),
]
RebootPendingFirstOption = Annotated[
    bool | None,
    typer.Option(
        "--reboot-pending-first", rich_help_panel=POLICY_PANEL, help="First do a reboot that was required before."
    ),
]
MaxRebootsOption = Annotated[
    int | None,
    typer.Option("--max-reboots", rich_help_panel=POLICY_PANEL, help="Most reboots of one machine. Default: 2."),
]
RestartServicesOption = Annotated[
    bool | None,
    typer.Option(
        "--restart-services",
        rich_help_panel=POLICY_PANEL,
        help="Restart services that run replaced files, on machines that do not reboot.",
    ),
]
RestartExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--restart-exclude", metavar="MASK", rich_help_panel=POLICY_PANEL, help="Units not to restart. Repeatable."
    ),
]
AllowRemovalsOption = Annotated[
    bool | None,
    typer.Option("--allow-removals", rich_help_panel=POLICY_PANEL, help="Allow updates that remove other packages."),
]
RepairOption = Annotated[
    bool | None,
    typer.Option("--repair", rich_help_panel=POLICY_PANEL, help="First finish an interrupted package transaction."),
]
NoStageOption = Annotated[
    bool | None,
    typer.Option(
        "--no-stage", rich_help_panel=POLICY_PANEL, help="Do not download everything before the first installation."
    ),
]
RequestFileOption = Annotated[
    Path | None,
    typer.Option(
        "--request",
        metavar="FILE",
        parser=parse_path,
        rich_help_panel=RUN_PANEL,
        help="Request file, YAML or JSON. Options override it.",
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
    """Give a verb all these options and its own. It receives them as one map.

    Typer reads a function's signature. Two verbs share these parameters, so they cannot differ.
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
        RequestError: it is not valid.
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
        raise typer.BadParameter("--only-included needs --include, which names what to install")
    return request


def _build_request_tree(options: Mapping[str, Any]) -> dict[str, object]:
    """Return the options in the layout of the request. None: not given."""
    canary_count, canary_percent = _parse_count_or_percent("--canary", options["canary"])
    budget_count, budget_percent = _parse_count_or_percent("--failure-budget", options["failure_budget"])
    only_included = options["only_included"]
    if only_included and options["classification"]:
        raise typer.BadParameter("--only-included and --classification contradict each other: give only one of them")
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
    """Return a count or a percentage."""
    if text is None:
        return None, None
    words = str(text).strip()
    try:
        return (None, float(words.removesuffix("%"))) if words.endswith("%") else (int(words), None)
    except ValueError:
        raise typer.BadParameter(f"{option}: {words!r:.80} is neither a number of machines nor a percentage") from None
