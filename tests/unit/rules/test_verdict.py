import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import ErrorInfo, Finding, Outcome, RebootResult, UpdateResult, ValidationResult
from tasks.domain.states import FindingLevel, OperationState, RebootState, UpdateState
from tasks.rules.runs.outcome import determine_outcome_state, determine_run_state
from tests.unit.rules.examples import a_result, an_update

FAILED, WARNED, GOOD = OperationState.FAILED, OperationState.COMPLETED_WITH_WARNINGS, OperationState.SUCCEEDED
INSTALLED = a_result("vim", UpdateState.INSTALLED)


def finding(level, check="disk"):
    return Finding(check, level, "says so", "mend it")


@pytest.mark.parametrize(
    ("state", "words", "given_"),
    [
        (GOOD, "nothing to install", {}),
        (GOOD, "nothing to install, 1 excluded", {"results": [a_result("a", UpdateState.EXCLUDED)]}),
        (
            GOOD,
            "nothing to install, 1 blocked (1 for subscribers only)",
            {"results": [UpdateResult(an_update("a", blocked="UA_ESM_REQUIRED: …"), UpdateState.BLOCKED, "…")]},
        ),
        (GOOD, "1 update installed, rebooted", {"results": [INSTALLED], "reboot": RebootResult(RebootState.COMPLETED)}),
        (GOOD, "nothing to install", {"reboot": RebootResult(RebootState.UNKNOWN)}),
        (GOOD, "nothing to install", {"findings": [finding(FindingLevel.GOOD)]}),
        (FAILED, "the connection was lost", {"error": ErrorInfo("ConnectionLost", "the connection was lost")}),
        (FAILED, "pre-check disk: says so", {"findings": [finding(FindingLevel.BLOCK)]}),
        (FAILED, "1 update failed: a (exit 1)", {"results": [INSTALLED, a_result("a", UpdateState.FAILED, "exit 1")]}),
        (FAILED, "the reboot failed: it is down", {"reboot": RebootResult(RebootState.FAILED, "it is down")}),
        (FAILED, "validation disk: says so", {"validation": ValidationResult((finding(FindingLevel.BLOCK),))}),
        (
            WARNED,
            "1 update installed; 1 update not attempted: a (no time)",
            {"results": [INSTALLED, a_result("a", UpdateState.NOT_ATTEMPTED, "no time")]},
        ),
        (WARNED, "1 update not attempted: a", {"results": [a_result("a", UpdateState.PENDING)]}),
        (WARNED, "a reboot is still required: policy", {"reboot": RebootResult(RebootState.REQUIRED, "policy")}),
        (WARNED, "a reboot was only begun", {"reboot": RebootResult(RebootState.STARTED)}),
        (WARNED, "is not known", {"results": [INSTALLED], "reboot": RebootResult(RebootState.UNKNOWN)}),
        (WARNED, "the window was exceeded by 1 min 30 s", {"window_exceeded_seconds": 90}),
        (WARNED, "disk: says so", {"findings": [finding(FindingLevel.WARN)]}),
        (WARNED, "disk: says so", {"validation": ValidationResult((finding(FindingLevel.WARN),))}),
    ],
)
def test_the_state_of_a_machine(state, words, given_):
    found, reason = determine_outcome_state(**given_)
    assert found is state
    assert words in reason


def test_a_reboot_settles_the_one_that_was_pending_before():
    before = [finding(FindingLevel.WARN, "pending-reboot")]
    assert determine_outcome_state(findings=before)[0] is WARNED
    assert determine_outcome_state(findings=before, reboot=RebootResult(RebootState.COMPLETED))[0] is GOOD


@pytest.mark.parametrize("state", [RebootState.REQUIRED, RebootState.STARTED])
def test_a_reboot_that_was_not_taken_is_said_once(state):
    before = [finding(FindingLevel.WARN, "pending-reboot"), finding(FindingLevel.WARN)]
    found, reason = determine_outcome_state(findings=before, reboot=RebootResult(state, "policy"))
    assert found is WARNED
    assert "pending-reboot" not in reason
    assert reason.count("policy") == 1
    assert "disk: says so" in reason


@pytest.mark.parametrize("state", [RebootState.UNKNOWN, RebootState.NOT_NEEDED])
def test_a_pending_reboot_is_said_where_nothing_else_says_it(state):
    before = [finding(FindingLevel.WARN, "pending-reboot")]
    assert "pending-reboot: says so" in determine_outcome_state(findings=before, reboot=RebootResult(state))[1]


def test_a_reason_that_all_share_is_said_once_and_names_are_few():
    late = [a_result(f"p{number}", UpdateState.NOT_ATTEMPTED, "no time") for number in range(5)]
    assert "5 updates not attempted: p0, p1, p2 and 2 more (no time)" in determine_outcome_state(results=late)[1]
    failed = [a_result("a", UpdateState.FAILED, "x"), a_result("b", UpdateState.FAILED)]
    assert determine_outcome_state(results=failed)[1] == "2 updates failed: a (x), b (no reason given)"


@given(
    st.lists(st.builds(a_result, st.just("a"), st.sampled_from(UpdateState), st.sampled_from(("", "why"))), max_size=4),
    st.lists(st.builds(finding, st.sampled_from(FindingLevel)), max_size=2),
    st.one_of(st.none(), st.builds(RebootResult, st.sampled_from(RebootState))),
    st.one_of(st.none(), st.builds(lambda level: ValidationResult((finding(level),)), st.sampled_from(FindingLevel))),
    st.one_of(st.none(), st.just(ErrorInfo("X", "broke"))),
)
def test_success_means_that_nothing_is_wrong_or_left(results, findings, reboot, validation, error):
    state, reason = determine_outcome_state(
        results=results, findings=findings, reboot=reboot, validation=validation, error=error
    )
    assert reason
    bad = error is not None or any(result.state is UpdateState.FAILED for result in results)
    bad = bad or any(each.level is FindingLevel.BLOCK for each in findings)
    bad = bad or (validation is not None and not validation.is_healthy)
    bad = bad or (reboot is not None and reboot.state is RebootState.FAILED)
    assert (state is FAILED) == bad
    if state is GOOD:
        assert not any(result.state in (UpdateState.NOT_ATTEMPTED, UpdateState.PENDING) for result in results)
        assert reboot is None or reboot.state not in (RebootState.REQUIRED, RebootState.STARTED)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], OperationState.NOT_STARTED),
        ([GOOD, GOOD], GOOD),
        ([GOOD, WARNED], WARNED),
        ([GOOD, FAILED, WARNED], FAILED),
        ([GOOD, OperationState.UNKNOWN], FAILED),
        ([GOOD, OperationState.NOT_STARTED], WARNED),
        ([OperationState.NOT_STARTED], OperationState.NOT_STARTED),
        ([FAILED, OperationState.IN_PROGRESS], OperationState.IN_PROGRESS),
    ],
)
def test_the_state_of_a_run(states, expected):
    assert (
        determine_run_state([Outcome("run", f"m{place}", state, "") for place, state in enumerate(states)]) is expected
    )
