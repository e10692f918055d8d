from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.engine.failure_counter import FailureCounter
from flows.engine.health_counter import HealthCounter
from tasks.domain.errors import (
    AuthenticationFailed,
    HostKeyMismatch,
    LoginBroken,
    PrivilegeError,
    ScriptFailed,
    Unreachable,
)
from tasks.domain.model import ErrorInfo, Finding, InstallResult, Outcome, RebootResult, StepRecord, Wave
from tasks.domain.states import OperationState, RebootState, Step, UpdateState
from tasks.reports.formatting import format_count
from tasks.rules.machine_checks.services import SERVICE_RESTART_CHECK
from tasks.rules.runs.failure_budget import (
    FailureBudget,
    OutcomeClass,
    OutcomeTally,
    check_canary_wave,
    check_failures,
    check_unreachable,
    classify_outcome,
    compute_share,
)
from tasks.rules.runs.waves import WavePolicy
from tests.support.builders import at, make_update_result

FAILED, LOST, GOOD = OutcomeClass.FAILED, OutcomeClass.UNREACHABLE, OutcomeClass.PATCHED


def tally(machines, failed=0, lost=0):
    return OutcomeTally(machines, Counter({FAILED: failed, LOST: lost}))


@pytest.mark.parametrize(
    ("budget", "machines", "allowed"),
    [
        (WavePolicy().budget, 5, 1),
        (WavePolicy().budget, 4, 0),
        (WavePolicy().budget, 9, 1),
        (WavePolicy().budget, 5000, 1000),
        (FailureBudget(percent=0.0), 900, 0),
        (FailureBudget(percent=100.0), 7, 7),
        (FailureBudget(percent=29.999999999999996), 10, 3),
        (FailureBudget(count=2), 900, 2),
        (FailureBudget(count=0), 900, 0),
        (FailureBudget(count=9, percent=10.0), 10, 1),
        (FailureBudget(count=1, percent=50.0), 10, 1),
    ],
)
def test_so_many_of_the_runs_machines_may_fail(budget, machines, allowed):
    elsewhere = tally(0)
    assert not check_failures(budget, tally(machines, allowed), elsewhere)
    assert allowed == machines or check_failures(budget, tally(machines, allowed + 1), elsewhere)


@pytest.mark.parametrize(
    ("machines", "canary", "allowed"),
    [(1000, False, 200), (10, False, 2), (4, False, 1), (1, False, 1), (10, True, 2), (4, True, 0), (1, True, 0)],
)
def test_so_many_of_a_waves_machines_may_fail(machines, canary, allowed):
    run, budget = 10_000, FailureBudget(percent=20.0, go_on_after_failed_canary=True)
    assert not check_failures(budget, tally(run, allowed), tally(machines, allowed), canary=canary)
    if allowed < machines:
        assert check_failures(budget, tally(run, allowed + 1), tally(machines, allowed + 1), canary=canary)


def test_a_count_is_of_the_run_alone():
    assert not check_failures(FailureBudget(count=3), tally(9, 3), tally(3, 3))
    unstopped = FailureBudget(count=3, go_on_after_failed_canary=True)
    assert not check_failures(unstopped, tally(9, 3), tally(3, 3), canary=True)


limits = st.builds(
    FailureBudget,
    count=st.one_of(st.none(), st.integers(0, 10_000)),
    percent=st.one_of(st.none(), st.floats(0, 100)),
    unreachable_percent=st.floats(0, 100),
    go_on_after_failed_canary=st.booleans(),
)


