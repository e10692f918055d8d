"""Starts the Prefect server with exec: it replaces this process, so signals and exit code are those of the server."""

import os
import sys
from typing import NoReturn

from deployments.server.launch_plan import LaunchPlan
from tasks.errors import CannotRun


def exec_server(plan: LaunchPlan) -> NoReturn:
    """Replace this process with the server.

    Raises:
        CannotRun: the home directory can't be created or written.
    """
    create_home_directory(plan)
    sys.stdout.flush()
    sys.stderr.flush()
    os.umask(0o077)  # the database has reports and encrypted secrets, and the home directory has their key
    os.execve(plan.command[0], plan.command, dict(plan.environment))  # noqa: S606 - no shell; our own interpreter


def create_home_directory(plan: LaunchPlan) -> None:
    """Create the home directory of the server. Only its owner can read it.

    Raises:
        CannotRun: the directory can't be created or written.
    """
    try:
        plan.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotRun(
            f"{plan.home} can't be made: {error.strerror}", hint="Name another folder with --home."
        ) from error
    if not os.access(plan.home, os.W_OK | os.X_OK):
        raise CannotRun(f"{plan.home} can't be written by this user", hint="Name another folder with --home.")
