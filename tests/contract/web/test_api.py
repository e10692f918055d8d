"""The REST API: every answer is as its OpenAPI document says, errors are problems, and each act needs its role."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest
from typer.testing import CliRunner

import fleetpatch.cli.commands.fleet_status  # noqa: F401 - it registers `updates`
from fleetpatch.access.roles import Role
from fleetpatch.acts import run_acts
from fleetpatch.cli.app import app
from tasks.records.requested_runs import SqlRequestedRuns
from tests.contract.web.test_acts import BOB, Prefect
from tests.support.fake_clock import FakeClock
from tests.support.web_fleet import SampleFleet, fill_site
from tests.support.web_people import admit_people, person
from tests.support.web_site import Site, serve_site

VIEWER = person("vera", Role.VIEW)
APPROVER = person("anna", Role.VIEW, Role.APPROVE)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, SampleFleet]]:
    place = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        admit_people(patch)
        fleet = fill_site(place)
        with serve_site(place, clock=FakeClock(fleet.now)) as site:
            yield site, fleet


@pytest.fixture
def site(sample: tuple[Site, SampleFleet]) -> Site:
    return sample[0]


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> Prefect:
    made = Prefect()
    monkeypatch.setattr(run_acts, "start_flow_run", made.start)
    return made


def read_document(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = site.get("/api/v1/openapi.json", headers=VIEWER).json()
    return found


def check(site: Site, method: str, path: str, answer: httpx.Response) -> Any:
    """Check an answer by the schema of its route, and return it."""
    document = read_document(site)
    content = document["paths"][path][method]["responses"][str(answer.status_code)]["content"]
    kind = answer.headers["content-type"].partition(";")[0]
    schema = {**content[kind]["schema"], "components": document["components"]}
    jsonschema.validate(answer.json(), schema, cls=jsonschema.Draft202012Validator)
    return answer.json()


def test_the_document_says_what_each_route_gives_and_needs(site: Site) -> None:
    document = read_document(site)

    assert document["openapi"].startswith("3.1")
    for path, routes in document["paths"].items():
        for method, route in routes.items():
            where = f"{method} {path}"
            assert route["security"] == [{"HTTPBearer": []}], where
            assert route["summary"], where
            assert route["description"], where
            assert {"400", "401", "403", "503"} <= set(route["responses"]), where
            for status, answer in route["responses"].items():
                kind = "application/json" if status < "300" else "application/problem+json"
                assert answer["content"][kind]["schema"], f"{where}: {status}"
    for name, schema in document["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert "422" not in name
    text = str(document)
    used = {part.split("'")[0] for part in text.split("#/components/schemas/")[1:]}
    assert used <= set(document["components"]["schemas"])


@pytest.mark.parametrize(
    "path",
    ["/overview", "/machines", "/updates", "/windows", "/runs", "/approvals", "/events", "/audit"],
)
def test_every_list_is_as_its_schema_says(site: Site, path: str) -> None:
    answer = site.get(f"/api/v1{path}", headers=VIEWER)

    assert answer.status_code == 200, answer.text
    assert check(site, "get", path, answer)


def test_every_machine_and_run_and_cve_can_be_read(sample: tuple[Site, SampleFleet]) -> None:
    site, fleet = sample
    machines = site.get("/api/v1/machines", headers=VIEWER).json()["items"]
    assert any(each["complianceState"] == "NonCompliant" for each in machines)
    lacking: set[str] = set()
    patches: list[dict[str, Any]] = []
    for each in machines[:6]:
        answer = site.get(f"/api/v1/machines/{each['machineName']}", headers=VIEWER)
        found = check(site, "get", "/machines/{name}", answer)
        lacking |= {cve for patch in found["patches"] for cve in patch["cves"] or ()}
        patches += [{**patch, "reason": None, "maintenanceRunId": None} for patch in found["patches"]]
    assert lacking
    inventory, url = site.context.settings.inventory, site.records.database.url
    command = CliRunner().invoke(app, ["updates", "--json", "-i", str(inventory), "--records", str(url)])
    names = {each["machineName"] for each in machines[:6]}
    of_command = [each for each in json.loads(command.stdout)["updates"] if each["machineName"] in names]
    assert sorted(of_command, key=json.dumps) == sorted(patches, key=json.dumps)  # but for what runs say of them
    cve = min(lacking)
    answer = site.get(f"/api/v1/cves/{cve}", headers=VIEWER)
    of_cve = check(site, "get", "/cves/{cve}", answer)
    assert of_cve["machines"]
    assert len(of_cve["machines"]) == of_cve["machineCount"] >= of_cve["withheld"]
    unknown = check(site, "get", "/cves/{cve}", site.get("/api/v1/cves/CVE-1999-00001", headers=VIEWER))
    assert (unknown["machineCount"], unknown["machines"], unknown["patches"]) == (0, [], [])
    for run_id in fleet.runs.values():
        answer = site.get(f"/api/v1/runs/{run_id}", headers=VIEWER)
        assert check(site, "get", "/runs/{run_id}", answer)["run"]["maintenanceRunId"] == run_id
        answer = site.get(f"/api/v1/runs/{run_id}/progress", headers=VIEWER)
        check(site, "get", "/runs/{run_id}/progress", answer)


def test_runs_come_in_parts_that_together_are_all_of_them(site: Site) -> None:
    everything = [each.id for each in site.context.history.read_runs(10_000)]
    assert len(everything) > 30

    for limit in (7, len(everything), 1000):
        found: list[str] = []
        path: str | None = f"/api/v1/runs?limit={limit}"
        while path is not None:
            answer = site.get(path, headers=VIEWER)
            part = check(site, "get", "/runs", answer)
            assert part["total"] == len(everything)
            assert len(part["items"]) <= limit
            found += [each["maintenanceRunId"] for each in part["items"]]
            path = part["next"]
        assert found == everything
    plans = site.get("/api/v1/runs?kind=plan&limit=1", headers=VIEWER).json()
    assert plans["total"] == sum(each.kind == "plan" for each in site.context.history.read_runs(10_000))
    assert {each["kind"] for each in plans["items"]} == {"plan"}


def test_the_document_says_how_many_runs_a_part_has(site: Site) -> None:
    named = {each["name"]: each for each in read_document(site)["paths"]["/runs"]["get"]["parameters"]}

    assert set(named) == {"kind", "limit", "page"}
    assert all(each["description"] for each in named.values())
    limit = named["limit"]["schema"]
    assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, 1000, 100)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/runs?limit=1001", 400),
        ("/runs?limit=0", 400),
        ("/runs?kind=nothing", 400),
        ("/machines/nobody", 404),
        ("/runs/nothing", 404),
        ("/nowhere", 404),
        ("/machines?scope=name%3Dnobody", 400),
        ("/machines?page=0", 400),
        ("/windows?since=2026-11-01T00:00:00", 400),
        ("/windows?since=2026-11-02T00:00:00Z&until=2026-11-01T00:00:00Z", 400),
        ("/windows?since=2026-11-01T00:00:00Z&until=2026-11-02T00:00:00", 400),
        ("/windows?since=0001-01-01T00:00:00Z", 400),
        ("/windows?since=9999-12-31T00:00:00Z", 400),
        ("/windows?since=9999-12-31T23:59:59Z", 400),
        ("/windows?since=0001-01-01T00:00:00%2B14:00", 400),
        ("/windows?since=2199-12-01T00:00:00Z&until=9999-12-31T23:59:59-14:00", 400),
        ("/windows?until=2000-01-01T00:00:00Z", 400),
        ("/machines?environmnet=prod", 400),
        ("/machines?compliance=noncompliant", 400),
        ("/machines?sort=nonsense", 400),
        ("/updates?severity=high", 400),
        ("/overview?scope=x", 400),
        ("/runs?page=99999999999999999999", 400),
        ("/cves/CVE-2024-12x4", 400),
    ],
)
def test_errors_are_problems(site: Site, path: str, status: int) -> None:
    answer = site.get(f"/api/v1{path}", headers=VIEWER)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert (found["status"], found["type"]) == (status, "about:blank")
    assert found["detail"]
    assert found["hint"]


def test_a_wrong_word_is_named_with_those_that_are_known(site: Site) -> None:
    def ask(path: str) -> tuple[str, str]:
        found = site.get(f"/api/v1{path}", headers=VIEWER).json()
        return found["detail"], found["hint"]

    assert ask("/machines?owner=me") == ("owner: 'me' is unknown", "One of: fleetpatch, managed, os, manual.")
    assert ask("/runs?state=x") == ("the parameter 'state' is unknown", "The parameters are: kind, limit, page.")
    detail, hint = ask("/windows?until=2000-01-01T00:00:00Z")
    assert detail.startswith("until: 2000-01-01T00:00:00+00:00 is not within 400 days after since")
    assert hint == "Without since, the list begins now."


@pytest.mark.parametrize(
    "words", [{"compliance": "NonCompliant"}, {"show": "urgent", "sort": "-urgent"}, {"owner": ""}]
)
def test_the_words_of_the_document_are_accepted(site: Site, words: dict[str, str]) -> None:
    answer = site.get("/api/v1/machines", params=words, headers=VIEWER)
    assert check(site, "get", "/machines", answer)["items"]
    assert site.client.head("/api/v1/machines", params=words, headers=VIEWER).status_code == 200


def test_a_program_that_counts_pages_comes_to_an_end(site: Site) -> None:
    for path in ("/runs", "/machines", "/updates", "/windows", "/audit"):
        answer = site.get(f"/api/v1{path}?page=1000", headers=VIEWER)
        found = check(site, "get", path, answer)
        assert (found["items"], found["page"], found["next"]) == ([], 1000, None)


def test_a_method_that_is_not_there_is_refused_with_those_that_are(site: Site) -> None:
    answer = site.client.delete("/api/v1/runs", headers=VIEWER)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert answer.json()["hint"]


def test_the_document_offers_what_a_token_may_set_and_no_more(site: Site) -> None:
    document = read_document(site)
    schemas = document["components"]["schemas"]
    for name in ("AssessRequest", "PatchRequest"):
        assert not {"hooks", "inventory", "notify", "report_directory"} & set(schemas[name]["properties"])
        assert "scope" in schemas[name]["properties"]
    assert not [name for name in schemas if "Hook" in name or "Notify" in name]
    assert document["servers"] == [{"url": "/api/v1"}]


@pytest.mark.parametrize("body", ["no json", "[]", ""])
def test_a_body_that_is_no_object_is_told_so(site: Site, prefect: Prefect, body: str) -> None:
    headers = {**BOB, "Idempotency-Key": "j", "Content-Type": "application/json"}
    answer = site.client.post("/api/v1/assess", content=body, headers=headers)
    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == ["body"]
    assert "Content-Type: application/json" in answer.json()["hint"]
    assert prefect.started == []


@pytest.mark.parametrize(
    "path",
    [
        "/machines?",
        "/machines.csv?",
        "/updates?",
        "/calendar.ics?",
        "/compliance?month=2026-10&",
        "/compliance/files?month=2026-10&",
        "/api/v1/machines?",
        "/api/v1/updates?",
    ],
)
def test_a_scope_that_is_not_valid_is_refused_everywhere_with_the_remedy(site: Site, path: str) -> None:
    answer = site.get(f"{path}scope=env%3D", headers=VIEWER)

    assert answer.status_code == 400
    assert "lacks a value" in answer.text
    assert "Write one, or key=*" in answer.text


@pytest.mark.parametrize("path", ["/assess", "/plan", "/patch"])
def test_an_act_on_a_scope_that_is_not_valid_gives_the_remedy(site: Site, prefect: Prefect, path: str) -> None:
    answer = site.client.post(f"/api/v1{path}", json={"scope": "env="}, headers={**BOB, "Idempotency-Key": "s"})

    assert answer.status_code == 400
    assert answer.json()["hint"].startswith("Write one, or key=*")
    assert prefect.started == []


ACTS = [
    ("/assess", {"scope": "*"}, Role.RUN),
    ("/plan", {"scope": "*"}, Role.RUN),
    ("/patch", {"scope": "*"}, Role.RUN),
    ("/orders", {"scope": "*", "act": "updaters off"}, Role.RUN),
    ("/owners", {"machines": ["web-1"], "owner": "os"}, Role.RUN),
    ("/runs/x/cancel", {}, Role.RUN),
    ("/runs/x/resume", {}, Role.RUN),
    ("/runs/x/undo", {}, Role.RUN),
    ("/approvals/x/approve", {"plan": "0" * 64}, Role.APPROVE),
    ("/approvals/x/reject", {}, Role.APPROVE),
]


@pytest.mark.parametrize(("path", "body", "role"), ACTS)
def test_each_act_needs_its_role(site: Site, prefect: Prefect, path: str, body: dict[str, str], role: Role) -> None:
    others = [each for each in Role if each is not role]
    answer = site.client.post(f"/api/v1{path}", json=body, headers={**person("eve", *others), "Idempotency-Key": "k"})

    assert answer.status_code == 403, answer.text
    assert answer.json()["status"] == 403
    assert prefect.started == []


def test_a_plan_starts_once_for_each_key(site: Site, prefect: Prefect) -> None:
    def post(key: str, **body: object) -> httpx.Response:
        return site.client.post("/api/v1/plan", json={"scope": "*", **body}, headers={**BOB, "Idempotency-Key": key})

    first, again, other, changed = post("a"), post("a"), post("b"), post("a", reboot="Never")

    assert check(site, "post", "/plan", first) == again.json()
    assert other.json()["flowRunId"] != first.json()["flowRunId"]
    assert changed.status_code == 409
    assert check(site, "post", "/plan", changed)["hint"]
    assert [each.parameters["request"]["dry_run"] for each in prefect.started] == [True, True]


@pytest.mark.parametrize(
    "body",
    [
        {"scope": "*", "hooks": {"before_run": [{"name": "x", "kind": "controller", "target": "id"}]}},
        {"scope": "*", "inventory": "/etc/passwd"},
        {"scope": "*", "report_directory": "/tmp/x"},
        {"scope": "*", "window": {"minutes": 0}},
        {"scope": "*", "window": {"zone": "Nowhere/Here"}},
        {"scope": "name=nobody"},
        {"scope": "name=web-*", "only_machines": ["db-01.fra1.example.net"]},
        {"scope": "*", "mintues": 4},
        {},
    ],
)
def test_a_wrong_request_starts_nothing(site: Site, prefect: Prefect, body: dict[str, object]) -> None:
    answer = site.client.post("/api/v1/patch", json=body, headers={**BOB, "Idempotency-Key": "w"})

    assert answer.status_code == 400, answer.text
    assert prefect.started == []


def test_a_live_run_is_cancelled_with_the_name_and_the_reason(sample: tuple[Site, SampleFleet]) -> None:
    site, fleet = sample
    answer = site.client.post(f"/api/v1/runs/{fleet.runs['live']}/cancel", json={"reason": "wrong day"}, headers=BOB)

    found = check(site, "post", "/runs/{run_id}/cancel", answer)
    assert (found["stopRequestedBy"], found["stopReason"]) == ("bob", "wrong day")
    progress = site.get(f"/api/v1/runs/{fleet.runs['live']}/progress", headers=VIEWER).json()
    assert progress["stopRequestedBy"] == "bob"


def test_a_dead_run_is_resumed_once_by_each_person(sample: tuple[Site, SampleFleet], prefect: Prefect) -> None:
    """Two people get a flow run each, with their own names. The run's lease lets one of them execute it."""
    site, fleet = sample
    dead = fleet.runs["dead"]
    answers = [
        site.client.post(f"/api/v1/runs/{dead}/resume", headers=person(name, Role.VIEW, Role.RUN))
        for name in ("bob", "bob", "carol")
    ]

    assert [each.status_code for each in answers] == [202, 202, 202], answers[0].text
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["flowRunId"] != answers[2].json()["flowRunId"]
    assert [(each.flow, each.parameters) for each in prefect.started] == [("resume-fleet", {"run_id": dead})] * 2
    requested, now = SqlRequestedRuns(site.records.database), site.context.clock.now()
    names = [requested.claim(each.key, each.flow, each.key, each.parameters, now)[0] for each in prefect.started]
    assert names == ["bob", "carol"]
    prefect.over.add(answers[0].json()["flowRunId"])  # that one failed: the next is another one
    again = site.client.post(f"/api/v1/runs/{dead}/resume", headers=BOB)
    assert again.json()["flowRunId"] != answers[0].json()["flowRunId"]


