"""What is said before a run begins, and when it has ended."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.text import Text

from flows.cli.conduct import Conducted
from flows.cli.run_view import assessed, planned, ran
from flows.cli.screen import err, note, print_json, safe, say
from flows.request import PatchRequest
from inventory.machine import Machine
from inventory.places import with_home
from tasks.errors import ReportError
from tasks.model import RunReport
from tasks.reporting.document import document
from tasks.reporting.flatten import tables
from tasks.reporting.logs import safe_name
from tasks.rules.window import describe
from tasks.rules.window import window as open_window

NAMES_SHOWN = 12


def tell_intent(request: PatchRequest, machines: Sequence[Machine]) -> None:
    """Say what is about to be done, before anybody says yes to it."""
    ours = [machine for machine in machines if machine.owner.ours]
    names = ", ".join(machine.name for machine in ours[:NAMES_SHOWN])
    more = f" and {len(ours) - NAMES_SHOWN} more" if len(ours) > NAMES_SHOWN else ""
    asked = request.window
    window = describe(open_window(asked.start, asked.minutes, asked.zone, datetime.now(UTC).replace(microsecond=0)))
    wanted = [*request.updates.classifications, *(f"and {mask}" for mask in request.updates.include)]
    kinds = ", ".join(str(each) for each in wanted)
    without = f", without {', '.join(request.updates.exclude)}" if request.updates.exclude else ""
    rows = {
        "Machines": f"{len(ours)}: {names}{more}",
        "Updates": (kinds or "none") + without,
        "Window": window,
        "Reboot": f"{request.reboot}, {request.reboot_reserve_minutes:g} min kept for it",
    }
    for key, value in rows.items():
        err().print(Text.assemble((f"{key:10}", "bold"), safe(value)), soft_wrap=True)


def tell_patch(ended: Conducted, directory: Path | None, *, as_json: bool, details: bool) -> None:
    """Say what a run came to, or would come to."""
    report = ended.report
    written = report_files(report, directory)
    if as_json:
        print_json(_document(ended, written))
    elif report.run.kind == "plan":
        planned(report, details=details)
    else:
        ran(report)
    _tell_files(ended, written, as_json=as_json)


def tell_assess(ended: Conducted, directory: Path | None, *, as_json: bool) -> None:
    """Say what is pending."""
    written = report_files(ended.report, directory)
    if as_json:
        print_json(_document(ended, written))
    else:
        assessed(ended.report)
    _tell_files(ended, written, as_json=as_json)


def report_files(report: RunReport, directory: Path | None) -> dict[str, str]:
    """Return where the parts of a report are that are there."""
    if directory is None:
        return {}
    place = with_home(directory, ReportError) / safe_name(report.run.id)
    known = {"html": place / "report.html", "json": place / "report.json", "directory": place}
    return {key: str(path.absolute()) for key, path in known.items() if path.exists()}


def tell_unwritten(ended: Conducted) -> None:
    """Say that a run's report could not be written, why, and how to have it all the same."""
    if ended.unwritten is None:
        return
    run_id, why = ended.report.run.id, ended.unwritten
    message = f"the report of run {run_id} could not be written: {why.message}"
    hint = f"{why.hint} The run is recorded; its report: fleetpatch report {run_id} --to DIR".strip()
    err().print("error:", safe(message), style="bold red", soft_wrap=True)
    err().print("hint:", safe(hint), soft_wrap=True)


def _document(ended: Conducted, written: dict[str, str]) -> dict[str, object]:
    failed = {} if ended.unwritten is None else {"reportError": ended.unwritten.message}
    return {**document(tables(ended.report)), "exitCode": int(ended.code), "reportFiles": written, **failed}


def _tell_files(ended: Conducted, written: dict[str, str], *, as_json: bool) -> None:
    tell_unwritten(ended)
    if written and ended.unwritten is None and not as_json:
        say("")
        note(Text(f"Report: {written.get('html') or written['directory']}"))
