"""server and prefect: start Prefect's server with settings that lose no records, and run Prefect's own command."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from fleetpatch.cli.app import JsonOption, app, parse_path
from fleetpatch.cli.runtime.output import print_detail, print_json, print_to_stderr, print_to_stdout, print_unwrapped
from flows.prefect_api.server_settings import SettingTarget

if TYPE_CHECKING:
    from deployments.server.launch_plan import LaunchPlan


@app.command("server", rich_help_panel="Set up")
def start_server(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 4200,
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="URL",
            help="postgresql://… or sqlite:///path; with a password in it, as env:NAME, file:PATH or systemd:NAME. "
            "Default: a file in the home.",
        ),
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(
            "--redis", metavar="URL", help="Messages through Redis: redis://…, or a reference (env:, file:, systemd:)."
        ),
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option(
            "--home",
            metavar="DIR",
            parser=parse_path,
            help="Prefect's folder. Default: $PREFECT_HOME, or the user's data.",
        ),
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(
            "--public-url", metavar="URL", envvar="FLEETPATCH_PUBLIC_URL", help="Address for browsers, behind a proxy."
        ),
    ] = None,
    auth: Annotated[
        str | None,
        typer.Option(
            "--auth",
            metavar="REF",
            help="user:password for everyone, as env:NAME, file:PATH or systemd:NAME. "
            "Default: $PREFECT_SERVER_API_AUTH_STRING, or a password that the first start makes.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="A further name by which browsers and workers reach the server. Repeatable.",
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Only print the settings of the server and of workers.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Start Prefect's server (API, UI, scheduler) with settings that lose no records. Ctrl-C or SIGTERM ends it."""
    import os

    from deployments.server.launch_plan import ServerOptions, build_launch_plan, exec_server

    options = ServerOptions(host, port, database, redis, home, public_url, auth, tuple(allow_host or ()))
    plan = build_launch_plan(options, os.environ)
    if not show:
        exec_server(plan, _print_launch_plan_json if as_json else _print_startup)
    if as_json:
        _print_launch_plan_json(plan)
    else:
        _print_launch_plan(plan)


def _print_launch_plan(plan: "LaunchPlan") -> None:
    """Print the environment of the server and of workers, each setting so that it can be copied, with its reason."""
    from deployments.server.settings import PREFECT_SETTINGS, build_environment

    print_to_stdout(Text("The server:", style="bold"))
    for row in plan.planned_settings:
        print_unwrapped(f"{row.name}={row.value}")
        print_detail(f"{row.source}: {row.why}", "dim")
    print_to_stdout("", Text("Workers, beside PREFECT_API_URL:", style="bold"))
    worker_environment = build_environment(SettingTarget.WORKER)
    for setting in PREFECT_SETTINGS:
        if setting.name in worker_environment:
            print_unwrapped(f"{setting.name}={setting.value}")
            print_detail(setting.reason, "dim")


def _print_launch_plan_json(plan: "LaunchPlan") -> None:
    from deployments.server.settings import build_environment

    print_json(
        {
            "ui": plan.ui_url,
            "home": str(plan.home),
            "passwordFile": str(plan.login_path) if plan.login_path is not None else None,
            "server": [
                {"name": row.name, "value": row.value, "source": row.source, "why": row.why}
                for row in plan.planned_settings
            ],
            "worker": build_environment(SettingTarget.WORKER),
        }
    )


def _print_startup(plan: "LaunchPlan") -> None:
    """Print the addresses and paths of the server before the server's own output."""
    from deployments.server.launch_plan import TLS_ADVICE
    from deployments.server.settings import UI_API_URL_VARIABLE

    database = next(row.value for row in plan.planned_settings if row.name.endswith("DATABASE_CONNECTION_URL"))
    print_to_stdout(f"UI        {plan.ui_url}", f"database  {database}", f"home      {plan.home}")
    if plan.login_path is not None:
        print_to_stdout("password  the browser asks for it once; to show it:")
        print_unwrapped(f"cat {shlex.quote(str(plan.login_path))}")
    else:
        print_to_stdout("password  given to the server; clients and workers need it in PREFECT_API_AUTH_STRING")
    print_to_stdout(f"For the command and workers: export PREFECT_API_URL={plan.environment[UI_API_URL_VARIABLE]}")
    if plan.is_exposed and plan.ui_url.startswith("http://"):
        print_to_stderr(TLS_ADVICE)


_WITHOUT_SERVER: Final = frozenset({"--help", "--version", "version", "config", "profile", "profiles"})
"""Words of Prefect's command that need no server."""


@app.command(
    "prefect",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    rich_help_panel="Set up",
)
def run_prefect(context: typer.Context) -> None:
    """Run Prefect's own command with the password of the server, for example `fleetpatch prefect work-pool ls`."""
    import os
    import sys

    from flows.prefect_api.connection import supply_login

    if not supply_login() and context.args and not _WITHOUT_SERVER.intersection(context.args):
        from deployments.server.client import build_unknown_server

        raise build_unknown_server()
    command = (sys.executable, "-P", "-m", "deployments.worker.prefect_command", *context.args)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, os.environ)  # noqa: S606 - no shell; our own interpreter and the user's own words
