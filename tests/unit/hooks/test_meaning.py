"""What a hook's failure means, and which hooks can't be: the pure part."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fleetpatch.cli.runtime.exit_codes import ExitCode, to_run_exit_code
from flows.request.request_parts import HooksRequest
from tasks.domain.model import Hook, HookResult
from tasks.domain.states import FindingLevel, HookKind, HookMode, HookPoint, OperationState
from tasks.rules.runs.hooks import (
    BEFORE_PLACES,
    MACHINE_PLACES,
    check_hook_target,
    determine_state_with_hooks,
    is_blocking_failure,
    to_finding,
)
from tasks.steps.hooks import build_hook_key, redact_hook
from tests.support.builders import make_outcome, make_report

AT = datetime(2026, 3, 10, 1, 0, tzinfo=UTC)
RANK = [OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS, OperationState.FAILED]

results = st.builds(
    lambda place, mode, succeeded: HookResult(
        Hook("h", place, HookKind.HTTP, "http://x/", mode=mode), "s", succeeded, "why", AT, AT
    ),
    st.sampled_from(HookPoint),
    st.sampled_from(HookMode),
    st.booleans(),
)


@given(results)
def test_a_finding_blocks_exactly_when_its_hook_stops(result: HookResult) -> None:
    finding = to_finding(result)
    assert (finding.level is FindingLevel.BLOCK) is is_blocking_failure(result)
    assert (finding.level is FindingLevel.WARN) is (not result.succeeded and result.hook.mode is HookMode.WARN)
    assert finding.check == "hook h"
    assert bool(finding.remedy) is not result.succeeded


@given(st.sampled_from(OperationState), st.lists(results), st.booleans())
def test_hooks_never_make_a_run_look_better(state: OperationState, told: list[HookResult], stopped: bool) -> None:
    after = determine_state_with_hooks(state, told, stopped=stopped)
    if state in RANK and after in RANK:
        assert RANK.index(after) >= RANK.index(state)
    if after is not state:
        assert after in {OperationState.FAILED, OperationState.COMPLETED_WITH_WARNINGS}
        assert any(not result.succeeded for result in told)


@given(st.sampled_from(OperationState), st.lists(results), st.booleans())
def test_a_run_fails_by_its_hooks_exactly_when_one_failed_that_must_succeed(
    state: OperationState, told: list[HookResult], stopped: bool
) -> None:
    counted = [
        r for r in told if r.hook.place not in MACHINE_PLACES and not (stopped and r.hook.place in BEFORE_PLACES)
    ]
    failed = any(is_blocking_failure(result) for result in counted) and state is not OperationState.IN_PROGRESS
    assert (determine_state_with_hooks(state, told, stopped=stopped) is OperationState.FAILED) is (
        failed or state is OperationState.FAILED
    )


@pytest.mark.parametrize(
    ("kind", "target", "place"),
    [
        ("machine-command", "true", "before_run"),
        ("machine-command", "true", "after_wave"),
        ("machine-command", "  ", "before_machine"),
        ("machine-command", "a\x00b", "before_machine"),
        ("controller-command", "echo 'open", "before_run"),
        ("controller-command", "''x\x00", "before_run"),
        ("http", "ftp://user:secret@host/", "before_run"),
        ("http", "https://", "before_run"),
        ("http", "https://user:sec/ret@host:x/", "before_run"),
        ("python", "os.system", "before_run"),
        ("python", "os:system()", "before_run"),
        ("deployment", "flow", "before_run"),
        ("deployment", "flow/dep/more", "before_run"),
        ("deployment", "/dep", "before_run"),
    ],
)
def test_hooks_that_can_not_be_are_refused_when_they_are_asked_for(kind: str, target: str, place: str) -> None:
    wrong = check_hook_target(HookKind(kind), target, HookPoint(place))
    assert wrong
    assert "secret" not in wrong
    with pytest.raises(ValidationError, match="hook 'h'"):
        HooksRequest.model_validate({place: [{"name": "h", "kind": kind, "target": target}]})


def test_two_hooks_of_one_name_in_one_place_are_refused() -> None:
    one = {"name": "h", "kind": "http", "target": "http://x/"}
    with pytest.raises(ValidationError, match="two hooks are called 'h'"):
        HooksRequest.model_validate({"before_run": [one, one]})
    listed = HooksRequest.model_validate({"before_run": [one], "after_run": [one]}).to_hooks()
    assert [(hook.place, hook.name) for hook in listed] == [("before_run", "h"), ("after_run", "h")]


def test_a_forms_hook_is_the_engines() -> None:
    asked = {"name": "h", "kind": "python", "target": "a.b:c", "timeout_minutes": 2, "mode": "warn", "repeatable": True}
    (hook,) = HooksRequest.model_validate({"after_wave": [asked]}).to_hooks()
    assert hook == Hook("h", HookPoint.AFTER_WAVE, HookKind.PYTHON, "a.b:c", 120.0, HookMode.WARN, repeatable=True)


@given(st.text(min_size=1), st.text(min_size=1), st.sampled_from(HookPoint))
def test_turns_are_told_apart_by_place_name_and_subject(name: str, subject: str, place: HookPoint) -> None:
    hook = Hook(name, place, HookKind.HTTP, "http://x/")
    others = {build_hook_key(Hook(name, other, HookKind.HTTP, "http://x/"), subject) for other in HookPoint}
    assert len(others) == len(HookPoint)
    assert build_hook_key(hook, subject) in others


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("https://ada:pw@host:8443/hook?token=abc", "https://host:8443/***"),
        ("https://hooks.example/services/T0/B0/secret", "https://hooks.example/***"),
        ("https://host/", "https://host/"),
        ("https://host", "https://host"),
        ("https://ada@host", "https://host/***"),
        ("https://[host", "URL"),
    ],
)
def test_of_a_url_only_its_place_is_kept(target: str, seen: str) -> None:
    hook = Hook("h", HookPoint.BEFORE_RUN, HookKind.HTTP, target)
    assert redact_hook(hook).target == seen
    command = Hook("h", HookPoint.BEFORE_RUN, HookKind.CONTROLLER_COMMAND, "curl https://x/?y")
    assert redact_hook(command) == command


def _told(place: HookPoint, mode: HookMode) -> HookResult:
    return HookResult(Hook("h", place, HookKind.HTTP, "http://x/", mode=mode), "run", False, "why", AT, AT)  # noqa: FBT003


@pytest.mark.parametrize(
    ("place", "mode", "stopped", "code"),
    [
        ("after_run", "must_succeed", False, ExitCode.MACHINE_FAILED),
        ("after_run", "warn", False, ExitCode.WARNINGS),
        ("after_run", "ignore", False, ExitCode.SUCCESS),
        ("before_run", "must_succeed", True, ExitCode.SUCCESS),
        ("after_machine", "must_succeed", False, ExitCode.SUCCESS),  # its machine's outcome says so
    ],
)
def test_the_command_ends_as_the_runs_hooks_did(place: str, mode: str, stopped: bool, code: ExitCode) -> None:
    report = make_report(outcomes=(make_outcome(),), hooks=(_told(HookPoint(place), HookMode(mode)),))
    assert to_run_exit_code(report, was_stopped=stopped) is code


def test_the_example_in_the_documentation_can_be_asked_for() -> None:
    text = (Path(__file__).parents[3] / "docs" / "how-to" / "hooks.md").read_text()
    example = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    listed = HooksRequest.model_validate(example["hooks"]).to_hooks()
    assert {hook.kind for hook in listed} == set(HookKind) - {HookKind.DEPLOYMENT}
