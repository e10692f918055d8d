"""Former name of the program ``flows.recovery.finalizer``: flow processes from before 2026-11-22 start it.

Such a process may outlive an upgrade. When it is cancelled or crashes, its hook runs ``python -m flows.settle RUN``.
Release 0.2.0 may remove it: no process of that age is alive by then.
"""

import sys

from flows.recovery.finalizer import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
