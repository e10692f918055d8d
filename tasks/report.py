"""The Prefect task of the report step: files for people and machines, and artifacts in the Prefect UI."""

from pathlib import Path

from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from tasks.model import RunReport
from tasks.reporting.markdown import machine_rows, summary, update_rows
from tasks.reporting.write import write_report


@task(name="report", task_run_name="report {run_id}", cache_policy=NO_CACHE, persist_result=False)
def publish_report(run_id: str, report: "Sealed", directory: Path | None, formats: tuple[str, ...]) -> dict[str, Path]:
    """Show the report as artifacts of the flow run, and write its files where that was asked for."""
    key = f"fleetpatch-{report.content.run.kind}"  # one key for all runs: Prefect keeps the history of a key together
    create_markdown_artifact(summary(report.content), key=f"{key}-summary", description=f"Run {run_id}")
    create_table_artifact(machine_rows(report.content), key=f"{key}-machines", description=f"Machines of run {run_id}")
    create_table_artifact(update_rows(report.content), key=f"{key}-updates", description=f"Updates of run {run_id}")
    if directory is None:
        return {}
    written = write_report(report.content, directory, logs=report.logs, formats=formats)
    if "html" in written:
        create_link_artifact(written["html"].as_uri(), link_text="The whole report", key=f"{key}-report")
    return written


class Sealed:
    """A report that Prefect does not look into: it walks through dataclasses among a task's parameters."""

    __slots__ = ("content", "logs")

    def __init__(self, content: RunReport, logs: dict[str, str]) -> None:
        self.content = content
        self.logs = logs
