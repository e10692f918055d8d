"""The console command: the commands of ``flows`` and the commands of this package.

``flows`` does not import this package, so this module joins them: each module below adds its commands to the typer app
when it is imported. Every call imports all of them, so their functions import slow modules only when they need them.
"""

# ruff: noqa: I001, E402 - importing is what adds the verbs, and those of the flows stand first in --help
import sys

from fleetpatch.cli.interrupt_handler import install_interrupt_handler, restore_interrupt_handler
from fleetpatch.cli.own_packages import require_own_packages

require_own_packages()
install_interrupt_handler()

from fleetpatch.cli.main import main

import fleetpatch.cli.commands.config
import fleetpatch.cli.commands.calendar
import fleetpatch.cli.commands.automatic
import fleetpatch.cli.commands.compliance
import fleetpatch.cli.commands.compliance_report
import fleetpatch.cli.commands.query
import fleetpatch.cli.commands.deploy
import fleetpatch.cli.commands.prefect
import fleetpatch.cli.commands.server
import fleetpatch.cli.commands.web
import fleetpatch.cli.commands.web_access  # noqa: F401

restore_interrupt_handler()

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
