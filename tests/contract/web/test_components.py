"""The page and the API of components: who may enrol, what is shown, and what is refused."""

import html
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleetpatch.access.login_admin import create_access_token
from fleetpatch.access.roles import Role
from fleetpatch.acts import run_acts
from flows.components.overview import find_enrolled_scopes
from inventory.machine import Machine
from tasks.domain.components import InstalledComponent
from tasks.records.components import SqlComponents
from tests.contract.cli.test_components import FILE
from tests.contract.web.test_acts import Prefect
from tests.support import builders as make
from tests.support.fake_clock import FakeClock
from tests.support.web_login import add_token, log_in
from tests.support.web_site import Site, serve_site

INVENTORY = """
machines:
  - {name: m1, address: 192.0.2.1, environment: prod}
  - {name: m2, address: 192.0.2.2, environment: stage}
  - {name: w1, address: 192.0.2.3, os: windows, transport: winrm, user: me, credential: "env:X", environment: stage}
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "fleet.yaml").write_text(INVENTORY)
    (tmp_path / "components.yaml").write_text(FILE)
    with serve_site(tmp_path, clock=FakeClock(make.at(3600))) as served:
        told = (InstalledComponent("agent", "1.0.0"), InstalledComponent("app", None, "<script>alert(1)</script>"))
        packages = make.make_package_state(components=told)
        served.records.save(make.make_assessment(machine="m1", packages=packages))
        yield served


def test_the_page_shows_versions_and_escapes_what_machines_say(site: Site) -> None:
    text = site.get("/components").text
    assert "Pending" in text
    assert "1.1.0" in text
    assert "<script>alert" not in text
    assert "w1" not in text  # components of Linux
    assert "No component is enrolled" in text


def test_the_page_of_a_machine_leads_to_its_components(site: Site) -> None:
    text = site.get("/machines/m1").text
    assert "agent 1.0.0" in text
    assert "<script>alert" not in text
    (address,) = re.findall('href="(/components[?]scope=[^"]*)"', text)
    assert ">m2<" not in site.get(html.unescape(address)).text


def test_a_faulty_file_is_told_on_the_page(site: Site, tmp_path: Path) -> None:
    (tmp_path / "components.yaml").write_text("components: [{name: app}]")
    answer = site.get("/components")
    assert answer.status_code == 200
    assert "components.yaml:1" in answer.text


def test_strangers_enrol_nothing(site: Site) -> None:
    answer = site.client.post("/components/enroll", data={"component": "agent", "scope": "*"})
    assert answer.status_code in {303, 401, 403}
    assert SqlComponents(site.records.database).read_enrolments() == ()


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> Prefect:
    made = Prefect()
    monkeypatch.setattr(run_acts, "start_flow_run", made.start)
    return made


class TestPeople:
    def test_a_login_with_the_role_enrols_and_ends_it(self, site: Site) -> None:
        browser = log_in(site, "anna", Role.VIEW, Role.RUN)
        form = {"csrf": browser.form_token, "component": "agent", "scope": "env=prod"}
        assert "agent enrolled in env=prod: 1 machine now" in browser.post("/components/enroll", data=form).text
        (enrolment,) = SqlComponents(site.records.database).read_enrolments()
        assert (enrolment.component, enrolment.scope, enrolment.by) == ("agent", "env=prod", "anna")
        assert "Enabled" in browser.get("/components").text
        assert "no longer enrolled" in browser.post("/components/unenroll", data=form).text
        assert SqlComponents(site.records.database).read_enrolments() == ()

    @pytest.mark.parametrize(
        ("form", "words"),
        [
            ({"component": "agnet", "scope": "*"}, "there is no component"),
            ({"component": "agent", "scope": "os=windows"}, "no machine of"),
            ({"component": "agent", "scope": "env=nowhere"}, "nowhere"),
        ],
    )
    def test_what_can_not_be_is_told_on_the_page(self, site: Site, form: dict[str, str], words: str) -> None:
        browser = log_in(site, "anna", Role.VIEW, Role.RUN)
        answer = browser.post("/components/enroll", data={"csrf": browser.form_token, **form})
        assert answer.status_code == 400
        assert words in answer.text

    def test_who_may_only_look_sees_no_form(self, site: Site) -> None:
        browser = log_in(site, "vera", Role.VIEW)
        text = browser.get("/components").text
        assert "/components/enroll" not in text
        form = {"csrf": browser.form_token, "component": "agent", "scope": "*"}
        assert browser.post("/components/enroll", data=form).status_code == 403

    def test_an_upgrade_is_a_run_with_the_limits_of_components(self, site: Site, prefect: Prefect) -> None:
        browser = log_in(site, "anna", Role.VIEW, Role.RUN)
        form = {"csrf": browser.form_token, "component": "agent", "scope": "*", "once": "k1"}
        answer = browser.post("/components/upgrade", data=form)
        assert answer.status_code == 303
        (request,) = [started.parameters["request"] for started in prefect.started]
        assert (request["component"], request["reboot"], request["only_machines"]) == ("agent", "Never", ["m1", "m2"])
        assert request["waves"]["round_down"] is True


class TestPrograms:
    def test_the_api_lists_enrols_and_upgrades(self, site: Site, prefect: Prefect) -> None:
        headers = {"Authorization": f"Bearer {add_token(site, 'bot', Role.VIEW, Role.RUN)}"}
        listed = site.get("/api/v1/components?standing=Pending", headers=headers).json()
        assert [(row["machineName"], row["availableVersion"]) for row in listed["items"]] == [("m1", "1.1.0")]
        body = {"scope": "env=prod"}
        answer = site.client.post("/api/v1/components/agent/enroll", headers=headers, json=body)
        assert (answer.status_code, answer.json()["enrolled"]) == (200, True)
        again = site.client.post("/api/v1/components/agent/enroll", headers=headers, json=body)
        assert "was enrolled already" in again.json()["message"]
        started = site.client.post(
            "/api/v1/components/agent/upgrade", headers={**headers, "Idempotency-Key": "one"}, json=body
        )
        assert started.status_code == 202
        assert site.client.post("/api/v1/components/none/enroll", headers=headers, json=body).status_code == 400

    def test_a_role_of_some_machines_enrols_no_others(self, site: Site) -> None:
        token = create_access_token(site.records, "stage", ["view", "run@env=stage"])[1]
        headers = {"Authorization": f"Bearer {token}"}
        refused = site.client.post("/api/v1/components/agent/enroll", headers=headers, json={"scope": "*"})
        assert refused.status_code == 403
        allowed = site.client.post("/api/v1/components/agent/enroll", headers=headers, json={"scope": "env=stage"})
        assert allowed.status_code == 200
        enrolments = SqlComponents(site.records.database).read_enrolments()
        machines = [Machine("m2", "192.0.2.2", environment=name) for name in ("stage", "prod")]
        limited = [replace(enrolment, scope="m2") for enrolment in enrolments]  # a machine that is moved later
        assert [bool(find_enrolled_scopes([machine], "agent", limited)) for machine in machines] == [True, False]

    def test_a_patch_request_can_not_name_a_component(self, site: Site) -> None:
        headers = {"Authorization": f"Bearer {add_token(site, 'bot', Role.VIEW, Role.RUN)}", "Idempotency-Key": "k"}
        body = {"scope": "*", "component": "agent"}
        answer = site.client.post("/api/v1/patch", headers=headers, json=body)
        assert answer.status_code == 400
        assert "component: this can't be set through the API" in answer.json()["detail"]
