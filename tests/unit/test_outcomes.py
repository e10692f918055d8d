"""docs/reference/outcomes.md says of each way to end what the code decides."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from fleetpatch.cli.runtime.exit_codes import ExitCode, to_run_exit_code
from tasks.domain.compliance import MAX_ANSWER_AGE, RepositoryProblem, judge_compliance
from tasks.domain.model import ErrorInfo, Finding, Outcome, RebootResult, StepRecord, ValidationResult
from tasks.domain.states import Classification, FindingLevel, OperationState, RebootState, Step, UpdateState
from tasks.machines.managers.windows_update.unseen_fixes import LONGEST_DEFERRAL
from tasks.rules.runs.outcome import determine_outcome_state
from tests.ci import tree
from tests.support.builders import make_failed_assessment, make_report, make_run
from tests.unit.rules.examples import a_result, an_update

PAGE = (tree.TOP / "docs/reference/outcomes.md").read_text()
NOW = datetime(2026, 11, 26, tzinfo=UTC)
WARNS, BLOCKS = (Finding("check", level, "words") for level in (FindingLevel.WARN, FindingLevel.BLOCK))


def of(state: UpdateState, *, name: str = "openssl", **fields: Any):
    result = a_result(name, state)
    return replace(result, update=an_update(name, **fields))


OTHER = {"classification": Classification.OTHER}
UPDATES: Mapping[str, tuple[UpdateState, dict[str, Any]]] = {
    "The package database has": (UpdateState.INSTALLED, {}),
    "The version is there, and a script": (UpdateState.SETUP_FAILED, {}),
    "As above, for a package": (UpdateState.SETUP_FAILED, {"changes_boot": True}),
    "The transaction ended with an error that names no update": (UpdateState.INSTALLED, {"finding": WARNS}),
    "The version before is still there": (UpdateState.FAILED, {}),
    "A critical or security update, or one of unknown class": (UpdateState.BLOCKED, {}),
    "An update for subscribers": (UpdateState.BLOCKED, {"blocked": "UA_ESM_REQUIRED: needs Ubuntu Pro"}),
    "Any other update can't be installed": (UpdateState.BLOCKED, OTHER),
    "A mask of the request": (UpdateState.EXCLUDED, {}),
    "Its package was removed": (UpdateState.EXCLUDED, {}),
    "The request does not select it": (UpdateState.NOT_SELECTED, OTHER),
    "The run selected it, and did not begin it": (UpdateState.NOT_ATTEMPTED, {}),
    "Its installation began": (UpdateState.PENDING, {}),
    "A package was half installed": (UpdateState.REPAIRED, {}),
}
MACHINES: Mapping[str, dict[str, Any]] = {
    "Nothing is pending": {},
    "A check before or after warns": {"findings": [WARNS]},
    "A check before the installation blocks": {"findings": [BLOCKS]},
    "A check after the installation": {"validation": ValidationResult((BLOCKS,))},
    "A reboot is required": {"reboot": RebootResult(RebootState.REQUIRED, "words")},
    "A required reboot waits": {"reboot": RebootResult(RebootState.REQUIRED, "words", mitigated_by="kpatch")},
    "Something was installed": {
        "results": [of(UpdateState.INSTALLED)],
        "reboot": RebootResult(RebootState.UNKNOWN),
    },
    "The reboot was ordered": {"reboot": RebootResult(RebootState.FAILED)},
    "The window was exceeded": {"window_exceeded_seconds": 90.0},
    "The connection": {"error": ErrorInfo("Unreachable", "words")},
}
UNREAD = RepositoryProblem("security", "its lists are too old", "")
NOTHING: Mapping[str, Any] = {"urgent": 0, "unclassified": 0, "broken": False, "problems": ()}
COMPLIANCE: Mapping[str, dict[str, Any] | None] = {
    "No critical or security update": {},
    "A critical or security update": {"urgent": 1, "unclassified": 1, "problems": (UNREAD,)},
    "An installed critical or security update is not": {"waiting": True, "problems": (UNREAD,)},
    "Perhaps an installed": {"waiting": False},
    "A package is broken": {"broken": True, "problems": (UNREAD,)},
    "Nothing urgent is known, and an update of unknown class": {"unclassified": 1},
    "Nothing urgent is known, and [something hides fixes]": {"problems": (UNREAD,)},
    "The machine was never assessed": None,
}
NOT_DECIDED = {
    "The inventory has the machine under two names": OperationState.NOT_STARTED,
    "Its boot has not ended": OperationState.NOT_STARTED,
    "The machine had no turn": OperationState.NOT_STARTED,
    "The process ended early": OperationState.UNKNOWN,
}


@dataclass(frozen=True)
class Line:
    """One line of the page: its cells, without marks."""

    cells: tuple[str, ...]


def read_lines(heading: str) -> dict[str, Line]:
    """Return the lines of a section's table by their first cell."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n#")[0]
    rows = [row.strip("|").split("|") for row in section.splitlines() if row.startswith("| ")][1:]
    cells = [tuple(cell.strip().strip("`") for cell in row) for row in rows]
    return {row[0]: Line(row) for row in cells if not re.fullmatch("-+", row[0])}


