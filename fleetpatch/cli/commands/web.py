"""web: serve the pages, and manage who may use them."""

import inspect
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from fleetpatch.cli.app import InventoryOption, RecordsOption, app, parse_path
from fleetpatch.cli.commands.automatic import ConfigurationsOption
from fleetpatch.cli.runtime.completion import complete_fleet
from fleetpatch.settings import WebOption, WebSettings, list_web_options

web_app = typer.Typer(invoke_without_command=True, no_args_is_help=False, help="Serve the pages over the records.")
app.add_typer(web_app, name="web", rich_help_panel="Set up")

_SHARED: Final = {"configurations": ConfigurationsOption, "inventory": InventoryOption, "records_url": RecordsOption}
"""The options that other commands have too."""


def serve_pages(context: typer.Context, **options: Any) -> None:  # noqa: ANN401 - what typer gives
    """Serve the pages over the records. Ctrl-C or SIGTERM ends it."""
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    from fleetpatch.cli.runtime.output import print_to_stderr
    from fleetpatch.server.web_server import serve
    from flows.ports.web_links import parse_web_url
    from tasks.records.fleets import find_fleet, use_fleet

    values = {name: options[option.name.replace("-", "_")] for name, _, option, _ in list_web_options()}
    values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    for name in ("public_url", "prefect_url"):
        values[name] = parse_web_url(values[name], f"--{name.replace('_', '-')}")
    settings = WebSettings(**{name: value for name, value in values.items() if value is not None})
    with use_fleet(settings.fleet or find_fleet()):
        serve(settings, lambda text: print_to_stderr(f"fleetpatch web: {text}"))


def _build_parameter(name: str, value_type: Any, option: WebOption, default: object) -> inspect.Parameter:  # noqa: ANN401
    is_repeated, is_path = value_type == tuple[str, ...], value_type == Path | None
    annotation = (
        _SHARED.get(name)
        or Annotated[
            list[str] | None if is_repeated else value_type,
            typer.Option(
                f"--{option.name}",
                metavar=option.metavar,
                envvar=option.variable,
                parser=parse_path if is_path else None,
                min=option.least,
                max=option.most,
                help=option.help,
                rich_help_panel=option.panel,
                autocompletion=complete_fleet if name == "fleet" else None,
            ),
        ]
    )
    default = None if is_repeated else default
    spelled = option.name.replace("-", "_")
    return inspect.Parameter(spelled, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


_CONTEXT: Final = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
_OPTIONS: Final = [_build_parameter(*setting) for setting in list_web_options()]
serve_pages.__signature__ = inspect.Signature([_CONTEXT, *_OPTIONS])  # type: ignore[attr-defined]
web_app.callback()(serve_pages)


def _refuse_options(context: typer.Context) -> None:
    """Refuse options before a command: they would do nothing, and the command would use other records."""
    params = [name for name in context.params if _is_given(context, name)]
    if params:
        option = f"--{params[0].replace('_', '-')}"
        raise typer.BadParameter(f"put it behind the command: fleetpatch web {context.invoked_subcommand} … {option} …")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
