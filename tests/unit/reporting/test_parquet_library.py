"""The command writes Parquet files without numpy, and they are the files that other programs write with it."""

import subprocess
import sys

from tasks.reports.data.rows import ROW_TYPES
from tasks.reports.export.tabular_formats import render_parquet

WRITE = """
import sys
from tasks.reports.data.rows import ROW_TYPES
from tasks.reports.export.parquet_library import leave_numpy_out
from tasks.reports.export.tabular_formats import render_parquet

leave_numpy_out()
sys.stdout.buffer.write(render_parquet(ROW_TYPES["machines"], []))
assert "pyarrow" in sys.modules
assert "numpy" not in sys.modules
import numpy
"""


def test_the_files_are_the_same_without_numpy() -> None:
    written = subprocess.run([sys.executable, "-c", WRITE], capture_output=True, check=True).stdout
    assert written == render_parquet(ROW_TYPES["machines"], [])
