"""Prints enrolments for hotpatches and live patches, and builds their JSON."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text

from fleetpatch.cli.runtime.output import print_to_stdout, print_warning, render_mark, to_safe_text
from fleetpatch.cli.runtime.row_table import Fact, build_list_json, build_list_table
from fleetpatch.cli.views.orders import build_change_facts
from fleetpatch.cli.views.update_cells import render_hotpatch_status
from flows.hotpatch.overview import HotpatchRow
from tasks.domain.model import Finding
from tasks.domain.states import FindingLevel, HotpatchStatus
from tasks.reports.formatting import format_count
from tasks.rules.hotpatch import EnrolmentRequest, describe_first_day

FINDING_FACTS: Final[Sequence[Fact[Finding]]] = (
    Fact("check", lambda finding: finding.check),
    Fact("level", lambda finding: finding.level),
    Fact("message", lambda finding: finding.message),
    Fact("remedy", lambda finding: finding.remedy or None),
)
REQUEST_FACTS: Final[Sequence[Fact[EnrolmentRequest]]] = (
    Fact("action", lambda request: request.action),
    Fact("by", lambda request: request.by),
    Fact("dateTime", lambda request: request.at),
    Fact("notBefore", lambda request: request.not_before),
    Fact("failure", lambda request: request.failure or None),
)
STATUS_FACTS: Final[Sequence[Fact[HotpatchRow]]] = (
    Fact("machineName", lambda row: row.machine, "machine"),
    Fact("hotpatchStatus", lambda row: row.status, "hotpatch", lambda row: render_hotpatch_status(row.status)),
    Fact("", lambda row: row.enrolment.provider if row.enrolment else "", "provider"),
    Fact(
        "nextBaselineDate",
        lambda row: row.baseline.day if row.baseline else None,
        "next baseline",
        lambda row: f"{row.baseline.day}{'' if row.baseline.is_planned else ' (unplanned)'}" if row.baseline else None,
    ),
    Fact("baselineReason", lambda row: (row.baseline.reason or None) if row.baseline else None),
    Fact("provider", lambda row: row.enrolment.provider if row.enrolment else None),
    Fact("means", lambda row: (row.enrolment.means or None) if row.enrolment else None),
    Fact("licence", lambda row: row.provider_words or None),
    Fact(
        "prerequisites",
        lambda row: build_list_json(FINDING_FACTS, row.enrolment.prerequisites if row.enrolment else ()),
    ),
    Fact("lastRequest", lambda row: build_list_json(REQUEST_FACTS, [row.request])[0] if row.request else None),
    Fact("", lambda row: Text("\n").join(_iterate_remarks(row)), "remarks", wraps=True),
)


def build_status_json(rows: Sequence[HotpatchRow], stale: str) -> dict[str, object]:
    """Return enrolments as JSON data."""
    return {"machines": build_list_json(STATUS_FACTS, rows), "baselinesStale": stale or None}


def print_statuses(rows: Sequence[HotpatchRow], stale: str) -> None:
    """Print enrolments as a table, with what each machine lacks."""
    known_rows = [row for row in rows if row.enrolment is not None]
    if known_rows:
        print_to_stdout(build_list_table(STATUS_FACTS, known_rows))
    without = len(rows) - len(known_rows)
    if without:
        print_to_stdout(
            *([""] if known_rows else []),
            f"{format_count(without, 'machine')} without an answer about hotpatches or live patches: not assessed yet, "
            "or a system that has none.",
        )
    if stale:
        print_warning(stale, to_stderr=True)


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
            yield Text.assemble(render_mark(finding.level), " ", to_safe_text(text))


CHANGE_FACTS: Final = build_change_facts(
    Fact(
        "hotpatchStatus", lambda result: result.status, "hotpatch", lambda result: render_hotpatch_status(result.status)
    ),
    Fact("prerequisites", lambda result: build_list_json(FINDING_FACTS, result.prerequisites)),
)
