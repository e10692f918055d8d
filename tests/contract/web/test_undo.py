"""The page and the API that take a run back: who may, what is started, and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetpatch.access.login_admin import create_access_token
from fleetpatch.access.roles import Role
from fleetpatch.acts import run_acts
from tasks.domain.states import OperationState
from tasks.records.snapshots import SqlSnapshots
from tests.contract.test_snapshots import make_row
from tests.contract.web.test_acts import Prefect
from tests.support import builders as make
from tests.support.fake_clock import FakeClock
from tests.support.web_login import add_token, log_in
from tests.support.web_site import Site, serve_site

INVENTORY = """
machines:
  - {name: web-01, address: 192.0.2.1, environment: prod}
  - {name: web-02, address: 192.0.2.2, environment: stage}
"""


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> Prefect:
    made = Prefect()
    monkeypatch.setattr(run_acts, "start_flow_run", made.start)
    return made


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "fleet.yaml").write_text(INVENTORY)
    with serve_site(tmp_path, clock=FakeClock(make.at(3600))) as served:
        run = make.make_run(state=OperationState.SUCCEEDED, ended_at=make.at(600))
        served.records.save(run)
        outcomes = [make.make_outcome(machine=name) for name in ("web-01", "web-02", "web-gone")]
        plans = tuple(make.make_plan(machine=outcome.machine) for outcome in outcomes)
        report = make.make_report(run=run, outcomes=tuple(outcomes), plans=plans)
        for outcome in outcomes:
            served.records.save(outcome)
        served.records.save(report)
        yield served


RUN = make.make_run().id


def test_the_pages_of_the_run_lead_to_it(site: Site) -> None:
    assert f'href="/runs/{RUN}/undo"' in site.get(f"/runs/{RUN}").text
    assert f'href="/runs/{RUN}/undo?machine=web-01"' in site.get(f"/runs/{RUN}/machines/web-01").text
    assert "Take this run back on web-01?" in site.get(f"/runs/{RUN}/undo?machine=web-01").text
    assert "<script>" not in site.get(f"/runs/{RUN}/undo?machine=<script>x").text.partition("<main")[2]


def test_a_person_takes_a_run_back_on_one_machine_or_plans_all(site: Site, prefect: Prefect) -> None:
    browser = log_in(site, "anna", Role.VIEW, Role.RUN)
    form = {"csrf": browser.form_token, "once": "k1"}
    assert browser.post(f"/runs/{RUN}/undo", data={**form, "machine": "web-01"}).status_code == 303
    assert browser.post(f"/runs/{RUN}/undo", data={**form, "machine": "web-01"}).status_code == 303
    assert browser.post(f"/runs/{RUN}/undo", data={**form, "dry_run": "yes"}).status_code == 303
    one, planned = (started.parameters["request"] for started in prefect.started)
    assert (one["undo_of"], one["only_machines"], one.get("dry_run", False)) == (RUN, ["web-01"], False)
    assert (planned["undo_of"], planned["only_machines"], planned["dry_run"]) == (RUN, ["web-01", "web-02"], True)


def test_what_can_not_be_is_told_on_the_page(site: Site, prefect: Prefect) -> None:
    browser = log_in(site, "anna", Role.VIEW, Role.RUN)
    form = {"csrf": browser.form_token, "once": "k1", "machine": "wbe"}
    answer = browser.post(f"/runs/{RUN}/undo", data=form)
    assert (answer.status_code, prefect.started) == (409, [])
    assert "has installed nothing on" in answer.text


def test_a_program_takes_it_back(site: Site, prefect: Prefect) -> None:
    headers = {"Authorization": f"Bearer {add_token(site, 'bot', Role.VIEW, Role.RUN)}"}
    address = f"/api/v1/runs/{RUN}/undo"
    body = {"machines": ["web-02"], "exclude": ["linux-*"], "reboot": "Never", "minutes": 30}
    answer = site.client.post(address, headers={**headers, "Idempotency-Key": "one"}, json=body)
    assert answer.status_code == 202, answer.text
    (request,) = [started.parameters["request"] for started in prefect.started]
    assert request == {
        **request,
        "undo_of": RUN,
        "only_machines": ["web-02"],
        "reboot": "Never",
        "updates": {"exclude": ["linux-*"]},
        "window": {"minutes": 30.0},
    }
    wrong = site.client.post(address, headers={**headers, "Idempotency-Key": "two"}, json={"machines": ["db-9"]})
    assert wrong.status_code == 400
    assert "has installed nothing on" in wrong.json()["detail"]
    by_patch = {"scope": "*", "undo_of": RUN}
    refused = site.client.post("/api/v1/patch", headers={**headers, "Idempotency-Key": "three"}, json=by_patch)
    assert refused.status_code in {400, 422}


def test_a_role_of_some_machines_takes_no_others_back(site: Site, prefect: Prefect) -> None:
    token = create_access_token(site.records, "stage", ["view", "run@env=stage"])[1]
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "one"}
    address = f"/api/v1/runs/{RUN}/undo"
    assert site.client.post(address, headers=headers, json={}).status_code == 403
    assert prefect.started == []
    assert site.client.post(address, headers=headers, json={"machines": ["web-02"]}).status_code == 202


def test_a_snapshot_is_offered_with_what_is_lost_and_only_used_if_chosen(site: Site, prefect: Prefect) -> None:
    row = make_row(machine="web-01", run_id=RUN)
    SqlSnapshots(site.records.database, site.records.seals).save(row)
    page = site.get(f"/runs/{RUN}/undo").text
    assert "<strong>web-01</strong>: all that was written to its OS disks since" in page
    assert 'value="packages" checked' in page
    assert 'value="snapshot"' not in site.get(f"/runs/{RUN}/undo?machine=web-02").text
    browser = log_in(site, "anna", Role.VIEW, Role.RUN)
    form = {"csrf": browser.form_token, "machine": "web-01"}
    assert browser.post(f"/runs/{RUN}/undo", data={**form, "once": "k1"}).status_code == 303
    assert browser.post(f"/runs/{RUN}/undo", data={**form, "once": "k2", "by": "snapshot"}).status_code == 303
    headers = {"Authorization": f"Bearer {add_token(site, 'bot', Role.VIEW, Role.RUN)}", "Idempotency-Key": "one"}
    body = {"machines": ["web-01"], "by": "snapshot"}
    assert site.client.post(f"/api/v1/runs/{RUN}/undo", headers=headers, json=body).status_code == 202
    ways = [started.parameters["request"].get("undo_by", "packages") for started in prefect.started]
    assert ways == ["packages", "snapshot", "snapshot"]
