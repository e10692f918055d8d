"""Exit codes: each error and each ending has its own, as docs/reference/command.md says."""

import errno
import os
from pathlib import Path

import pytest

from flows.cli.exits import CannotRun, Code, code_of, trouble
from inventory.errors import EmptyScopeError, InventoryError
from tasks.errors import CredentialError, FleetPatchFailed, RecordsError, RequestError, Unreachable, WindowClosed
from tasks.model import Outcome
from tasks.states import OperationState as S
from tests.ci.tree import TOP
from tests.support.builders import make_outcome, make_report, make_run


def _outcomes(*states: S) -> tuple[Outcome, ...]:
    return tuple(make_outcome(machine=f"m{n}", state=state) for n, state in enumerate(states))


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ((S.SUCCEEDED, S.SUCCEEDED), Code.GOOD),
        ((S.SUCCEEDED, S.FAILED), Code.FAILED),
        ((S.SUCCEEDED, S.UNKNOWN), Code.FAILED),
        ((S.SUCCEEDED, S.COMPLETED_WITH_WARNINGS), Code.WARNINGS),
        ((S.SUCCEEDED, S.NOT_STARTED), Code.WARNINGS),
        ((S.NOT_STARTED, S.NOT_STARTED), Code.NOTHING),
        ((S.NOT_STARTED, S.FAILED), Code.FAILED),
    ],
)
def test_a_run_ends_as_its_machines_did(states: tuple[S, ...], code: Code) -> None:
    assert code_of(make_report(outcomes=_outcomes(*states))) is code


def test_a_plan_is_good_although_nothing_was_begun() -> None:
    assert code_of(make_report(run=make_run(kind="plan"), outcomes=_outcomes(S.NOT_STARTED))) is Code.GOOD


def test_machines_that_others_patch_change_nothing() -> None:
    stranger = Outcome("run", "other", S.NOT_STARTED, "it is patched by its owner")
    report = make_report(outcomes=(*_outcomes(S.SUCCEEDED), stranger))
    assert code_of(report) is Code.GOOD


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ((S.SUCCEEDED,), Code.GOOD),
        ((S.FAILED, S.NOT_STARTED), Code.FAILED),
        ((S.SUCCEEDED, S.NOT_STARTED), Code.INTERRUPTED),
        ((S.NOT_STARTED,), Code.INTERRUPTED),
    ],
)
def test_a_stopped_run_says_so_when_that_cut_something_off(states: tuple[S, ...], code: Code) -> None:
    assert code_of(make_report(outcomes=_outcomes(*states)), stopped=True) is code


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("states", [(S.SUCCEEDED,), (S.COMPLETED_WITH_WARNINGS,), (S.NOT_STARTED,), (S.FAILED,)])
def test_a_report_that_could_not_be_written_ends_no_run_well(states: tuple[S, ...], stopped: bool) -> None:
    code = code_of(make_report(outcomes=_outcomes(*states)), stopped=stopped, unwritten=True)
    assert code is (Code.FAILED if S.FAILED in states else Code.UNABLE)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "the right to it"),
        (errno.EPERM, "the right to it"),
        (errno.ENOSPC, "Make room"),
        (errno.EDQUOT, "Make room"),
        (errno.EROFS, "another place"),
    ],
)
def test_what_the_system_refuses_has_a_remedy_of_its_own(number: int, words: str) -> None:
    told = trouble(OSError(number, os.strerror(number), "/srv/x"))
    assert told.message.startswith("/srv/x: ")
    assert words in told.hint


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InventoryError("x"), Code.USAGE),
        (EmptyScopeError("x"), Code.USAGE),
        (RequestError("x"), Code.USAGE),
        (CredentialError("x"), Code.USAGE),
        (WindowClosed("x"), Code.NOTHING),
        (RecordsError("x"), Code.UNABLE),
        (CannotRun("x"), Code.UNABLE),
        (Unreachable("x"), Code.UNABLE),
        (FleetPatchFailed("x", report=make_report()), Code.FAILED),
        (PermissionError(13, "Permission denied", "/etc/x"), Code.UNABLE),
        (ZeroDivisionError("x"), Code.UNABLE),
        (KeyboardInterrupt(), Code.INTERRUPTED),
    ],
)
def test_every_error_has_its_code(error: BaseException, code: Code) -> None:
    told = trouble(error)
    assert told.code is code
    assert told.message
    assert told.document()["error"] == {
        "kind": told.kind,
        "message": told.message,
        "hint": told.hint,
        "exitCode": int(code),
    }


def test_every_code_is_documented() -> None:
    page = (Path(TOP) / "docs" / "reference" / "command.md").read_text()
    assert [code for code in Code if f"| {int(code)} |" not in page] == []