def test_a_run_that_is_over_is_neither_cancelled_nor_resumed(
    sample: tuple[Site, SampleFleet], prefect: Prefect
) -> None:
    site, fleet = sample
    for act in ("cancel", "resume"):
        answer = site.client.post(f"/api/v1/runs/{fleet.runs['succeeded']}/{act}", headers=BOB)
        assert answer.status_code == 409
        assert check(site, "post", f"/runs/{{run_id}}/{act}", answer)["hint"]
        page = site.client.post(f"/runs/{fleet.runs['succeeded']}/{act}", headers=BOB)
        assert page.status_code == 409
        assert "is over" in page.text
    assert prefect.started == []


def test_a_plan_is_approved_only_by_its_digest(sample: tuple[Site, SampleFleet]) -> None:
    site, _ = sample
    (waiting,) = site.get("/api/v1/approvals", headers=VIEWER).json()
    path = f"/api/v1/approvals/{waiting['maintenanceRunId']}/approve"
    assert site.client.post(path, json={}, headers=APPROVER).status_code == 400
    assert site.client.post(path, json={"plan": "265138"}, headers=APPROVER).status_code == 400
    assert site.client.post(path, json={"plan": "f" * 64}, headers=APPROVER).status_code == 409
    answer = site.client.post(path, json={"plan": waiting["plan"], "remark": "go"}, headers=APPROVER)
    found = check(site, "post", "/approvals/{run_id}/approve", answer)
    assert (found["approval"], found["decidedBy"], found["remark"]) == ("approved", "anna", "go")

    again = site.client.post(path, json={"plan": waiting["plan"][:12]}, headers=APPROVER)
    assert (again.status_code, again.json()) == (200, found)  # the first answer may be lost
    other = person("olga", Role.VIEW, Role.APPROVE)
    assert site.client.post(path, json={"plan": waiting["plan"]}, headers=other).status_code == 409
    reject = path.replace("/approve", "/reject")
    assert site.client.post(reject, json={}, headers=APPROVER).status_code == 409
