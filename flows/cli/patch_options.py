"""Everything that can be said of a patch run, as options; and the request that they make."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import InventoryOption, JsonOption, NoRefreshOption, RecordsOption, ReportOption, some_path
from tasks.states import Classification, RebootPolicy

if TYPE_CHECKING:
    from flows.request import PatchRequest

WHICH, WHEN, ORDER, HOW, RUN = "Which updates", "When", "In what order", "What may happen", "How it is run"

Scope = Annotated[
    str | None,
    typer.Argument(metavar="SCOPE", help='Which machines, e.g. "env=prod,!ring=canary" or a name; "*" is all.'),
]
Classifications = Annotated[
    list[Classification] | None,
    typer.Option(
        "--classification",
        "-c",
        case_sensitive=False,
        rich_help_panel=WHICH,
        help="Kind of updates; again for more. Default: Critical and Security.",
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option("--include", metavar="MASK", rich_help_panel=WHICH, help="Wanted besides, e.g. nginx=1.22*."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="MASK", rich_help_panel=WHICH, help="Never wanted; wins over everything."),
]
OnlyIncluded = Annotated[
    bool | None, typer.Option("--only-included", rich_help_panel=WHICH, help="Nothing but what --include names.")
]
NoRebooting = Annotated[
    bool | None,
    typer.Option("--exclude-requiring-reboot", rich_help_panel=WHICH, help="Leave out what is known to need a reboot."),
]
Newest = Annotated[
    bool | None,
    typer.Option(
        "--newest",
        rich_help_panel=WHICH,
        help="Of security fixes, the newest version of all, not the newest that a security repository offers.",
    ),
]
PublishedBefore = Annotated[
    str | None,
    typer.Option(
        "--published-before",
        metavar="WHEN",
        rich_help_panel=WHICH,
        help='Leave out what was published later than, e.g., "2026-11-01", read in --zone.',
    ),
]
WindowStart = Annotated[
    str | None,
    typer.Option(
        "--window-start",
        metavar="WHEN",
        rich_help_panel=WHEN,
        help='When the window opens, e.g. "2026-11-21 02:00", read in --zone. Default: now.',
    ),
]
OutsideWindow = Annotated[
    bool | None,
    typer.Option(
        "--outside-window",
        rich_help_panel=WHEN,
        help="Of a request file that names a configuration: patch now, outside of its windows.",
    ),
]
Minutes = Annotated[
    float | None, typer.Option("--minutes", rich_help_panel=WHEN, help="How long it is open. Default: 120.")
]
Zone = Annotated[
    str | None, typer.Option("--zone", rich_help_panel=WHEN, help="IANA time zone of the window. Default: UTC.")
]
Reserve = Annotated[
    float | None,
    typer.Option(
        "--reserve", metavar="MINUTES", rich_help_panel=WHEN, help="Part of it kept for a reboot. Default: 15."
    ),
]
Canary = Annotated[
    str | None,
    typer.Option(
        "--canary", metavar="N|N%", rich_help_panel=ORDER, help="Machines (or share of them) in a first wave."
    ),
]
WaveSize = Annotated[int | None, typer.Option("--wave-size", rich_help_panel=ORDER, help="Machines a wave.")]
WavePercent = Annotated[
    float | None, typer.Option("--wave-percent", rich_help_panel=ORDER, help="Share of machines a wave. Default: 20.")
]
AtOnce = Annotated[
    int | None, typer.Option("--at-once", rich_help_panel=ORDER, help="Machines side by side in a wave. Default: 20.")
]
Pause = Annotated[
    float | None, typer.Option("--pause", metavar="MINUTES", rich_help_panel=ORDER, help="Rest between waves.")
]
FailureBudget = Annotated[
    str | None,
    typer.Option(
        "--failure-budget",
        metavar="N|N%",
        rich_help_panel=ORDER,
        help="Machines that may fail; with more, no further machine is begun. Default: 20%.",
    ),
]
UnreachablePercent = Annotated[
    float | None,
    typer.Option(
        "--unreachable-percent",
        rich_help_panel=ORDER,
        help="Share of machines that may be unreachable; with more, no further machine is begun. Default: 50.",
    ),
]
GoOnAfterFailedCanary = Annotated[
    bool | None,
    typer.Option(
        "--go-on-after-failed-canary",
        rich_help_panel=ORDER,
        help="Let the failure budget alone decide. Else a failed canary is the last machine that is begun.",
    ),
]
LocationsApart = Annotated[
    bool | None,
    typer.Option("--keep-locations-apart", rich_help_panel=ORDER, help="Never two locations in the same wave."),
]
Reboot = Annotated[
    RebootPolicy | None,
    typer.Option("--reboot", case_sensitive=False, rich_help_panel=HOW, help="Default: IfRequired."),
]
PendingFirst = Annotated[
    bool | None,
    typer.Option("--reboot-pending-first", rich_help_panel=HOW, help="Take a reboot pending from before first."),
]
MaxReboots = Annotated[
    int | None, typer.Option("--max-reboots", rich_help_panel=HOW, help="Reboots a machine may see. Default: 2.")
]
RestartServices = Annotated[
    bool | None,
    typer.Option(
        "--restart-services",
        rich_help_panel=HOW,
        help="Restart services that run replaced files, on machines that are not rebooted.",
    ),
]
RestartExclude = Annotated[
    list[str] | None,
    typer.Option("--restart-exclude", metavar="MASK", rich_help_panel=HOW, help="Units not to restart; repeatable."),
]
AllowRemovals = Annotated[
    bool | None,
    typer.Option("--allow-removals", rich_help_panel=HOW, help="Allow updates that remove other packages."),
]
Repair = Annotated[
    bool | None,
    typer.Option("--repair", rich_help_panel=HOW, help="Finish a package transaction that was interrupted before."),
]
NoStage = Annotated[
    bool | None,
    typer.Option("--no-stage", rich_help_panel=HOW, help="Don't download everything before the first installation."),
]
RequestFile = Annotated[
    Path | None,
    typer.Option(
        "--request",
        metavar="FILE",
        parser=some_path,
        rich_help_panel=RUN,
        help="A request as YAML or JSON; options win.",
    ),
]


SHARED: Mapping[str, Any] = {
    "scope": Scope,
    "inventory": InventoryOption,
    "records": RecordsOption,
    "as_json": JsonOption,
    "report": ReportOption,
    "request": RequestFile,
    "classification": Classifications,
    "include": Include,
    "exclude": Exclude,
    "only_included": OnlyIncluded,
    "exclude_requiring_reboot": NoRebooting,
    "newest": Newest,
    "published_before": PublishedBefore,
    "window_start": WindowStart,
    "outside_window": OutsideWindow,
    "minutes": Minutes,
    "zone": Zone,
    "reserve": Reserve,
    "canary": Canary,
    "wave_size": WaveSize,
    "wave_percent": WavePercent,
    "at_once": AtOnce,
    "pause": Pause,
    "failure_budget": FailureBudget,
    "unreachable_percent": UnreachablePercent,
    "go_on_after_failed_canary": GoOnAfterFailedCanary,
    "keep_locations_apart": LocationsApart,
    "reboot": Reboot,
    "reboot_pending_first": PendingFirst,
    "max_reboots": MaxReboots,
    "restart_services": RestartServices,
    "restart_exclude": RestartExclude,
    "allow_removals": AllowRemovals,
    "repair": Repair,
    "no_stage": NoStage,
    "no_refresh": NoRefreshOption,
}


def takes(more: Mapping[str, Any]) -> Callable[[Callable[[dict[str, Any]], None]], Callable[..., None]]:
    """Give a verb all these options, and its own besides; it is handed them as one map.

    Typer reads a function's signature. Thirty parameters written out for each verb would differ one day.
    """

    def decorate(body: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
        def verb(**options: Any) -> None:  # noqa: ANN401 - as many types as options
            body(options)

        every = {**SHARED, **more}
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters = [inspect.Parameter(name, kind, default=None, annotation=hint) for name, hint in every.items()]
        verb.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
        verb.__annotations__ = every
        verb.__name__, verb.__doc__ = body.__name__, body.__doc__
        return verb

    return decorate


def request_from(options: Mapping[str, Any]) -> "PatchRequest":
    """Return the request that options, over a request file, make.

    Raises:
        RequestError: it can't be carried out as written.
    """
    from flows.cli.asking import given, merged, read_request_file, validated
    from flows.request import PatchRequest

    file = options["request"]
    base = read_request_file(file) if isinstance(file, Path) else {}
    source = file if isinstance(file, Path) else None
    verb = "plan" if options.get("dry_run") else "patch"
    request = validated(PatchRequest, merged(base, given(_tree(options))), source, verb)
    if options["only_included"] and not request.updates.include:
        raise typer.BadParameter("--only-included leaves nothing to be installed: name it with --include")
    return request


def _tree(options: Mapping[str, Any]) -> dict[str, object]:
    """Lay options out as the request has them. None is what was not given."""
    canary_count, canary_percent = _share("--canary", options["canary"])
    budget_count, budget_percent = _share("--failure-budget", options["failure_budget"])
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


def _share(option: str, text: object) -> tuple[int | None, float | None]:
    """Return a count or a percentage, whichever was written."""
    if text is None:
        return None, None
    words = str(text).strip()
    try:
        return (None, float(words.removesuffix("%"))) if words.endswith("%") else (int(words), None)
    except ValueError:
        raise typer.BadParameter(f"{option}: {words!r:.80} is neither a number of machines nor a percentage") from None
