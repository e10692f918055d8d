"""The Prefect tasks: one for each step of a machine, and one that publishes the report of a run.

The task run of a failed step is Failed (red) in Prefect. No exception is raised, so the other machines continue.
"""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Failed
from prefect.tasks import Task

from inventory.errors import FleetpatchError
from tasks.domain.model import RunReport
from tasks.domain.states import OperationState, Step
from tasks.reports.data.tables import build_tables
from tasks.reports.export.markdown import (
    build_machine_rows,
    build_update_table,
    limit_table,
    render_markdown_report,
    render_summary,
)
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.pipeline import call_step_function, evaluate_step


class OpaqueMachineState:
    """A machine state in a Failed state, with a short repr: Prefect logs this data, and the full state is very long."""

    __slots__ = ("state",)

    def __init__(self, state: MachineState) -> None:
        self.state = state

    def __repr__(self) -> str:
        return self.state.machine.name


def is_transient_failure(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001 - Prefect's signature
    """Return whether a retry of a failed task run may succeed. The kind of the error decides, never its text."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, FleetpatchError) and error.transient


StepTask = Task[["StepExecution"], MachineState | State[OpaqueMachineState]]


class StepExecution:
    """One execution of a step on a machine: the parameter of its task, which keeps the step's own result.

    Prefect may fail before or after the body of a task. It is not a dataclass: Prefect would copy it.

    Attributes:
        has_begun: whether the task's body was called.
        has_succeeded: whether the step neither raised an error nor failed.
        error: what the step raised.
    """

    __slots__ = ("context", "error", "has_begun", "has_succeeded", "step")

    def __init__(self, context: MachineContext, step: Step) -> None:
        self.context, self.step = context, step
        self.has_begun = self.has_succeeded = False
        self.error: BaseException | None = None

    def __repr__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """The name of its task run: the step and the machine."""
        return f"{self.step} {self.context.name}"

    def run(self) -> MachineState | State[OpaqueMachineState]:
        """Execute the step. Return its result, in a Prefect Failed state if the step failed."""
        self.has_begun, self.has_succeeded, self.error = True, False, None
        try:
            machine_state = call_step_function(self.context, self.step)
            state, message = evaluate_step(machine_state, self.step)
        except BaseException as error:
            self.error = error
            raise
        if state is OperationState.FAILED:
            return Failed(message=message, data=OpaqueMachineState(machine_state))
        self.has_succeeded = True
        return machine_state


def build_step_task(step: Step, *, retries: int) -> StepTask:
    """Return the task of a step. A step that fails with a transient error is retried so many times."""

    @task(
        name=step.value,
        task_run_name="{execution.name}",
        retries=retries,
        retry_delay_seconds=[5, 15],
        retry_jitter_factor=0.5,
        retry_condition_fn=is_transient_failure,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def run_step(execution: StepExecution) -> MachineState | State[OpaqueMachineState]:
        return execution.run()

    return run_step


STEP_TASKS: Mapping[Step, StepTask] = {
    Step.ASSESS: build_step_task(Step.ASSESS, retries=2),
    Step.PRECHECK: build_step_task(Step.PRECHECK, retries=2),
    Step.INSTALL: build_step_task(Step.INSTALL, retries=0),
    Step.REBOOT: build_step_task(Step.REBOOT, retries=0),
    Step.VALIDATE: build_step_task(Step.VALIDATE, retries=2),
}
"""INSTALL and REBOOT are never retried: a repeated request must have one effect.

VALIDATE may also remove unused kernels. A retry orders the job with the same id, which the machine starts only once.
"""

ASSESS_ONCE: StepTask = build_step_task(Step.ASSESS, retries=0)
"""For machines without retries (see ``MachineContext.is_retry_disabled``)."""


@task(name="report", task_run_name="report {run_id}", cache_policy=NO_CACHE, persist_result=False)
def publish_report(run_id: str, report: "OpaqueReport", directory: Path | None = None, link: str = "") -> None:
    """Show the report as artifacts of the flow run.

    Args:
        run_id: id of the run.
        report: report of the run.
        directory: folder of the report files on the controller. The text names it without a link, because browsers do
            not open links to local files.
        link: Markdown with the link to the run's page, which stands first; "" for none.
    """
    files = f"{directory} on {platform.node()}" if directory else ""
    run_report, tables = report.report, build_tables(report.report)
    key = f"fleetpatch-{run_report.run.kind}"  # one key for all runs: Prefect keeps a history per key
    create_markdown_artifact(
        f"{link}{render_summary(run_report, tables)}", key=f"{key}-summary", description=f"Run {run_id}"
    )
    create_markdown_artifact(
        f"{link}{render_markdown_report(run_report, files, tables)}",
        key=f"{key}-report",
        description=f"Whole report of {run_id}",
    )
    machines, description = limit_table(build_machine_rows(run_report, tables=tables), f"Machines of run {run_id}")
    create_table_artifact(list(machines), key=f"{key}-machines", description=description)
    updates, description = limit_table(build_update_table(run_report, tables=tables), f"Updates of run {run_id}")
    create_table_artifact(list(updates), key=f"{key}-updates", description=description)


class OpaqueReport:
    """A wrapper that hides a report from Prefect, which traverses dataclasses in task parameters."""

    __slots__ = ("report",)

    def __init__(self, report: RunReport) -> None:
        self.report = report
