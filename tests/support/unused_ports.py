"""The ports of a run that most tests don't use: no raw output, no notifications, no hooks, no earlier run."""

from typing import Any, NoReturn

from tasks.domain.errors import RequestError
from tasks.domain.model import Hook, RunReport
from tasks.domain.protocols.clock import Deadline
from tests.support.fake_set_slots import FakeSetSlots


def _refuse_pinned_updates(run: str) -> NoReturn:
    raise RequestError(f"what run {run!r} has installed can't be looked up here", hint="Leave as_in_run empty.")


def _refuse_hook(hook: Hook, report: RunReport, subject: str, deadline: Deadline) -> NoReturn:
    raise RequestError(f"hook {hook.name!r} of kind {hook.kind} can't be run here")


UNUSED_PORTS: dict[str, Any] = {
    "read_logs": lambda report: {},
    "notify": lambda occasion, report: None,
    "call_hook": _refuse_hook,
    "find_pinned_updates": _refuse_pinned_updates,
    "read_declared_freezes": tuple,
    "set_slots": FakeSetSlots(),
}
