"""The index of pending updates follows the records, also after they could not be read."""

from pathlib import Path

import pytest

from fleetpatch.updates import pending_index
from fleetpatch.updates.pending_index import PendingIndexReader
from tasks.domain.errors import RecordsUnavailable
from tasks.records.setup import open_records
from tests.support import builders as make
from tests.support.fake_clock import FakeClock


def test_a_machine_that_lacks_nothing_any_more_is_gone_also_if_the_records_failed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock(make.at(0))
    lacking, patched = make.make_package_state(updates=(make.make_update(),)), make.make_package_state(updates=())

    def fail(*_: object) -> None:
        raise RecordsUnavailable("the database does not answer")

    with open_records(f"sqlite:///{tmp_path / 'records.db'}") as records:
        reader = PendingIndexReader(records.database, clock)
        for name in ("web-1", "web-2"):
            records.save(make.make_assessment(machine=name, run_id="a-1", at=make.at(0), packages=lacking))
        with reader.open() as index:
            assert sorted(index.list_machines(index.updates["openssl"].machines)) == ["web-1", "web-2"]
        for name, packages in (("web-1", patched), ("web-2", lacking)):
            records.save(make.make_assessment(machine=name, run_id="a-2", at=make.at(60), packages=packages))
        clock.advance(10)
        with monkeypatch.context() as broken:
            broken.setattr(pending_index, "read_pending_updates", fail)
            with pytest.raises(RecordsUnavailable):
                reader.open().__enter__()
        with reader.open() as index:
            assert list(index.list_machines(index.updates["openssl"].machines)) == ["web-2"]
