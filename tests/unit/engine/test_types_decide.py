"""What the engine decides by: types and fields, never the words that people read."""

import pytest

from inventory.errors import FleetpatchError
from tasks.domain.errors import (
    ConnectionLost,
    InternalError,
    JobLost,
    RecordsError,
    RecordsUnavailable,
    TransportError,
)
from tasks.domain.model import ErrorInfo
from tasks.domain.protocols.transport import ScriptRecord
from tasks.domain.states import OperationState, UpdateState
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of

UNTIL = 1_773_200_000


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ({"run": "other", "by": "anne", "until": UNTIL}, OperationState.NOT_STARTED),
        ({"run": "other", "by": "", "until": UNTIL}, OperationState.NOT_STARTED),
        ({"run": "other", "by": "anne", "until": 0, "job": "j"}, OperationState.NOT_STARTED),
        ({"run": "locked by run None until 5", "by": "", "until": UNTIL}, OperationState.NOT_STARTED),
        ({"run": "other", "by": "x) until 5", "until": "soon"}, OperationState.FAILED),
        ({"run": "", "by": "anne", "until": UNTIL}, OperationState.FAILED),
        ({"by": "anne", "until": UNTIL, "job": "j"}, OperationState.FAILED),
        ({}, OperationState.FAILED),
    ],
)
def test_a_machine_is_left_to_another_run_by_what_it_answers(
    fleet: SimFleet, answer: ScriptRecord, state: OperationState
) -> None:
    web = fleet.add("web", [FakePackage("a")])
    web.answer("machine_lock", {"kind": "taken", **answer})
    assert outcome_of(fleet.patch(), "web").state is state


def test_the_remedy_names_the_way_to_lift_a_lock(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    web.answer("machine_lock", {"kind": "taken", "run": "other", "by": "anne", "until": UNTIL})
    (finding,) = [each for each in outcome_of(fleet.patch(), "web").findings if each.check == "machine lock"]
    assert "fleetpatch unlock web" in finding.remedy


@pytest.mark.parametrize(
    ("error", "kinds", "expected"),
    [
        (RecordsUnavailable("away"), (RecordsError,), True),
        (RecordsError("broken"), (RecordsUnavailable,), False),
        (ConnectionLost("cut"), (JobLost, TransportError), True),
        (JobLost("gone"), (TransportError, InternalError), False),
    ],
)
def test_a_kept_error_is_of_its_class_and_of_those_above(
    error: FleetpatchError, kinds: tuple[type[FleetpatchError], ...], *, expected: bool
) -> None:
    assert ErrorInfo.from_error(error).is_a(*kinds) is expected


def test_a_lock_that_was_never_had_is_told_by_its_field(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", fails="lock: the package's own script says so")])
    outcome = outcome_of(fleet.patch(), "web")
    assert web.world["a"].broken
    assert result_of(outcome, "a").state is UpdateState.FAILED
