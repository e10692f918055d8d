"""Becomes the Prefect server: the process is replaced, so that signals and the exit code are the server's own."""

import os
import sys
from typing import NoReturn

from deployments.server.launch_plan import LaunchPlan
from tasks.errors import CannotRun


def exec_server(plan: LaunchPlan) -> NoReturn:
    """Become the server.

    Raises:
        CannotRun: its home can't be made or written.
    """
    create_home_directory(plan)
    sys.stdout.flush()
    sys.stderr.flush()
    os.umask(0o077)  # its database holds reports and encrypted secrets, and its home the key to them
    os.execve(plan.command[0], plan.command, dict(plan.environment))  # noqa: S606 - no shell; our own interpreter


def create_home_directory(plan: LaunchPlan) -> None:
    """Make the server's home, for its owner alone.

    Raises:
        CannotRun: it can't be made or written.
    """
    try:
        plan.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotRun(
            f"{plan.home} can't be made: {error.strerror}", hint="Name another folder with --home."
        ) from error
    if not os.access(plan.home, os.W_OK | os.X_OK):
        raise CannotRun(f"{plan.home} can't be written by this user", hint="Name another folder with --home.")
