"""The command in a process that a new interpreter need not begin: ``odd_start HOW WORDS…``.

HOW is "plainly", "in a folder that is gone", or "as a stranger": a user whom the system does not know.
"""

import encodings.utf_8_sig  # noqa: F401 - a stranger may be kept from reading the folder that Python is in
import os
import sys
import time
from pathlib import Path

from fleetpatch.cli.command import main

STRANGER = 54321


def start(how: str, words: list[str]) -> int:
    time.tzset()  # a new interpreter reads TZ when it begins
    if how == "in a folder that is gone":
        Path("gone").mkdir()
        os.chdir("gone")
        Path("../gone").rmdir()
    if how == "as a stranger":
        os.setgroups([])
        os.setgid(STRANGER)
        os.setuid(STRANGER)
    return main(words)


if __name__ == "__main__":
    sys.exit(start(sys.argv[1], sys.argv[2:]))
