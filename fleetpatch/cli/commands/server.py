"""server and prefect: start Prefect's server with settings that lose no records, and run Prefect's own command."""

from pathlib import Path
from typing import Annotated, Final

import typer

from fleetpatch.cli.app import JsonOption, app, parse_path


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
    from fleetpatch.cli.views.settings import print_launch_plan, print_launch_plan_json, print_startup

    options = ServerOptions(host, port, database, redis, home, public_url, auth, tuple(allow_host or ()))
    plan = build_launch_plan(options, os.environ)
    if not show:
        exec_server(plan, print_launch_plan_json if as_json else print_startup)
    if as_json:
        print_launch_plan_json(plan)
    else:
        print_launch_plan(plan)


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
