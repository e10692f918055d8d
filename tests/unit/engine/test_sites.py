"""A run contacts only machines of its own site, and says so of the others."""

from dataclasses import replace
from typing import Any

import pytest

from fleetpatch.cli.runtime.exit_codes import ExitCode, to_run_exit_code
from flows.prefect_api.tags import build_site_tag, use_tagged_site
from flows.request.read_requests import AssessRequest
from inventory.sites import SITE_VARIABLE, find_site, use_site
from tasks.domain.errors import RequestError
from tasks.domain.model import Outcome
from tasks.domain.protocols.leases import SetSlot
from tasks.domain.states import OperationState, RebootState
from tests.support import builders as make
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeRecords
from tests.support.fleet import SimFleet, outcome_of
from tests.support.mortal import Killed, Life
from tests.support.set_fleet import SetFleet


@pytest.fixture
def fleet() -> SimFleet:
    made = SimFleet()
    made.add("here", [FakePackage("a")])
    made.add("there", [FakePackage("a")], site="hamburg")
    return made


@pytest.mark.parametrize("act", ["patch", "assess"])
def test_a_machine_of_another_site_is_not_contacted_and_has_an_outcome(fleet: SimFleet, act: str) -> None:
    report = getattr(fleet, act)()

    there = outcome_of(report, "there")
    assert fleet.machines["there"].calls == []
    assert there.state is OperationState.NOT_STARTED
    assert "reached from the site hamburg only, and this process belongs to the site default" in there.reason
    assert outcome_of(report, "here").state is OperationState.SUCCEEDED
    assert to_run_exit_code(report) is ExitCode.WARNINGS  # nobody decided that it stays as it is
    assert report.run.site == "default"
    assert report.run.state is not OperationState.SUCCEEDED


def test_at_its_site_the_same_machine_is_patched_and_the_others_are_not(fleet: SimFleet) -> None:
    with use_site("hamburg"):
        report = fleet.patch()

    assert fleet.machines["here"].calls == []
    assert outcome_of(report, "here").state is OperationState.NOT_STARTED
    assert outcome_of(report, "there").state is OperationState.SUCCEEDED
    assert outcome_of(report, "there").reboot is RebootState.NOT_NEEDED
    assert report.run.site == "hamburg"


@pytest.mark.parametrize("kind", ["plan", "assess"])
def test_a_run_without_a_machine_of_its_site_says_so_of_each(fleet: SimFleet, kind: str) -> None:
    request: Any = AssessRequest(scope="there") if kind == "assess" else fleet.request(scope="there", dry_run=True)

    report = fleet.campaign(request).execute()

    assert [(outcome.machine, outcome.state) for outcome in report.outcomes] == [("there", OperationState.NOT_STARTED)]
    assert fleet.machines["there"].calls == []


def set_of_two_sites(allowed: int) -> SetFleet:
    made = SetFleet()
    made.add_members("web-1", "web-2")
    made.add_members("web-3", site="hamburg")
    made.add_set("web", "web-1", "web-2", "web-3", max_unavailable=allowed)
    return made


def test_a_member_of_another_site_counts_as_out_of_service_and_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow, wide = set_of_two_sites(1), set_of_two_sites(2)

    refused = outcome_of(narrow.run(narrow.request(minutes=60)), "web-1")
    report = wide.run(wide.request(minutes=60))

    assert refused.state is OperationState.NOT_STARTED
    assert "web-3 is not healthy: it is reached from the site hamburg only" in refused.reason
    assert narrow.story == []
    assert [outcome_of(report, name).state for name in ("web-1", "web-2")] == [OperationState.SUCCEEDED] * 2
    assert wide.story == ["drain web-1", "undrain web-1", "drain web-2", "undrain web-2"]  # one after the other
    assert narrow.machines["web-3"].calls == wide.machines["web-3"].calls == []


def test_the_limits_of_a_set_hold_for_the_runs_of_all_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = set_of_two_sites(2)
    fleet.records.save(make.make_run(id="other", state=OperationState.IN_PROGRESS, site="default"))
    slot = SetSlot("web", "web-1", "other", fleet.clock.now())
    fleet.slots.stored["web", "web-1"] = slot

    with use_site("hamburg"):
        refused = fleet.run(fleet.request(minutes=60, scope="web-3"), run_id="20260310-020000-bbbbbb")
        fleet.sets = (replace(fleet.sets[0], max_unavailable=3),)
        allowed = fleet.run(fleet.request(minutes=60, scope="web-3"))

    assert outcome_of(allowed, "web-3").state is OperationState.SUCCEEDED
    assert outcome_of(refused, "web-3").state is OperationState.NOT_STARTED
    assert "run other has web-1" in outcome_of(refused, "web-3").reason
    assert "web-2 is not healthy: it is reached from the site default only" in outcome_of(refused, "web-3").reason


