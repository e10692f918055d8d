"""Recovery with one line of reason taken out: see mutations.py."""

from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import flows.reconcile
import flows.recovery
import flows.successor
import tasks.steps.claim
from flows.context import Caller
from flows.recovery import LeftRun, take_if_left, take_left
from tasks.model import RunInfo
from tests.faults.controller import Controller, Steps, current_hub


def _put(where: Any, name: str, what: Any) -> Callable[[ExitStack], None]:
    return lambda stack: stack.enter_context(patch.object(where, name, what)) and None


def _carried_here(client: Any, _resume: object, left: LeftRun, _now: object) -> Any:
    """Take the run up within reconcile's own process, to its end, before the next one gets its turn."""
    task = current_hub().current
    assert task is not None
    assert isinstance(task.owner, Controller)
    owner = task.owner
    run_id, owner.run_id = owner.run_id, left.run.id
    try:
        who = Caller(Steps(owner), type(owner.control)(), "sim", records_url="sim")
        take_if_left(left.run.id, who, take_left)
    finally:
        owner.run_id = run_id
    return SimpleNamespace(is_new=True, name="", state="", since=None)


def _longer(inner: Any) -> Any:
    def ask(work: Any, parameters: dict[str, str]) -> Any:
        if "until" in parameters:
            parameters = parameters | {"until": f"{float(parameters['until']) + 3600:.0f}"}
        return inner(work, parameters)

    return ask


def _one_more_hour(stack: ExitStack) -> None:
    stack.enter_context(patch.object(tasks.steps.claim, "_ask", _longer(tasks.steps.claim._ask)))


def _of_patch_runs_alone(stack: ExitStack) -> None:
    stack.enter_context(patch.object(RunInfo, "claims_machines", property(lambda run: run.kind == "patch")))


RECOVERY_MUTANTS: dict[str, tuple[str, Callable[[ExitStack], None]]] = {
    "recovery does not look for dead downloads": ("one outcome a machine", _of_patch_runs_alone),
    "a download's claim lasts as long as an installation's": ("one run a machine", _one_more_hour),
    "abandoned runs are carried to their end one after the other": (
        "recovery",
        _put(flows.reconcile, "start_successor", _carried_here),
    ),
    "a flow run is started for a run although one is on its way": (
        "3",
        _put(flows.successor, "is_on_its_way", lambda *_: False),
    ),
    "a flow run whose process died is waited for": (
        "recovery",
        _put(flows.successor, "is_on_its_way", lambda run, *_: run.state is not None and not run.state.is_final()),
    ),
    "what was left is not judged anew when its turn comes": (
        "recovery",
        _put(flows.recovery, "only_settled", lambda *_: ""),
    ),
}
"""By name: the law that it breaks, and how."""
