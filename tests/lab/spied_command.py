"""The command, with all that its loggers are given in a file: python -m tests.lab.spied_command WORDS…

It loads nothing else: most commands need no Prefect.
"""

import sys
from typing import Final

from fleetpatch.cli.main import main

# Every log record of every logger at every level, whatever the program sets: each process writes a file of its own.
SPY: Final = """
import gc, logging, os
gc.set_threshold(50_000, 20, 50)  # as tests/support/python does
_folder, _files = os.environ["LOG_SPY"], {}
def find_file():
    if (pid := os.getpid()) not in _files:  # the server of a run begins as a copy of its process
        _files[pid] = open(os.path.join(_folder, f"{pid}.log"), "a", buffering=1, errors="surrogateescape")
    return _files[pid]
_format = logging.Formatter("%(name)s %(levelname)s %(message)s")
_handle = logging.Logger.handle
def handle(self, record):
    find_file().write(_format.format(record) + "\\n")
    if record.levelno >= self.getEffectiveLevel():
        _handle(self, record)
logging.Logger.handle = handle
logging.Logger.isEnabledFor = lambda self, level: True
"""

if __name__ == "__main__":
    exec(SPY)
    sys.exit(main())
