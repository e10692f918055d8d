"""What machines lack, read for a whole fleet: the same as from each assessment, and each update is decoded once."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.domain.model import Update
from tasks.records.encoding import codec, row_encoding
from tasks.records.queries.history import History
from tasks.records.queries.machines import read_missing_since
from tasks.records.queries.newest_assessments import read_missing_updates
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tests.support import builders as make

MACHINES = [f"m{number}" for number in range(34)]
ODD = '"},{"id":"},{\\"id\\":\n\ud800☃'
SHARED = [make.make_update(id=f"p{number}", name=f"p{number}", title=ODD) for number in range(6)]


@pytest.fixture
def records(tmp_path: Path, empty_records: Path) -> Iterator[SqlRecords]:
    with open_records(f"sqlite:///{shutil.copy(empty_records, tmp_path)}") as opened:
        for number, machine in enumerate(MACHINES):
            # each lacks another choice of the same updates, so no two lists are alike
            updates = tuple(update for place, update in enumerate(SHARED) if number & 1 << place)
            for hours in (0, 1):
                state = make.make_package_state(updates=updates)
                at = make.START + timedelta(hours=hours)
                opened.save(make.make_assessment(machine=machine, run_id=f"r{hours}", at=at, packages=state))
        opened.save(make.make_failed_assessment(machine="m9", run_id="r2", at=make.START + timedelta(hours=2)))
        opened.save(make.make_failed_assessment(machine="never", run_id="r2", at=make.START))
        yield opened


def test_it_is_the_list_of_the_newest_answer(records: SqlRecords) -> None:
    latest = History(records).read_latest_assessments(answered=True)
    assert read_missing_updates(records.database) == {
        name: assessment.packages.updates for name, assessment in latest.items() if assessment.packages is not None
    }
    assert set(latest) == set(MACHINES)


def test_each_update_is_decoded_once_and_no_assessment_is(records: SqlRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[type] = []

    def count(kind: type, document: str) -> object:
        decoded.append(kind)
        return codec.decode(kind, document)

    monkeypatch.setattr(row_encoding, "decode", count)
    read_missing_updates(records.database)
    assert decoded.count(Update) == len(SHARED)
    empty_lists = 1  # of all the machines without updates
    assert len(decoded) == len(SHARED) + empty_lists


def test_a_list_in_another_form_is_read_all_the_same() -> None:
    reader, updates = row_encoding.DocumentReader(), (SHARED[0], replace(SHARED[1], kb="KB1"))
    text = codec.encode(row_encoding._AssessmentUpdates(updates))
    for form in (text, text.replace('{"id":', '{ "id":'), text.replace('"updates":[', '"updates": [')):
        assert reader.decode_missing_updates(row_encoding.compress_text(form)) == updates


@pytest.mark.parametrize("machines", [MACHINES, [f"other{number}" for number in range(600)] + MACHINES])
def test_since_when_is_the_earliest_that_is_known(records: SqlRecords, machines: list[str]) -> None:
    since = read_missing_since(records.database, machines)
    lacked = {
        (name, update.name) for name, updates in read_missing_updates(records.database).items() for update in updates
    }
    assert set(since) == lacked
    assert set(since.values()) == {make.START}
