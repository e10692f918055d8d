"""approve, reject and approvals, over a simulated fleet with real records."""

import io
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from flows.engine.fleet_run import FleetRun
from flows.local_run import LocalRunner
from flows.ports.caller import Caller, find_starter_name
from flows.ports.ports import Ports
from flows.request.patch_request import PatchRequest
from flows.request.request_parts import ApprovalRequest
from tasks.records.approvals import SqlApprovals
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.rules.runs.approval import compute_report_digest
from tests.contract.cli.conftest import Stage, security
from tests.support.approval_gate import add_approval_gate
from tests.support.fake_packages import FakePackage
from tests.unit.approval.scene import Diary, Killed, kill

RUN = "20260310-010000-aaaaaa"


@pytest.fixture
def waiting(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A run that waits for approval, and whose process is gone."""
    stage.fleet.clock = clock = Diary()
    stage.add("web", security("openssl"), FakePackage("curl"), FakePackage("held", held=True))
    stage.add("db", security("openssl"))
    request = stage.fleet.request(approval=ApprovalRequest(required=True, not_by_starter=True), scope="*")
    clock.later(60, kill)
    with open_records(stage.url) as records:
        ports = replace(stage.ports(Caller(records_url=stage.url)), records=records)
        way = add_approval_gate(ports, SqlApprovals(records.database, clock))
        campaign = FleetRun(request, way, LocalRunner(), run_id=RUN, started_by="bob")
        with pytest.raises(Killed):
            campaign.execute()
    monkeypatch.setattr("tasks.records.approvals.read_shared_time", lambda _connection, given: (given or clock).now())
    monkeypatch.setattr("flows.ports.caller.read_login_name", lambda: "anna")
    return stage


def _mark(stage: Stage) -> str:
    """Return the digest of the plan that waits, as people are told it."""
    with open_records(stage.url) as records:
        found = SqlApprovals(records.database, stage.fleet.clock).find_approval(RUN)
    assert found is not None
    return found.digest[:12]


def _type(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    typed = io.StringIO(answer)
    typed.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", typed)


def _standing(stage: Stage) -> tuple[str, str, str]:
    with open_records(stage.url) as records:
        found = SqlApprovals(records.database, stage.fleet.clock).find_approval(RUN)
    assert found is not None
    return found.decision.value, found.who, found.remark


def test_what_waits_is_listed(waiting: Stage) -> None:
    said = waiting.run("approvals")
    assert said.code == 0
    assert RUN in said.out
    assert "2026-03-10 04:45 UTC" in said.out
    assert f"fleetpatch approve {RUN} --plan {_mark(waiting)}" in said.out


def test_nothing_waits(stage: Stage) -> None:
    assert "No run waits for approval." in stage.run("approvals").out
    assert stage.run("approvals", "--json").json == {"approvals": []}


def test_the_whole_plan_is_shown(waiting: Stage) -> None:
    said = waiting.run("approvals", RUN)
    assert said.code == 0
    assert "3 updates on 2 machines (2 critical or security" in said.out
    assert "Waits for approval until 2026-03-10 04:45 UTC" in said.out
    for word in ("openssl", "curl", "a hold on the machine excludes it", "1.0 → 2.0"):
        assert word in said.out


def test_as_json_too(waiting: Stage) -> None:
    (listed,) = waiting.run("approvals", "--json").json["approvals"]
    shown = waiting.run("approvals", RUN, "--json").json
    for document in (listed, shown):
        assert document["maintenanceRunId"] == RUN
        assert document["approval"] == "waiting"
        assert document["startedBy"] == "bob"
        assert document["expiresDateTime"] == "2026-03-10T04:45:00Z"
        updates = {machine["machine"]: [u["id"] for u in machine["updates"]] for machine in document["machines"]}
        assert updates == {"web": ["openssl", "curl"], "db": ["openssl"]}
    assert shown["recordedPlan"] == shown["plan"]


def test_show_says_that_it_waits_and_by_whom_it_was_approved(waiting: Stage) -> None:
    said = waiting.run("show", RUN)
    assert "Waits for approval until" in said.out
    assert f"fleetpatch approvals {RUN}" in said.out
    waiting.run("approve", RUN, "--plan", _mark(waiting))
    assert "Approved by anna on" in waiting.run("show", RUN).out


def test_whoever_is_logged_in_approves(waiting: Stage) -> None:
    said = waiting.run("approve", RUN, "--plan", _mark(waiting), "--remark", "seen")
    assert said.code == 0
    assert f"Run {RUN}: approved by anna on " in said.out
    assert f"fleetpatch resume {RUN}" in said.out  # nobody carries it
    assert _standing(waiting) == ("approved", "anna", "seen")
    assert "No run waits" in waiting.run("approvals").out


def test_in_another_name_both_are_kept(waiting: Stage) -> None:
    document = waiting.run("approve", "last", "--plan", _mark(waiting), "--as", "carla", "--json").json
    assert (document["approval"], document["decidedBy"], document["executed"]) == (
        "approved",
        "carla (login anna)",
        False,
    )


def test_it_is_rejected(waiting: Stage) -> None:
    said = waiting.run("reject", RUN, "--remark", "not today")
    assert said.code == 0
    assert "rejected by anna" in said.out
    assert _standing(waiting) == ("rejected", "anna", "not today")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("approve", "nonsense"), "there is no run 'nonsense'"),
        (
            ("approve", RUN, "--as", "bob", "--plan", "MARK"),
            "bob started it and may not approve it",
        ),
        (("approve", RUN, "--plan", "abc"), ", and not abc"),
        (("approve", RUN), "name the plan that you approve"),
        (("approvals", "nonsense"), "there is no run 'nonsense'"),
    ],
)
def test_what_can_not_be_is_refused_with_the_reason(waiting: Stage, words: tuple[str, ...], why: str) -> None:
    said = waiting.run(*(_mark(waiting) if word == "MARK" else word for word in words))
    assert said.code == 2
    assert why in said.err
    assert "hint:" in said.err
    assert _standing(waiting)[0] == ""


@pytest.mark.parametrize(("answer", "standing"), [("y\n", "approved"), ("n\n", ""), ("", "")])
def test_a_person_at_a_terminal_is_shown_the_plan_and_asked(
    waiting: Stage, monkeypatch: pytest.MonkeyPatch, answer: str, standing: str
) -> None:
    _type(monkeypatch, answer)
    said = waiting.run("approve", RUN)
    assert said.code == 0
    assert "3 updates on 2 machines (2 critical or security" in said.out
    assert "Approve this plan? [y/N]" in said.err
    assert ("Nothing was done." in said.err) is not bool(standing)
    assert _standing(waiting)[0] == standing


def test_a_plan_that_takes_the_place_of_the_one_that_was_shown_is_not_approved(
    waiting: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Replacing(io.StringIO):
        """Somebody who takes so long to answer that the run is planned anew meanwhile."""

        def isatty(self) -> bool:
            return True

        def readline(self, *_: object) -> str:  # type: ignore[override]
            with open_records(waiting.url) as records:
                report = History(records).read_report(RUN)
                plans = tuple(replace(plan, chosen=plan.chosen[:1]) for plan in report.plans)
                replanned = replace(report, plans=plans)
                records.save(replanned)
                SqlApprovals(records.database, waiting.fleet.clock).request_approval(
                    RUN, compute_report_digest(replanned), 3600
                )
            return "y\n"

    monkeypatch.setattr("sys.stdin", Replacing())
    said = waiting.run("approve", RUN)
    assert said.code == 2
    assert "the plan of run" in said.err
    assert _standing(waiting)[0] == ""


@pytest.mark.parametrize("name", ["LOGNAME", "USER", "LNAME", "USERNAME"])
def test_nobody_approves_their_own_run_under_a_name_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "carla")
    assert find_starter_name(Caller()) == pwd.getpwuid(os.getuid()).pw_name
    assert find_starter_name(Caller(name="dora")) == "dora"


def test_twice_is_refused(waiting: Stage) -> None:
    waiting.run("approve", RUN, "--plan", _mark(waiting))
    said = waiting.run("reject", RUN)
    assert said.code == 2
    assert f"run {RUN} was already approved by anna" in said.err


def test_too_late_is_refused(waiting: Stage) -> None:
    waiting.fleet.clock.advance(4 * 3600)
    said = waiting.run("approve", RUN, "--plan", "abc")
    assert said.code == 2
    assert "expired on 2026-03-10 04:45 UTC" in said.err
    assert "No run waits" in waiting.run("approvals").out


def test_an_approved_run_is_resumed_and_its_report_says_by_whom(
    waiting: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def ports(request: PatchRequest, who: Caller) -> Iterator[Ports]:
        with open_records(who.records_url) as records:
            way = replace(waiting.ports(who), records=records, leases=records.leases)
            yield add_approval_gate(way, SqlApprovals(records.database, waiting.fleet.clock))

    monkeypatch.setattr("flows.execution.open_ports", ports)
    waiting.run("approve", RUN, "--plan", _mark(waiting), "--remark", "seen")
    said = waiting.run("resume", RUN, "--no-prefect")
    assert said.code == 0, said.err
    with open_records(waiting.url) as records:
        report = History(records).read_report(RUN)
    assert report.notes[0].startswith("approved by anna on ")
    assert sum(len(machine.installs()) for machine in waiting.fleet.machines.values()) == 2
