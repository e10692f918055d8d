"""Start a program that ends with its parent: ``python -m deployments.deploying.bound PARENT PROGRAM…`` (Linux).

Whoever is killed can't end its children. A worker that went on without `fleetpatch deploy --serve` would take runs that
nobody expects to be carried out there, with code and settings that are old by then.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Become the program.

    Args:
        arguments: the parent's process id, the program's path, and what it is started with.
    """
    parent, *command = arguments
    if sys.platform == "linux":
        # SIGKILL, as anything less would have a worker end the runs that it has started: they go on by themselves.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit("what started this worker is gone")
    os.execv(command[0], command)  # noqa: S606 - no shell; our own interpreter


if __name__ == "__main__":
    main(sys.argv[1:])
