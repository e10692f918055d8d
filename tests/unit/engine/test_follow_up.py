"""What is offered only since others are installed: another round of the same run, or a warning that names it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tasks.domain.errors import RepositoryError
from tasks.domain.model import Outcome, PinnedUpdates
from tasks.domain.protocols.transport import Script
from tasks.domain.states import OperationState, RebootState, Step, UpdateState
from tests.support.fake_manager import FakeManager
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of
from tests.support.mortal import Killed, Life, choose_calls
from tests.support.sim_machine import SimMachine
from tests.support.taking_up import begin, resume


def make_fleet() -> SimFleet:
    manager = FakeManager()
    manager.offers_more_later = True
    return SimFleet(manager=manager)


@pytest.fixture
def fleet() -> SimFleet:
    return make_fleet()


def add_chain(fleet: SimFleet, **changes: Any) -> SimMachine:
    """Add a machine whose second update appears after the first one, and the third one after the second."""
    second = {"asks_reboot": True, "requires_reboot": True, **changes}
    packages = (
        FakePackage("a", seconds=60, requires_reboot=False),
        FakePackage("b", seconds=60, appears_after="a", **second),
        FakePackage("c", appears_after="b"),
    )
    return fleet.add("web", packages)


def installs(web: SimMachine) -> list[str]:
    return [job.id for job in web.jobs() if "-install-" in job.id]


def states(outcome: Outcome) -> Mapping[str, UpdateState]:
    return {result.update.id: result.state for result in outcome.updates}


def test_it_is_installed_in_a_second_round_and_what_comes_after_that_is_named(fleet: SimFleet) -> None:
    web = add_chain(fleet)

    report = fleet.patch()

    outcome = outcome_of(report, "web")
    assert states(outcome) == {"a": UpdateState.INSTALLED, "b": UpdateState.INSTALLED}
    assert (outcome.reboot, web.boots.count) == (RebootState.COMPLETED, 1)
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert "offered only now, and not installed: c: a run has at most 2 rounds" in outcome.reason
    assert [record.step for record in outcome.steps].count(Step.INSTALL) == 2
    assert outcome.install is not None
    assert [transaction.number for transaction in outcome.install.transactions] == [0, 1]
    (plan,) = report.plans
    assert [update.id for update in plan.chosen] == ["a", "b"]
    assert "in a second round: b" in plan.notes[-1]


@pytest.mark.parametrize(
    ("request_fields", "why"),
    [
        ({"approval": {"required": True}}, "the approved plan does not have them"),
        ({"max_reboots": 0}, "0 of 0 allowed reboots are used up"),
        ({"minutes": 19}, "no time left"),
    ],
)
def test_it_is_named_where_it_may_not_be_installed(fleet: SimFleet, request_fields: dict[str, Any], why: str) -> None:
    web = add_chain(fleet)

    outcome = outcome_of(fleet.patch(**request_fields), "web")

    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert "offered only now, and not installed: b: " in outcome.reason
    assert why in outcome.reason
    assert (states(outcome), len(installs(web))) == ({"a": UpdateState.INSTALLED}, 1)


def test_only_what_is_pinned_is_installed_in_a_second_round(fleet: SimFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    add_chain(fleet)
    fleet.add("db", (FakePackage("a"), FakePackage("x", appears_after="a")))
    pinned = PinnedUpdates("20260301-010000-bbbbbb", frozenset({("a", "2.0"), ("b", "2.0"), ("c", "2.0")}))
    campaign = fleet.ports()
    monkeypatch.setattr(fleet, "ports", lambda: replace(campaign, find_pinned_updates=lambda run: pinned))

    report = fleet.patch(updates={"as_in_run": pinned.run_id})

    assert states(outcome_of(report, "web"))["b"] is UpdateState.INSTALLED
    db = outcome_of(report, "db")
    assert states(db) == {"a": UpdateState.INSTALLED}
    assert f"not installed: x: run {pinned.run_id} has not installed them" in db.reason


def test_a_round_that_failed_is_followed_by_no_other_one(fleet: SimFleet) -> None:
    web = fleet.add("web", (FakePackage("a"), FakePackage("bad", fails="no"), FakePackage("b", appears_after="a")))

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.FAILED
    assert web.world.whole()["b"] == "1.0"
    (finding,) = [each for each in outcome.findings if each.check == "newly offered"]
    assert "not installed: b: the installation of bad has failed" in finding.message


def test_an_update_that_was_installed_and_is_offered_again_is_installed_once(fleet: SimFleet) -> None:
    web = fleet.add("web", (FakePackage("a"), FakePackage("b", appears_after="a", ignored=True)))

    outcome = outcome_of(fleet.patch(), "web")

    assert (states(outcome)["b"], outcome.state) == (UpdateState.FAILED, OperationState.FAILED)
    assert len(installs(web)) == 2


@pytest.mark.parametrize(("failures", "is_told"), [(1, False), (2, True)])
def test_a_server_that_can_not_be_asked_again_is_told(fleet: SimFleet, failures: int, is_told: bool) -> None:
    web = add_chain(fleet)
    assess = web.world._assess
    failed: list[Script] = []

    def answer(script: Script) -> Any:
        if web.world.whole()["a"] == "2.0" and script.params["refresh"] and len(failed) < failures:
            failed.append(script)
            raise RepositoryError("the server is away", hint="Look at it.")
        return assess(script)

    web.answer("fake_assess", answer)

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    said = "whether more is offered since the installation is not known: the server is away"
    assert (said in outcome.reason, len(installs(web))) == (is_told, 1 if is_told else 2)


def count_calls(*, first_reboots: bool) -> int:
    """Count the calls of a run before it is over."""
    fleet, life = make_fleet(), Life()
    add_chain(fleet).world.shelf["a"].asks_reboot = first_reboots
    begin(fleet, fleet.request(), life)
    return life.calls - 1  # the last one gives its lease back


@pytest.mark.parametrize(
    ("dies_at", "first_reboots"),
    [
        *((call, False) for call in choose_calls(count_calls(first_reboots=False), 8)),
        *((call, True) for call in choose_calls(count_calls(first_reboots=True), 60)),
    ],
)
def test_a_run_that_dies_anywhere_installs_each_update_once(fleet: SimFleet, dies_at: int, first_reboots: bool) -> None:
    web = add_chain(fleet)
    web.world.shelf["a"].asks_reboot = first_reboots
    try:
        outcome = outcome_of(begin(fleet, fleet.request(), Life(dies_at=dies_at)), "web")
    except Killed:
        fleet.clock.advance(30)
        outcome = outcome_of(resume(fleet), "web")

    assert states(outcome) == {"a": UpdateState.INSTALLED, "b": UpdateState.INSTALLED}, outcome.reason
    assert (outcome.reboot, web.boots.count) == (RebootState.COMPLETED, 2 if first_reboots else 1)
    assert len(set(installs(web))) == 2
    assert web.world.whole() == {"a": "2.0", "b": "2.0", "c": "1.0"}
