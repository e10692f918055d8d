"""No door reaches what a rule or a freeze forbids: each rule at each door. docs/reference/policy.md has the table."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetpatch.access.roles import Role
from fleetpatch.acts import run_acts
from fleetpatch.cli.main import main
from flows.request import PatchRequest
from tasks.records.audit.log import SqlAuditLog
from tasks.records.setup import open_records
from tests.contract import policy_doors as doors
from tests.contract.policy_doors import RULES, Rule, Stage, build_stage, build_tree
from tests.contract.web.test_acts import Prefect
from tests.support.web_people import admit_people, person
from tests.support.web_site import Site, serve_site

BOB = person("bob", Role.VIEW, Role.RUN)
CELLS = [
    (rule, door)
    for rule in RULES
    for door in ("command", "python", "deployment", "api", "pages", "automatic", "resume")
]

FREEZE = "freezes: [{start: 2020-01-01, end: 2099-12-31, reason: the sale}]\n"
OWN = "name: web\nscope: env=prod\nwindow: {start: 2026-12-05 22:00, length: 2h, zone: UTC, recurrence: Day}\n" + FREEZE
DOORS = ["command", "python", "deployment", "api", "pages", "automatic", "resume"]
PLAIN = Rule("", {}, {})
OVERRIDE = Rule("", {"override_freeze": "CVE of today"})


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return build_stage(tmp_path, monkeypatch)


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> Prefect:
    made = Prefect()
    monkeypatch.setattr(run_acts, "start_flow_run", made.start)
    return made


@pytest.fixture
def site(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    admit_people(monkeypatch)
    with serve_site(stage.folder, clock=stage.fleet.clock) as made:
        yield made


def enter(stage: Stage, rule: Rule, door: str, request: pytest.FixtureRequest) -> str:
    """Go through a door with a request that breaks a rule. Return what was said."""
    patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    match door:
        case "command":
            return doors.enter_by_command(stage, rule, request.getfixturevalue("capsys"))
        case "python":
            return doors.enter_by_python(stage, rule)
        case "deployment":
            return doors.enter_by_deployment(stage, rule, patch)
        case "automatic":
            return doors.enter_by_automatic(stage, rule, patch)
        case "resume":
            return doors.enter_by_resume(stage, rule)
        case _:
            return enter_by_web(stage, rule, door, request)


def enter_by_web(stage: Stage, rule: Rule, door: str, request: pytest.FixtureRequest) -> str:
    """Ask the pages or the API. If they start a run, it begins in the engine with the parameters that they gave it."""
    site: Site = request.getfixturevalue("site")
    prefect: Prefect = request.getfixturevalue("prefect")
    if door == "api":
        headers = {**BOB, "Idempotency-Key": "key"}
        body = {"scope": "*", **build_tree(rule.changes)}
        answer = site.client.post("/api/v1/patch", json=body, headers=headers)
    else:
        form = {"once": "key", "sent": "1", "scope": "*", "confirmed": "1", "updates.classifications": ["Security"]}
        values = {path: value if isinstance(value, list) else str(value) for path, value in rule.changes.items()}
        answer = site.client.post("/patch", data={**form, **values}, headers=BOB)
    if not prefect.started:
        assert answer.status_code in {400, 403}, answer.text
        return answer.text
    wanted = PatchRequest.model_validate(prefect.started[0].parameters["request"])
    if not rule.is_broken(wanted):
        return "production"  # the door has no such option
    patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    return doors.begin_flow(stage, wanted, patch, "bob")


@pytest.mark.parametrize(("rule", "door"), CELLS, ids=[f"{rule}-{door}" for rule, door in CELLS])
def test_no_door_reaches_what_a_rule_forbids(
    stage: Stage, rule: str, door: str, request: pytest.FixtureRequest
) -> None:
    case = RULES[rule]
    if door == "automatic" and case.automatic is None:
        (stage.folder / "policy.yaml").write_text(
            "policy: {rules: [{name: production, scope: nowhere, ask: x, forbid: [repair]}]}"
        )
        doors.enter_by_automatic(stage, case, request.getfixturevalue("monkeypatch"))
        (run,) = stage.read_runs()
        assert not case.is_broken(PatchRequest.model_validate(dict(run.request)))
        return
    stage.write_policy(case.text)
    said = enter(stage, case, door, request)
    assert stage.begun == []
    assert any(word in said for word in ("production", "approv", "can't be set through the API")), said


@pytest.mark.parametrize("door", ["command", "python", "deployment", "api", "pages", "automatic", "resume"])
def test_a_policy_that_cannot_be_read_stops_every_run(stage: Stage, door: str, request: pytest.FixtureRequest) -> None:
    (stage.folder / "policy.yaml").write_text("policy: {rules: [{name: x")
    if door in {"api", "pages"}:
        site: Site = request.getfixturevalue("site")
        prefect: Prefect = request.getfixturevalue("prefect")
        path, headers = ("/api/v1/patch", {**BOB, "Idempotency-Key": "k"}) if door == "api" else ("/patch", BOB)
        body: dict[str, Any] = {"json": {"scope": "*"}} if door == "api" else {"data": {"once": "k", "scope": "*"}}
        answer = site.client.post(path, headers=headers, **body)
        assert answer.status_code == 503, answer.text
        assert prefect.started == []
        return
    said = enter(stage, Rule("", {}, {}), door, request)
    assert stage.begun == []
    assert "policy" in said


def test_without_a_policy_nothing_is_refused(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLEETPATCH_POLICY")
    doors.enter_by_python(stage, RULES["forbid"])
    assert sorted(stage.begun) == ["prod-1", "prod-2", "stage-1"]


def test_a_rule_about_other_machines_holds_nothing_up(stage: Stage) -> None:
    stage.write_policy(RULES["freezes"].text, scope="env=shop")
    doors.enter_by_python(stage, RULES["forbid"])
    assert sorted(stage.begun) == ["prod-1", "prod-2", "stage-1"]


def test_a_smaller_share_is_imposed_and_recorded(stage: Stage) -> None:
    stage.write_policy("at_once_percent: 50")
    doors.enter_by_python(stage, Rule("", {"waves.at_once": 20}))
    (run,) = stage.read_runs()
    assert json.loads(json.dumps(dict(run.request)))["waves"]["at_once"] == 1
    assert len(stage.begun) == 3


def test_a_plan_is_made_whatever_the_rules_forbid(stage: Stage) -> None:
    stage.write_policy(RULES["freezes"].text)
    said = doors.call_local_engine(stage, stage.build_request({}, dry_run=True))
    assert said.startswith("nothing would begin: frozen: the sale (policy rule production)")
    assert [run.kind for run in stage.read_runs()] == ["plan"]


def test_a_request_cannot_bring_another_inventory(stage: Stage) -> None:
    """The same addresses under other tags: the rule would be about none of them."""
    stage.write_policy(RULES["freezes"].text)
    other = stage.folder / "other.yaml"
    other.write_text(doors.INVENTORY.replace("environment: prod", "environment: stage"))
    said = doors.call_local_engine(stage, stage.build_request({}, inventory=other))
    assert "is not one that the policy knows" in said
    assert stage.begun == []


def test_what_an_earlier_process_has_begun_is_completed_and_no_more(stage: Stage) -> None:
    """A resumed run is told to stop, so that it reads what its jobs did, and records every machine."""
    stage.write_policy(RULES["freezes"].text)
    said = doors.enter_by_resume(stage, RULES["freezes"])
    assert "the policy forbids that the run goes on" in said
    (run,) = stage.read_runs()
    assert run.state.value == "NotStarted"


def declare(stage: Stage, text: str, policy: str = "forbid: [repair]") -> None:
    (stage.folder / "configurations").mkdir(exist_ok=True)
    (stage.folder / "configurations" / "web.yaml").write_text(text)
    stage.write_policy(policy, scope="env=nowhere" if policy == "forbid: [repair]" else "env=prod")


@pytest.mark.parametrize("door", DOORS)
def test_no_door_reaches_machines_in_a_freeze(stage: Stage, door: str, request: pytest.FixtureRequest) -> None:
    declare(stage, FREEZE)
    said = enter(stage, PLAIN, door, request)
    assert stage.begun == []
    assert "frozen: the sale, from 2020-01-01" in said.lower() or "a freeze forbids that the run goes on" in said


@pytest.mark.parametrize("door", ["command", "python", "deployment", "api", "pages"])
def test_a_reason_goes_over_it_and_is_recorded(stage: Stage, door: str, request: pytest.FixtureRequest) -> None:
    declare(stage, FREEZE)
    said = enter(stage, OVERRIDE, door, request)
    assert sorted(stage.begun) == ["prod-1", "prod-2", "stage-1"]
    (run,) = stage.read_runs()
    assert run.request["override_freeze"] == "CVE of today"
    with open_records(stage.url) as records:
        entries = [each for each in SqlAuditLog(records.database).read(100) if each.act == "run"]
    assert all(json.loads(each.detail)["override_freeze"] == "CVE of today" for each in entries)
    assert len(entries) == 2
    assert "a freeze is overridden by" in said
    assert "because: CVE of today (frozen: the sale" in said


def test_a_rule_decides_that_nobody_goes_over_it(stage: Stage) -> None:
    declare(stage, FREEZE, "forbid: [override_freeze]")
    said = doors.enter_by_python(stage, OVERRIDE)
    assert "override_freeze: patching in a freeze of the configurations" in said
    assert stage.begun == []


def test_a_freeze_of_the_policy_is_never_overridden(stage: Stage) -> None:
    stage.write_policy(doors.RULES["freezes"].text)
    said = doors.enter_by_python(stage, OVERRIDE)
    assert "policy rule production" in said
    assert stage.begun == []


@pytest.mark.parametrize(("scope", "begun"), [("env=prod", []), ("env=stage", ["stage-1"])])
def test_a_freeze_of_a_configuration_holds_for_its_machines(stage: Stage, scope: str, begun: list[str]) -> None:
    declare(stage, OWN)
    doors.call_local_engine(stage, PatchRequest(scope=scope))
    assert stage.begun == begun
    declare(stage, OWN + "enabled: false\n")
    doors.call_local_engine(stage, PatchRequest(scope="env=prod"))
    assert "prod-1" in stage.begun


def test_what_cannot_be_read_is_no_permission(stage: Stage) -> None:
    declare(stage, "freezes: [{date: tomorow}]\n")
    said = doors.call_local_engine(stage, PatchRequest(scope="*"))
    assert "it is not known whether a freeze holds" in said
    assert stage.begun == []
    doors.call_local_engine(stage, PatchRequest(scope="*", override_freeze="the file is broken, I have looked"))
    assert len(stage.begun) == 3


def test_a_plan_says_first_that_it_is_frozen(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    declare(stage, FREEZE)
    report = doors.call_local_engine(stage, PatchRequest(scope="*", dry_run=True))
    assert report.startswith("nothing would begin: frozen: the sale")
    over = doors.call_local_engine(stage, PatchRequest(scope="*", dry_run=True, override_freeze="CVE of today"))
    assert "nothing would begin" not in over
    assert "because: CVE of today" in over


def test_a_freeze_that_is_over_stops_nothing(stage: Stage) -> None:
    declare(stage, "freezes: [{date: 2026-03-09}]\n")
    doors.enter_by_python(stage, PLAIN)
    assert len(stage.begun) == 3


def test_the_command_names_the_option(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    declare(stage, FREEZE)
    assert main(["patch", "*", "--yes", "--no-prefect"]) == 2
    assert "--override-freeze REASON" in " ".join(capsys.readouterr().err.split())
    assert stage.begun == []
