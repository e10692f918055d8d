"""The page and the API of snapshots: what the records have, and copies that rehearsals have left."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleetpatch.access.roles import Role
from flows.installation_checks import _check_taken_back
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.provided_machines import HardwareIdentity, ProviderNotes, ProviderRecord, SnapshotState
from tasks.domain.states import FindingLevel, OperationState, Step
from tasks.records.provided_machines import SqlProvidedMachines
from tasks.records.snapshots import SqlSnapshots
from tasks.rules.rehearsal import OVERLAY_ACT
from tests.contract.test_snapshots import DAY, NOW, OURS, RUN, make_row
from tests.support.builders import make_run
from tests.support.fake_clock import FakeClock
from tests.support.web_login import add_token
from tests.support.web_site import Site, serve_site

OLDER = OURS.replace("0123", "0000")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "fleet.yaml").write_text("machines:\n  - {name: web, address: 192.0.2.1, provider: hv/web}\n")
    with serve_site(tmp_path, clock=FakeClock(NOW + DAY / 2)) as served:
        yield served


def save(site: Site) -> None:
    store = SqlSnapshots(site.records.database, site.records.seals)
    store.save(make_row())
    deleted = make_row(snapshot=OLDER, machine="db", ordered_at=NOW - DAY, state=SnapshotState.DELETED)
    store.save(deleted)


def test_without_one_the_page_says_so(site: Site) -> None:
    assert "No snapshot is recorded." in site.get("/snapshots").text


def test_the_newest_is_first_and_one_machine_can_be_chosen(site: Site) -> None:
    save(site)
    page = site.get("/snapshots").text
    assert 0 < page.index(OURS) < page.index(OLDER)
    assert f'href="/runs/{RUN}/undo?machine=web"' in page
    assert "undo?machine=db" not in page, "what is deleted is no way back"
    of_one = site.get("/snapshots?machine=db").text
    assert (OLDER in of_one, OURS in of_one) == (True, False)
    assert "its time is over" not in page


def test_one_whose_time_is_over_is_told_until_it_is_gone(site: Site) -> None:
    store = SqlSnapshots(site.records.database, site.records.seals)
    row = make_row(expires_at=NOW, note="the array <b>burns</b>")
    store.save(row)
    page = site.get("/snapshots").text
    assert ("its time is over" in page, "the array &lt;b&gt;burns" in page) == (True, True)
    store.save(make_row(expires_at=NOW, state=SnapshotState.DELETED))
    assert "its time is over" not in site.get("/snapshots").text


def test_disks_that_somebody_has_taken_back_are_a_problem_of_the_fleet(site: Site) -> None:
    records = SqlProvidedMachines(site.records.database, site.records.seals)
    record = ProviderRecord("web", "hv/web", notes=ProviderNotes(1, ("s1",)), loss="it is <older>\nThe way back.")
    records.save_notes(record)
    records.save_notes(replace(record, machine="gone", loss="it has left"))
    page = site.get("/").text
    assert "web: it is &lt;older&gt;: fleetpatch snapshots list." in page
    assert "it has left" not in page, "nobody could end it for a machine that is in the inventory no more"
    records.save_notes(replace(record, machine="gone", loss=""))
    (finding,) = _check_taken_back(site.records)
    assert (finding.level, finding.remedy) == (FindingLevel.WARN, "The way back.")
    assert records.find("web", "hv/web") == record
    records.save_identity(replace(record, address="192.0.2.1", identity=HardwareIdentity("u"), proven_at=NOW))
    records.save_notes(replace(record, loss=""))
    assert "older" not in site.get("/").text
    assert list(_check_taken_back(site.records)) == []
    found = records.find("web", "hv/web")
    assert found is not None
    assert (found.identity, found.notes) == (HardwareIdentity("u"), record.notes)


def test_a_copy_that_is_left_is_told(site: Site) -> None:
    detail: dict[str, object] = {"machine": "web", "provider": "hv/web"}
    entry = JournalEntry(RUN, "", Step.ASSESS, JournalMark.BEFORE, OVERLAY_ACT, f"rehearsal-{RUN}-1", NOW, detail)
    site.records.append_entry(entry)
    site.records.save(make_run(id=RUN, state=OperationState.IN_PROGRESS))
    assert "may have left a copy" not in site.get("/snapshots").text
    site.records.save(make_run(id=RUN, state=OperationState.FAILED))
    assert f"rehearsal-{RUN}-1" in site.get("/snapshots").text
    assert "may have left a copy" not in site.get("/snapshots?machine=db").text


def test_a_program_reads_the_same(site: Site) -> None:
    save(site)
    headers = {"Authorization": f"Bearer {add_token(site, 'bot', Role.VIEW)}"}
    answer = site.client.get("/api/v1/snapshots", headers=headers).json()
    assert [item["snapshotId"] for item in answer["items"]] == [OURS, OLDER]
    assert (answer["total"], answer["items"][0]["state"]) == (2, "Taken"), answer
    of_one = site.client.get("/api/v1/snapshots?machine=db", headers=headers).json()
    assert [item["machineName"] for item in of_one["items"]] == ["db"]
