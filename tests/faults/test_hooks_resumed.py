"""Hooks of a run that is taken up again: none runs twice unless it may, and what was drained is undrained."""

from collections import Counter
from typing import Any

import pytest

from flows.ports.ports import GateDecision
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.states import NotificationOccasion, OperationState, Step, UpdateState
from tasks.steps.context.journal import UNLOCK_ACT
from tests.support.fleet import SimFleet, outcome_of, result_of
from tests.support.mortal import Killed, Life
from tests.unit.engine.hook_stage import RUN, Owner, asked_for, every_place, hook, run, small_fleet

OPEN = {OperationState.IN_PROGRESS, OperationState.UNKNOWN}


def killed_at(number: int, *, after_the_act: bool, repeatable: bool = False) -> tuple[SimFleet, Owner]:
    fleet = small_fleet()
    owner = Owner(fleet)
    hooks = every_place("machine-command")
    if repeatable:
        hooks = {place: [{**each, "repeatable": True} for each in asked] for place, asked in hooks.items()}
    with pytest.raises(Killed):
        run(owner, asked_for(fleet, hooks), life=Life(dies_at=number, after_the_act=after_the_act))
    fleet.clock.advance(60)
    return fleet, owner


def calls() -> int:
    life, fleet = Life(), small_fleet()
    run(Owner(fleet), asked_for(fleet, every_place("machine-command")), life=life)
    return life.calls


CALLS = calls()


def open_still(fleet: SimFleet) -> bool:
    return RUN in fleet.records.runs and fleet.records.runs[RUN].state in OPEN


@pytest.mark.parametrize("dies_at", range(1, CALLS + 1))
def test_killed_at_any_call_no_hook_runs_twice(dies_at: int) -> None:
    fleet, owner = killed_at(dies_at, after_the_act=bool(dies_at % 2))
    if not open_still(fleet):
        return

    report = run(owner, asked_for(fleet, {}), again=True)

    times = Counter(each for each in owner.asked if each != "gate")
    assert max(times.values(), default=0) <= 1, times
    assert Counter(outcome.machine for outcome in report.outcomes) == Counter(["first", "second"])
    results = Counter((r.hook.place, r.hook.name, r.subject) for r in report.hooks)
    assert max(results.values(), default=0) <= 1
    for name in fleet.machines:
        if f"before_machine/before_machine/{name}" in owner.asked:  # whatever was drained is undrained, or told of
            (result,) = [r for r in report.hooks if r.subject == name and r.hook.name == "after_machine"]
            assert result.succeeded or "whether it ran is not known" in result.message
    for result in report.hooks:
        ran = f"{result.hook.place}/{result.hook.name}/{result.subject}" in owner.asked
        assert ran or "whether it ran is not known" in result.message


@pytest.mark.parametrize("dies_at", range(3, CALLS + 1, 4))
def test_a_killed_run_with_repeatable_hooks_succeeds(dies_at: int) -> None:
    fleet, owner = killed_at(dies_at, after_the_act=True, repeatable=True)
    if not open_still(fleet):
        return

    report = run(owner, asked_for(fleet, {}), again=True)

    assert report.run.state is OperationState.SUCCEEDED
    assert max(Counter(each for each in owner.asked if each != "gate").values()) <= 2
    assert len(report.hooks) == 10
    for name in fleet.machines:
        assert result_of(outcome_of(report, name), "a").state is UpdateState.INSTALLED


def begun_and_lost(fleet: SimFleet, place: str, name: str, subject: str, **more: Any) -> Owner:
    """A run that died between a hook's begin and its end."""
    owner = Owner(fleet)
    hooks = {place: [hook(name, **more)]}
    life = Life()
    owner.does[name] = lambda: setattr(life, "dead", True)
    with pytest.raises(Killed):
        run(owner, asked_for(fleet, hooks), life=life)
    assert [(e.mark, e.key) for e in fleet.records.journal if e.act == "hook"] == [
        (JournalMark.BEFORE, f"{place}/{name}/{subject}")
    ]
    owner.does.clear()
    owner.asked.clear()
    return owner


@pytest.mark.parametrize(
    ("mode", "state"),
    [
        ("must_succeed", OperationState.FAILED),
        ("warn", OperationState.COMPLETED_WITH_WARNINGS),
        ("ignore", OperationState.SUCCEEDED),
    ],
)
@pytest.mark.parametrize(
    ("place", "subject"),
    [
        ("before_run", "run"),
        ("before_wave", "wave 1"),
        ("before_machine", "first"),
        ("after_machine", "first"),
        ("after_wave", "wave 1"),
        ("after_run", "run"),
    ],
)
def test_a_hook_with_an_unknown_result_counts_as_failed(
    place: str, subject: str, mode: str, state: OperationState
) -> None:
    fleet = small_fleet("first")
    owner = begun_and_lost(fleet, place, "h", subject, mode=mode)

    report = run(owner, asked_for(fleet, {}), again=True)

    assert f"{place}/h/{subject}" not in owner.asked
    assert report.run.state is state
    (result,) = report.hooks
    assert "whether it ran is not known" in result.message
    stopped = mode == "must_succeed" and place.startswith("before")
    assert bool(fleet.machines["first"].installs()) is not stopped


