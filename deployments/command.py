"""The console command: the verbs of ``flows``, and those that say when and where it all runs.

``flows`` knows nothing of this room, so the two meet here: each module below hangs its verbs into the one typer app
while it is imported. All are imported for every call, so what is heavy they load inside of their functions.
"""

# ruff: noqa: I001, E402 - importing is what adds the verbs, and those of the flows stand first in --help
import sys

from deployments.interrupt_handler import install_interrupt_handler, restore_interrupt_handler

install_interrupt_handler()

from flows.cli.main import main

import deployments.cli.commands.config
import deployments.cli.commands.calendar
import deployments.cli.commands.deploy
import deployments.cli.commands.server  # noqa: F401

restore_interrupt_handler()

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
