"""The page and the API of images: what is shown, who may upgrade a group, and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetpatch.access.roles import Role
from fleetpatch.acts import run_acts
from tasks.domain.components import InstalledComponent
from tests.contract.cli.test_images import FILE
from tests.contract.web.test_acts import Prefect
from tests.support import builders as make
from tests.support.fake_clock import FakeClock
from tests.support.image_fleet import NEW, OLD
from tests.support.web_login import add_token, log_in
from tests.support.web_site import Site, serve_site

INVENTORY = """
machines:
  - {name: m1, address: 192.0.2.1, provider: host}
  - {name: m2, address: 192.0.2.2, provider: host}
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "fleet.yaml").write_text(INVENTORY)
    (tmp_path / "images.yaml").write_text(FILE)
    with serve_site(tmp_path, clock=FakeClock(make.at(3600))) as served:
        told = (InstalledComponent("image:web", OLD),)
        packages = make.make_package_state(components=told)
        served.records.save(make.make_assessment(machine="m1", packages=packages))
        yield served


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> Prefect:
    made = Prefect()
    monkeypatch.setattr(run_acts, "start_flow_run", made.start)
    return made


def test_the_page_shows_groups_and_their_machines(site: Site) -> None:
    text = site.get("/images").text
    assert "Pending" in text
    assert NEW in text
    assert "No group was upgraded" in text
    assert "m2" in text


def test_a_file_with_faults_is_told_on_the_page(site: Site, tmp_path: Path) -> None:
    (tmp_path / "images.yaml").write_text("images: [{name: x}]")
    answer = site.get("/images")
    assert answer.status_code == 200
    assert "the image x has no version" in answer.text


@pytest.mark.parametrize(("wanted", "expected"), [("", False), ("yes", True)])
def test_an_upgrade_is_a_run_of_the_whole_group(site: Site, prefect: Prefect, wanted: str, expected: bool) -> None:
    browser = log_in(site, "anna", Role.VIEW, Role.RUN)
    form = {"csrf": browser.form_token, "group": "web", "roll_back": wanted, "once": "k1"}
    assert browser.post("/images/upgrade", data=form).status_code == 303
    (request,) = [started.parameters["request"] for started in prefect.started]
    assert (request["component"], request["only_machines"]) == ("image:web", ["m1", "m2"])
    assert request.get("roll_back", True) is expected


def test_who_may_only_look_sees_no_form(site: Site) -> None:
    browser = log_in(site, "vera", Role.VIEW)
    assert "/images/upgrade" not in browser.get("/images").text
    form = {"csrf": browser.form_token, "group": "web"}
    assert browser.post("/images/upgrade", data=form).status_code == 403


def test_a_group_that_there_is_not_is_told(site: Site) -> None:
    browser = log_in(site, "anna", Role.VIEW, Role.RUN)
    answer = browser.post("/images/upgrade", data={"csrf": browser.form_token, "group": "wbe"})
    assert answer.status_code == 400
    assert "Did you mean" in answer.text


def test_the_api_lists_and_upgrades(site: Site, prefect: Prefect) -> None:
    headers = {"Authorization": f"Bearer {add_token(site, 'bot', Role.VIEW, Role.RUN)}"}
    listed = site.get("/api/v1/images", headers=headers).json()
    assert [(row["machineName"], row["standing"], row["availableVersion"]) for row in listed["items"]] == [
        ("m1", "Pending", NEW),
        ("m2", "Unknown", None),
    ]
    assert site.get("/api/v1/images/upgrades", headers=headers).json()["items"] == []
    keyed = {**headers, "Idempotency-Key": "one"}
    started = site.client.post("/api/v1/images/web/upgrade", headers=keyed, json={"roll_back": True})
    assert started.status_code == 202, started.text
    (request,) = [one.parameters["request"] for one in prefect.started]
    assert request.get("roll_back", True) is True
    assert site.client.post("/api/v1/images/none/upgrade", headers=keyed, json={}).status_code == 400
