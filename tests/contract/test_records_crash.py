"""What append() has returned from is there, whatever happens to the process next."""

import signal
from pathlib import Path

import pytest

from tasks.records.setup import open_records
from tests.contract.records_processes import append_and_stay
from tests.contract.records_subjects import BOTH, new_database
from tests.support import builders as make
from tests.support.forked_calls import begin_call


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOTH)
def test_a_killed_process_loses_no_entry(kind: str, tmp_path: Path) -> None:
    with new_database(kind, tmp_path) as url:
        call = begin_call(append_and_stay, url)
        assert call.receive() == "appended"
        call.process.kill()
        assert call.end() == -signal.SIGKILL
        with open_records(url) as records:
            assert [entry.key for entry in records.read_entries(make.RUN_ID)] == ["0", "1", "2"]
            records.append_entry(make.make_journal_entry(key="3"))
            assert [entry.key for entry in records.read_entries(make.RUN_ID)][3:] == ["3"]
