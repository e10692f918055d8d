"""sets, sets release and --only: machine sets as people and programs see them."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.domain.protocols.leases import LeaseHolder, SetSlot
from tasks.domain.states import OperationState
from tasks.records.queries.history import History
from tasks.records.set_slots import SqlSetSlots
from tasks.records.setup import open_records
from tasks.reports.formatting import NO_FIGURE
from tests.contract.cli.conftest import Stage
from tests.support.builders import make_run

RUN = "20260310-010000-aaaaaa"

FLEET = """\
machines:
  - {name: db-1, tags: {cluster: db, role: primary 1, rack: a}, availability_zone: eu-1a}
  - {name: db-2, tags: {cluster: db, role: replica, rack: b}}
  - {name: db-3, tags: {cluster: db, role: replica}, wake: {mac: 52-54-00-12-34-56, off_command: "off --key k3y"}}
  - "web-[01:12]"
sets:
  - name: db
    scope: tag.cluster=db
    update_domain: rack
    role: {tag: role}
    order: [replica, primary]
    quorum: 2
    drain: {kind: http, target: "https://user:s3cret@lb/drain"}
    healthy: [{name: up, kind: tcp, target: "5432"}]
  - {name: web, scope: name=web-*, max_unavailable: 25%}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "sets.yaml"
    path.write_text(FLEET)
    return str(path)


