"""What approvals do on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.domain.protocols.clock import SystemClock
from tasks.domain.states import OperationState
from tasks.records.approvals import Approval, ApprovalDecision, SqlApprovals
from tasks.records.retention import prune_history
from tasks.records.sql_records import SqlRecords
from tests.contract.records_subjects import BOTH, opened
from tests.support import builders as make
from tests.support.fake_clock import START, FakeClock

RUN = make.RUN_ID
PLAN, OTHER = "a" * 64, "b" * 64


@dataclass
class Place:
    """Approvals with the records beside them, on a clock that a test pushes."""

    records: SqlRecords
    clock: FakeClock

    @property
    def approvals(self) -> SqlApprovals:
        return SqlApprovals(self.records.database, self.clock)

    def begun(self, run_id: str = RUN, state: OperationState = OperationState.IN_PROGRESS) -> None:
        self.records.save(make.make_run(id=run_id, state=state, ended_at=None))


@pytest.fixture(params=BOTH)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with opened(request.param, tmp_path) as records:
        yield Place(records, FakeClock())


class TestAsking:
    def test_it_stands_as_it_was_asked(self, place: Place) -> None:
        asked = place.approvals.request_approval(RUN, PLAN, 600)
        assert asked == Approval(RUN, PLAN, START, START + timedelta(seconds=600))
        assert place.approvals.find_approval(RUN) == asked
        assert place.approvals.find_approval("another") is None

    def test_asked_again_the_first_time_stands(self, place: Place) -> None:
        first = place.approvals.request_approval(RUN, PLAN, 600)
        place.clock.advance(300)
        assert place.approvals.request_approval(RUN, PLAN, 600) == first

    def test_another_plan_takes_the_place_of_one_that_nobody_decided_on(self, place: Place) -> None:
        place.approvals.request_approval(RUN, PLAN, 600)
        place.clock.advance(300)
        asked = place.approvals.request_approval(RUN, OTHER, 600)
        assert (asked.digest, asked.asked_at) == (OTHER, START + timedelta(seconds=300))
        assert asked.expires_at == START + timedelta(seconds=900)

    @pytest.mark.parametrize("answer", [ApprovalDecision.APPROVED, ApprovalDecision.REJECTED, ApprovalDecision.EXPIRED])
    def test_what_was_decided_stands_whatever_is_asked_after_it(self, place: Place, answer: ApprovalDecision) -> None:
        place.approvals.request_approval(RUN, PLAN, 600)
        decided = place.approvals.decide(RUN, PLAN, answer, "anna", "why")
        assert place.approvals.request_approval(RUN, PLAN, 600) == decided
        assert place.approvals.request_approval(RUN, OTHER, 600) == decided


class TestDeciding:
    def test_who_when_and_what_they_said_is_kept(self, place: Place) -> None:
        place.approvals.request_approval(RUN, PLAN, 600)
        place.clock.advance(60)
        decided = place.approvals.decide(RUN, PLAN, ApprovalDecision.APPROVED, "anna", "fine \U0001f44d\x00")
        assert decided is not None
        assert (decided.decision, decided.who, decided.remark) == (
            ApprovalDecision.APPROVED,
            "anna",
            "fine \U0001f44d\ufffd",
        )
        assert decided.decided_at == START + timedelta(seconds=60)
        assert place.approvals.find_approval(RUN) == decided

    def test_the_first_answer_stands(self, place: Place) -> None:
        place.approvals.request_approval(RUN, PLAN, 600)
        first = place.approvals.decide(RUN, PLAN, ApprovalDecision.REJECTED, "anna")
        assert place.approvals.decide(RUN, PLAN, ApprovalDecision.APPROVED, "carla") == first
        assert place.approvals.decide(RUN, PLAN, ApprovalDecision.EXPIRED, "") == first

    def test_another_plan_than_the_one_that_stands_is_not_decided_on(self, place: Place) -> None:
        asked = place.approvals.request_approval(RUN, PLAN, 600)
        assert place.approvals.decide(RUN, OTHER, ApprovalDecision.APPROVED, "anna") == asked

    def test_when_its_time_is_over_it_can_only_expire(self, place: Place) -> None:
        asked = place.approvals.request_approval(RUN, PLAN, 600)
        place.clock.advance(600)
        assert place.approvals.decide(RUN, PLAN, ApprovalDecision.APPROVED, "anna") == asked
        assert place.approvals.decide(RUN, PLAN, ApprovalDecision.REJECTED, "anna") == asked
        expired = place.approvals.decide(RUN, PLAN, ApprovalDecision.EXPIRED, "")
        assert expired is not None
        assert expired.decision is ApprovalDecision.EXPIRED

    def test_what_was_never_asked_can_not_be_decided(self, place: Place) -> None:
        assert place.approvals.decide(RUN, PLAN, ApprovalDecision.APPROVED, "anna") is None
        assert place.approvals.find_approval(RUN) is None

    def test_of_many_at_once_exactly_one_decides(self, place: Place) -> None:
        place.approvals.request_approval(RUN, PLAN, 600)
        people = [(f"person {n}", ApprovalDecision.APPROVED if n % 2 else ApprovalDecision.REJECTED) for n in range(12)]
        with ThreadPoolExecutor(len(people)) as pool:
            told = list(pool.map(lambda one: place.approvals.decide(RUN, PLAN, one[1], one[0]), people))
        standing = place.approvals.find_approval(RUN)
        assert standing is not None
        assert set(told) == {standing}
        assert (standing.who, standing.decision) in people


class TestWaiting:
    def test_what_can_still_be_decided_is_listed_the_most_urgent_first(self, place: Place) -> None:
        for run_id, seconds in (("late", 900), ("soon", 300), ("gone", 30), ("done", 600), ("over", 600)):
            place.begun(run_id)
            place.approvals.request_approval(run_id, PLAN, seconds)
        place.approvals.request_approval("never-saved", PLAN, 600)
        place.approvals.decide("done", PLAN, ApprovalDecision.APPROVED, "anna")
        place.begun("over", OperationState.NOT_STARTED)
        place.records.save(make.make_run(id="over", state=OperationState.SUCCEEDED))
        place.clock.advance(60)
        assert [each.run_id for each in place.approvals.find_pending_approvals()] == ["soon", "late"]

    def test_a_run_that_was_left_still_waits(self, place: Place) -> None:
        place.begun(RUN, OperationState.UNKNOWN)
        place.approvals.request_approval(RUN, PLAN, 600)
        assert [each.run_id for each in place.approvals.find_pending_approvals()] == [RUN]


def test_it_is_forgotten_with_its_run(place: Place) -> None:
    place.begun()
    place.approvals.request_approval(RUN, PLAN, 600)
    prune_history(place.records, make.at(1e6))
    assert place.approvals.find_approval(RUN) is None


def test_without_a_clock_of_ours_time_is_the_databases(place: Place) -> None:
    approvals = SqlApprovals(place.records.database)
    asked = approvals.request_approval(RUN, PLAN, 600)
    assert abs((asked.asked_at - SystemClock().now()).total_seconds()) < 60
    assert (asked.expires_at - asked.asked_at).total_seconds() == pytest.approx(600)
    decided = approvals.decide(RUN, PLAN, ApprovalDecision.APPROVED, "anna")
    assert decided is not None
    assert decided.decided_at is not None
    assert asked.asked_at <= decided.decided_at <= approvals.read_current_time()
