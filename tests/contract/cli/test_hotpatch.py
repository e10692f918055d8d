"""hotpatch: the whole command, with real records, on machines that tell and change their enrolment."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flows.hotpatch.licences import API_VERSION, Licence, LicenceError
from inventory.machine import Machine, PatchOwner
from tasks.domain.errors import ConnectionLost
from tasks.domain.model import Finding, HotpatchEnrolment, PackageState
from tasks.domain.protocols.transport import Job, Script, ScriptRecord
from tasks.domain.states import FindingLevel
from tests.contract.cli.conftest import Said, Stage
from tests.support.fake_transport import SimulatedJob
from tests.support.sim_machine import SimMachine

NO_VBS = Finding("vbs", FindingLevel.BLOCK, "virtualization-based security is off", "Set it.")


class Enrolled:
    """A machine that tells an enrolment, and what its scripts change in it."""

    def __init__(self, stage: Stage, name: str = "web", enrolment: HotpatchEnrolment | None = None, **described: Any):
        self.machine: SimMachine = stage.add(name, **described)
        self.enrolment = enrolment
        self.orders: list[Script] = []
        self.jobs: list[Job] = []
        self.exit_code = 0
        state = self.machine.world.state
        self.machine.answer("fake_assess", lambda _: {"kind": "answer", "answer": self._tell(state())})
        self.machine.answer("enrol_hotpatch", self._order)
        self.machine.job("enrol_live_patches", self.start)

    def _tell(self, state: PackageState) -> PackageState:
        return replace(state, hotpatch=self.enrolment)

    def _order(self, script: Script) -> list[ScriptRecord]:
        self.orders.append(script)
        return [{"kind": "set", "value": each} for each in script.params["values"]]

    def start(self, job: Job) -> SimulatedJob:
        self.jobs.append(job)
        steps: list[tuple[float, ScriptRecord]] = [
            (0, {"kind": "enrolment_step", "command": "pro enable livepatch --assume-yes", "at": 1}),
            (5, {"kind": "enrolment_ended", "exit_code": self.exit_code, "error": "no contract" * self.exit_code}),
        ]
        return SimulatedJob(tuple(steps), 5.0, 0, effect=lambda: self._change(str(job.script.params["action"])))

    def _change(self, action: str) -> None:
        if self.enrolment is not None and self.exit_code == 0:
            self.enrolment = replace(self.enrolment, receives=action in {"enroll", "enable"})


def pro(**changes: Any) -> HotpatchEnrolment:
    return replace(HotpatchEnrolment("livepatch", "pro", enrolled=True, receives=False), **changes)


def azure_2022(**changes: Any) -> HotpatchEnrolment:
    return replace(
        HotpatchEnrolment("hotpatch", "registry", enrolled=False, receives=False, product="20348"), **changes
    )


def hotpatch(stage: Stage, *words: str) -> Said:
    return stage.run("hotpatch", *words)


def change(stage: Stage, action: str, *words: str) -> dict[str, Any]:
    said = hotpatch(stage, action, "*", "--yes", "--json", *words)
    (machine,) = said.json["machines"]
    return {"code": said.code, **machine}


class TestLinux:
    def test_it_is_enrolled_by_its_own_client_and_the_status_follows(self, stage: Stage) -> None:
        web = Enrolled(stage, enrolment=pro())
        done = change(stage, "enroll")
        assert (done["code"], done["result"], done["hotpatchStatus"]) == (0, "changed", "Enabled")
        (job,) = web.jobs
        assert (job.script.params["provider"], job.script.params["action"]) == ("livepatch", "enroll")
        assert job.script.params["lock_run"]
        assert web.machine.locked_by is None
        again = change(stage, "enroll")
        assert (again["result"], len(web.jobs)) == ("unchanged", 1)
        (row,) = stage.run("machines", "--json").json["machines"]
        assert row["hotpatchStatus"] == "Enabled"
        assert "Enabled" in stage.run("machines").out

    def test_disabled_and_canceled_are_told_apart_by_what_was_asked_for(self, stage: Stage) -> None:
        Enrolled(stage, enrolment=pro(receives=True))
        assert change(stage, "disable")["hotpatchStatus"] == "Disabled"
        assert change(stage, "unenroll")["hotpatchStatus"] == "Canceled"
        assert change(stage, "enable")["hotpatchStatus"] == "Enabled"

    def test_a_failure_is_told_with_the_tools_words_and_leaves_no_lock(self, stage: Stage) -> None:
        web = Enrolled(stage, enrolment=pro())
        web.exit_code = 1
        done = change(stage, "enroll")
        assert (done["code"], done["result"], done["hotpatchStatus"]) == (1, "failed", "Disabled")
        assert "pro enable livepatch --assume-yes failed (exit code 1): no contract" in done["message"]
        assert web.machine.locked_by is None
        (row,) = hotpatch(stage, "status", "--json").json["machines"]
        assert "no contract" in row["lastRequest"]["failure"]

    def test_a_machine_without_a_subscription_is_refused_with_the_remedy(self, stage: Stage) -> None:
        lacking = Finding("subscription", FindingLevel.BLOCK, "it is not attached to Ubuntu Pro", "pro attach")
        web = Enrolled(stage, enrolment=pro(enrolled=False, prerequisites=(lacking,)))
        done = change(stage, "enroll")
        assert (done["code"], done["result"], done["remedy"]) == (4, "refused", "pro attach")
        assert web.jobs == []

    def test_a_lost_connection_keeps_the_lock_as_the_job_may_still_run(self, stage: Stage) -> None:
        web = Enrolled(stage, enrolment=pro())
        for _ in range(2_000):
            web.machine.fail(ConnectionLost("cut"), on="look")
        done = change(stage, "enroll")
        assert (done["code"], done["result"]) == (1, "failed")
        assert web.machine.locked_by is not None


class TestWhoMayChange:
    def test_a_machine_of_others_is_left(self, stage: Stage) -> None:
        web = Enrolled(stage, enrolment=pro(), owner=PatchOwner.MANUAL)
        done = change(stage, "enroll")
        assert (done["code"], done["result"]) == (4, "refused")
        assert web.machine.calls == []

    def test_a_machine_that_a_run_holds_is_left(self, stage: Stage) -> None:
        web = Enrolled(stage, enrolment=pro())
        until = stage.fleet.clock.now() + timedelta(hours=1)
        web.machine.locked_by = ("20260310-010000-aaaaaa", "anne", until.timestamp())
        done = change(stage, "enroll")
        assert (done["code"], done["result"]) == (1, "failed")
        assert "20260310-010000-aaaaaa (anne) has locked the machine" in done["message"]
        assert web.jobs == []
        assert web.machine.locked_by[1] == "anne"

    @pytest.mark.parametrize(
        "limit",
        ["approval: {by: [anna]}", "forbid: [hotpatch]", "freezes: [{start: 2020-01-01, end: 2099-12-31}]"],
    )
    def test_a_policy_refuses_it(
        self, stage: Stage, limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Attacker: a user of the command. Way: the enrolment, which is no run. Must hold: no job, and exit code 2."""
        policy = tmp_path / "policy.yaml"
        policy.write_text(f"policy: {{rules: [{{name: everything, scope: '*', ask: the team, {limit}}}]}}")
        monkeypatch.setenv("FLEETPATCH_POLICY", str(policy))
        web = Enrolled(stage, enrolment=pro())
        said = hotpatch(stage, "enroll", "*", "--yes")
        assert (said.code, web.jobs) == (2, [])
        assert "policy rule everything" in said.err
        assert hotpatch(stage, "enroll", "*", "--dry-run").code == 0

    def test_a_dry_run_changes_and_records_nothing(self, stage: Stage) -> None:
        web = Enrolled(stage, enrolment=pro())
        done = change(stage, "enroll", "--dry-run")
        assert (done["code"], done["result"], done["steps"]) == (0, "planned", ["pro enable livepatch --assume-yes"])
        assert (web.jobs, web.machine.locked_by) == ([], None)
        (row,) = hotpatch(stage, "status", "--json").json["machines"]
        assert row["lastRequest"] is None

    def test_without_a_terminal_and_without_yes_nothing_is_done(self, stage: Stage) -> None:
        web = Enrolled(stage, enrolment=pro())
        said = hotpatch(stage, "enroll", "*")
        assert said.code == 2
        assert "--yes" in said.err
        assert web.machine.calls == []


