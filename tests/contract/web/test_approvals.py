"""A person decides on a run through the pages: real records, the real gate, the real server."""

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleetpatch.access.roles import Role
from fleetpatch.runs import plan_view
from flows.approval.gate import ApprovalGate
from flows.ports.ports import GateDecision
from tasks.domain.model import RunReport
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.states import OperationState, UpdateState
from tasks.records.approvals import ApprovalDecision, SqlApprovals
from tasks.records.queries.history import History
from tests.support import builders as make
from tests.support.fleet import outcome_of
from tests.support.web_people import admit_people, person
from tests.support.web_site import Site, serve_site
from tests.unit.approval.scene import RUN, STARTER, Diary, Scene

ANNA = person("anna", Role.VIEW, Role.APPROVE)
HOSTILE = "<script>alert(1)</script>\x1b[31m"


@dataclass
class Stage:
    """A simulated fleet, its records, and the pages over the same records and clock."""

    scene: Scene
    site: Site

    def page(self, run: str = RUN) -> httpx.Response:
        return self.site.get(f"/approvals/{run}", headers=ANNA)

    def decide(self, verb: str, headers: dict[str, str] | None = None, run: str = RUN, **form: str) -> httpx.Response:
        values = {"plan": shown_plan(self.page(run)), "remark": "looks good"} | form
        return self.site.client.post(f"/approvals/{run}/{verb}", data=values, headers=headers or ANNA)

    def when(self, seconds: float, act: Any) -> None:
        self.scene.clock.later(seconds, act)


def shown_plan(page: httpx.Response) -> str:
    """The digest in the form that a page shows; "" without a form."""
    found = re.search(r'name="plan" value="([0-9a-f]*)"', page.text)
    return found.group(1) if found else ""


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    admit_people(monkeypatch)
    monkeypatch.setattr("flows.approval.gate.STOP_POLL_SECONDS", 5.0)
    monkeypatch.setattr("flows.approval.gate._RECORDS_POLL_INTERVAL", timedelta(seconds=20))
    monkeypatch.setattr(plan_view, "MAX_AGE_SECONDS", 0.0)
    clock = Diary()
    with serve_site(tmp_path, clock=clock) as site:
        yield Stage(Scene(site.records, str(site.context.settings.records_url), clock=clock), site)


def test_an_approval_by_click_lets_the_run_go_on(stage: Stage) -> None:
    stage.scene.add("web", "openssl", "curl")
    answers: list[httpx.Response] = []
    stage.when(1800, lambda: answers.append(stage.decide("approve")))

    report = stage.scene.run(stage.scene.request())

    assert [(each.status_code, each.headers["location"]) for each in answers] == [(303, f"/approvals/{RUN}")]
    assert outcome_of(report, "web").count_updates(UpdateState.INSTALLED) == 2
    approval = stage.scene.standing()
    assert (approval.decision, approval.who, approval.remark) == (ApprovalDecision.APPROVED, "anna", "looks good")
    assert "approved by anna" in stage.page().text
    assert not shown_plan(stage.page())


def test_a_rejection_by_click_ends_the_run_with_nothing_begun(stage: Stage) -> None:
    stage.scene.add("web", "openssl")
    stage.when(60, lambda: stage.decide("reject", remark="not today"))
    report = stage.scene.run(stage.scene.request())
    assert "rejected by anna" in outcome_of(report, "web").reason
    assert not stage.scene.touched()


def test_the_page_has_the_whole_plan(stage: Stage) -> None:
    stage.scene.add("web", "openssl", "curl")
    stage.scene.add("db", "openssl")
    pages: list[httpx.Response] = []
    stage.when(60, lambda: pages.extend((stage.page(), stage.site.get("/approvals", headers=ANNA))))
    stage.when(90, lambda: stage.decide("reject"))
    stage.scene.run(stage.scene.request())
    page, overview = pages
    assert page.status_code == overview.status_code == 200
    assert "3 updates" in page.text or ">3<" in page.text
    for name in ("openssl", "curl", "/machines/web", "/machines/db"):
        assert name in page.text
    assert stage.scene.standing().digest[:12] in overview.text
    assert f"/approvals/{RUN}" in overview.text
    after = stage.site.get("/approvals", headers=ANNA).text
    assert "No run waits for approval" in after
    assert "s-rejected" in after


