"""Records of machines at their providers: sealed, and each half stays as it is when the other is stored."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import update

from flows.installation_checks import _check_taken_back
from tasks.domain.provided_machines import HardwareIdentity, ProviderNotes, ProviderRecord
from tasks.records.provided_machines import SqlProvidedMachines
from tasks.records.setup import open_records
from tasks.records.snapshot_schema import provided_machines
from tasks.records.sql_records import SqlRecords
from tests.contract.records_subjects import BOTH, new_database

AT = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
IDENTITY = HardwareIdentity("4c4c4544-0044-4410-8054-b9c04f595631", macs=("52:54:00:00:00:0a",))
PROVEN = ProviderRecord("web", "rack/a", "here", IDENTITY, AT)
NOTES = ProviderNotes(3, ("s1",), {"vda": "/b"}, {"/a": "/b"}, "all of it")


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "keys"))
    with new_database(request.param, tmp_path) as made:
        yield made


def open_store(records: SqlRecords) -> SqlProvidedMachines:
    return SqlProvidedMachines(records.database, records.seals)


def test_identity_and_notes_are_stored_one_without_the_other(url: str) -> None:
    with open_records(url) as records:
        store = open_store(records)
        assert store.find("web", "rack/a") is None
        store.save_identity(PROVEN)
        assert store.find("web", "rack/a") == PROVEN
        store.save_notes(ProviderRecord("web", "rack/a", notes=NOTES, loss="gone"))
        both = ProviderRecord("web", "rack/a", "here", IDENTITY, AT, NOTES, "gone")
        assert store.find("web", "rack/a") == both
        store.save_identity(PROVEN)
        assert store.find("web", "rack/a") == both
        assert store.find("web", "rack/b") is None


@pytest.mark.parametrize("column", ["address", "identity", "notes", "loss", "provider"])
def test_a_row_that_somebody_has_changed_is_nothing_and_is_replaced(url: str, column: str) -> None:
    with open_records(url) as records:
        store = open_store(records)
        store.save_identity(PROVEN)
        with records.database.begin_write("change it") as connection:
            connection.execute(update(provided_machines).values({column: "forged"}))
        provider = "forged" if column == "provider" else "rack/a"
        assert store.find("web", provider) is None
        again = ProviderRecord("web", provider, "here", IDENTITY, AT)
        store.save_identity(again)
        assert store.find("web", provider) == again


def test_a_row_of_a_key_that_is_lost_is_nothing_and_is_replaced(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_records(url) as records:
        open_store(records).save_identity(PROVEN)
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "others"))
    with open_records(url) as records:
        store = open_store(records)
        assert store.find("web", "rack/a") is None
        store.save_identity(PROVEN)
        assert store.find("web", "rack/a") == PROVEN


def test_notes_of_a_key_that_is_not_here_are_unreadable_and_stay(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = ProviderRecord("web", "rack/a", notes=NOTES, loss="gone\nThe way back.")
    with open_records(url) as records:
        for one in (noted, replace(noted, machine="db", loss="")):
            open_store(records).save_notes(one)
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "others"))
    with open_records(url) as records:
        store = open_store(records)
        store.save_identity(PROVEN)
        store.save_notes(replace(noted, loss=""))
        found = store.find("web", "rack/a")
        assert found is not None
        assert (found.is_unreadable, found.identity) == (True, None)
        assert "records-seal doesn't have it" in found.loss.partition("\n")[0]
        assert [one.machine for one in store.find_losses() if one.is_unreadable] == ["db", "web"]
        (finding,) = _check_taken_back(records)
        assert finding.message.startswith("db (rack/a), web (rack/a): ")
        assert "snapshots adopt MACHINE --as-it-is" in finding.remedy
        store.save_notes(replace(noted, machine="db", loss=""), replaces_unreadable=True)
        assert store.find("db", "rack/a") == replace(noted, machine="db", loss="")
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "keys"))
    with open_records(url) as records:
        assert open_store(records).find("web", "rack/a") == noted
