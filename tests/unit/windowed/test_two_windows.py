"""A machine in two windows at once is patched by one of them; the other leaves it alone, and nothing has failed."""

from tasks.domain.states import OperationState, UpdateState
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of


def test_the_second_run_leaves_it_alone_and_says_who_has_it() -> None:
    fleet = SimFleet()
    web, db = fleet.add("web", [FakePackage("a")]), fleet.add("db", [FakePackage("a")])
    web.locked_by = ("run-1", "the schedule of nights", fleet.clock.now().timestamp() + 3600)

    report = fleet.patch(waves={"failure_budget_count": 0})

    left = outcome_of(report, "web")
    assert left.state is OperationState.NOT_STARTED
    assert "locked by run run-1 (the schedule of nights) until" in left.reason
    assert {result.state for result in left.updates} == {UpdateState.NOT_ATTEMPTED}
    assert web.world.whole() == {"a": "1.0"}
    assert web.locked_by[0] == "run-1"
    assert outcome_of(report, "db").state is OperationState.SUCCEEDED
    assert db.world.whole() == {"a": "2.0"}
    assert report.run.state is OperationState.COMPLETED_WITH_WARNINGS


def test_a_machine_with_a_fault_of_its_own_has_failed_all_the_same() -> None:
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("a")])
    web.free_kib = 1
    web.locked_by = ("run-1", "the schedule of nights", fleet.clock.now().timestamp() + 3600)

    assert outcome_of(fleet.patch(), "web").state is OperationState.FAILED


def test_one_that_can_not_be_claimed_has_failed() -> None:
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("a")])
    web.answer("machine_lock", {"kind": "refused", "why": "read-only file system"})

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.FAILED
    assert "can't be locked: read-only file system" in outcome.reason