@pytest.mark.parametrize("place", ["before_run", "before_wave", "before_machine", "after_machine", "after_run"])
def test_a_deployment_hook_is_requested_again_because_prefect_knows_it(place: str) -> None:
    subjects = {"before_run": "run", "after_run": "run", "before_wave": "wave 1"}
    fleet = small_fleet("first")
    owner = begun_and_lost(fleet, place, "h", subjects.get(place, "first"), kind="deployment")

    report = run(owner, asked_for(fleet, {}), again=True)

    assert f"{place}/h/{subjects.get(place, 'first')}" in owner.asked
    assert report.run.state is OperationState.SUCCEEDED


def test_approval_is_checked_again_and_no_message_is_sent_twice() -> None:
    fleet, owner = killed_at(CALLS - 5, after_the_act=True)
    assert owner.told == [NotificationOccasion.PLANNED, NotificationOccasion.STARTED]

    run(owner, asked_for(fleet, {}), again=True)

    assert len(owner.gates) == 2
    assert owner.told == [NotificationOccasion.PLANNED, NotificationOccasion.STARTED, NotificationOccasion.FINISHED]


def test_a_refusal_of_a_resumed_run_leaves_nothing_half_done() -> None:
    fleet = small_fleet()
    owner = Owner(fleet)
    hooks = {"before_machine": [hook("drain")], "after_machine": [hook("undrain")]}
    life = Life()
    fleet.machines["first"].on_start("install", 3, lambda: setattr(life, "dead", True))
    with pytest.raises(Killed):
        run(owner, asked_for(fleet, hooks), life=life)
    owner.decision = GateDecision(refusal="a freeze began")
    fleet.clock.advance(60)

    report = run(owner, asked_for(fleet, {}), again=True)

    assert result_of(outcome_of(report, "first"), "a").state is UpdateState.INSTALLED
    assert owner.asked[-1] == "after_machine/undrain/first"
    assert outcome_of(report, "second").state is OperationState.NOT_STARTED
    assert "a freeze began" in outcome_of(report, "second").reason
    assert not fleet.machines["second"].jobs()


def test_a_drained_machine_whose_window_is_over_is_undrained() -> None:
    fleet = small_fleet()
    owner = Owner(fleet)
    hooks = {"before_machine": [hook("drain")], "after_machine": [hook("undrain")]}
    life = Life()
    owner.does["drain"] = lambda: setattr(life, "dies_at", life.calls + 2)
    with pytest.raises(Killed):
        run(owner, asked_for(fleet, hooks, stage=False), life=life)
    assert owner.asked == ["gate", "before_machine/drain/first"]
    assert not fleet.machines["first"].installs()
    fleet.clock.advance(24 * 3600)

    report = run(owner, asked_for(fleet, {}), again=True)

    assert owner.asked[-1] == "after_machine/undrain/first"
    assert outcome_of(report, "first").state is OperationState.NOT_STARTED
    assert not fleet.machines["first"].installs()


def test_an_unreadable_journal_is_an_error() -> None:
    fleet = small_fleet("first")
    owner = begun_and_lost(fleet, "before_run", "h", "run")
    (before,) = [entry for entry in fleet.records.journal if entry.act == "hook"]
    detail: dict[str, object] = {"succeeded": "perhaps"}
    fleet.records.journal.append(
        JournalEntry(before.run_id, "", before.step, JournalMark.AFTER, "hook", before.key, before.at, detail)
    )

    with pytest.raises(Exception, match="can't be understood"):
        run(owner, asked_for(fleet, {}), again=True)


def test_a_lock_that_was_removed_meanwhile_is_not_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = small_fleet()
    owner = Owner(fleet)

    def dies(*_: object) -> GateDecision:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, "gate", dies)
        with pytest.raises(Killed):
            run(owner, asked_for(fleet, every_place()))
    now = fleet.clock.now()
    fleet.records.append_entry(
        JournalEntry(RUN, "first", Step.PRECHECK, JournalMark.AFTER, UNLOCK_ACT, "by-anne", now, {})
    )

    run(owner, asked_for(fleet, every_place()), again=True)

    assert NotificationOccasion.STARTED in owner.told
    assert owner.asked[:2] == ["gate", "before_run/before_run/run"]
