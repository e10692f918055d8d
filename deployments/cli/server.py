"""server: start Prefect's server, with settings that lose no records."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import app
from flows.cli.doctor import examine_server_by
from flows.cli.options import JsonOption, some_path

if TYPE_CHECKING:
    from tasks.model import Finding


@app.command("server", rich_help_panel="Set up")
def server(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on. Beyond this machine only with a password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 4200,
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="URL",
            help="postgresql://… or sqlite:///path; with a password in it, as env:NAME or file:PATH. "
            "Default: a file in the home.",
        ),
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option("--redis", metavar="URL", help="Messages through Redis: redis://…, env:NAME or file:PATH."),
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option(
            "--home",
            metavar="DIR",
            parser=some_path,
            help="Prefect's folder. Default: $PREFECT_HOME, or the user's data.",
        ),
    ] = None,
    public_url: Annotated[
        str | None, typer.Option("--public-url", metavar="URL", help="Where browsers find it, when behind a proxy.")
    ] = None,
    auth: Annotated[
        str | None,
        typer.Option(
            "--auth",
            metavar="REF",
            help="user:password for everyone, as env:NAME or file:PATH. Default: $PREFECT_SERVER_API_AUTH_STRING.",
        ),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Only print the settings it would have, and those of workers.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Start Prefect's server (API, UI, scheduler) with settings that lose no records. Ctrl-C or SIGTERM ends it."""
    import os

    from deployments.cli.server_view import plan_document, tell_plan, tell_start
    from deployments.server.plan import Wanted, make_plan
    from deployments.server.start import start
    from flows.cli.screen import print_json

    plan = make_plan(Wanted(host, port, database, redis, home, public_url, auth), os.environ)
    if as_json:
        print_json(plan_document(plan))
    elif show:
        tell_plan(plan)
    else:
        tell_start(plan)
    if not show:
        start(plan)


def _examine(records: str | None) -> "tuple[Finding, ...]":
    import os

    from flows.cli.prefect_side import QUIET
    from flows.cli.screen import log_to_screen

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from deployments.server.doctor import examine_server

    log_to_screen()  # Prefect has set logging up to its own liking
    return examine_server(records)


examine_server_by(_examine)
