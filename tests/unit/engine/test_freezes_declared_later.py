"""A freeze that is declared after a run was admitted is heard when the window opens, before a wave, and on resuming."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from flows.engine.fleet_run import FleetRun
from flows.engine.resume_state import parse_recorded_request, read_resume_state
from flows.local_run import LocalRunner
from flows.ports.ports import GateDecision, Ports
from flows.request.patch_request import PatchRequest
from flows.request.request_parts import HooksRequest
from tasks.domain.model import RunReport
from tasks.domain.states import NotificationOccasion, OperationState
from tasks.rules.calendar.freezes import Freeze
from tasks.steps.context.run_control import StopToken
from tests.support.fake_records import FakeHistory
from tests.support.fleet import SimFleet, outcome_of
from tests.support.mortal import Killed, Life, mortal_machine
from tests.unit.engine.hook_stage import RUN, Owner, every_place, hook, small_fleet

PAIR = {"size": 1, "failure_budget_count": 9}


class Story:
    """A fleet of two waves, an owner, and freezes that are declared while the run goes on."""

    def __init__(self) -> None:
        self.fleet: SimFleet = small_fleet()
        self.owner = Owner(self.fleet)
        self.freezes: list[tuple[datetime, Freeze]] = []

    def declare(self, after: float = 0.0, in_minutes: float = 0.0) -> None:
        """Declare a freeze that begins so many hours from now; it becomes known in so many minutes."""
        now = self.fleet.clock.now()
        start = now + timedelta(hours=after)
        freeze = Freeze(start, start + timedelta(hours=24), "release")
        self.freezes.append((now + timedelta(minutes=in_minutes), freeze))

    def known(self) -> tuple[Freeze, ...]:
        return tuple(freeze for at, freeze in self.freezes if at <= self.fleet.clock.now())

    def ports(self) -> Ports:
        return replace(self.owner.ports(), read_declared_freezes=self.known, stop_token=self.fleet.control)

    def run(self, request: PatchRequest, life: Life | None = None) -> RunReport:
        ports = self.ports()
        if life is not None:
            ports = replace(ports, connect=lambda machine: mortal_machine(self.fleet.ports().connect(machine), life))
        return FleetRun(request, ports, LocalRunner(), run_id=RUN).execute()

    def resume(self) -> RunReport:
        past = read_resume_state(FakeHistory(self.fleet.records), RUN)  # type: ignore[arg-type]  # as the real one
        self.fleet.control = StopToken()
        return FleetRun(
            parse_recorded_request(past.run), self.ports(), LocalRunner(), run_id=RUN, resume_state=past
        ).execute()

    def request(self, **fields: Any) -> PatchRequest:
        return self.fleet.request(waves=PAIR, **fields)


@pytest.fixture
def story() -> Story:
    return Story()


def untouched(story: Story, report: RunReport, name: str) -> None:
    outcome = outcome_of(report, name)
    assert outcome.state is OperationState.NOT_STARTED
    assert outcome.reason.startswith("frozen: release, from ")
    assert story.fleet.machines[name].world.whole() == {"a": "1.0"}
    assert story.fleet.machines[name].locked_by is None


def test_declared_while_it_waited_for_approval_nothing_is_begun(story: Story) -> None:
    def gate(planned: RunReport, control: StopToken) -> GateDecision:
        story.declare()
        return GateDecision()

    story.owner.gate = gate  # type: ignore[method-assign]
    report = story.run(story.request(hooks=every_place()))

    for name in ("first", "second"):
        untouched(story, report, name)
    assert story.owner.asked == []  # not even the hooks before the run
    assert story.owner.told == [NotificationOccasion.PLANNED, NotificationOccasion.CANCELLED]
    assert report.run.state is OperationState.NOT_STARTED


def test_declared_during_the_lead_the_hooks_after_the_run_undo_those_before_it(story: Story) -> None:
    start = story.fleet.clock.now() + timedelta(minutes=30)
    hooks = HooksRequest.model_validate({"before_run": [hook("drain")], "after_run": [hook("undrain")]}).model_dump()
    asked = story.request(hooks=hooks, start=start)
    asked = asked.model_copy(update={"window": asked.window.model_copy(update={"lead_minutes": 30})})
    story.owner.does["drain"] = story.declare

    report = story.run(asked)

    untouched(story, report, "first")
    assert story.owner.asked == ["gate", "before_run/drain/run", "after_run/undrain/run"]
    assert NotificationOccasion.STARTED not in story.owner.told


def test_declared_in_a_wave_the_wave_ends_and_no_other_begins(story: Story) -> None:
    story.fleet.machines["first"].on_start("install", 5, story.declare)

    report = story.run(story.request())

    assert outcome_of(report, "first").state is OperationState.SUCCEEDED
    untouched(story, report, "second")
    assert story.owner.told[-1] is NotificationOccasion.CANCELLED


def test_declared_while_it_rests_between_waves(story: Story) -> None:
    asked = story.request()
    asked = asked.model_copy(update={"waves": asked.waves.model_copy(update={"pause_minutes": 10})})
    story.declare(in_minutes=8)
    report = story.run(asked)
    assert outcome_of(report, "first").state is OperationState.SUCCEEDED
    untouched(story, report, "second")


def test_one_that_begins_when_the_window_is_over_takes_nothing_away(story: Story) -> None:
    story.declare(after=4)  # the window is four hours long
    report = story.run(story.request())
    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}


def test_a_resumed_run_sees_what_runs_to_its_end_and_begins_nothing(story: Story) -> None:
    for budget in range(1, 200):
        story = Story()
        life = Life(dies_at=budget)
        with pytest.raises(Killed):
            story.run(story.request(), life)
        if story.fleet.machines["first"].jobs():
            break
    story.declare()

    report = story.resume()

    untouched(story, report, "second")
    first = outcome_of(report, "first")
    assert first.state is not OperationState.IN_PROGRESS
    assert len(story.fleet.machines["first"].jobs()) == 1
    assert story.fleet.control.reason.startswith("frozen: release")


def test_a_run_without_prefect_keeps_to_the_freezes_of_its_request(story: Story) -> None:
    now = story.fleet.clock.now()
    freeze = {"start": now + timedelta(hours=1), "end": now + timedelta(days=1), "reason": "release"}
    report = story.run(story.request(freezes=[freeze]))
    untouched(story, report, "first")


def test_a_download_goes_on(story: Story) -> None:
    story.declare()
    report = story.run(story.request(download_only=True))
    assert outcome_of(report, "first").install is not None
