"""What append() has returned from is there, whatever happens to the process next."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.records.setup import open_records
from tests.support import builders as make
from tests.support.postgres import fresh_database

ROOT = Path(__file__).parents[2]

_APPEND_AND_SAY_SO = """
import sys, time
from tasks.records.setup import open_records
from tests.support.builders import make_journal_entry
records = open_records(sys.argv[1])
for number in range(3):
    records.append_entry(make_journal_entry(key=str(number)))
print("appended", flush=True)
time.sleep(60)
"""


def _kill_after_append(url: str) -> None:
    command = [sys.executable, "-c", _APPEND_AND_SAY_SO, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "appended\n"
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait(30) == -signal.SIGKILL
    with open_records(url) as records:
        assert [entry.key for entry in records.read_entries(make.RUN_ID)] == ["0", "1", "2"]
        records.append_entry(make.make_journal_entry(key="3"))
        assert [entry.key for entry in records.read_entries(make.RUN_ID)][3:] == ["3"]


@pytest.mark.slow
def test_a_killed_process_loses_no_entry_on_sqlite(tmp_path: Path) -> None:
    _kill_after_append(f"sqlite:///{tmp_path / 'records.db'}")


@pytest.mark.slow
@pytest.mark.postgres
def test_a_killed_process_loses_no_entry_on_postgresql() -> None:
    with fresh_database() as url:
        _kill_after_append(url)
