"""The Prefect tasks: one for each step of a machine, and one that publishes the report of a run.

The task run of a failed step is Failed (red) in Prefect. No exception is raised, so the other machines continue.
"""

import platform
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
from tasks.reports.export.markdown import (
    build_machine_rows,
    build_update_table,
    limit_table,
    render_markdown_report,
    render_summary,
)
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.machine_state import MachineState
from tasks.steps.pipeline import evaluate_step, execute_step


class OpaqueMachineState:
    """A machine state in a Failed state, with a short repr: Prefect logs this data, and the full state is very long."""

    __slots__ = ("state",)

    def __init__(self, state: MachineState) -> None:
        self.state = state

    def __repr__(self) -> str:
        return self.state.machine.name


def to_prefect_state(machine_state: MachineState, step: Step) -> MachineState | State[OpaqueMachineState]:
    """Return the result of a step; in a Prefect Failed state when the step failed."""
    state, message = evaluate_step(machine_state, step)
    if state is OperationState.FAILED:
        return Failed(message=message, data=OpaqueMachineState(machine_state))
    return machine_state


def is_transient_failure(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001 - Prefect's signature
    """Return whether a retry of a failed task run may succeed. The kind of the error decides, never its text."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, FleetpatchError) and error.transient


@task(
    name="assess",
    task_run_name="assess {work.name}",
    retries=2,
    retry_delay_seconds=[5, 15],
    retry_jitter_factor=0.5,
    retry_condition_fn=is_transient_failure,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def assess_machine(work: MachineContext) -> MachineState | State[OpaqueMachineState]:
    """Read the facts and pending updates of a machine, and make its plan.

    It only reads, so Prefect retries it after transient errors.
    """
    return to_prefect_state(execute_step(work, Step.ASSESS), Step.ASSESS)


@task(
    name="precheck",
    task_run_name="precheck {work.name}",
    retries=2,
    retry_delay_seconds=[5, 15],
    retry_jitter_factor=0.5,
    retry_condition_fn=is_transient_failure,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def precheck_machine(work: MachineContext) -> MachineState | State[OpaqueMachineState]:
    """Check whether a machine may be patched now.

    It only reads, so Prefect retries it after transient errors.
    """
    return to_prefect_state(execute_step(work, Step.PRECHECK), Step.PRECHECK)


@task(
    name="install",
    task_run_name="install {work.name}",
    retries=0,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def install_updates(work: MachineContext) -> MachineState | State[OpaqueMachineState]:
    """Install the chosen updates in a detached job on the machine.

    It changes the machine, so Prefect never retries it: a repeated request must have one effect.
    """
    return to_prefect_state(execute_step(work, Step.INSTALL), Step.INSTALL)


@task(
    name="reboot",
    task_run_name="reboot {work.name}",
    retries=0,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def reboot_machine(work: MachineContext) -> MachineState | State[OpaqueMachineState]:
    """Reboot a machine when the policy, the reboot need and the window allow it.

    It changes the machine, so Prefect never retries it: a repeated request must have one effect.
    """
    return to_prefect_state(execute_step(work, Step.REBOOT), Step.REBOOT)


@task(
    name="validate",
    task_run_name="validate {work.name}",
    retries=2,
    retry_delay_seconds=[5, 15],
    retry_jitter_factor=0.5,
    retry_condition_fn=is_transient_failure,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def validate_machine(work: MachineContext) -> MachineState | State[OpaqueMachineState]:
    """Assess a machine after the installation and compare its state with the state before.

    It only reads, so Prefect retries it after transient errors.
    """
    return to_prefect_state(execute_step(work, Step.VALIDATE), Step.VALIDATE)


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
    key = f"fleetpatch-{report.report.run.kind}"  # one key for all runs: Prefect keeps a history per key
    create_markdown_artifact(
        f"{link}{render_summary(report.report)}", key=f"{key}-summary", description=f"Run {run_id}"
    )
    create_markdown_artifact(
        f"{link}{render_markdown_report(report.report, files)}",
        key=f"{key}-report",
        description=f"Whole report of {run_id}",
    )
    machines, said = limit_table(build_machine_rows(report.report), f"Machines of run {run_id}")
    create_table_artifact(list(machines), key=f"{key}-machines", description=said)
    updates, said = limit_table(build_update_table(report.report), f"Updates of run {run_id}")
    create_table_artifact(list(updates), key=f"{key}-updates", description=said)


class OpaqueReport:
    """A wrapper that hides a report from Prefect, which traverses dataclasses in task parameters."""

    __slots__ = ("report",)

    def __init__(self, report: RunReport) -> None:
        self.report = report