@given(limits, st.integers(1, 500), st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_a_failed_canary_is_too_many_whatever_the_budget_is(budget, canaries, others, failed, lost):
    failed, lost = min(failed, canaries), min(lost, canaries - min(failed, canaries))
    here, run = tally(canaries, failed, lost), tally(canaries + others, failed, lost)

    why = check_failures(budget, run, here, number=2, canary=True)

    if budget.go_on_after_failed_canary:
        assert bool(why) >= bool(check_failures(budget, run, here, number=2)), "a canary wave has no larger budget"
    else:
        assert bool(why) is bool(failed)
        assert (
            not failed or f"{failed} of {format_count(canaries, 'machine')} of canary wave 2 failed, 0 may fail" in why
        )


@given(limits, st.integers(1, 500), st.integers(0, 500))
def test_what_canaries_do_changes_nothing_for_other_waves(budget, machines, failed):
    here, run = tally(machines, min(failed, machines)), tally(1000, min(failed, machines))
    plain = FailureBudget(budget.count, budget.percent, budget.unreachable_percent)
    assert check_failures(budget, run, here) == check_failures(plain, run, here)


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 1000))
def test_the_percentage_has_to_be_exceeded(machines, failed, tenths):
    """As Ansible's max_fail_percentage: reaching it is allowed."""
    exceeded = Fraction(failed) > Fraction(machines * tenths, 1000)
    percent = tenths / 10
    assert bool(check_failures(FailureBudget(percent=percent), tally(machines, failed), tally(0))) is exceeded
    lost = tally(machines, lost=failed)
    assert bool(check_unreachable(FailureBudget(unreachable_percent=percent), lost)) is exceeded


@given(st.integers(0, 10_000), st.floats(0, 100))
def test_a_share_is_never_more_than_all_and_grows_with_them(machines, percent):
    assert 0 <= compute_share(machines, percent) <= compute_share(machines + 1, percent) <= machines + 1


def test_the_figures_are_told():
    budget = FailureBudget(percent=20.0, unreachable_percent=50.0)
    assert check_failures(budget, tally(10, 3), tally(4)) == "3 of 10 machines failed, 2 may fail (20 %)"
    assert check_failures(budget, tally(100, 5), tally(20, 5), number=3) == (
        "5 of 20 machines of wave 3 failed, 4 may fail (20 %)"
    )
    assert check_failures(FailureBudget(count=0), tally(5, 1), tally(1)) == "1 of 5 machines failed, 0 may fail"
    assert check_unreachable(budget, tally(9, lost=5)) == "5 of 9 machines can't be reached, 4 may be missing (50 %)"


def outcome(state=OperationState.FAILED, error=Unreachable, steps=(Step.ASSESS,), name="a"):
    records = tuple(StepRecord(step, at(0), at(1), OperationState.SUCCEEDED) for step in steps)
    info = None if error is None else ErrorInfo(error.__name__, "no")
    return Outcome("run", name, state, "", steps=records, error=info)


def patched(state=OperationState.SUCCEEDED, name="a"):
    return replace(outcome(state, None, name=name), install=InstallResult((make_update_result(),)))


REBOOTED = replace(
    outcome(OperationState.SUCCEEDED, None), reboot_result=RebootResult(RebootState.COMPLETED, "", count=1)
)


@pytest.mark.parametrize(
    ("given_outcome", "verdict"),
    [
        (outcome(OperationState.SUCCEEDED, None), OutcomeClass.UNCHANGED),
        (outcome(OperationState.COMPLETED_WITH_WARNINGS, None), OutcomeClass.UNCHANGED),
        (patched(OperationState.SUCCEEDED), GOOD),
        (patched(OperationState.COMPLETED_WITH_WARNINGS), GOOD),
        (replace(outcome(error=None), reboot_result=RebootResult(RebootState.COMPLETED, "", count=1)), FAILED),
        (REBOOTED, GOOD),
        (outcome(error=LoginBroken, steps=(Step.ASSESS, Step.INSTALL)), FAILED),
        (outcome(OperationState.NOT_STARTED, None), OutcomeClass.NOT_STARTED),
        (outcome(OperationState.UNKNOWN, None, ()), FAILED),
        (outcome(OperationState.FAILED, None), FAILED),
        (outcome(error=Unreachable), LOST),
        (outcome(error=Unreachable, steps=(Step.ASSESS, Step.ASSESS, Step.PRECHECK)), LOST),
        (outcome(error=AuthenticationFailed), LOST),
        (outcome(error=HostKeyMismatch), LOST),
        (outcome(error=PrivilegeError), FAILED),
        (outcome(error=ScriptFailed), FAILED),
        (outcome(error=Unreachable, steps=(Step.ASSESS, Step.PRECHECK, Step.REBOOT)), FAILED),
        (outcome(error=Unreachable, steps=(Step.ASSESS, Step.PRECHECK, Step.INSTALL)), FAILED),
    ],
)
def test_what_a_machine_means_for_the_budget(given_outcome, verdict):
    assert classify_outcome(given_outcome) is verdict


