"""Records that write only for the holder of a run's lease. Runs over the fake, SQLite and PostgreSQL."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tasks.domain.errors import RecordsError, RecordsUnavailable
from tasks.domain.protocols.records import Records
from tasks.domain.states import OperationState
from tasks.records import sql_records
from tasks.records.leases import SqlLeases
from tasks.records.sql_records import SqlRecords
from tests.contract.records_subjects import ANNE, BERT, Place, opened
from tests.support import builders as make

RUN = make.RUN_ID


def _of_anne(place: Place) -> Records:
    place.leases.acquire(RUN, ANNE, 60)
    held: Records = place.records.with_lease(RUN, ANNE)  # mypy checks the signatures
    held.save(make.make_run(id=RUN, state=OperationState.IN_PROGRESS, ended_at=None))
    return held


class TestWriting:
    def test_its_holder_writes_and_reads(self, place: Place) -> None:
        held, entry = _of_anne(place), make.make_journal_entry()
        held.append_entry(entry)
        held.save(make.make_outcome())
        assert held.read_entries(RUN) == place.records.read_entries(RUN) == (entry,)
        assert held.read_measure("web-1", "reboot_seconds") == place.records.read_measure("web-1", "reboot_seconds")

    def test_a_lease_whose_time_is_over_counts_until_somebody_takes_it(self, place: Place) -> None:
        held = _of_anne(place)
        place.clock.advance(600)
        held.append_entry(make.make_journal_entry())
        assert len(place.records.read_entries(RUN)) == 1

    def test_renewing_changes_nothing(self, place: Place) -> None:
        held = _of_anne(place)
        place.leases.renew(RUN, ANNE, 60)
        held.append_entry(make.make_journal_entry())
        assert len(place.records.read_entries(RUN)) == 1

    @pytest.mark.parametrize("how", ["taken", "given back", "given back and taken"])
    def test_nothing_is_written_once_the_lease_is_not_its_own(self, place: Place, how: str) -> None:
        held = _of_anne(place)
        if how.startswith("given back"):
            place.leases.release(RUN, ANNE)
        if how.endswith("taken"):
            place.clock.advance(60)
            place.leases.acquire(RUN, BERT, 60)
        for write in (
            lambda: held.append_entry(make.make_journal_entry()),
            lambda: held.save(make.make_outcome()),
            lambda: held.save(make.make_report()),
        ):
            with pytest.raises(RecordsError, match="another process executes this run now") as refused:
                write()
            assert not isinstance(refused.value, RecordsUnavailable)  # asked again it would be the same
            assert refused.value.hint
        assert place.records.read_entries(RUN) == ()

    def test_its_next_holder_writes(self, place: Place) -> None:
        _of_anne(place)
        place.clock.advance(60)
        place.leases.acquire(RUN, BERT, 60)
        place.records.with_lease(RUN, BERT).append_entry(make.make_journal_entry())
        assert len(place.records.read_entries(RUN)) == 1

    def test_a_run_that_nobody_ever_held_is_not_written_about(self, place: Place) -> None:
        with pytest.raises(RecordsError, match="another process executes this run now"):
            place.records.with_lease(RUN, ANNE).append_entry(make.make_journal_entry())

    def test_records_that_nobody_holds_are_written_by_anybody(self, place: Place) -> None:
        _of_anne(place)
        place.records.append_entry(make.make_journal_entry())
        assert len(place.records.read_entries(RUN)) == 1


class Half:
    """A save of an outcome that has written it and does not end before the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        save = sql_records._save_outcome

        def slowly(*arguments: Any) -> None:
            save(*arguments)
            self.begun.set()
            assert self.go_on.wait(60)

        monkeypatch.setattr(sql_records, "_save_outcome", slowly)


def test_who_takes_a_run_waits_for_what_is_being_written(records: SqlRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    half, leases = Half(monkeypatch), SqlLeases(records.database)
    leases.acquire(RUN, ANNE, 0)  # over at once: anybody may take it
    records.save(make.make_run(id=RUN, state=OperationState.IN_PROGRESS, ended_at=None))
    with ThreadPoolExecutor(2) as pool:
        saving = pool.submit(records.with_lease(RUN, ANNE).save, make.make_outcome(state=OperationState.FAILED))
        assert half.begun.wait(60)
        taking = pool.submit(leases.acquire, RUN, BERT, 60)
        assert not threading.Event().wait(0.5)
        early = taking.done()
        half.go_on.set()
        saving.result(60)
        taking.result(60)
    assert not early
    view = leases.find_lease(RUN)
    assert view is not None
    assert view.holder == BERT


@pytest.mark.postgres
def test_a_lease_is_renewed_while_something_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened("postgres", tmp_path) as records:
        half, leases = Half(monkeypatch), SqlLeases(records.database)
        leases.acquire(RUN, ANNE, 0)
        records.save(make.make_run(id=RUN, state=OperationState.IN_PROGRESS, ended_at=None))
        with ThreadPoolExecutor(2) as pool:
            saving = pool.submit(records.with_lease(RUN, ANNE).save, make.make_outcome())
            assert half.begun.wait(60)
            assert leases.renew(RUN, ANNE, 0).is_kept  # done before the writing is
            assert not saving.done()
            taking = pool.submit(leases.acquire, RUN, BERT, 60)  # waits, though the row is another one since
            threading.Event().wait(0.5)
            early = taking.done()
            half.go_on.set()
            saving.result(60)
            taking.result(60)
        assert not early
