"""Attacks on the policy from outside: real tokens at the real API, and a command in a folder of one's own."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleetpatch.access.login_admin import create_access_token, create_login_link
from fleetpatch.access.roles import Role
from fleetpatch.acts import run_acts
from fleetpatch.acts.flow_runs import FlowRunStatus
from fleetpatch.cli.main import main
from fleetpatch.pages import acts as pages_acts
from flows.policy import policy_file
from flows.ports.caller import Caller
from flows.request import PatchRequest
from tasks.domain.errors import RequestError
from tasks.domain.states import OperationState
from tasks.records.requested_runs import SqlRequestedRuns
from tasks.records.setup import open_records
from tests.contract.policy_doors import RULES, Stage, build_stage, call_local_engine, enter_by_python
from tests.contract.web.test_acts import Prefect
from tests.support.web_login import log_in
from tests.support.web_site import Site, serve_site

POLICY = """
policy:
  rules:
    - name: berlin
      scope: env=prod
      ask: the platform team
      approval: {by: [anna]}
      freezes: [{start: 2020-01-01, end: 2099-12-31, reason: the sale}]
      forbid: [allow_removals, accept_licences, outside_window]
      failure_budget_percent: 20
"""
EVERYTHING: dict[str, Any] = {
    "scope": "*",
    "allow_removals": True,
    "accept_licences": True,
    "waves": {"failure_budget_percent": 100},
}


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = build_stage(tmp_path, monkeypatch)
    (tmp_path / "policy.yaml").write_text(POLICY)
    return made


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> Prefect:
    made = Prefect()
    monkeypatch.setattr(run_acts, "start_flow_run", made.start)
    return made


@pytest.fixture
def site(stage: Stage) -> Iterator[Site]:
    with serve_site(stage.folder, requires_login=True) as made:
        yield made


def post(site: Site, token: str, path: str, body: object, key: str = "k") -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
    return site.client.post(f"/api/v1{path}", json=body, headers=headers)


def test_a_limited_token_patches_everything_in_a_freeze(site: Site, prefect: Prefect) -> None:
    """Attacker: a token run@env=stage. Way: POST /patch for `*` in the freeze of production, with removals, licences
    and a failure budget of 100 %. Must hold: 403 that names the role, each rule and whom to ask; nothing is started.
    """
    _, token = create_access_token(site.records, "eve", ["run@env=stage"])
    answer = post(site, token, "/patch", EVERYTHING)
    assert answer.status_code == 403, answer.text
    said = answer.json()["detail"]
    for words in ("run of eve is limited to env=stage", "allow_removals", "accept_licences", "100 percent", "the sale"):
        assert words in said
    assert "policy rule berlin" in said
    assert "Ask the platform team" in said
    assert prefect.started == []


@pytest.mark.parametrize("path", ["/assess", "/plan"])
def test_a_limited_token_looks_at_machines_of_others(site: Site, prefect: Prefect, path: str) -> None:
    """Attacker: a token run@env=stage. Way: runs that only read, on machines outside of it. Must hold: 403."""
    _, token = create_access_token(site.records, "eve", ["run@env=stage"])
    assert post(site, token, path, {"scope": "*"}).status_code == 403
    assert prefect.started == []
    assert post(site, token, path, {"scope": "env=stage"}, "other").status_code == 202


def test_the_api_names_a_configuration_to_get_out_of_its_windows(site: Site, prefect: Prefect) -> None:
    """Attacker: a token run. Way: `configuration` and `outside_window` in the body. Must hold: 400, nothing started."""
    _, token = create_access_token(site.records, "eve", ["run"])
    for fields in ({"configuration": "web"}, {"outside_window": True}):
        answer = post(site, token, "/patch", {"scope": "env=stage", **fields})
        assert answer.status_code == 400, answer.text
        assert "can't be set through the API" in answer.json()["detail"]
    assert prefect.started == []


def test_the_engine_holds_a_role_whose_request_was_edited(site: Site, stage: Stage, prefect: Prefect) -> None:
    """Attacker: a token run@env=stage who can edit a flow run in Prefect. Way: start an allowed run of stage, then put
    `*` into its parameters. Must hold: the engine asks the scope that is recorded with the start, and refuses.
    """
    _, token = create_access_token(site.records, "eve", ["run@env=stage"])
    assert post(site, token, "/patch", {"scope": "env=stage"}).status_code == 202
    (started,) = prefect.started
    who, scope = SqlRequestedRuns(site.records.database).claim(
        started.key, "patch-fleet", "flow-run-1", started.parameters
    )
    assert (who, scope) == ("eve", "env=stage")
    (stage.folder / "policy.yaml").write_text(POLICY.replace("env=prod", "env=nowhere"))
    caller = Caller(name=who, scope=scope, records_url=stage.url)
    said = call_local_engine(stage, stage.build_request({}), caller)
    assert "the role run of eve is limited to env=stage" in said
    assert stage.begun == []
    caller = Caller(name=who, scope=scope, records_url=stage.url)
    call_local_engine(stage, stage.build_request({}, scope="env=stage"), caller)
    assert stage.begun == ["stage-1"]


def test_a_run_that_is_resumed_by_itself_leaves_the_role_of_its_starter(stage: Stage) -> None:
    """Attacker: a token run@env=stage. Way: kill the process of the own run; other machines are in its scope meanwhile,
    and reconcile, whom no role limits, resumes it. Must hold: the run knows the role, and begins nothing.
    """
    (stage.folder / "policy.yaml").write_text(POLICY.replace("env=prod", "env=nowhere"))
    eve = Caller(name="eve", scope="env=stage", records_url=stage.url)
    call_local_engine(stage, stage.build_request({}, scope="env=stage"), eve)
    (run,) = stage.read_runs()
    assert (run.role_scope, stage.begun) == ("env=stage", ["stage-1"])
    request = stage.build_request({})
    left = replace(
        run,
        id="20260310-010000-aaaaaa",
        state=OperationState.IN_PROGRESS,
        request=request.model_dump(mode="json"),
        ended_at=None,
        message="",
    )
    with open_records(stage.url) as records:
        records.save(left)

    said = call_local_engine(stage, left.id, Caller(name="reconcile", records_url=stage.url))

    assert "the role run of eve is limited to env=stage" in said
    assert stage.begun == ["stage-1"]
    assert {run.role_scope for run in stage.read_runs()} == {"env=stage"}


def test_a_limited_role_cancels_and_resumes_runs_of_others(site: Site, stage: Stage, prefect: Prefect) -> None:
    """Attacker: a login run@env=stage at the pages. Way: cancel and resume a run with machines of production. Must
    hold: 403 at the API, and no request to stop.
    """
    (stage.folder / "policy.yaml").write_text(POLICY.replace("env=prod", "env=nowhere"))
    enter_by_python(stage, RULES["forbid"])
    (run,) = stage.read_runs()
    _, token = create_access_token(site.records, "eve", ["run@env=stage", "approve@env=stage"])
    for path in (f"/runs/{run.id}/cancel", f"/runs/{run.id}/resume"):
        answer = post(site, token, path, {} if path.endswith("cancel") else None)
        assert answer.status_code == 403, answer.text
    answer = post(site, token, f"/approvals/{run.id}/approve", {"plan": "0" * 64})
    assert answer.status_code == 403, answer.text
    assert prefect.started == []
    assert site.records.leases.find_lease(run.id).stop is None  # type: ignore[union-attr]


WAITING: dict[str, tuple[str, dict[str, Any], bool]] = {
    "a patch run of everything": ("patch-fleet", {"request": {"scope": "*"}}, False),
    "one of production": ("patch-fleet", {"request": {"scope": "env=prod"}}, False),
    "an assessment of production": ("assess-fleet", {"request": {"scope": "prod-1"}}, False),
    "a request that is none": ("patch-fleet", {"request": {"theirs": 1}}, False),
    "no request": ("patch-fleet", {}, False),
    "another inventory": ("patch-fleet", {"request": {"scope": "env=stage", "inventory": "/tmp/theirs.yaml"}}, False),
    "an unknown run": ("resume-fleet", {"run_id": "20260310-010000-ffffff"}, False),
    "another flow": ("theirs", {"request": {"scope": "env=stage"}}, False),
    "a patch run of the own machines": ("patch-fleet", {"request": {"scope": "env=stage"}}, True),
    "one of them by name": ("patch-fleet", {"request": {"scope": "*", "only_machines": ["stage-1"]}}, True),
    "an assessment of the own machines": ("assess-fleet", {"request": {"scope": "env=stage"}}, True),
}


@pytest.fixture
def cancelled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the flow runs that Prefect was asked to cancel."""
    made: list[str] = []

    def cancel(flow_run_id: str, _who: str) -> bool:
        made.append(flow_run_id)
        return True

    monkeypatch.setattr(run_acts, "cancel_waiting_flow_run", cancel)
    return made


