"""The Prefect tasks: for the work of a run, in whatever parts it is shown, and one that publishes its report.

The task run of failed work is Failed (red) in Prefect. An expected error is not raised, so the other machines continue.
"""

import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, StateType, TaskRun
from prefect.runtime import task_run
from prefect.states import Failed
from prefect.tasks import Task

from inventory.errors import FleetpatchError
from tasks.domain.model import RunReport
from tasks.domain.states import Step
from tasks.reports.data.tables import build_tables
from tasks.reports.export.markdown import (
    build_machine_rows,
    build_update_table,
    limit_table,
    render_markdown_report,
    render_summary,
)
from tasks.steps.pipeline import RETRY_DELAYS_SECONDS, RETRY_JITTER, STEP_RETRIES


def is_transient_failure(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001 - Prefect's signature
    """Return whether a retry of a failed task run may succeed. The kind of the error decides, never its text."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, FleetpatchError) and error.transient


class Execution:
    """The work that a task run shows: the parameter of its task, which keeps what became of the work.

    Prefect may fail before or after the body of a task. It is not a dataclass: Prefect would copy it.

    Args:
        name: the name of the task run.
        work: does the work, and returns the state of the task run.

    Attributes:
        has_begun: whether the work was begun.
        task_run_id: the task run in which it began; None outside of one.
        end: the type and the name of the state that the task run must get; None: the work raised an error of Python.
        error: what it raised.
    """

    __slots__ = ("_work", "end", "error", "has_begun", "name", "task_run_id")

    def __init__(self, name: str, work: Callable[[], State[None]]) -> None:
        self.name, self._work = name, work
        self.has_begun = False
        self.task_run_id: UUID | None = None
        self.end: tuple[StateType, str | None] | None = None
        self.error: BaseException | None = None

    def __repr__(self) -> str:
        return self.name

    def run(self) -> State[Any]:
        """Do the work, and return its state. That of an expected error has the error as its data, for the retries."""
        self.has_begun, self.end, self.error = True, None, None
        task_run_id = task_run.get_id()
        self.task_run_id = UUID(task_run_id) if task_run_id else None
        try:
            state: State[Any] = self._work()
        except FleetpatchError as error:
            self.error = error
            state = Failed(message=error.message, data=error)
        except BaseException as error:
            self.error = error
            raise
        self.end = (state.type, state.name)
        return state


WorkTask = Task[[Execution], State[Any]]


def build_task(name: str, *, retries: int = 0) -> WorkTask:
    """Return a task for work of one kind. Work that raises a transient error is repeated so many times."""

    @task(
        name=name,
        task_run_name="{execution.name}",
        retries=retries,
        retry_delay_seconds=list(RETRY_DELAYS_SECONDS),
        retry_jitter_factor=RETRY_JITTER,
        retry_condition_fn=is_transient_failure,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def run_work(execution: Execution) -> State[Any]:
        return execution.run()

    return run_work


STEP_TASKS: Mapping[Step, WorkTask] = {
    step: build_task(step.value, retries=retries) for step, retries in STEP_RETRIES.items()
}
ASSESS_ONCE: WorkTask = build_task(Step.ASSESS.value)
"""For machines without retries (see ``MachineContext.is_retry_disabled``)."""
PART_TASK: WorkTask = build_task("part")
"""For a part of the run: its assessment, a wave."""


@task(name="report", task_run_name="report {run_id}", cache_policy=NO_CACHE, persist_result=False)
def publish_report(run_id: str, report: "OpaqueReport", directory: Path | None = None, link: str = "") -> list[Any]:
    """Show the report as artifacts of the flow run, and return their ids.

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
    summary_id = create_markdown_artifact(
        f"{link}{render_summary(run_report, tables)}", key=f"{key}-summary", description=f"Run {run_id}"
    )
    report_id = create_markdown_artifact(
        f"{link}{render_markdown_report(run_report, files, tables)}",
        key=f"{key}-report",
        description=f"Whole report of {run_id}",
    )
    machines, description = limit_table(build_machine_rows(run_report, tables=tables), f"Machines of run {run_id}")
    machines_id = create_table_artifact(list(machines), key=f"{key}-machines", description=description)
    updates, description = limit_table(build_update_table(run_report, tables=tables), f"Updates of run {run_id}")
    updates_id = create_table_artifact(list(updates), key=f"{key}-updates", description=description)
    return [summary_id, report_id, machines_id, updates_id]


class OpaqueReport:
    """A wrapper that hides a report from Prefect, which traverses dataclasses in task parameters."""

    __slots__ = ("report",)

    def __init__(self, report: RunReport) -> None:
        self.report = report
