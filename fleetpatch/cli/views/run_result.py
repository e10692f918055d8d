"""Prints a request before a run, and the result after it."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from fleetpatch.cli.runtime.output import print_error, print_json, print_to_stderr, print_to_stdout, to_safe_text
from inventory.files.paths import expand_home
from tasks.domain.errors import ReportError
from tasks.domain.model import RunReport
from tasks.domain.states import OperationState
from tasks.reports.data.tables import build_tables
from tasks.reports.export.json_document import build_document
from tasks.reports.sanitizing import sanitize_to_one_line, to_safe_file_name

if TYPE_CHECKING:  # it loads the engine
    from fleetpatch.cli.runtime.run_session import RunResult


def print_result(result: "RunResult", directory: Path | None, *, as_json: bool, details: bool = False) -> None:
    """Print the result of a run, a plan or an assessment. ``details`` shows every update of a plan."""
    report_files = _find_report_files(result.report, directory)
    if as_json:
        result_json = {
            **build_document(build_tables(result.report)),
            "exitCode": int(result.exit_code),
            "reportFiles": report_files,
            **({} if result.report_error is None else {"reportError": result.report_error.message}),
        }
        print_json(result_json)
    else:
        _print_report(result.report, details=details)
    if result.was_interrupted and result.report.run.state is not OperationState.CANCELLED and result.report.run.message:
        print_to_stderr(to_safe_text(result.report.run.message))  # a table does not show that nothing was left undone
    print_report_error(result)
    if report_files and result.report_error is None and not as_json:
        print_to_stdout("")
        print_to_stderr(Text(f"Report: {report_files.get('html') or report_files['directory']}"))


def _print_report(report: RunReport, *, details: bool) -> None:
    if report.run.kind == "plan":
        from fleetpatch.cli.views.plan import print_plan  # programs want JSON, and no tables

        print_plan(report, details=details)
        return
    from fleetpatch.cli.views.runs import print_assessments, print_patch_run

    if report.run.kind == "assess":
        print_assessments(report)
    else:
        print_patch_run(report)


def _find_report_files(report: RunReport, directory: Path | None) -> dict[str, str]:
    """Return the paths of the written parts of a report."""
    if directory is None:
        return {}
    run_directory = expand_home(directory, ReportError) / to_safe_file_name(report.run.id)
    candidates = {
        "html": run_directory / "report.html",
        "json": run_directory / "report.json",
        "directory": run_directory,
    }
    return {key: str(path.absolute()) for key, path in candidates.items() if path.exists()}


def print_report_error(result: "RunResult") -> None:
    """Print why a run's report could not be written, and how to write it again."""
    if result.report_error is None:
        return
    run_id, error = result.report.run.id, result.report_error
    message = f"the report of run {run_id} could not be written: {error.message}"
    hint = f"{error.hint} The run is recorded. To write its report: fleetpatch report {run_id} --to DIR".strip()
    print_error(sanitize_to_one_line(message), sanitize_to_one_line(hint))
