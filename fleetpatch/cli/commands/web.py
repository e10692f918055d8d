"""web: serve the pages, and manage who may use them and the API."""

import inspect
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from fleetpatch.cli.app import ConfigurationsOption, InventoryOption, JsonOption, RecordsOption, app, parse_path
from fleetpatch.cli.runtime.acting_command import ActingCommand
from fleetpatch.cli.runtime.completion import complete_fleet, complete_names
from fleetpatch.cli.runtime.output import print_json_or_text, print_to_stderr
from fleetpatch.settings import WebOption, WebSettings, list_web_options

web_app = typer.Typer(invoke_without_command=True, no_args_is_help=False, help="Serve the pages over the records.")
app.add_typer(web_app, name="web", rich_help_panel="Set up")

_SHARED: Final = {"configurations": ConfigurationsOption, "inventory": InventoryOption, "records_url": RecordsOption}
"""The options that other commands have too."""


def serve_pages(context: typer.Context, **options: Any) -> None:  # noqa: ANN401 - what typer gives
    """Serve the pages over the records. Ctrl-C or SIGTERM ends it."""
    if context.invoked_subcommand is not None:
        # Options before a command would do nothing, and the command would use other records.
        sources = {name: context.get_parameter_source(name) for name in context.params}
        if misplaced := [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]:
            option, verb = f"--{misplaced[0].replace('_', '-')}", context.invoked_subcommand
            raise typer.BadParameter(f"put it behind the command: fleetpatch web {verb} … {option} …")
        return
    from flows.long_process import set_signals

    set_signals()
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


token_app = typer.Typer(no_args_is_help=True, help="Logins of people and programs for the pages and the API.")
web_app.add_typer(token_app, name="token")


@token_app.command("add")
def add_token(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Who it is for: anna, or prometheus. It stands in the audit log.")
    ],
    role: Annotated[
        list[str] | None,
        typer.Option(
            "--role",
            help="view, approve or run; run@env=stage is limited to these machines. May be repeated. All may look.",
        ),
    ] = None,
    days: Annotated[float, typer.Option("--days", min=0.01, max=3660, help="How long it is valid.")] = 90,
    records: RecordsOption = None,
) -> None:
    """Make an access token. It is printed once, on stdout, and is not stored: only its digest is."""
    import sys

    from fleetpatch.access.login_admin import create_access_token
    from tasks.records.setup import open_records
    from tasks.reports.formatting import format_second_utc

    with open_records(records) as database:
        token, text = create_access_token(database, name, role or ["view"], days)
    roles = ", ".join(token.roles)
    print_to_stderr(
        f"{token.name} may {roles}. Only pages over these records accept it: {database.database.display_name}"
    )
    print_to_stderr(f"It ends at {format_second_utc(token.expires_at)}. The token is shown only now:")
    sys.stdout.write(text + "\n")


@token_app.command("list")
def list_tokens(records: RecordsOption = None, as_json: JsonOption = False) -> None:
    """Show the access tokens: names, roles and times, never the tokens."""
    from fleetpatch.cli.views.web_access import build_tokens_json, print_tokens
    from tasks.domain.protocols.clock import SystemClock
    from tasks.records.access_tokens import SqlAccessTokens
    from tasks.records.setup import open_records

    with open_records(records) as database:
        tokens, now = SqlAccessTokens(database.database).list_tokens(), SystemClock().now()
    print_json_or_text(as_json, build_tokens_json, print_tokens, tokens, now)


@token_app.command("remove")
def remove_token(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="The token's name, from: fleetpatch web token list.",
            autocompletion=complete_names("tokens"),
        ),
    ],
    records: RecordsOption = None,
) -> None:
    """End an access token, and the sessions of its browsers, at once."""
    from fleetpatch.access.login_admin import remove_access_token
    from tasks.records.setup import open_records

    with open_records(records) as database:
        remove_access_token(database, name)
    print_to_stderr(f"{name} may do nothing any more, and its sessions have ended.")


@web_app.command("grant", cls=ActingCommand)
def grant_records_to_pages_role(records: RecordsOption = None) -> None:
    """Let the pages' role in PostgreSQL read the records and write the pages' own tables, and no more.

    It needs the URL of the workers. A migration of the records does it, too.
    """
    from tasks.domain.errors import RequestError
    from tasks.records.pages_role import PAGES_ROLE, grant_pages_role
    from tasks.records.setup import open_records

    with open_records(records) as database:
        if database.database.is_sqlite:
            raise RequestError("an SQLite file has no roles", hint="Who can write the file can write all of it.")
        with database.database.begin_write("grant the privileges of the pages") as connection:
            if not grant_pages_role(connection):
                hint = "Make it as a superuser: see docs/reference/services.md."
                raise RequestError(f"the server has no role {PAGES_ROLE}", hint=hint)
    print_to_stderr(f"{PAGES_ROLE} can read the records, and write only the pages' own tables.")


@web_app.command("login")
def make_login_link(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Whom it logs in. Default: the account that makes it.")
    ] = "",
    role: Annotated[
        list[str] | None, typer.Option("--role", help="view, approve or run. May be repeated. Default: all.")
    ] = None,
    url: Annotated[
        str, typer.Option("--url", metavar="URL", envvar="FLEETPATCH_WEB_URL", help="The address of the pages.")
    ] = "http://127.0.0.1:4280",
    records: RecordsOption = None,
) -> None:
    """Make a link that logs a browser in, once, within ten minutes. For pages without TLS.

    Only who can read the key of the pages can make one: the account that serves them, or root.
    """
    import sys

    from fleetpatch.access.login_admin import create_login_link
    from flows.ports.web_links import parse_web_url
    from tasks.records.setup import open_records

    with open_records(records) as database:
        address, link = create_login_link(database, parse_web_url(url, "--url"), name, role or [])
    print_to_stderr(f"It logs in {link.name} ({', '.join(link.roles)}) once, until {link.expires_at:%H:%M} UTC:")
    sys.stdout.write(address + "\n")


@web_app.command("logout")
def log_out(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Whose sessions end.", autocompletion=complete_names("sessions"))
    ],
    records: RecordsOption = None,
) -> None:
    """End all sessions of somebody at once, however they logged in. An access token stays valid."""
    from fleetpatch.access.login_admin import end_sessions
    from tasks.records.setup import open_records

    with open_records(records) as database:
        number = end_sessions(database, name)
    print_to_stderr(f"{name} is logged out. Sessions ended: {number}.")
