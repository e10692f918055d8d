"""The command, with all that its loggers are given in a file: python -m tests.lab.spied_command WORDS…"""

import sys

from fleetpatch.cli.main import main
from tests.lab.spill import SPY

if __name__ == "__main__":
    exec(SPY)
    sys.exit(main())
