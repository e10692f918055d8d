"""Exit codes: each error and each ending has its own, as docs/reference/command.md says."""

import errno
import os
from pathlib import Path

import pytest

from fleetpatch.cli.runtime.error_description import describe_error
from fleetpatch.cli.runtime.exit_codes import ExitCode, to_run_exit_code
from inventory.errors import EmptyScopeError, InventoryError
from tasks.domain.errors import CannotRun, CredentialError, RecordsError, RequestError, Unreachable, WindowClosed
from tasks.domain.model import Outcome
from tasks.domain.run_errors import FleetPatchFailed
from tasks.domain.states import OperationState as S
from tests.ci.tree import TOP
from tests.contract.cli.conftest import Stage, security
from tests.support.builders import make_outcome, make_report, make_run


def _outcomes(*states: S) -> tuple[Outcome, ...]:
    return tuple(make_outcome(machine=f"m{n}", state=state) for n, state in enumerate(states))


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ((S.SUCCEEDED, S.SUCCEEDED), ExitCode.SUCCESS),
        ((S.SUCCEEDED, S.FAILED), ExitCode.MACHINE_FAILED),
        ((S.SUCCEEDED, S.UNKNOWN), ExitCode.MACHINE_FAILED),
        ((S.SUCCEEDED, S.COMPLETED_WITH_WARNINGS), ExitCode.WARNINGS),
        ((S.SUCCEEDED, S.NOT_STARTED), ExitCode.WARNINGS),
        ((S.NOT_STARTED, S.NOT_STARTED), ExitCode.NOTHING_ATTEMPTED),
        ((S.NOT_STARTED, S.FAILED), ExitCode.MACHINE_FAILED),
    ],
)
def test_a_run_ends_as_its_machines_did(states: tuple[S, ...], code: ExitCode) -> None:
    assert to_run_exit_code(make_report(outcomes=_outcomes(*states))) is code


def test_a_plan_is_good_although_nothing_was_begun() -> None:
    assert (
        to_run_exit_code(make_report(run=make_run(kind="plan"), outcomes=_outcomes(S.NOT_STARTED))) is ExitCode.SUCCESS
    )


def test_machines_that_others_patch_change_nothing() -> None:
    stranger = Outcome("run", "other", S.NOT_STARTED, "it is patched by its owner")
    report = make_report(outcomes=(*_outcomes(S.SUCCEEDED), stranger))
    assert to_run_exit_code(report) is ExitCode.SUCCESS


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ((S.SUCCEEDED,), ExitCode.SUCCESS),
        ((S.FAILED, S.NOT_STARTED), ExitCode.MACHINE_FAILED),
        ((S.SUCCEEDED, S.NOT_STARTED), ExitCode.INTERRUPTED),
        ((S.NOT_STARTED,), ExitCode.INTERRUPTED),
        ((S.COMPLETED_WITH_WARNINGS,), ExitCode.WARNINGS),  # its warnings have another cause: all was installed
    ],
)
def test_a_stopped_run_says_so_when_that_cut_something_off(states: tuple[S, ...], code: ExitCode) -> None:
    assert to_run_exit_code(make_report(outcomes=_outcomes(*states)), was_stopped=True) is code


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("states", [(S.SUCCEEDED,), (S.COMPLETED_WITH_WARNINGS,), (S.NOT_STARTED,), (S.FAILED,)])
def test_a_report_that_could_not_be_written_ends_no_run_well(states: tuple[S, ...], stopped: bool) -> None:
    code = to_run_exit_code(make_report(outcomes=_outcomes(*states)), was_stopped=stopped, has_report_error=True)
    assert code is (ExitCode.MACHINE_FAILED if S.FAILED in states else ExitCode.CANNOT_RUN)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "access to it"),
        (errno.EPERM, "access to it"),
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "Make room"),
        (errno.EROFS, "another place"),
    ],
)
def test_what_the_system_refuses_has_a_remedy_of_its_own(number: int, words: str) -> None:
    told = describe_error(OSError(number, os.strerror(number), "/srv/x"))
    assert told.message.startswith("/srv/x: ")
    assert words in told.hint


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InventoryError("x"), ExitCode.BAD_INPUT),
        (EmptyScopeError("x"), ExitCode.BAD_INPUT),
        (RequestError("x"), ExitCode.BAD_INPUT),
        (CredentialError("x"), ExitCode.BAD_INPUT),
        (WindowClosed("x"), ExitCode.NOTHING_ATTEMPTED),
        (RecordsError("x"), ExitCode.CANNOT_RUN),
        (CannotRun("x"), ExitCode.CANNOT_RUN),
        (Unreachable("x"), ExitCode.CANNOT_RUN),
        (FleetPatchFailed("x", report=make_report()), ExitCode.MACHINE_FAILED),
        (PermissionError(13, "Permission denied", "/etc/x"), ExitCode.CANNOT_RUN),
        (ZeroDivisionError("x"), ExitCode.CANNOT_RUN),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
    ],
)
def test_every_error_has_its_code(error: BaseException, code: ExitCode) -> None:
    told = describe_error(error)
    assert told.exit_code is code
    assert told.message
    assert told.to_json()["error"] == {
        "kind": told.kind,
        "message": told.message,
        "hint": told.hint,
        "exitCode": int(code),
    }


def test_every_code_is_documented() -> None:
    page = (Path(TOP) / "docs" / "reference" / "command.md").read_text()
    assert [code for code in ExitCode if f"| {int(code)} |" not in page] == []


def test_a_machine_that_did_not_answer_is_what_it_was_and_how_long_ago(stage: Stage) -> None:
    """Its try without an answer is no answer: it is not compliant, and not assessed just now."""
    web, late = stage.add("web"), stage.add("late", security("openssl"))
    stage.run("assess")
    stage.fleet.clock.advance(3 * 3600 + 60)
    web.cut(60)
    late.cut(60)
    assert stage.run("assess").code == 1
    said = stage.run("machines")
    rows = {line.split()[0]: line for line in said.out.splitlines() if line.split()[:1] in (["web"], ["late"])}
    assert rows["web"].split()[1] == "NotAssessed"
    assert rows["late"].split()[1] == "NonCompliant"  # a try without an answer hides nothing
    assert all(row.endswith("3 h ago") for row in rows.values())
    assert "No answer at the last assessment (2 machines):" in said.out
    assert "web: asked just now; last known: Compliant 3 h ago" in said.out
    found = {each["machineName"]: each for each in stage.run("machines", "--json").json["machines"]}
    assert (found["web"]["complianceState"], found["web"]["lastKnownComplianceState"]) == ("NotAssessed", "Compliant")
    assert found["web"]["assessedDateTime"] < found["web"]["lastTryDateTime"]
    assert found["web"]["error"] == "no answer from web"
