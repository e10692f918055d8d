"""prefect: run Prefect's own command with the password of the server."""

import typer

from flows.cli.app import app


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

    os.environ.setdefault("DO_NOT_TRACK", "1")  # before the import of Prefect
    supply_login()
    command = (sys.executable, "-P", "-m", "prefect", *context.args)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, os.environ)  # noqa: S606 - no shell; our own interpreter and the user's own words
