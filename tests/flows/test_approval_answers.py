"""Answers in the form of an approval that are odd, late, or given by two people at once."""

import contextvars
import threading
from typing import Any

import pytest
from markdown_it import MarkdownIt

from flows.approval.decisions import reject_run
from tasks.domain.errors import RequestError
from tasks.domain.states import UpdateState
from tasks.records.approvals import ApprovalDecision
from tests.flows.prefect_view import artifacts
from tests.flows.test_approval import Stage, fill_in, stage, state_of
from tests.support.fleet import outcome_of

__all__ = ["stage"]

pytestmark = pytest.mark.usefixtures("prefect_server")

NAME = "an\u202ena <b>[x](javascript:alert(1))</b>\n| |"
REMARK = "\x00\x1b[31mno\x07 `x` | ![y](http://evil.test/y.png)\r\n# not now " + "x" * 1900
READER = MarkdownIt("commonmark").enable("table")


def test_what_a_person_types_stays_text_everywhere(stage: Stage) -> None:
    state, report = stage.run(lambda: fill_in(stage.question().id, decision="reject", name=NAME, remark=REMARK))
    standing, ended = stage.standing(), stage.ended()
    assert standing.decision is ApprovalDecision.REJECTED
    assert (state.type.value, state.name) == ("FAILED", "NotStarted")
    told = [standing.who, standing.remark, outcome_of(report, "web").reason, ended.message or "", *report.notes]
    assert all(text.isprintable() for text in told)
    assert "not now" in standing.remark
    assert state.state_details.flow_run_id is not None
    shown = artifacts(state.state_details.flow_run_id)
    texts = [str(each.data) for each in shown.values() if each.type == "markdown"]
    assert any("rejected by" in text for text in texts)
    spans = {child.type for text in texts for token in READER.parse(text) for child in token.children or ()}
    assert not spans & {"html_inline", "image", "link_open"}


def test_of_two_people_at_once_one_decides_and_the_run_does_what_that_one_said(stage: Stage) -> None:
    refused: list[str] = []

    def person() -> None:
        waiting = stage.question().id

        def reject() -> None:
            try:
                reject_run(stage.run_id, "carla", "no", records_url=stage.url, clock=stage.fleet.clock)
            except RequestError as error:
                refused.append(error.message)

        other = threading.Thread(target=contextvars.copy_context().run, args=(reject,))
        other.start()
        fill_in(waiting, decision="approve", name="anna")
        other.join()

    _, report = stage.run(person)
    standing = stage.standing()
    is_approved = standing.decision is ApprovalDecision.APPROVED
    assert standing.who == ("anna" if is_approved else "carla")
    assert bool(refused) is is_approved
    assert outcome_of(report, "web").count_updates(UpdateState.INSTALLED) == (2 if is_approved else 0)
    assert stage.ended().name == ("Approved" if is_approved else "Rejected")


def test_an_answer_after_the_end_changes_nothing(stage: Stage) -> None:
    found: dict[str, Any] = {}

    def person() -> None:
        found["form"] = stage.question().id

    _, report = stage.run(person, expires_minutes=0.5)
    assert stage.ended().name == "Expired"
    assert fill_in(found["form"], decision="approve", name="anna").value in {"REJECT", "ABORT"}
    assert stage.standing().decision is ApprovalDecision.EXPIRED
    assert state_of(found["form"]).name == "Expired"
    assert outcome_of(report, "web").count_updates(UpdateState.INSTALLED) == 0
