"""Answers from a place besides the records: Prefect's form, whatever stands for it here."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from flows.approval.answers import AnswerSource, ApprovalAnswer, PendingApproval
from tasks.domain.states import UpdateState
from tasks.records.approvals import Approval, ApprovalDecision
from tasks.steps.context.run_control import StopToken
from tests.support.fleet import outcome_of
from tests.unit.approval.scene import RUN, STARTER, Failing, Scene


class Table:
    """A desk on which words are laid at set times."""

    def __init__(self, *words: ApprovalAnswer) -> None:
        self.words = list(words)
        self.refused: list[str] = []

    def read_answer(self) -> ApprovalAnswer | None:
        return self.words.pop(0) if self.words else None

    def reject_answer(self, why: str) -> None:
        self.refused.append(why)


class TestDesk:
    def test_an_answer_given_there_stands_in_the_records(self, scene: Scene) -> None:
        scene.add("web", "openssl")
        with _at(scene, Table(ApprovalAnswer(is_approval=True, who="anna", remark="fine\nby me"))):
            report = scene.run(scene.request())
        assert outcome_of(report, "web").count_updates(UpdateState.INSTALLED) == 1
        assert (scene.standing().who, scene.standing().remark) == ("anna", "fine by me")

    def test_a_no_counts_as_much(self, scene: Scene) -> None:
        scene.add("web", "openssl")
        with _at(scene, Table(ApprovalAnswer(is_approval=False, who="anna"))):
            scene.run(scene.request())
        assert scene.answer() is ApprovalDecision.REJECTED
        assert scene.touched() == []

    def test_whoever_started_the_run_is_told_that_they_may_not(self, scene: Scene) -> None:
        scene.add("web", "openssl")
        desk = Table(
            ApprovalAnswer(is_approval=True, who=f" {STARTER.upper()} "), ApprovalAnswer(is_approval=True, who="anna")
        )
        with _at(scene, desk):
            scene.run(scene.request(not_by_starter=True))
        assert scene.standing().who == "anna"
        assert desk.refused == ["bob started it and may not approve it"]

    def test_a_name_that_is_typed_there_is_only_claimed_in_the_audit_log(self, scene: Scene) -> None:
        scene.add("web", "openssl")
        desk = Table(ApprovalAnswer(is_approval=True, who=STARTER), ApprovalAnswer(is_approval=True, who="anna"))
        with _at(scene, desk):
            scene.run(scene.request(not_by_starter=True))
        assert [(each.act, each.who, each.source, each.claimed, str(each.result)) for each in scene.acts] == [
            ("approve", "", "prefect", STARTER, "refused"),
            ("approve", "", "prefect", "anna", "begun"),
            ("approve", "", "prefect", "anna", "done"),
        ]
        assert scene.acts[0].message == "bob started it and may not approve it"

    def test_what_was_said_while_the_records_were_away_is_not_lost(self, scene: Scene) -> None:
        scene.add("web", "openssl")
        away = Failing(scene.records.database, scene.clock).between(scene, 30, 900)
        desk = Table()
        scene.clock.later(60, lambda: desk.words.append(ApprovalAnswer(is_approval=True, who="anna")))
        with _at(scene, desk):
            report = scene.run(scene.request(), away)
        assert outcome_of(report, "web").count_updates(UpdateState.INSTALLED) == 1

    def test_of_two_answers_the_first_in_the_records_stands(self, scene: Scene) -> None:
        scene.add("web", "openssl")
        desk = Table()

        def both() -> None:
            scene.reject("carla")
            desk.words.append(ApprovalAnswer(is_approval=True, who="anna"))

        scene.clock.later(60, both)
        with _at(scene, desk):
            report = scene.run(scene.request())
        assert scene.standing().who == "carla"
        assert "rejected by carla" in outcome_of(report, "web").reason


@contextmanager
def _at(scene: Scene, desk: AnswerSource) -> Iterator[None]:
    """Have questions answered at a desk."""

    def host(
        question: PendingApproval, control: StopToken, wait: Callable[[AnswerSource], Approval | None]
    ) -> Approval | None:
        assert question.planned.run.id == RUN
        assert not control.is_stopping
        return wait(desk)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.approval.gate.choose_presenter", lambda: host)
        yield