class TestWhatIsRefused:
    """Each refusal says why, with the status 409 and the present state of the run; nothing is decided."""

    def refused(self, stage: Stage, act: Any, **approval: Any) -> httpx.Response:
        answers: list[httpx.Response] = []
        stage.scene.add("web", "openssl")
        stage.when(60, lambda: answers.append(act()))
        stage.when(120, lambda: stage.decide("reject", person("carl", Role.APPROVE)))
        stage.scene.run(stage.scene.request(**approval))
        (answer,) = answers
        assert stage.scene.standing().who == "carl"
        return answer

    @pytest.mark.parametrize("role", [Role.VIEW, Role.RUN])
    def test_without_the_role(self, stage: Stage, role: Role) -> None:
        answer = self.refused(stage, lambda: stage.decide("approve", person("bert", role)))
        assert answer.status_code == 403

    def test_by_who_started_it_if_another_person_must_approve(self, stage: Stage) -> None:
        starter = person(STARTER.upper(), Role.APPROVE)
        answer = self.refused(stage, lambda: stage.decide("approve", starter), not_by_starter=True)
        assert answer.status_code == 409
        assert f"{STARTER} started it and may not approve it" in answer.text

    def test_by_somebody_without_a_name(self, stage: Stage) -> None:
        answer = self.refused(stage, lambda: stage.decide("approve", person("", Role.APPROVE)))
        assert answer.status_code == 403
        assert "This needs the role approve." in answer.text

    @pytest.mark.parametrize("plan", ["", "0" * 64, "0", "f" * 12, "%", "*" * 20])
    def test_of_a_plan_that_was_not_shown(self, stage: Stage, plan: str) -> None:
        answer = self.refused(stage, lambda: stage.decide("approve", plan=plan))
        assert answer.status_code == 409
        assert shown_plan(answer) == stage.scene.standing().digest

    def test_after_somebody_has_cancelled_the_run(self, stage: Stage) -> None:
        def act() -> httpx.Response:
            stage.site.records.leases.request_stop(RUN, "dora", "wrong machines")
            return stage.decide("approve")

        answer = self.refused(stage, act)
        assert answer.status_code == 409
        assert "was cancelled by dora: wrong machines" in answer.text

    def test_of_another_run(self, stage: Stage) -> None:
        answer = self.refused(stage, lambda: stage.decide("approve", run=RUN[:10]))
        assert answer.status_code == 404


def test_a_second_click_says_who_decided_and_changes_nothing(stage: Stage) -> None:
    stage.scene.add("web", "openssl")
    answers: list[httpx.Response] = []

    def click_twice() -> None:
        plan = shown_plan(stage.page())
        answers.extend(stage.decide(verb, plan=plan) for verb in ("approve", "approve", "reject"))

    stage.when(60, click_twice)
    stage.scene.run(stage.scene.request())
    assert [each.status_code for each in answers] == [303, 409, 409]
    for each in answers[1:]:
        assert "was already approved by anna" in each.text
        assert "The first answer stands" in each.text
        assert not shown_plan(each)
    assert stage.scene.answer() is ApprovalDecision.APPROVED


def test_of_two_people_at_once_exactly_one_decides(stage: Stage) -> None:
    stage.scene.add("web", "openssl")
    people = [person(f"person-{number}", Role.APPROVE) for number in range(6)]
    answers: list[httpx.Response] = []

    def all_at_once() -> None:
        plan, gate = shown_plan(stage.page()), threading.Barrier(len(people))

        def decide(number: int) -> httpx.Response:
            gate.wait(120)
            return stage.decide(("approve", "reject")[number % 2], people[number], plan=plan)

        with ThreadPoolExecutor(len(people)) as pool:
            answers.extend(pool.map(decide, range(len(people))))

    stage.when(60, all_at_once)
    stage.scene.run(stage.scene.request())
    assert sorted(each.status_code for each in answers) == [303] + [409] * (len(people) - 1)
    (winner,) = [number for number, each in enumerate(answers) if each.status_code == 303]
    assert stage.scene.standing().who == f"person-{winner}"


def test_a_plan_that_has_expired_can_no_longer_be_decided(stage: Stage) -> None:
    stage.scene.add("web", "openssl")
    plans: list[str] = []
    stage.when(60, lambda: plans.append(shown_plan(stage.page())))
    stage.scene.run(stage.scene.request(expires_minutes=30))
    assert plans[0]
    answer = stage.decide("approve", plan=plans[0])
    assert answer.status_code == 409
    assert "expired on" in answer.text
    assert not shown_plan(answer)
    assert "s-expired" in stage.site.get("/approvals", headers=ANNA).text


def test_a_plan_that_was_replaced_after_it_was_shown_is_refused(stage: Stage) -> None:
    """The run is resumed with another plan between the page and the click."""
    scene = stage.scene
    run = make.make_run(id=RUN, state=OperationState.IN_PROGRESS, ended_at=None, request=_REQUEST, started_by=STARTER)
    first = _save_waiting(scene, run, make.make_update())
    seen = shown_plan(stage.page())
    assert seen == first
    second = _save_waiting(scene, run, make.make_update(available="3.0.17-1~deb12u1"))
    answer = stage.decide("approve", plan=seen)
    assert answer.status_code == 409
    assert f"the plan of run {RUN} is {second[:12]}, and not {seen}" in answer.text
    assert shown_plan(answer) == second
    assert scene.answer() is ApprovalDecision.WAITING
    assert stage.decide("approve", plan=second).status_code == 303


