"""Retries: until there is a result, the deadline, or another error."""

import itertools
from datetime import datetime

import pytest
from tenacity import wait_exponential

from flows.local_run import LocalRunner
from tasks.domain.errors import ConnectionLost, FleetpatchError, ProtocolViolation, RecordsUnavailable, RequestError
from tasks.domain.protocols.clock import Deadline
from tasks.domain.retry import retry
from tasks.domain.states import Step
from tasks.steps import pipeline
from tasks.steps.context.machine_context import MachineContext, MachineState
from tests.support.fake_clock import FakeClock
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet


class Call:
    """Raises these errors, one at a call, and then returns the number of the call."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.count = 0

    def __call__(self) -> int:
        self.count += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.count


def test_a_call_is_repeated_until_there_is_a_result() -> None:
    clock, seen = FakeClock(), list[str]()
    call = Call(RecordsUnavailable("one"), RecordsUnavailable("two"))

    result = retry(
        call,
        RecordsUnavailable,
        clock=clock,
        deadline=Deadline.after(clock, 60),
        wait=2.0,
        on_retry=lambda error: seen.append(error.message),
    )

    assert (result, clock.sleeps, seen) == (3, [2.0, 2.0], ["one", "two"])


@pytest.mark.parametrize(("seconds", "sleeps"), [(4.0, [2.0]), (4.1, [2.0, 2.0]), (0.0, []), (-5.0, [])])
def test_no_attempt_begins_at_the_deadline_or_later(seconds: float, sleeps: list[float]) -> None:
    clock, call = FakeClock(), Call(*(RecordsUnavailable(str(number)) for number in range(9)))

    with pytest.raises(RecordsUnavailable, match=str(len(sleeps))):
        retry(call, RecordsUnavailable, clock=clock, deadline=Deadline.after(clock, seconds), wait=2.0)

    assert clock.sleeps == sleeps


def test_the_number_of_attempts_may_be_limited() -> None:
    clock, call = FakeClock(), Call(*(RecordsUnavailable("gone") for _ in range(9)))

    with pytest.raises(RecordsUnavailable):
        retry(
            call,
            RecordsUnavailable,
            clock=clock,
            deadline=Deadline.after(clock, 60),
            wait=wait_exponential(),
            max_attempts=3,
        )

    assert clock.sleeps == [1.0, 2.0]


@pytest.mark.parametrize("error", [RequestError("another type"), RecordsUnavailable("final")])
def test_any_other_error_is_raised_at_once(error: Exception) -> None:
    clock, call = FakeClock(), Call(error)

    with pytest.raises(type(error)):
        retry(
            call,
            RecordsUnavailable,
            clock=clock,
            deadline=Deadline.after(clock, 60),
            wait=2.0,
            is_retryable=lambda each: each.message != "final",
        )

    assert (call.count, clock.sleeps) == (1, [])


def test_a_clock_that_is_set_back_makes_no_wait_longer() -> None:
    clock, calls = FakeClock(), list[datetime]()

    def fail() -> None:
        calls.append(clock.now())
        if len(calls) == 2:
            clock.advance(-3600)
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        retry(fail, OSError, clock=clock, deadline=Deadline.after(clock, 10), wait=1)

    assert len(calls) == 10


class Repeating(LocalRunner):
    """Repeats steps, as Prefect's runner does where they have no task runs."""

    def execute_steps(self, context: MachineContext, *, last: Step = Step.REPORT) -> MachineState:
        return pipeline.run_steps(context, pipeline.call_step_with_retries, last=last)


@pytest.mark.parametrize(
    ("step", "error", "stops", "calls"),
    [
        (Step.ASSESS, ConnectionLost("cut"), False, 1 + 3),  # once with all machines, and then in its wave
        (Step.PRECHECK, ConnectionLost("cut"), False, 3),
        (Step.INSTALL, ConnectionLost("cut"), False, 1),
        (Step.REBOOT, ConnectionLost("cut"), False, 1),
        (Step.VALIDATE, ConnectionLost("cut"), False, 3),
        (Step.PRECHECK, ProtocolViolation("nonsense"), False, 1),
        (Step.PRECHECK, ConnectionLost("cut"), True, 1),
    ],
)
def test_only_steps_that_read_are_repeated_after_transient_errors_until_the_run_must_stop(
    monkeypatch: pytest.MonkeyPatch, step: Step, error: FleetpatchError, stops: bool, calls: int
) -> None:
    fleet, called_at = SimFleet(), list[datetime]()
    fleet.add("web", [FakePackage("a")])

    def fail(_: MachineContext) -> MachineState:
        called_at.append(fleet.clock.now())
        if stops:
            fleet.control.request_stop("Ctrl-C")
        raise error

    monkeypatch.setattr(pipeline, "STEP_FUNCTIONS", {**pipeline.STEP_FUNCTIONS, step: fail})
    fleet.patch(runner=Repeating())

    assert len(called_at) == calls
    if calls == 3:
        first, second = ((later - earlier).total_seconds() for earlier, later in itertools.pairwise(called_at))
        assert 2.5 <= first <= 7.5
        assert 7.5 <= second <= 22.5
