"""The process of a run: ``python -P -m deployments.worker.flow_process`` becomes Prefect's engine.

It has a session of its own: a Ctrl-C at the terminal of a worker is for the worker, which tells its runs in its way.
"""

import os
import runpy
from contextlib import suppress

if __name__ == "__main__":
    with suppress(PermissionError):  # it leads one already
        os.setsid()
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