class TestWindows:
    def test_the_security_comes_first_and_the_rest_after_a_restart(self, stage: Stage) -> None:
        web = Enrolled(stage, enrolment=azure_2022(prerequisites=(NO_VBS,)))
        done = change(stage, "enroll")
        assert (done["result"], done["hotpatchStatus"]) == ("changed", "Pending")
        assert web.orders[0].params["values"] == ("vbs",)
        assert "restart" in done["message"]
        web.enrolment = azure_2022()
        change(stage, "enroll")
        assert web.orders[1].params["values"] == ("table_size", "package")

    def test_what_microsoft_documents_no_way_for_is_refused(self, stage: Stage) -> None:
        web = Enrolled(stage, enrolment=azure_2022(enrolled=True, receives=True))
        done = change(stage, "unenroll")
        assert (done["code"], done["result"]) == (4, "refused")
        assert "portal" in done["remedy"]
        assert web.orders == []

    def test_the_status_names_the_next_baseline_and_what_is_lacking(self, stage: Stage) -> None:
        Enrolled(stage, "good", azure_2022(enrolled=True, receives=True))
        Enrolled(stage, "bad", azure_2022(prerequisites=(NO_VBS,)))
        Enrolled(stage, "none")
        assert stage.run("assess", "*").code == 0
        good, bad, none = hotpatch(stage, "status", "--json").json["machines"]
        assert (good["hotpatchStatus"], bad["hotpatchStatus"], none["hotpatchStatus"]) == (
            "Enabled",
            "Not enrolled",
            None,
        )
        assert good["nextBaselineDate"]
        assert bad["prerequisites"][0]["remedy"] == "Set it."
        shown = hotpatch(stage, "status").out
        assert "virtualization-based security is off" in shown
        assert "1 machine without an answer about hotpatches" in shown