def move(fleet: SimFleet, name: str, site: str) -> None:
    """Write another site for a machine into the inventory."""
    fleet.described = [replace(machine, site=site) if machine.name == name else machine for machine in fleet.described]


def remember_saved(saved: list[Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    """Collect each outcome that is saved from now on: the controller may die after any of them."""
    save = FakeRecords.save

    def remember(records: FakeRecords, item: Any) -> None:
        saved.extend([item] if isinstance(item, Outcome) else getattr(item, "outcomes", ()))
        save(records, item)

    monkeypatch.setattr(FakeRecords, "save", remember)


def break_off(fleet: SetFleet, machine: str) -> None:
    """Let the controller die while this machine installs."""
    life = Life()
    fleet.machines[machine].on_start("install", 5, lambda: setattr(life, "dead", True))
    with pytest.raises(Killed):
        fleet.run(fleet.request(), life=life)
    fleet.clock.advance(120)


def test_a_machine_that_moved_to_another_site_during_its_work_has_failed_and_is_not_unstarted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = SetFleet()
    fleet.add_members("web-1", "web-2")
    break_off(fleet, "web-1")
    calls = len(fleet.machines["web-1"].calls)
    move(fleet, "web-1", "hamburg")
    saved: list[Outcome] = []
    remember_saved(saved, monkeypatch)

    report = fleet.run(fleet.request(), again=True)

    assert len(fleet.machines["web-1"].calls) == calls  # not contacted from here
    outcome = outcome_of(report, "web-1")
    assert outcome.state is OperationState.FAILED
    assert "reached from the site hamburg only" in outcome.reason
    assert OperationState.NOT_STARTED not in {item.state for item in saved if item.machine == "web-1"}


def test_a_machine_that_moved_after_its_work_keeps_its_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = SetFleet()
    fleet.add_members("web-1", "web-2")
    break_off(fleet, "web-2")
    move(fleet, "web-1", "hamburg")
    saved: list[Outcome] = []
    remember_saved(saved, monkeypatch)

    report = fleet.run(fleet.request(), again=True)

    assert [outcome_of(report, name).state for name in ("web-1", "web-2")] == [OperationState.SUCCEEDED] * 2
    assert OperationState.NOT_STARTED not in {item.state for item in saved if item.machine == "web-1"}


def test_a_machine_that_moved_before_its_turn_fails_like_one_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = SetFleet()
    fleet.add_members("web-1", "web-2")
    break_off(fleet, "web-1")
    move(fleet, "web-2", "hamburg")
    calls = len(fleet.machines["web-2"].calls)

    report = fleet.run(fleet.request(), again=True)

    assert outcome_of(report, "web-1").state is OperationState.SUCCEEDED
    assert outcome_of(report, "web-2").state is OperationState.FAILED
    assert "reached from the site hamburg only" in outcome_of(report, "web-2").reason
    assert len(fleet.machines["web-2"].calls) == calls


def test_a_run_of_a_site_that_was_renamed_can_be_ended() -> None:
    fleet = SetFleet()
    fleet.add_members("web-1", site="hamburg")
    with use_site("hamburg"):
        break_off(fleet, "web-1")
    move(fleet, "web-1", "hh")
    calls = len(fleet.machines["web-1"].calls)

    with use_site("hamburg"):
        report = fleet.run(fleet.request(), again=True, finalize="its site has another name")

    assert report.run.state is OperationState.FAILED
    assert outcome_of(report, "web-1").state is OperationState.FAILED
    assert len(fleet.machines["web-1"].calls) == calls


def test_an_assessment_that_is_stopped_half_way_is_no_success(fleet: SimFleet) -> None:
    fleet.add("later", [FakePackage("a")])
    fleet.watch.on_step_finished = lambda *_: fleet.control.request_stop("Ctrl-C")  # type: ignore[method-assign]

    report = fleet.assess(scope="here|later")

    assert outcome_of(report, "here").state is OperationState.SUCCEEDED
    assert outcome_of(report, "later").state is OperationState.NOT_STARTED
    assert to_run_exit_code(report, was_stopped=True) is ExitCode.INTERRUPTED


def test_a_flow_run_uses_the_site_of_its_tags_and_a_worker_of_one_site_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    south, north = build_site_tag("south"), build_site_tag("north")
    monkeypatch.delenv(SITE_VARIABLE, raising=False)
    with use_tagged_site(["fleetpatch", south]):
        assert find_site() == "south"
    with pytest.raises(RequestError, match="tags of several sites: north, south"), use_tagged_site([south, north]):
        pytest.fail("it has two sites")
    monkeypatch.setenv(SITE_VARIABLE, "north")
    for tags in (["fleetpatch"], [north]):
        with use_tagged_site(tags):
            assert find_site() == "north"
    refusal = "belongs to the site south, and this worker to the site north"
    with pytest.raises(RequestError, match=refusal), use_tagged_site([south]):
        pytest.fail("its worker is at another site")
