"""How tests run a hook: as the engine does, journal and all."""

from dataclasses import replace

import pytest

from flows.hooks.calling import hook_caller
from tasks.errors import RecordsError
from tasks.model import Hook, HookResult
from tasks.seams.clock import SystemClock
from tasks.states import HookKind, HookPlace
from tasks.steps.context import Context, Control, PatchOptions
from tasks.steps.hooks import once
from tests.support.builders import make_report, make_run
from tests.support.fake_records import FakeRecords

CLOCK = SystemClock()
REPORT = replace(make_report(), run=make_run(request={"configuration": "web-tuesdays"}))
BEFORE, AFTER = HookPlace.BEFORE_RUN, HookPlace.AFTER_RUN


class Stops:
    """What stores requests to stop."""

    def __init__(self, error: RecordsError | None = None) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.error = error

    def ask(self, run_id: str, by: str, reason: str) -> None:
        self.asked.append((run_id, by, reason))
        if self.error is not None:
            raise self.error


def call(
    kind: HookKind,
    target: str,
    *,
    place: HookPlace = BEFORE,
    seconds: float = 10.0,
    control: Control | None = None,
    stops: Stops | None = None,
    subject: str = "run",
    records: FakeRecords | None = None,
) -> HookResult:
    """Run a hook as the engine does, journal and all."""
    hook = Hook("h", place, kind, target, timeout_seconds=seconds)
    control = control or Control()
    caller = hook_caller(CLOCK, control, (stops or Stops()).ask)
    context = Context(
        REPORT.run,
        PatchOptions(),
        CLOCK,
        records or FakeRecords(),
        connect=lambda machine: pytest.fail("no machine here"),
        manager_for=lambda facts: pytest.fail("no machine here"),
        control=control,
    )
    return once(context, hook, subject, lambda h, s, d: caller(h, REPORT, s, d))