def find_line(lines: Mapping[str, Line], begin: str) -> Line:
    """Return the one line that begins so."""
    (line,) = [line for text, line in lines.items() if text.startswith(begin)]
    return line


def compute_exit_code(state: OperationState) -> ExitCode:
    """Return the exit code of a run of one machine that ended so."""
    steps = () if state is OperationState.NOT_STARTED else (StepRecord(Step.ASSESS, NOW, NOW, state),)
    outcome = Outcome("r", "web-1", state, "words", steps=steps)
    return to_run_exit_code(
        make_report(run=make_run(state=state), outcomes=(outcome,), plans=(), assessments=(), hooks=())
    )


@pytest.mark.parametrize("begin", UPDATES)
def test_an_update(begin: str) -> None:
    state, fields = UPDATES[begin]
    finding = fields.get("finding")
    result = of(state, **{key: value for key, value in fields.items() if key != "finding"})
    machine, _ = determine_outcome_state(results=[result], findings=[finding] if finding else [])
    line = find_line(read_lines("Updates"), begin)
    assert line.cells[1:4] == (state, machine, str(int(compute_exit_code(machine))))


@pytest.mark.parametrize("begin", MACHINES)
def test_a_machine(begin: str) -> None:
    machine, _ = determine_outcome_state(**MACHINES[begin])
    line = find_line(read_lines("Machines"), begin)
    assert line.cells[1:3] == (machine, str(int(compute_exit_code(machine))))


@pytest.mark.parametrize("begin", NOT_DECIDED)
def test_a_machine_without_a_decision(begin: str) -> None:
    state = NOT_DECIDED[begin]
    line = find_line(read_lines("Machines"), begin)
    assert line.cells[1:3] == (state, str(int(compute_exit_code(state))))


@pytest.mark.parametrize("begin", COMPLIANCE)
def test_compliance(begin: str) -> None:
    known = COMPLIANCE[begin]
    line = find_line(read_lines("Compliance"), begin)
    assessment = make_failed_assessment()
    assert line.cells[1] == (assessment.compliance if known is None else judge_compliance(**{**NOTHING, **known}))


def test_the_page_names_the_longest_deferral_that_hides_nothing() -> None:
    assert f"deferred by more than {LONGEST_DEFERRAL} days" in PAGE
    assert MAX_ANSWER_AGE.days >= LONGEST_DEFERRAL


def test_the_page_has_every_line_and_every_state() -> None:
    assert len(read_lines("Updates")) == len(UPDATES)
    assert len(read_lines("Machines")) == len(MACHINES) + len(NOT_DECIDED)
    assert {state for state, _ in UPDATES.values()} == set(UpdateState)
    assert len(read_lines("Compliance")) == len(COMPLIANCE)
    ends = {line.cells[1] for line in read_lines("Machines").values()}
    assert ends == set(OperationState) - {OperationState.IN_PROGRESS, OperationState.CANCELLED}
