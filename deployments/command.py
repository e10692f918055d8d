"""The console command: the verbs of ``flows``, and those that say when and where it all runs.

``flows`` does not import this package, so the two meet here: each module below adds its verbs to the one typer app
when it is imported. Every call imports all of them, so their functions load what is heavy.
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