RESTARTED = Finding.good(SERVICE_RESTART_CHECK, "restarted: nginx.service")


def left(state, **install):
    """Return the outcome of a machine that was to install an update."""
    results = (make_update_result(state=state),)
    whole = OperationState.COMPLETED_WITH_WARNINGS
    return Outcome("run", "a", whole, "", updates=results, install=InstallResult(results, **install))


@pytest.mark.parametrize(
    ("given_outcome", "only_downloads", "verdict"),
    [
        (left(UpdateState.NOT_ATTEMPTED), False, OutcomeClass.NOT_STARTED),
        (left(UpdateState.NOT_ATTEMPTED, staged_seconds=3.0), False, OutcomeClass.NOT_STARTED),
        (left(UpdateState.NOT_ATTEMPTED, staged_seconds=3.0), True, GOOD),
        (left(UpdateState.NOT_ATTEMPTED), True, OutcomeClass.NOT_STARTED),
        (left(UpdateState.INSTALLED), False, GOOD),
        (replace(left(UpdateState.BLOCKED), install=InstallResult(()), findings=(RESTARTED,)), False, GOOD),
        (left(UpdateState.REPAIRED), False, GOOD),
        (left(UpdateState.FAILED), False, GOOD),
    ],
)
def test_a_machine_on_which_nothing_was_attempted_has_shown_nothing(given_outcome, only_downloads, verdict):
    """What it warns of does not matter; that its updates were not even begun does."""
    assert classify_outcome(given_outcome, only_downloads=only_downloads) is verdict


def test_a_canary_wave_must_have_shown_something():
    assert check_canary_wave(OutcomeTally(2, Counter({LOST: 1, OutcomeClass.NOT_STARTED: 1})), 1)
    assert check_canary_wave(OutcomeTally(1, Counter({OutcomeClass.UNCHANGED: 1})), 1)
    assert not check_canary_wave(OutcomeTally(2, Counter({LOST: 1, GOOD: 1})), 1)
    assert not check_canary_wave(OutcomeTally(2, Counter({FAILED: 1})), 1)
    assert not check_canary_wave(OutcomeTally(0, Counter()), 1)


STATES = {
    FAILED: outcome(error=None), LOST: outcome(), GOOD: patched(),
    OutcomeClass.UNCHANGED: outcome(OperationState.SUCCEEDED, None),
    OutcomeClass.NOT_STARTED: outcome(OperationState.NOT_STARTED, None),
}  # fmt: skip
budgets = st.builds(
    FailureBudget,
    count=st.one_of(st.none(), st.integers(0, 5)),
    percent=st.one_of(st.none(), st.sampled_from((0.0, 10.0, 20.0, 50.0, 100.0))),
    unreachable_percent=st.sampled_from((0.0, 25.0, 50.0, 100.0)),
    go_on_after_failed_canary=st.booleans(),
)


