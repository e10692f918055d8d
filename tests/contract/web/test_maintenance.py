"""What configurations hold, on the pages and in the API, and the button that applies it. Prefect is a list here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetpatch.access.roles import Role
from fleetpatch.acts import run_acts
from tasks.domain.model import Update
from tasks.domain.states import Classification
from tasks.records.setup import open_records
from tasks.rules.maintenance.model import Application, ApplyCause
from tests.contract.web.test_acts import BOB, Prefect
from tests.support.builders import make_update
from tests.support.fake_clock import FakeClock
from tests.support.held_fleet import CONFIGURATION, HeldFleet
from tests.support.web_people import admit_people, person
from tests.support.web_site import Site, serve_site

VIEWER = person("vera", Role.VIEW)
CURL: Update = make_update(name="curl", available="<b>8</b>", classification=Classification.SECURITY)


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> Prefect:
    made = Prefect()
    monkeypatch.setattr(run_acts, "start_flow_run", made.start)
    return made


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldFleet]:
    admit_people(monkeypatch)
    monkeypatch.setattr("flows.notify.notifier.send_with_apprise", lambda _url, _message: True)
    url = f"sqlite:///{tmp_path / 'records.db'}"
    with open_records(url) as records:
        yield HeldFleet(url, records, tmp_path, FakeClock())


@pytest.fixture
def site(fleet: HeldFleet, tmp_path: Path) -> Iterator[Site]:
    fleet.assess(CURL)
    fleet.tick()
    with serve_site(tmp_path, clock=fleet.clock) as made:
        yield made


def test_the_page_has_one_line_for_each_group(site: Site) -> None:
    page = site.get("/maintenance", headers=VIEWER).text
    assert page.count('href="/maintenance/web"') == 1
    assert "Pending" in page
    assert "2026-04-14" in page


def test_the_contents_are_shown_and_harmless(site: Site) -> None:
    page = site.get("/maintenance/web", headers=VIEWER).text
    assert "&lt;b&gt;8&lt;/b&gt;" in page
    assert "<b>8</b>" not in page
    assert "disabled" in page
    assert site.get("/maintenance/none", headers=VIEWER).status_code == 404


def test_a_person_applies_it_and_a_double_click_starts_one_run(site: Site, prefect: Prefect) -> None:
    form = {"once": "k1"}
    answers = [site.client.post("/maintenance/web/apply", data=form, headers=BOB) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 303]
    (made,) = prefect.started
    request = made.parameters["request"]
    assert request["configuration"] == "web"
    assert request["outside_window"] is True
    assert request["maintenance"]["group"] == "web"
    assert "window" not in request  # that of the configuration is as long as usual, and it opens at once


def test_who_may_not_run_may_not_apply(site: Site, prefect: Prefect) -> None:
    assert site.client.post("/maintenance/web/apply", data={"once": "k1"}, headers=VIEWER).status_code == 403
    assert not prefect.started


def test_what_is_being_applied_is_not_applied_again(site: Site, fleet: HeldFleet, prefect: Prefect) -> None:
    application = Application("web/1/r1", 1, ApplyCause.PERSON, "anne", fleet.clock.now(), "r1")
    fleet.store.begin_application("web", application, fleet.clock.now())
    answer = site.client.post("/maintenance/web/apply", data={"once": "k1"}, headers=BOB)
    assert answer.status_code == 409
    assert "is being applied already: run r1, by anne" in answer.text
    assert not prefect.started
    assert "InProgress" in site.get("/maintenance", headers=VIEWER).text


def test_a_removed_configuration_is_not_shown(site: Site, fleet: HeldFleet) -> None:
    fleet.configuration = CONFIGURATION.replace("maintenance: {hold: 35 days}\n", "")
    fleet.load_groups()
    fleet.store.remove_group("web", fleet.clock.now())
    assert 'href="/maintenance/web"' not in site.get("/maintenance", headers=VIEWER).text


def test_programs_read_it_in_azures_words(site: Site) -> None:
    (group,) = site.get("/api/v1/maintenance", headers=VIEWER).json()["items"]
    assert group["status"] == "Pending"
    assert group["resourceId"] == group["maintenanceConfigurationId"] == "web"
    assert group["notBefore"] == "2026-04-14T01:00:00Z"
    assert (group["patchCount"], group["criticalAndSecurityPatchCount"]) == (1, 1)
    details = site.get("/api/v1/maintenance/web", headers=VIEWER).json()
    assert [(each["patchName"], each["machineCount"]) for each in details["patches"]] == [("curl", 2)]
    assert site.get("/api/v1/maintenance/none", headers=VIEWER).status_code == 404


def test_programs_apply_it_once_for_each_key(site: Site, prefect: Prefect, fleet: HeldFleet) -> None:
    headers = {**BOB, "Idempotency-Key": "k1"}
    answers = [site.client.post("/api/v1/maintenance/web/apply", headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert len(prefect.started) == 1
    fleet.assess()
    fleet.tick()
    refused = site.client.post("/api/v1/maintenance/web/apply", headers={**headers, "Idempotency-Key": "k2"})
    assert refused.status_code == 409
    assert "NoUpdatesPending" in refused.json()["detail"]


def test_programs_learn_of_groups_that_are_not_known(fleet: HeldFleet, tmp_path: Path) -> None:
    fleet.load_groups()
    lost = CONFIGURATION.replace("name: web", "name: lost").replace("env=prod", "env=nowhere")
    inventory = tmp_path / "fleet.yaml"
    (tmp_path / "configurations" / "lost.yaml").write_text(f"{lost}inventory: {inventory}\n")
    with serve_site(tmp_path, clock=fleet.clock) as site:
        told = site.get("/api/v1/maintenance", headers=VIEWER).json()
    assert told["isRead"] is True
    assert "env=nowhere" in told["unknown"]["lost"]
    assert {group["resourceId"]: group["status"] for group in told["items"]} == {"lost": None, "web": None}