ARC = "/subscriptions/0000/resourceGroups/servers"
VERSION = f"api-version={API_VERSION}"


class Azure(BaseHTTPRequestHandler):
    """Azure Resource Manager with the answers of the public examples."""

    enrolled = False
    requests: list[tuple[str, str, str, str]]

    def _answer(self, status: int, body: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def do_GET(self) -> None:
        type(self).requests.append(("GET", self.path, "", self.headers["Authorization"]))
        if "licenseProfiles" not in self.path:
            self._answer(200, '{"location": "eastus2euap", "properties": {}}')
        elif type(self).enrolled:
            feature = '{"name": "Hotpatch", "subscriptionStatus": "Enabling"}'
            self._answer(200, f'{{"properties": {{"productProfile": {{"productFeatures": [{feature}]}}}}}}')
        else:
            self._answer(404, '{"error": {"code": "ResourceNotFound", "message": "none"}}')

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        type(self).requests.append(("PUT", self.path, body, self.headers["Authorization"]))
        type(self).enrolled = True
        self._answer(201, "{}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_arc_gives_the_licence_and_the_token_stays_out_of_sight(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    Azure.requests, Azure.enrolled = [], False
    server = ThreadingHTTPServer(("127.0.0.1", 0), Azure)
    threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True).start()
    monkeypatch.setattr("flows.hotpatch.licences.DEFAULT_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AZURE_ACCESS_TOKEN", "very-secret")
    web = Enrolled(
        stage, enrolment=HotpatchEnrolment("hotpatch", "arc", enrolled=False, receives=False, product="26100")
    )
    try:
        without = change(stage, "enroll")
        assert (without["result"], "--arc" in without["remedy"]) == ("refused", True)
        said = hotpatch(stage, "enroll", "*", "--yes", "--json", "--arc", ARC)
        (shown,) = hotpatch(stage, "status", "--json", "--arc", ARC).json["machines"]
    finally:
        server.shutdown()
        server.server_close()
    (done,) = said.json["machines"]
    assert (done["result"], done["hotpatchStatus"]) == ("changed", "Pending")
    assert (shown["hotpatchStatus"], shown["licence"]) == ("Pending", "licence Enabling")
    (put,) = [each for each in Azure.requests if each[0] == "PUT"]
    assert put[1].startswith(
        f"{ARC}/providers/Microsoft.HybridCompute/machines/web/licenseProfiles/default?api-version="
    )
    assert {each[3] for each in Azure.requests} == {"Bearer very-secret"}
    assert "very-secret" not in said.out + said.err
    assert web.orders == []


def test_a_licence_that_was_cancelled_elsewhere_and_one_that_is_not_known(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Known:
        def __init__(self, *_: object) -> None:
            self.name = "Azure Arc"

        def read_licence(self, machine: Machine, **_: object) -> Licence:
            if machine.name == "web":
                return Licence(is_enrolled=False, is_canceled=True, state="licence Disabled")
            raise LicenceError("no answer")

    monkeypatch.setattr("flows.hotpatch.arc_settings.AzureArc", Known)
    Enrolled(stage, "web", azure_2022(means="arc", product="26100"))
    Enrolled(stage, "db", azure_2022(means="arc", product="26100"))
    Enrolled(stage, "cache", pro())
    assert stage.run("assess", "*").code == 0
    rows = hotpatch(stage, "status", "--json", "--arc", ARC).json["machines"]
    assert [(row["hotpatchStatus"], row["licence"]) for row in rows] == [
        ("Canceled", "licence Disabled"),
        ("Not enrolled", "not known: no answer"),
        ("Disabled", None),
    ]


def test_an_interruption_begins_nothing_more_and_gives_locks_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines = [Enrolled(stage, f"web-{number}", pro()) for number in range(5)]
    first, second, *others = machines
    cancelled, shut_down = threading.Event(), ThreadPoolExecutor.shutdown

    def interrupt(_: Job) -> SimulatedJob:
        raise KeyboardInterrupt

    def shut_down_slowly(pool: ThreadPoolExecutor, wait: bool = True, *, cancel_futures: bool = False) -> None:
        shut_down(pool, wait=False, cancel_futures=cancel_futures)
        cancelled.set()
        shut_down(pool, wait=wait)

    def begin(job: Job) -> SimulatedJob:
        assert cancelled.wait(60)  # by then it is decided which machines are never begun
        return second.start(job)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shut_down_slowly)
    first.machine.job("enrol_live_patches", interrupt)
    second.machine.job("enrol_live_patches", begin)
    said = hotpatch(stage, "enroll", "*", "--yes", "--at-once", "1")
    assert said.code == 130
    assert [each.machine.locked_by for each in machines] == [None] * 5
    assert [each.machine.calls for each in others] == [[]] * 3
