"""How tests run a hook: as the engine does, journal and all."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from flows.hooks.dispatch import build_hook_dispatcher
from tasks.domain.errors import RecordsError
from tasks.domain.model import Hook, HookResult
from tasks.domain.protocols.clock import Clock, SystemClock
from tasks.domain.states import HookKind, HookPoint
from tasks.steps.context.run_context import PatchOptions, RunContext
from tasks.steps.context.run_control import StopToken
from tasks.steps.hooks import run_hook_once
from tests.support.builders import make_report, make_run
from tests.support.fake_records import FakeRecords

CLOCK = SystemClock()
REPORT = replace(make_report(), run=make_run(request={"configuration": "web-tuesdays"}))
BEFORE, AFTER = HookPoint.BEFORE_RUN, HookPoint.AFTER_RUN


class WaitingClock(SystemClock):
    """A clock that stands still until something is so: a time limit begins there, however busy the machine is."""

    def __init__(self, is_so: Callable[[], object]) -> None:
        self._is_so = is_so
        self._stands_at: datetime | None = super().now()
        self._behind = timedelta()

    def now(self) -> datetime:
        """Return the time."""
        now = super().now()
        if self._stands_at is not None:
            if not self._is_so():
                return self._stands_at
            self._behind, self._stands_at = now - self._stands_at, None
        return now - self._behind


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
    clock: Clock = CLOCK,
) -> HookResult:
    """Run a hook as the engine does, journal and all."""
    hook = Hook("h", place, kind, target, timeout_seconds=seconds)
    control = control or StopToken()
    caller = build_hook_dispatcher(clock, control, (stops or Stops()).ask)
    context = RunContext(
        REPORT.run,
        PatchOptions(),
        clock,
        records or FakeRecords(),
        connect=lambda machine: pytest.fail("no machine here"),
        find_manager=lambda facts: pytest.fail("no machine here"),
        stop_token=control,
    )
    return run_hook_once(context, hook, subject, lambda h, s, d: caller(h, REPORT, s, d))
