"""What a person may say about a run that waits, and what is refused."""

from dataclasses import replace
from datetime import timedelta

import pytest

from flows.approval.decisions import find_waiting_runs
from flows.approval.plan_rendering import render_plan_markdown
from flows.notify.messages import build_message
from tasks.domain.errors import RequestError
from tasks.domain.states import NotificationOccasion
from tasks.records.approvals import ApprovalDecision
from tasks.steps.context.run_control import LoggingListener
from tests.support.fleet import outcome_of
from tests.unit.approval.scene import RUN, Killed, Scene, kill


class Heard(LoggingListener):
    """Keeps what is said."""

    def __init__(self, words: list[str]) -> None:
        self._words = words

    def on_message(self, message: str) -> None:
        self._words.append(message)


class TestDeciding:
    @pytest.fixture
    def waiting(self, scene: Scene) -> Scene:
        """A run that waits, whose process is gone."""
        scene.add("web", "openssl")
        scene.clock.later(100, kill)
        with pytest.raises(Killed):
            scene.run(scene.request(not_by_starter=True))
        return scene

    def test_it_is_listed_with_its_plan(self, waiting: Scene) -> None:
        (found,) = find_waiting_runs(waiting.url, clock=waiting.clock)
        assert (found.run.id, found.approval) == (RUN, waiting.standing())
        assert [update.name for plan in found.plans for update in plan.chosen] == ["openssl"]

    def test_twice_is_refused_and_says_who_was_first(self, waiting: Scene) -> None:
        waiting.approve("anna")
        with pytest.raises(RequestError, match="was already approved by anna"):
            waiting.approve("carla")
        with pytest.raises(RequestError, match="was already approved by anna"):
            waiting.reject("carla")
        assert waiting.standing().who == "anna"

    def test_after_it_expired_is_refused_even_when_nobody_noted_that(self, waiting: Scene) -> None:
        waiting.clock.advance(4 * 3600)
        with pytest.raises(RequestError, match="expired on 2026-03-10 04:45 UTC"):
            waiting.approve()
        assert waiting.answer() is ApprovalDecision.WAITING

    def test_of_an_unknown_run_is_refused(self, scene: Scene) -> None:
        with pytest.raises(RequestError, match="there is no run"):
            scene.approve()

    def test_of_a_run_that_needs_none_is_refused(self, scene: Scene) -> None:
        scene.add("web", "openssl")
        scene.run(scene.request(required=False))
        with pytest.raises(RequestError, match="does not wait for approval"):
            scene.approve()

    def test_of_another_plan_than_was_put_up_is_refused(self, waiting: Scene) -> None:
        report = waiting.history.read_report(RUN)
        waiting.records.save(replace(report, plans=tuple(replace(plan, chosen=()) for plan in report.plans)))
        with pytest.raises(RequestError, match="is not the plan that waits for approval"):
            waiting.approve()
        assert waiting.reject().decision is ApprovalDecision.REJECTED

    def test_of_another_plan_than_was_seen_is_refused(self, waiting: Scene) -> None:
        mark = waiting.standing().digest
        with pytest.raises(RequestError, match=f"is {mark[:12]}, and not abcdef"):
            waiting.approve(plan="abcdef")
        assert waiting.approve(plan=mark[:8].upper()).decision is ApprovalDecision.APPROVED

    def test_by_whoever_started_it_is_refused_whatever_they_call_themselves(self, waiting: Scene) -> None:
        with pytest.raises(RequestError, match="bob started it"):
            waiting.approve("Bob")
        with pytest.raises(RequestError, match="bob started it"):
            waiting.approve("anna", login="bob")
        assert waiting.reject("bob").decision is ApprovalDecision.REJECTED

    def test_without_a_name_is_refused(self, waiting: Scene) -> None:
        with pytest.raises(RequestError, match="needs the name of a person"):
            waiting.approve("  ")

    def test_under_another_name_than_the_login_says_both(self, waiting: Scene) -> None:
        assert waiting.approve("anna", login="ops").who == "anna (login ops)"


UNKNOWN = ["", " ", "unknown user of Prefect (patch-fleet/web)"]


class TestAStarterThatNobodyKnows:
    @pytest.mark.parametrize("by", UNKNOWN)
    def test_a_run_that_its_starter_may_not_approve_waits_for_nobody(self, scene: Scene, by: str) -> None:
        scene.add("web", "openssl")
        began = scene.clock.now()
        report = scene.run(scene.request(not_by_starter=True), started_by=by)
        assert scene.touched() == []
        assert scene.told == [] or scene.told[0][0] is not NotificationOccasion.WAITING
        assert scene.clock.now() - began < timedelta(minutes=10), "it was waited for an answer that can't be taken"
        reason = outcome_of(report, "web").reason
        for words in ("not known who started it", "fleetpatch patch", "its schedule", "not_by_starter"):
            assert words in reason

    @pytest.mark.parametrize("by", UNKNOWN)
    def test_one_that_waits_already_is_approved_by_nobody_and_rejected_by_anybody(self, scene: Scene, by: str) -> None:
        scene.add("web", "openssl")
        scene.clock.later(100, kill)
        with pytest.raises(Killed):
            scene.run(scene.request(not_by_starter=True))
        scene.records.save(replace(scene.history.find_run(RUN), started_by=by))
        with pytest.raises(RequestError, match="not known who started it"):
            scene.approve()
        assert scene.reject().decision is ApprovalDecision.REJECTED

    @pytest.mark.parametrize("by", UNKNOWN)
    def test_where_one_pair_of_eyes_is_enough_anybody_approves(self, scene: Scene, by: str) -> None:
        scene.add("web", "openssl")
        scene.clock.later(100, scene.approve)
        scene.run(scene.request(), started_by=by)
        assert scene.touched() == ["web"]

    @pytest.mark.parametrize("by", ["the schedule of web", "user 1000"])
    def test_a_schedule_and_a_user_without_a_name_are_known(self, scene: Scene, by: str) -> None:
        scene.add("web", "openssl")
        scene.clock.later(100, scene.approve)
        scene.run(scene.request(not_by_starter=True), started_by=by)
        assert scene.touched() == ["web"]


def test_every_command_that_people_are_told_names_the_plan(scene: Scene) -> None:
    scene.add("web", "openssl")
    said: list[str] = []
    scene.clock.later(100, scene.approve)
    scene.fleet.watch = Heard(said)
    scene.run(scene.request())
    mark, report = scene.standing().digest, scene.history.read_report(RUN)
    (waiting,) = [told for occasion, told in scene.told if occasion is NotificationOccasion.WAITING]
    texts = [
        *said,
        build_message(NotificationOccasion.WAITING, waiting).body,
        render_plan_markdown(report, mark, "then"),
    ]
    named = [text for text in texts if "fleetpatch approve " in text]
    assert len(named) == 3
    for text in named:
        assert text.count("fleetpatch approve ") == text.count(f"fleetpatch approve {RUN} --plan {mark[:12]}")
