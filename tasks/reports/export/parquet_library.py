"""Loads the library that writes Parquet files. A program that needs no numpy loads it in half of the time."""

import sys
from typing import Any

_modules: dict[str, Any] = sys.modules
_needs_numpy = True


def leave_numpy_out() -> None:
    """Let this process load pyarrow without numpy. It then can't build pandas frames."""
    global _needs_numpy  # noqa: PLW0603 - of the process
    _needs_numpy = False


def load_pyarrow() -> None:
    """Load pyarrow, with numpy or without, so that ``import pyarrow`` finds it."""
    is_left_out = not _needs_numpy and "pyarrow" not in _modules and _modules.setdefault("numpy", None) is None
    try:
        import pyarrow.json  # noqa: PLC0415 - loads slowly
        import pyarrow.parquet  # noqa: F401, PLC0415 - loads slowly
    finally:
        if is_left_out:
            del _modules["numpy"]
