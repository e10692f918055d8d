"""Recovery with one line of reason taken out: see mutations.py."""

from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import flows.reconcile
import flows.recovery.flow_runs
import flows.recovery.unfinished_runs
import tasks.steps.machine.machine_lock
from flows.ports.caller import Caller
from flows.recovery.reconciliation import recover_if_abandoned, recover_run
from flows.recovery.unfinished_runs import AbandonedRun
from tasks.domain.model import RunInfo
from tests.faults.breaks import replace_attribute
from tests.faults.controller import Controller, Steps, current_hub


def _carried_here(client: Any, _resume: object, left: AbandonedRun, _now: object) -> Any:
    """Take the run up within reconcile's own process, to its end, before the next one gets its turn."""
    task = current_hub().current
    assert task is not None
    assert isinstance(task.owner, Controller)
    owner = task.owner
    run_id, owner.run_id = owner.run_id, left.run.id
    try:
        who = Caller(Steps(owner), type(owner.control)(), "sim", records_url="sim")
        recover_if_abandoned(left.run.id, who, recover_run)
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
    stack.enter_context(
        patch.object(
            tasks.steps.machine.machine_lock,
            "_run_lock_script",
            _longer(tasks.steps.machine.machine_lock._run_lock_script),
        )
    )


def _of_patch_runs_alone(stack: ExitStack) -> None:
    stack.enter_context(patch.object(RunInfo, "may_change_machines", property(lambda run: run.kind == "patch")))


RECOVERY_MUTANTS: dict[str, tuple[str, Callable[[ExitStack], None]]] = {
    "recovery ignores dead download runs": ("one outcome per machine", _of_patch_runs_alone),
    "the machine lock of a download lasts as long as that of an installation": ("one run per machine", _one_more_hour),
    "abandoned runs are recovered one after the other": (
        "recovery",
        replace_attribute(flows.reconcile, "start_resume_flow_run", _carried_here),
    ),
    "a second flow run is started for the same run": (
        "3",
        replace_attribute(flows.recovery.flow_runs, "may_still_resume", lambda *_: False),
    ),
    "recovery waits for a flow run whose process died": (
        "recovery",
        replace_attribute(
            flows.recovery.flow_runs,
            "may_still_resume",
            lambda run, *_: run.state is not None and not run.state.is_final(),
        ),
    ),
    "an abandoned run is not checked again before it is recovered": (
        "recovery",
        replace_attribute(flows.recovery.unfinished_runs, "find_finalize_reason", lambda *_: ""),
    ),
}
"""By name: the law that it breaks, and how."""
