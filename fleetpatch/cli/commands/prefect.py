"""prefect: run Prefect's own command with the password of the server."""

from typing import Final

import typer

from fleetpatch.cli.app import app

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
