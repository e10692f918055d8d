"""The Prefect task of the report step: artifacts in the Prefect UI. Its files are written by whoever runs it."""

import platform
from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from tasks.model import RunReport
from tasks.reporting.markdown import machine_rows, summary, update_rows
from tasks.reporting.whole import whole


@task(name="report", task_run_name="report {run_id}", cache_policy=NO_CACHE, persist_result=False)
def publish_report(run_id: str, report: "Sealed", directory: Path | None = None) -> None:
    """Show the report as artifacts of the flow run.

    Args:
        run_id: of the run.
        report: of the run.
        directory: where its files are, on this machine. It is named and not linked to: no browser opens such a link.
    """
    files = f"{directory} on {platform.node()}" if directory else ""
    key = f"fleetpatch-{report.content.run.kind}"  # one key for all runs: Prefect keeps the history of a key together
    create_markdown_artifact(summary(report.content), key=f"{key}-summary", description=f"Run {run_id}")
    create_markdown_artifact(whole(report.content, files), key=f"{key}-report", description=f"Whole report of {run_id}")
    create_table_artifact(machine_rows(report.content), key=f"{key}-machines", description=f"Machines of run {run_id}")
    create_table_artifact(update_rows(report.content), key=f"{key}-updates", description=f"Updates of run {run_id}")


class Sealed:
    """A report that Prefect does not look into: it walks through dataclasses among a task's parameters."""

    __slots__ = ("content",)

    def __init__(self, content: RunReport) -> None:
        self.content = content