def test_a_recorded_plan_that_nobody_asked_about_can_only_be_rejected(stage: Stage) -> None:
    run = make.make_run(id=RUN, state=OperationState.IN_PROGRESS, ended_at=None, request=_REQUEST, started_by=STARTER)
    _save_waiting(stage.scene, run, make.make_update())
    stage.site.records.save(_report(run, make.make_update(available="9")))
    page = stage.page()
    assert "is not the plan that waits for approval" in page.text
    assert not shown_plan(page)
    assert stage.decide("approve").status_code == 409
    assert stage.decide("reject", plan="").status_code == 303


def test_texts_of_machines_and_people_stay_text(stage: Stage) -> None:
    run = make.make_run(
        id=RUN, state=OperationState.IN_PROGRESS, ended_at=None, request=_REQUEST, scope=HOSTILE, started_by=HOSTILE
    )
    _save_waiting(stage.scene, run, make.make_update(name=HOSTILE, available=HOSTILE, title=HOSTILE), note=HOSTILE)
    for page in (stage.page(), stage.site.get("/approvals", headers=ANNA)):
        assert "<script>alert" not in page.text
        assert "\x1b" not in page.text
        assert "&lt;script&gt;" in page.text


def test_a_gate_that_waits_in_another_thread_goes_on_after_the_click(stage: Stage) -> None:
    """With the real clock and the polling of a real run."""
    site, records = stage.site, stage.site.records
    clock = SystemClock()
    site.context.clock = clock
    begun = clock.now()
    window = replace(make.make_window(), start=begun, end=begun + timedelta(hours=3))
    request = stage.scene.request(minutes=180)
    run = make.make_run(
        id=RUN,
        state=OperationState.IN_PROGRESS,
        ended_at=None,
        started_at=begun,
        window=window,
        request=request.model_dump(mode="json"),
        started_by=STARTER,
    )
    report = _report(run, make.make_update())
    records.save(report)
    gate = ApprovalGate(request, SqlApprovals(records.database), records, clock)
    decisions: list[GateDecision] = []
    thread = threading.Thread(target=lambda: decisions.append(gate(report, stage.scene.fleet.control)), daemon=True)
    thread.start()
    deadline = clock.now() + timedelta(seconds=180)
    while not shown_plan(stage.page()):
        assert clock.now() < deadline
        clock.sleep(0.05)
    assert thread.is_alive()
    assert stage.decide("approve").status_code == 303
    thread.join(180)
    (decision,) = decisions
    assert decision.refusal == ""
    assert "approved by anna" in decision.notes[0]


def test_a_plan_of_5000_machines_is_shown_in_parts(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_view, "MAX_AGE_SECONDS", 3600.0)
    run = make.make_run(id=RUN, state=OperationState.IN_PROGRESS, ended_at=None, request=_REQUEST, started_by=STARTER)
    names = [f"machine-{number:04d}.example.org" for number in range(5000)]
    updates = [
        tuple(make.make_update(name=f"package-{kind}-{each}", title="A long title " * 5) for each in range(50))
        for kind in range(40)
    ]
    plans = tuple(make.make_plan(machine=name, chosen=updates[number % 40]) for number, name in enumerate(names))
    report = RunReport(run, (), (make.make_wave(machines=tuple(names)),), plans)
    stage.site.records.save(report)
    approvals = SqlApprovals(stage.site.records.database, stage.scene.clock)
    view = History(stage.site.records).read_report(RUN)
    from fleetpatch.runs.plan_view import build_plan_view

    approvals.request_approval(RUN, build_plan_view(view).digest, 3600)
    found: set[str] = set()
    pages = [stage.page()]
    while match := re.search(r'rel="next" href="(\?part=\d+)#updates"', pages[-1].text):
        pages.append(stage.site.get(f"/approvals/{RUN}{match.group(1)}", headers=ANNA))
    for page in pages:
        assert len(page.content) < 1_000_000
        found |= set(re.findall(r"/updates/(package-[\d-]+)", page.text))
    assert len(found) == 40 * 50
    assert "machine-0199" in pages[0].text
    assert "machine-4999" in stage.site.get(f"/approvals/{RUN}?page=25", headers=ANNA).text


_REQUEST: dict[str, object] = {"scope": "*", "approval": {"required": True}}


def _report(run: Any, update: Any, note: str = "") -> RunReport:
    plan = make.make_plan(chosen=(update,), skipped=(), notes=(note,) if note else ())
    return RunReport(run, (), (make.make_wave(),), (plan,), notes=(note,) if note else ())


def _save_waiting(scene: Scene, run: Any, update: Any, note: str = "") -> str:
    from fleetpatch.runs.plan_view import build_plan_view

    report = _report(run, update, note)
    scene.records.save(report)
    digest = build_plan_view(report).digest
    scene.approvals.request_approval(RUN, digest, 3600)
    return digest
