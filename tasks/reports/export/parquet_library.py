"""Loads the library that writes Parquet files. A program that needs no numpy loads it in half of the time."""

import sys
from contextlib import nullcontext

from inventory.lazy_names import leave_module_out

_needs_numpy = True


def leave_numpy_out() -> None:
    """Let this process load pyarrow without numpy. It then can't build pandas frames."""
    global _needs_numpy  # noqa: PLW0603 - of the process
    _needs_numpy = False


def load_pyarrow() -> None:
    """Load pyarrow, with numpy or without, so that ``import pyarrow`` finds it."""
    with nullcontext() if _needs_numpy or "pyarrow" in sys.modules else leave_module_out("numpy"):
        import pyarrow.json  # noqa: PLC0415 - loads slowly
        import pyarrow.parquet  # noqa: F401, PLC0415 - loads slowly
