"""For whom a rehearsal stands, and what its result means."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.machine import Check, CheckKind, MachineSet
from tasks.domain.model import (
    DurationPrediction,
    Finding,
    InstallResult,
    MachinePlan,
    Outcome,
    RebootResult,
    UpdateResult,
)
from tasks.domain.states import FindingLevel, OperationState, RebootState, UpdateState
from tasks.rules.rehearsal import (
    Rehearsal,
    RehearsalGroup,
    RehearsalVerdict,
    apply_to_plan,
    choose_groups,
    choose_measure,
    describe_rehearsal,
    explain_no_start,
    judge_copy,
    select_copy_checks,
)
from tests.support.fake_packages import FakePackage

NAMES = [f"m{number}" for number in range(8)]
UPDATES = [FakePackage(name).update() for name in ("curl", "openssl", "kernel")]


def plan(name: str = "m0", count: int = 2) -> MachinePlan:
    return MachinePlan(name, tuple(UPDATES[:count]), (), DurationPrediction(install=60))


def outcome(**fields: object) -> Outcome:
    results = tuple(UpdateResult(update, UpdateState.INSTALLED) for update in UPDATES[:2])
    good = Outcome("r", "m0", OperationState.SUCCEEDED, "2 updates installed", results, RebootState.COMPLETED)
    return replace(good, **{"install": InstallResult(results), **fields})  # type: ignore[arg-type]


@given(
    with_work=st.lists(st.sampled_from(NAMES), unique=True),
    members=st.lists(st.lists(st.sampled_from(NAMES), min_size=1, unique=True), max_size=4),
    with_provider=st.sets(st.sampled_from(NAMES)),
)
def test_each_machine_with_work_has_one_machine_that_stands_for_it(
    with_work: Sequence[str], members: Sequence[Sequence[str]], with_provider: set[str]
) -> None:
    sets = [MachineSet(f"s{number}", "*", tuple(names)) for number, names in enumerate(members)]
    plans = {name: plan(name, 2 if name in with_work else 0) for name in [*with_work, *sorted({*NAMES} - {*with_work})]}
    groups = choose_groups(plans, sets, with_provider)
    assert sorted(name for group in groups for name in group.stands_for) == sorted(with_work)
    for group in groups:
        assert group.machine in group.stands_for
        assert group.machine in with_provider or not with_provider.intersection(group.stands_for)
        if len(group.stands_for) > 1:
            assert any(set(group.stands_for) <= set(names) for names in members)
    first_sets = {name: next((one.name for one in sets if name in one.members), "") for name in with_work}
    together = {first_sets[name]: group for group in groups for name in group.stands_for if first_sets[name]}
    for name, set_name in first_sets.items():
        assert not set_name or name in together[set_name].stands_for


def test_a_machine_that_its_pre_check_would_refuse_is_not_copied() -> None:
    refused = replace(plan("m1"), refusals=(Finding("disk", FindingLevel.BLOCK, "full"),))
    assert [group.machine for group in choose_groups({"m0": plan(), "m1": refused}, (), ())] == ["m0"]


NOT_GOT = (UpdateResult(UPDATES[0], UpdateState.INSTALLED), UpdateResult(UPDATES[1], UpdateState.NOT_ATTEMPTED, "time"))


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({}, RehearsalVerdict.PASSED),
        ({"state": OperationState.COMPLETED_WITH_WARNINGS, "reason": "a service"}, RehearsalVerdict.PASSED),
        ({"state": OperationState.FAILED, "reason": "a probe"}, RehearsalVerdict.FAILED),
        ({"state": OperationState.UNKNOWN}, RehearsalVerdict.FAILED),
        ({"state": OperationState.FAILED, "install": None}, RehearsalVerdict.NOT_POSSIBLE),
        ({"state": OperationState.SUCCEEDED, "install": None}, RehearsalVerdict.NOT_POSSIBLE),
        ({"state": OperationState.NOT_STARTED, "install": None}, RehearsalVerdict.NOT_POSSIBLE),
        ({"updates": NOT_GOT}, RehearsalVerdict.NOT_POSSIBLE),
        ({"reboot": RebootState.REQUIRED}, RehearsalVerdict.NOT_POSSIBLE),
        (
            {
                "state": OperationState.FAILED,
                "install": None,
                "reboot_result": RebootResult(RebootState.FAILED, count=1),
            },
            RehearsalVerdict.FAILED,
        ),
    ],
)
def test_only_what_was_seen_on_a_copy_is_known(fields: dict[str, object], verdict: RehearsalVerdict) -> None:
    assert judge_copy(outcome(**fields), plan())[0] is verdict


def rehearsal(verdict: RehearsalVerdict, count: int = 2) -> Rehearsal:
    passed = verdict is RehearsalVerdict.PASSED
    updates = tuple((update.id, update.available) for update in UPDATES[:count])
    measured = DurationPrediction(install=5, reboot=7, basis="rehearsed") if passed else None
    return Rehearsal(
        RehearsalGroup("m0", ("m0", "m1")), verdict, "" if passed else "why", updates if passed else (), measured
    )


@pytest.mark.parametrize("is_required", [True, False])
@pytest.mark.parametrize("verdict", list(RehearsalVerdict))
def test_a_machine_begins_only_after_what_it_needs(verdict: RehearsalVerdict, is_required: bool) -> None:
    reason = explain_no_start(rehearsal(verdict), plan("m1"), is_required=is_required)
    begins = verdict is RehearsalVerdict.PASSED or (verdict is RehearsalVerdict.NOT_POSSIBLE and not is_required)
    assert (reason == "") is begins
    assert begins or ("copy of m0" in reason and "why" in reason)


def test_an_update_that_no_copy_had_is_not_rehearsed() -> None:
    passed = rehearsal(RehearsalVerdict.PASSED)
    larger = plan("m1", 3)
    assert "without kernel" in explain_no_start(passed, larger, is_required=True)
    assert apply_to_plan(passed, larger) == larger
    assert apply_to_plan(passed, plan("m0")).prediction == passed.prediction
    assert apply_to_plan(rehearsal(RehearsalVerdict.FAILED), plan()) == plan()


seconds = st.floats(0, 5000)
predictions = st.builds(
    DurationPrediction, seconds, seconds, seconds, seconds, st.sampled_from(["defaults", "learned"])
)


@given(own=predictions, measured=predictions, name=st.sampled_from(["m0", "m1"]))
def test_no_phase_gets_shorter_than_what_is_known_of_a_machine(
    own: DurationPrediction, measured: DurationPrediction, name: str
) -> None:
    passed = replace(rehearsal(RehearsalVerdict.PASSED), prediction=replace(measured, basis="rehearsed"))
    before = replace(plan(name), prediction=own)
    after = apply_to_plan(passed, before)
    if name == "m0" and own.basis == "defaults":  # its own copy says more than a guess
        assert after.prediction == passed.prediction
        return
    for phase in ("stage", "install", "reboot", "validate"):
        expected = max(getattr(own, phase), getattr(measured, phase))
        assert getattr(after.prediction, phase) == expected
    assert apply_to_plan(passed, after) == after, "a resumed run does it again"


positive = st.floats(0.001, 1e6)


@given(
    measure=st.sampled_from(["reboot_seconds", "install_seconds_per_update", "download_bytes_per_second"]),
    rehearsed=positive,
    learned=st.none() | positive,
    usual=st.none() | positive,
)
def test_a_rehearsal_makes_no_machine_faster_than_it_was_or_others_than_usual(
    measure: str, rehearsed: float, learned: float | None, usual: float | None
) -> None:
    sign = -1 if measure == "download_bytes_per_second" else 1
    chosen = choose_measure(measure, rehearsed, learned, usual)
    before = usual if learned is None else learned
    counts = usual if chosen is None else chosen
    if before is None:  # nothing was learned, and it was a copy of the machine itself
        assert counts == rehearsed
        return
    assert counts is not None
    assert sign * counts == max(sign * rehearsed, sign * before)


def test_the_note_names_all_that_matters() -> None:
    note = describe_rehearsal(replace(rehearsal(RehearsalVerdict.PASSED), reboots=1, notes=("crash-consistent copy",)))
    assert note == (
        "rehearsal on a copy of m0, for m1 too: passed; 2 updates in 0.2 minutes, 1 reboot; crash-consistent copy"
    )
    failed = describe_rehearsal(rehearsal(RehearsalVerdict.FAILED))
    assert failed == "rehearsal on a copy of m0, for m1 too: failed: why"


def test_checks_from_the_controller_are_left_out_by_name() -> None:
    checks = [
        Check("a", CheckKind.COMMAND, "true"),
        Check("b", CheckKind.TCP, "1"),
        Check("c", CheckKind.HTTP, "http://x"),
    ]
    kept, left_out = select_copy_checks(checks)
    assert ([check.name for check in kept], left_out) == (["a"], ("b", "c"))
