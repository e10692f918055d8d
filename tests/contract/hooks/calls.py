"""How tests run a hook: as the engine does, journal and all."""

from dataclasses import replace

import pytest

from flows.hooks.dispatch import build_hook_dispatcher
from tasks.errors import RecordsError
from tasks.model import Hook, HookResult
from tasks.protocols.clock import SystemClock
from tasks.states import HookKind, HookPoint
from tasks.steps.context.patch_options import PatchOptions
from tasks.steps.context.run_context import RunContext
from tasks.steps.context.stop_token import StopToken
from tasks.steps.hooks import run_hook_once
from tests.support.builders import make_report, make_run
from tests.support.fake_records import FakeRecords

CLOCK = SystemClock()
REPORT = replace(make_report(), run=make_run(request={"configuration": "web-tuesdays"}))
BEFORE, AFTER = HookPoint.BEFORE_RUN, HookPoint.AFTER_RUN


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
    place: HookPoint = BEFORE,
    seconds: float = 30.0,
    control: StopToken | None = None,
    stops: Stops | None = None,
    subject: str = "run",
    records: FakeRecords | None = None,
) -> HookResult:
    """Run a hook as the engine does, journal and all."""
    hook = Hook("h", place, kind, target, timeout_seconds=seconds)
    control = control or StopToken()
    caller = build_hook_dispatcher(CLOCK, control, (stops or Stops()).ask)
    context = RunContext(
        REPORT.run,
        PatchOptions(),
        CLOCK,
        records or FakeRecords(),
        connect=lambda machine: pytest.fail("no machine here"),
        find_manager=lambda facts: pytest.fail("no machine here"),
        stop_token=control,
    )
    return run_hook_once(context, hook, subject, lambda h, s, d: caller(h, REPORT, s, d))
