"""The console command: the commands of ``flows`` and the commands of this package.

``flows`` does not import this package, so this module joins them: each module below adds its commands to the typer app
when it is imported. Every call imports all of them, so their functions import slow modules only when they need them.
"""

# ruff: noqa: I001, E402 - importing is what adds the verbs, and those of the flows stand first in --help
import sys

from deployments.interrupt_handler import install_interrupt_handler, restore_interrupt_handler
from deployments.own_packages import require_own_packages

require_own_packages()
install_interrupt_handler()

from flows.cli.main import main

import deployments.cli.commands.config
import deployments.cli.commands.calendar
import deployments.cli.commands.automatic
import deployments.cli.commands.compliance
import deployments.cli.commands.compliance_report
import deployments.cli.commands.query
import deployments.cli.commands.deploy
import deployments.cli.commands.prefect
import deployments.cli.commands.server
import deployments.cli.commands.web
import deployments.cli.commands.web_access  # noqa: F401

restore_interrupt_handler()

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
