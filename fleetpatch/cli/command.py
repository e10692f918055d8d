"""The console command. Ctrl-C while it loads, and packages of another program, end it with a message."""

# ruff: noqa: E402 - what may end the program stands before what loads slowly
import sys

from fleetpatch.cli.interrupt_handler import install_interrupt_handler, restore_interrupt_handler
from fleetpatch.cli.own_packages import require_own_packages

require_own_packages()
install_interrupt_handler()

from fleetpatch.cli.main import main

restore_interrupt_handler()

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