def cancel_waiting(
    site: Site, monkeypatch: pytest.MonkeyPatch, flow: str, parameters: dict[str, Any], role: str, key: str = ""
) -> tuple[bool, httpx.Response]:
    """Cancel a flow run that waits. Return whether the page offers it, and the answer."""
    waiting = FlowRunStatus("1", "n", flow, "Late", "", None, waits=True, is_over=False, key=key, parameters=parameters)
    for module in (run_acts, pages_acts):
        monkeypatch.setattr(module, "read_flow_run", lambda _id: waiting)
    link, _ = create_login_link(site.records, site.url, "eve", ["view", role], site.context.clock)
    browser = site.open_browser()
    browser.form_token = browser.post("/login/link", data={"code": link.partition("#")[2]}).json()["form_token"]
    offered = "Cancel it before it begins" in browser.get("/starting/1").text
    return offered, browser.post("/starting/1/cancel", data={"csrf": browser.form_token})


@pytest.mark.parametrize("case", WAITING)
def test_a_limited_role_cancels_what_waits_for_others(
    site: Site, cancelled: list[str], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Attacker: a login run@env=stage at the pages. Way: cancel a flow run of production that waits for a worker. Must
    hold: every machine is in the scope, or nothing is cancelled and no button is shown.
    """
    flow, parameters, may_cancel = WAITING[case]
    offered, answer = cancel_waiting(site, monkeypatch, flow, parameters, "run@env=stage")
    assert (offered, cancelled) == (may_cancel, ["1"] if may_cancel else [])
    assert (answer.status_code == 303) is may_cancel, answer.text

    cancelled.clear()
    assert cancel_waiting(site, monkeypatch, flow, parameters, "run")[0]
    assert cancelled == ["1"]


def test_a_limited_role_cancels_the_resumption_of_a_run_of_others(
    site: Site, stage: Stage, cancelled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attacker: a login run@env=stage at the pages. Way: cancel a resume-fleet that waits. Must hold: the run's."""
    (stage.folder / "policy.yaml").write_text(POLICY.replace("env=prod", "env=nowhere"))
    enter_by_python(stage, RULES["forbid"])
    (run,) = stage.read_runs()
    offered, answer = cancel_waiting(site, monkeypatch, "resume-fleet", {"run_id": run.id}, "run@env=stage")
    assert (offered, answer.status_code, cancelled) == (False, 403, [])


def test_a_flow_run_that_was_cancelled_is_made_again_with_its_key(
    site: Site, prefect: Prefect, cancelled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attacker: who has Prefect's password. Way: a flow run that a person has cancelled in the pages, or deleted in
    Prefect, is created again later with the same key and parameters. Must hold: nothing begins in that person's name.
    """
    _, token = create_access_token(site.records, "eve", ["run"])
    assert post(site, token, "/patch", {"scope": "env=stage"}).status_code == 202
    assert post(site, token, "/patch", {"scope": "env=stage"}, "other").status_code == 202
    first, second = prefect.started
    cancel_waiting(site, monkeypatch, first.flow, first.parameters, "run", first.key)
    assert cancelled == ["1"]

    requested = SqlRequestedRuns(site.records.database)
    with pytest.raises(RequestError, match="was cancelled in the pages before it began"):
        requested.claim(first.key, first.flow, "flow-run-1", first.parameters)
    later = datetime.now(UTC) + timedelta(days=1, minutes=1)
    with pytest.raises(RequestError, match="waited for more than 24 hours"):
        requested.claim(second.key, second.flow, "flow-run-2", second.parameters, later)
    assert requested.claim(second.key, second.flow, "flow-run-2", second.parameters)[0] == "eve"
    assert requested.claim(second.key, second.flow, "flow-run-2", second.parameters, later)[0] == "eve"


def test_the_form_leaves_the_approval_out(site: Site, stage: Stage, prefect: Prefect) -> None:
    """Attacker: a login with the role run. Way: the form without "wait for approval". Must hold: the engine waits for
    anna all the same, and changes nothing without her.
    """
    (stage.folder / "policy.yaml").write_text(
        "policy: {rules: [{name: berlin, scope: env=prod, ask: us, approval: {by: [anna]}}]}"
    )
    browser = log_in(site, "eve", Role.RUN)
    site.context.clock = stage.fleet.clock
    form = {"csrf": browser.form_token, "once": "k", "sent": "1", "scope": "*", "confirmed": "1"}
    answer = browser.post("/patch", data={**form, "updates.classifications": ["Security"]})
    assert answer.status_code == 303, answer.text
    wanted = PatchRequest.model_validate(prefect.started[0].parameters["request"])
    assert not wanted.approval.required
    said = call_local_engine(stage, wanted, Caller(name="eve", records_url=stage.url))
    assert "no approval until" in said
    assert stage.begun == []
    (run,) = stage.read_runs()
    recorded = PatchRequest.model_validate(dict(run.request)).approval
    assert (recorded.by, recorded.not_by_starter) == (["anna"], True)


def test_the_command_in_a_folder_of_ones_own(stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Attacker: who may use the command, but not the files of the administrator. Way: another working directory with
    an own policy, and variables that lead to it. Must hold: the policy in /etc holds beside all of them.
    """
    system, own = tmp_path / "etc", tmp_path / "own"
    system.mkdir()
    own.mkdir()
    (system / "policy.yaml").write_text(POLICY)
    monkeypatch.setattr(policy_file, "SYSTEM_FOLDERS", (system,))
    (own / "policy.yaml").write_text("policy: {rules: [{name: mine, scope: env=nowhere, ask: me, forbid: [repair]}]}")
    monkeypatch.setenv("FLEETPATCH_POLICY", str(own / "policy.yaml"))
    monkeypatch.setenv("FLEETPATCH_CONFIGURATIONS", str(own))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(own))
    monkeypatch.chdir(own)
    assert main(["patch", "*", "--yes", "--no-prefect", "--allow-removals"]) == 2
    assert stage.begun == []