@given(
    st.lists(st.lists(st.sampled_from(list(OutcomeClass)), min_size=1, max_size=12), min_size=1, max_size=5),
    budgets,
    st.integers(0, 5),
)
def test_counting_one_by_one_is_counting_all(fates, budget, canaries):
    """Whatever is counted in whatever order, the answer is that of the rules for all machines so far."""
    order = [
        Wave(n, tuple(f"{n}-{i}" for i in range(len(fate))), canary=n <= canaries) for n, fate in enumerate(fates, 1)
    ]
    count, total = FailureCounter(budget), sum(map(len, fates))
    lost = [
        name
        for wave, fate in zip(order, fates, strict=True)
        for name, v in zip(wave.machines, fate, strict=True)
        if v is LOST
    ]
    count.count_earlier_outcomes(order, (), lost)
    so_far, stopped = Counter({LOST: len(lost)}), False
    for wave, fate in zip(order, fates, strict=True):
        count.begin_counting_wave(wave)
        here: Counter[OutcomeClass] = Counter()
        for name, verdict in zip(wave.machines, fate, strict=True):
            made = STATES[verdict]
            count.add_outcome(
                Outcome("run", name, made.state, "", steps=made.steps, error=made.error, install=made.install)
            )
            here[verdict] += 1
            so_far[verdict] += verdict is not LOST
            run, wave_so_far = OutcomeTally(total, so_far), OutcomeTally(len(fate), here)
            stopped = stopped or bool(check_failures(budget, run, wave_so_far, canary=wave.canary))
            assert bool(count.stop_reason) is (stopped or bool(check_unreachable(budget, OutcomeTally(total, so_far))))
        count.judge_canary_wave()
        stopped = stopped or (wave.canary and bool(check_canary_wave(OutcomeTally(len(fate), here), wave.number)))


def test_a_machine_that_answers_after_all_is_missing_no_more():
    count = FailureCounter(FailureBudget(count=0, unreachable_percent=0.0))
    count.count_earlier_outcomes([Wave(1, ("a", "b"))], (), ["a"])
    assert "1 of 2 machines can't be reached" in count.stop_reason
    count.begin_counting_wave(Wave(1, ("a", "b")))
    count.add_outcome(outcome(OperationState.SUCCEEDED, None, name="a"))
    assert not count.stop_reason


def test_what_an_earlier_process_has_left_counts():
    order = [Wave(1, ("a", "b")), Wave(2, ("c",))]
    count = FailureCounter(FailureBudget(count=0))
    count.count_earlier_outcomes(order, [outcome(error=None, name="a")], ())
    count.begin_counting_wave(order[0])
    assert "1 of 3 machines failed" in count.stop_reason


@pytest.mark.parametrize("budget", [FailureBudget(percent=20.0), FailureBudget(count=9)], ids=["percent", "count"])
@pytest.mark.parametrize("failed", ["a", "c"], ids=["first canary wave", "second canary wave"])
def test_an_earlier_process_of_a_canary_wave_counts_for_it(budget, failed):
    order = [Wave(1, ("a", "b"), canary=True), Wave(2, ("c",), canary=True), Wave(3, tuple("defghijklmn"))]
    count = FailureCounter(budget)
    done = [patched(name=name) for name in "abc" if name != failed]
    count.count_earlier_outcomes(order, [*done, outcome(error=None, name=failed)], ())
    for wave in order:
        count.begin_counting_wave(wave)
        count.judge_canary_wave()
    assert f"canary wave {1 if failed == 'a' else 2} failed" in count.stop_reason


def test_a_machine_that_refuses_the_login_since_its_update_stops_the_run():
    order = [Wave(1, ("a", "b")), Wave(2, ("c",))]
    broken = outcome(error=LoginBroken, steps=(Step.ASSESS, Step.PRECHECK, Step.INSTALL), name="a")
    budget = FailureBudget(count=9)
    for counter in (FailureCounter(budget), HealthCounter()):
        counter.count_earlier_outcomes(order, (), ())
        counter.begin_counting_wave(order[0])
        assert not bool(counter.stop_reason)
        counter.add_outcome(broken)
        assert counter.stop_reason == "a refuses the login since its update, so no further machine begins"
    resumed = FailureCounter(budget)
    resumed.count_earlier_outcomes(order, [broken], ())
    assert resumed.stop_reason