def test_sets_as_a_table(stage: Stage, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said = stage.run("sets", "-i", file)
    assert said.code == 0
    lines = [" ".join(line.split()) for line in said.out.splitlines() if line.strip()]
    assert lines == [
        "set members out at once quorum domains order",
        lines[1],
        "db db-1 db-2 db-3 1 of 3 2 rack: a, b, 1 without replica then primary",
        "web web-01 web-02 web-03 web-04 web-05 web-06 web-07 web-08 and 4 more 3 of 12 NO NO NO".replace(
            "NO", NO_FIGURE
        ),
        "2 sets",
    ]


def test_sets_as_json(stage: Stage, file: str) -> None:
    said = stage.run("sets", "-i", file, "--json")
    db, web = said.json["sets"]
    assert db == {
        "setName": "db",
        "scope": "tag.cluster=db",
        "members": [
            {"machineName": "db-1", "updateDomain": "a", "role": "primary"},
            {"machineName": "db-2", "updateDomain": "b", "role": "replica"},
            {"machineName": "db-3", "updateDomain": None, "role": "replica"},
        ],
        "maxUnavailable": 1,
        "updateDomain": "rack",
        "role": {"tag": "role", "command": None, "timeoutSeconds": 30.0},
        "order": ["replica", "primary"],
        "quorum": 2,
        "drain": {"kind": "http", "timeoutSeconds": 300.0, "repeatable": True},
        "undrain": None,
        "healthy": ["up"],
        "healthySeconds": 300.0,
        "outOfService": [],
    }
    assert (web["maxUnavailable"], len(web["members"]), web["role"]) == (3, 12, None)
    assert "s3cret" not in said.out


def leave(stage: Stage, *machines: str, state: OperationState = OperationState.FAILED) -> None:
    """Let a run leave members drained."""
    with open_records(stage.url) as records:
        records.save(make_run(id=RUN, state=OperationState.IN_PROGRESS, ended_at=None))
        slots = SqlSetSlots(records.database)
        for name in machines:
            slots.take([SetSlot("web", name, RUN, datetime(2026, 3, 10, 1, 0, tzinfo=UTC))], lambda _: lambda _: "")
            slots.keep(RUN, name, "no balancer", ["web"])
        records.save(make_run(id=RUN, state=state))


def test_who_is_out_of_service(stage: Stage, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    leave(stage, "web-01", "elsewhere")

    lines = [" ".join(line.split()) for line in stage.run("sets", "-i", file).out.splitlines() if line.strip()]

    assert "2 sets, 1 out of service" in lines
    assert f"web-01 web 2026-03-10 01:00 {RUN} yes no balancer" in lines
    assert "web-01: patch it again, or bring it back and say `fleetpatch sets release web-01`" in lines
    assert lines.index("Out of service, and in no set of this inventory:") < lines.index(
        f"elsewhere web 2026-03-10 01:00 {RUN} yes no balancer"
    )
    said = stage.run("sets", "-i", file, "--json").json
    out = {
        "machineName": "web-01",
        "setName": "web",
        "maintenanceRunId": RUN,
        "runIsOver": True,
        "sinceDateTime": "2026-03-10T01:00:00Z",
        "drained": True,
        "reason": "no balancer",
    }
    assert [each["outOfService"] for each in said["sets"]] == [[], [out]]
    assert [each["machineName"] for each in said["othersOutOfService"]] == ["elsewhere"]


def test_people_record_that_a_member_is_back(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.ports.caller.read_login_name", lambda: "olga")
    leave(stage, "web-01", "web-02")

    said = stage.run("sets", "release", "web-01")
    assert said.code == 2  # nobody can be asked
    assert "--yes" in said.err
    said = stage.run("sets", "release", "web-01", "--yes")
    assert said.code == 0
    assert "web-01 counts as in service." in said.err
    with open_records(stage.url) as records:
        assert [slot.machine for slot in SqlSetSlots(records.database).find()] == ["web-02"]
        noted = [entry for entry in History(records).read_journal(RUN) if entry.act == "set-release"]
    assert [(entry.machine, entry.detail["by"], entry.detail["sets"]) for entry in noted] == [
        ("web-01", "olga", ["web"])
    ] * 2
    stage.add("web-01")
    assert stage.run("sets", "release", "web-01", "--yes", "--json").json == {
        "machineName": "web-01",
        "released": False,
        "slots": [],
    }
    said = stage.run("sets", "release", "web-02", "--yes", "--json")
    assert (said.json["released"], said.json["slots"][0]["reason"]) == (True, "no balancer")


@pytest.mark.parametrize("state", [OperationState.IN_PROGRESS, OperationState.UNKNOWN])
def test_a_member_of_a_run_that_is_not_over_is_not_released(stage: Stage, state: OperationState) -> None:
    leave(stage, "web-01", state=state)
    said = stage.run("sets", "release", "web-01", "--yes")
    assert said.code == 2
    assert "it is not over; no process executes it" in said.err
    assert f"fleetpatch resume {RUN} --finalize" in " ".join(said.err.split())
    with open_records(stage.url) as records:
        records.leases.acquire(RUN, LeaseHolder("other", "hilltop", 4711, "anne"), 60.0)
    said = stage.run("sets", "release", "web-01", "--yes")
    assert said.code == 2
    assert f"fleetpatch cancel {RUN}" in said.err
    with open_records(stage.url) as records:
        assert len(SqlSetSlots(records.database).find()) == 1


def test_an_inventory_without_sets(stage: Stage) -> None:
    stage.add("web")
    assert stage.run("sets").out.strip() == "0 sets"
    assert stage.run("sets", "--json").json["sets"] == []


def test_a_faulty_set_is_bad_input(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "sets.yaml"
    path.write_text(FLEET.replace("quorum: 2", "quorum: 3"))
    said = stage.run("inventory", "check", str(path), "--json")
    assert said.code == 2
    (problem,) = said.json["problems"]
    assert (problem["line"], problem["key"]) == (12, "sets.0.quorum")
    assert stage.run("sets", "-i", str(path)).code == 2


def test_other_views_name_sets_zones_and_wake_settings(stage: Stage, file: str) -> None:
    assert "2 machine sets" in stage.run("inventory", "check", file).out
    assert stage.run("inventory", "check", file, "--json").json["setCount"] == 2
    said = stage.run("inventory", "list", "-i", file, "--json")
    first, _, third, *_ = said.json["machines"]
    assert (first["sets"], first["availabilityZone"], first["wake"]) == (["db"], "eu-1a", None)
    assert third["wake"] == {"mac": "52:54:00:12:34:56", "command": False, "offAgain": True, "minutes": 10.0}
    assert "k3y" not in said.out


def test_only_some_machines_of_the_scope(stage: Stage) -> None:
    for name in ("a", "b", "c"):
        stage.add(name)
    planned = stage.run("plan", "*", "--only", "b", "--only", "c", "--json")
    assert planned.code == 0
    assert [each["machineName"] for each in planned.json["machines"]] == ["b", "c"]
    refused = stage.run("plan", "*", "--only", "nobody", "--json")
    assert refused.code == 2
    assert "--only: no machine 'nobody' is in the scope" in refused.json["error"]["message"]
