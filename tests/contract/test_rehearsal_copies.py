"""Copies of machines that rehearsals have left: found in the journals, told, and deleted when nobody needs them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from flows.installation_checks import check_installation
from flows.ports.ports import Ports
from flows.rehearsal_copies import delete_copy_safely
from flows.snapshots import DeletionState, Handled
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.provided_machines import Overlay, PowerState, ProviderAct
from tasks.domain.states import FindingLevel, OperationState, Step
from tasks.records import schema
from tasks.records.queries.copies import LeftCopy, find_left_copies
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.rules.rehearsal import OVERLAY_ACT
from tests.contract.records_subjects import BOTH, new_database
from tests.support.builders import at, make_run
from tests.support.fake_provider import ProviderFault
from tests.support.snapshot_fleet import SnapshotFleet

RUN = make_run().id
COPY = f"rehearsal-{RUN}-1"
LEFT = LeftCopy(COPY, "web", "hv/web", RUN, at(60))


@pytest.fixture(params=BOTH)
def records(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlRecords]:
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "keys"))
    with new_database(request.param, tmp_path) as url, open_records(url) as opened:
        yield opened


def begin(records: SqlRecords, state: OperationState = OperationState.FAILED) -> None:
    records.save(make_run(state=state))
    detail: dict[str, object] = {"machine": "web", "provider": "hv/web"}
    records.append_entry(JournalEntry(RUN, "", Step.ASSESS, JournalMark.BEFORE, OVERLAY_ACT, COPY, at(60), detail))


class Place:
    """A machine with a copy."""

    def __init__(self, records: SqlRecords, overlay_id: str = COPY) -> None:
        self.fleet, self._records = SnapshotFleet(), records
        self.fleet.add("web", [])
        overlay = Overlay(overlay_id, PowerState.RUNNING) if overlay_id else None
        self.fleet.hypervisor.machines["web"] = replace(self.fleet.provided("web"), overlay=overlay)

    def ports(self) -> Ports:
        return replace(self.fleet.ports(), records=self._records)

    def delete(self) -> Handled:
        (copy,) = find_left_copies(self._records.database)
        return delete_copy_safely(copy, self.ports())

    @property
    def overlay(self) -> Overlay | None:
        return self.fleet.provided("web").overlay


def test_only_copies_without_an_end_are_found(records: SqlRecords) -> None:
    begin(records)
    assert find_left_copies(records.database) == (LEFT,)
    end = JournalEntry(RUN, "", Step.ASSESS, JournalMark.AFTER, OVERLAY_ACT, COPY, at(90), {"machine": "web"})
    records.append_entry(end)
    assert find_left_copies(records.database) == ()


@pytest.mark.parametrize("state", [OperationState.IN_PROGRESS, OperationState.UNKNOWN])
def test_the_copy_of_a_run_that_is_not_over_is_not_left(records: SqlRecords, state: OperationState) -> None:
    begin(records, state)
    assert find_left_copies(records.database) == ()
    records.save(make_run(state=OperationState.FAILED))
    assert find_left_copies(records.database) == (LEFT,)


@pytest.mark.parametrize(("overlay", "state"), [(COPY, DeletionState.DELETED), ("", DeletionState.GONE)])
def test_it_is_deleted_once_and_the_journal_says_so(records: SqlRecords, overlay: str, state: DeletionState) -> None:
    begin(records)
    place = Place(records, overlay)
    assert (place.delete(), place.overlay) == (Handled("web", COPY, state), None)
    assert len(place.fleet.find_acts("web", ProviderAct.DELETE_OVERLAY)) == 1, "what is not seen is ordered away, too"
    assert find_left_copies(records.database) == ()


def test_the_copy_of_another_run_stays(records: SqlRecords) -> None:
    begin(records)
    place = Place(records, "rehearsal-of-another-run-1")
    assert place.delete().state is DeletionState.GONE
    assert place.overlay is not None


def test_one_that_can_not_be_deleted_is_found_again(records: SqlRecords) -> None:
    begin(records)
    place = Place(records)
    place.fleet.hypervisor.faults[ProviderAct.DELETE_OVERLAY] = [ProviderFault.AWAY_BEFORE]
    assert place.delete() == Handled("web", COPY, DeletionState.FAILED, "the hypervisor does not answer")
    place.fleet.hypervisor.is_away = True
    assert place.delete().state is DeletionState.FAILED
    assert find_left_copies(records.database) == (LEFT,)
    place.fleet.hypervisor.is_away = False
    assert place.delete().state is DeletionState.DELETED


def test_after_a_lost_answer_the_provider_is_asked(records: SqlRecords) -> None:
    begin(records)
    place = Place(records)
    place.fleet.hypervisor.faults[ProviderAct.DELETE_OVERLAY] = [ProviderFault.AWAY_AFTER]
    assert place.delete() == Handled("web", COPY, DeletionState.DELETED)


def test_a_part_that_is_not_seen_and_can_not_be_deleted_may_be_there(records: SqlRecords) -> None:
    begin(records)
    place = Place(records, "")
    place.fleet.hypervisor.faults[ProviderAct.DELETE_OVERLAY] = [ProviderFault.REFUSED]
    assert place.delete().state is DeletionState.FAILED
    assert find_left_copies(records.database) == (LEFT,)


def test_a_machine_with_another_provider_now_is_left_alone(records: SqlRecords) -> None:
    begin(records)
    place = Place(records)
    moved = replace(LEFT, provider="hv-2/web")
    deletion = delete_copy_safely(moved, place.ports())
    assert (deletion.state, "hv-2/web has it" in deletion.message) == (DeletionState.FAILED, True)
    away = delete_copy_safely(replace(LEFT, machine="sold"), place.ports())
    assert (away.state, "not in the inventory" in away.message) == (DeletionState.FAILED, True)
    assert not place.fleet.hypervisor.orders
    assert place.overlay is not None


def test_an_entry_that_no_run_has_written_deletes_nothing(records: SqlRecords) -> None:
    begin(records)
    place = Place(records)
    with records.database.begin_write("tamper") as connection:
        connection.execute(update(schema.journal).values(seal="0" * 64))
    deletion = place.delete()
    assert (deletion.state, place.overlay is not None) == (DeletionState.FAILED, True), deletion
    assert not place.fleet.hypervisor.orders


def test_doctor_tells_it_until_it_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "keys"))
    url = f"sqlite:///{tmp_path / 'records.db'}"
    with open_records(url) as records:
        begin(records, OperationState.IN_PROGRESS)
        assert not [finding for finding in check_installation(url) if finding.check == "rehearsals"]
        begin(records)
        (finding,) = [finding for finding in check_installation(url) if finding.check == "rehearsals"]
        assert (finding.level, f"{COPY} of web" in finding.message) == (FindingLevel.WARN, True)
        Place(records).delete()
        assert not [finding for finding in check_installation(url) if finding.check == "rehearsals"]
