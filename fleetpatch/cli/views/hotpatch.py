"""Prints enrolments for hotpatches and live patches, and builds their JSON."""

from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text

from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.output import (
    print_to_stderr,
    print_to_stdout,
    render_finding_mark,
    to_safe_text,
)
from fleetpatch.cli.runtime.table import build_table, build_unwrapped_column
from flows.hotpatch.changes import ChangeResult, ChangeState
from flows.hotpatch.overview import HotpatchRow
from tasks.domain.model import Finding
from tasks.domain.states import FindingLevel, HotpatchStatus
from tasks.reports.formatting import NO_FIGURE, format_count, format_iso_utc
from tasks.rules.hotpatch import describe_first_day

_STATUS_STYLES: Mapping[HotpatchStatus | None, str] = {
    HotpatchStatus.ENABLED: "green",
    HotpatchStatus.PENDING: "cyan",
    HotpatchStatus.DISABLED: "yellow",
    HotpatchStatus.CANCELED: "yellow",
    HotpatchStatus.NOT_ENROLLED: "dim",
}
_RESULT_STYLES: Mapping[ChangeState, str] = {
    ChangeState.CHANGED: "green",
    ChangeState.UNCHANGED: "dim",
    ChangeState.PLANNED: "cyan",
    ChangeState.REFUSED: "yellow",
    ChangeState.FAILED: "bold red",
}


def render_status(status: HotpatchStatus | None) -> Text:
    """Return a status in its colour."""
    return Text(status.value if status else NO_FIGURE, style=_STATUS_STYLES.get(status, ""))


def build_row_json(row: HotpatchRow) -> dict[str, object]:
    """Return the part of a machine's JSON that is about hotpatches."""
    return {
        "hotpatchStatus": row.status.value if row.status else None,
        "nextBaselineDate": row.baseline.day.isoformat() if row.baseline else None,
    }


def build_status_json(rows: Sequence[HotpatchRow], stale: str) -> dict[str, object]:
    """Return enrolments as JSON data."""
    return {"machines": [_build_status_row(row) for row in rows], "baselinesStale": stale or None}


def _build_status_row(row: HotpatchRow) -> dict[str, object]:
    enrolment, request = row.enrolment, row.request
    return {
        "machineName": row.machine,
        **build_row_json(row),
        "baselineReason": (row.baseline.reason or None) if row.baseline else None,
        "provider": enrolment.provider if enrolment else None,
        "means": (enrolment.means or None) if enrolment else None,
        "licence": row.provider_words or None,
        "prerequisites": _build_findings(enrolment.prerequisites if enrolment else ()),
        "lastRequest": {
            "action": request.action.value,
            "by": request.by,
            "dateTime": format_iso_utc(request.at),
            "notBefore": request.not_before.isoformat() if request.not_before else None,
            "failure": request.failure or None,
        }
        if request
        else None,
    }


def _build_findings(findings: Sequence[Finding]) -> list[dict[str, object]]:
    return [
        {
            "check": finding.check,
            "level": finding.level.value,
            "message": finding.message,
            "remedy": finding.remedy or None,
        }
        for finding in findings
    ]


def print_statuses(rows: Sequence[HotpatchRow], stale: str) -> None:
    """Print enrolments as a table, with what each machine lacks."""
    known_rows = [each for each in rows if each.enrolment is not None]
    if known_rows:
        grid = build_table(
            build_unwrapped_column("machine"),
            build_unwrapped_column("hotpatch"),
            build_unwrapped_column("provider"),
            build_unwrapped_column("next baseline"),
            "remarks",
        )
        for row in known_rows:
            grid.add_row(
                to_safe_text(row.machine),
                render_status(row.status),
                to_safe_text(row.enrolment.provider if row.enrolment else ""),
                Text(format_baseline(row) or NO_FIGURE),
                Text("\n").join(_iterate_remarks(row)) or Text(""),
            )
        print_to_stdout(grid)
    without = len(rows) - len(known_rows)
    if without:
        print_to_stdout(
            *([""] if known_rows else []),
            f"{format_count(without, 'machine')} without an answer about hotpatches or live patches: not assessed yet, "
            "or a system that has none.",
        )
    if stale:
        print_to_stderr(Text.assemble(("! ", "yellow"), to_safe_text(stale)))


def format_baseline(row: HotpatchRow) -> str:
    """Return the next baseline of a machine, or ""."""
    if row.baseline is None:
        return ""
    return f"{row.baseline.day:%Y-%m-%d}" + ("" if row.baseline.is_planned else " (unplanned)")


def _iterate_remarks(row: HotpatchRow) -> Iterator[Text]:
    request = row.request
    if request is not None and request.failure:
        yield to_safe_text(f"{request.action} by {request.by} failed: {request.failure}", style="red", limit=200)
    if row.status is HotpatchStatus.PENDING and request is not None:
        yield to_safe_text(describe_first_day(request.not_before) or f"{request.action} asked for by {request.by}")
    if row.provider_words:
        yield to_safe_text(f"Azure Arc: {row.provider_words}")
    for finding in row.enrolment.prerequisites if row.enrolment else ():
        if finding.level is not FindingLevel.GOOD:
            text = f"{finding.message}. {finding.remedy}" if finding.remedy else finding.message
            yield Text.assemble(render_finding_mark(finding.level), " ", to_safe_text(text))


def build_change_json(action: str, results: Sequence[ChangeResult], *, dry_run: bool) -> dict[str, object]:
    """Return what became of a request as JSON data."""
    return {
        "action": action,
        "dryRun": dry_run,
        "machines": [
            {
                "machineName": result.machine,
                "result": result.state.value,
                "hotpatchStatus": result.status.value if result.status else None,
                "message": result.message or None,
                "remedy": result.remedy or None,
                "steps": list(result.steps),
                "prerequisites": _build_findings(result.prerequisites),
            }
            for result in results
        ],
    }


def print_changes(results: Sequence[ChangeResult]) -> None:
    """Print what became of a request on each machine."""
    grid = build_table(
        build_unwrapped_column("machine"),
        build_unwrapped_column("result"),
        build_unwrapped_column("hotpatch"),
        "remarks",
    )
    for result in results:
        lines = [to_safe_text(step, style="dim") for step in result.steps]
        lines += [to_safe_text(text) for text in (result.message, result.remedy) if text]
        grid.add_row(
            to_safe_text(result.machine),
            Text(result.state.value, style=_RESULT_STYLES[result.state]),
            render_status(result.status),
            Text("\n").join(lines),
        )
    print_to_stdout(grid)


def to_exit_code(results: Sequence[ChangeResult]) -> ExitCode:
    """Return the exit code of a request."""
    states = {result.state for result in results}
    if ChangeState.FAILED in states:
        return ExitCode.MACHINE_FAILED
    if states == {ChangeState.REFUSED}:
        return ExitCode.NOTHING_ATTEMPTED
    return ExitCode.WARNINGS if ChangeState.REFUSED in states else ExitCode.SUCCESS
