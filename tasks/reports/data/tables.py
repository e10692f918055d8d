"""Builds the tables of a report. Pure: no pandas, no files.

Each machine has one row, even without an outcome: a dry run has plans, an assessment run has assessments. A machine's
updates come from its outcome, or else from its plan, or else from its assessment.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache

from tasks.domain.model import HookResult, RunReport, UpdateResult
from tasks.domain.states import FindingLevel, OperationState, RebootState, Step, UpdateState
from tasks.reports.data.machine_reports import (
    MachineReport,
    build_machine_reports,
    compute_compliance,
    find_update_results,
)
from tasks.reports.data.rows import (
    FindingRow,
    HookRow,
    MachineReportRow,
    RunReportRow,
    StepRow,
    Tables,
    TransactionRow,
    UpdateReportRow,
    WaveRow,
)
from tasks.rules.machine_checks.packages import describe_live_patching
from tasks.rules.redaction import redact_request
from tasks.rules.runs.figures import (
    UpdateCounts,
    compute_min_seconds,
    compute_work_seconds,
    count_results,
    explain_reboot,
    predict_reboot,
)

_MAX_INTEGER = 2**63 - 1  # maximum of an integer column: sizes come from machines and may be larger


def build_tables(report: RunReport, update_counts: Mapping[str, UpdateCounts] | None = None) -> Tables:
    """Return the tables of a report.

    ``update_counts``: counts of updates by machine, for a report whose outcomes have no updates. Then the tables of
    what machines did in detail are empty: updates, transactions, waves and the timeline.
    """
    machine_reports = build_machine_reports(report)
    listed = [tuple(find_update_results(subject)) for subject in machine_reports]
    counts_by_machine = update_counts or {}
    counts = [
        counts_by_machine.get(s.machine) or count_results(r for r, _ in results)
        for s, results in zip(machine_reports, listed, strict=True)
    ]
    machines = tuple(
        _build_machine_row(subject, results) for subject, results in zip(machine_reports, counts, strict=True)
    )
    detailed = machine_reports if update_counts is None else ()
    return Tables(
        runs=(_build_run_row(report, machines),),
        machines=machines,
        updates=tuple(
            build_update_row(s, result, planned=planned)
            for s, results in zip(machine_reports, listed, strict=True)
            for result, planned in results
        ),
        transactions=tuple(row for subject in detailed for row in _build_transaction_rows(subject)),
        findings=tuple(row for subject in machine_reports for row in _build_finding_rows(subject)),
        waves=build_wave_rows(report, machines) if detailed else (),
        timeline=tuple(row for subject in detailed for row in _build_step_rows(subject)),
        hooks=tuple(build_hook_row(report.run.id, result) for result in report.hooks),
    )


def build_hook_row(run_id: str, result: HookResult) -> HookRow:
    """Return the row of a hook."""
    hook = result.hook
    return HookRow(
        run_id=run_id,
        hook=hook.name,
        place=hook.place.value,
        subject=result.subject,
        kind=hook.kind.value,
        mode=hook.mode.value,
        succeeded=result.succeeded,
        message=result.message,
        started_at=_to_utc(result.started_at),
        ended_at=_to_utc(result.ended_at),
        seconds=_compute_seconds_between(result.started_at, result.ended_at),
        target=hook.target,
    )


def _to_utc(at: datetime | None) -> datetime | None:
    """Return the datetime in UTC; None for None."""
    return None if at is None else at.astimezone(UTC)


def _compute_seconds_between(start: datetime | None, end: datetime | None) -> float | None:
    """Return the seconds between two datetimes; None if one is missing."""
    return None if start is None or end is None else (end - start).total_seconds()


def _to_finite(value: float | None) -> float | None:
    """Return the value as a float; None for None, NaN and infinity, which JSON does not have."""
    return None if value is None or not math.isfinite(value) else float(value)


def _build_run_row(report: RunReport, machines: tuple[MachineReportRow, ...]) -> RunReportRow:
    run, window = report.run, report.run.window
    states = Counter(row.state for row in machines)
    reboots = Counter(row.reboot for row in machines)
    return RunReportRow(
        run_id=run.id,
        kind=run.kind,
        state=run.state.value,
        message=run.message,
        scope=run.scope,
        started_by=run.started_by,
        flow_run_id=run.flow_run_id,
        started_at=_to_utc(run.started_at),
        ended_at=_to_utc(run.ended_at),
        seconds=_compute_seconds_between(run.started_at, run.ended_at),
        window_start=_to_utc(window.start) if window else None,
        window_end=_to_utc(window.end) if window else None,
        window_zone=window.zone if window else "",
        machines=len(machines),
        machines_succeeded=states[OperationState.SUCCEEDED],
        machines_warnings=states[OperationState.COMPLETED_WITH_WARNINGS],
        machines_failed=states[OperationState.FAILED],
        machines_in_progress=states[OperationState.IN_PROGRESS],
        machines_not_started=states[OperationState.NOT_STARTED],
        machines_unknown=states[OperationState.UNKNOWN],
        updates=sum(row.updates for row in machines),
        installed=sum(row.installed for row in machines),
        repaired=sum(row.repaired for row in machines),
        failed=sum(row.failed for row in machines),
        setup_failed=sum(row.setup_failed for row in machines),
        pending=sum(row.pending for row in machines),
        blocked=sum(row.blocked for row in machines),
        excluded=sum(row.excluded for row in machines),
        not_selected=sum(row.not_selected for row in machines),
        not_attempted=sum(row.not_attempted for row in machines),
        urgent_pending=sum(row.urgent_pending for row in machines),
        reboots_completed=reboots[RebootState.COMPLETED],
        reboots_failed=reboots[RebootState.FAILED],
        reboots_required=reboots[RebootState.REQUIRED],
        request=json.dumps(redact_request(run.request), sort_keys=True, default=str),
        notes="\n".join(" ".join(note.split()) for note in report.notes),
    )


def _build_machine_row(subject: MachineReport, found: UpdateCounts) -> MachineReportRow:
    outcome, plan, error = subject.outcome, subject.plan, subject.error
    levels = Counter(finding.level for finding in subject.findings)
    reboot = outcome.reboot_result if outcome else None
    exceeded = (_to_finite(outcome.window_exceeded_seconds) or 0.0) if outcome else 0.0
    prediction = (outcome.prediction if outcome else None) or (plan.prediction if plan else None)
    install = outcome.install if outcome else None
    facts = (outcome.facts if outcome else None) or (subject.assessment.facts if subject.assessment else None)
    went = [x for x in (reboot.down_seconds, reboot.up_seconds) if x is not None] if reboot else []
    return MachineReportRow(
        run_id=subject.run_id,
        machine=subject.machine,
        wave=subject.wave_number,
        canary=bool(subject.wave and subject.wave.canary),
        state=subject.state.value,
        reason=_find_reason(subject),
        compliance=compute_compliance(outcome, subject.assessment, found).value,
        started_at=_to_utc(outcome.started_at) if outcome else None,
        ended_at=_to_utc(outcome.ended_at) if outcome else None,
        seconds=_compute_duration(subject),
        worked_seconds=compute_work_seconds(outcome) if outcome else _compute_duration(subject),
        updates=found.total,
        planned=len(plan.chosen) if plan else None,
        installed=found.count_in(UpdateState.INSTALLED),
        repaired=found.count_in(UpdateState.REPAIRED),
        failed=found.count_in(UpdateState.FAILED),
        setup_failed=found.count_in(UpdateState.SETUP_FAILED),
        pending=found.count_in(UpdateState.PENDING),
        blocked=found.count_in(UpdateState.BLOCKED),
        excluded=found.count_in(UpdateState.EXCLUDED),
        not_selected=found.count_in(UpdateState.NOT_SELECTED),
        not_attempted=found.count_in(UpdateState.NOT_ATTEMPTED),
        urgent_pending=found.urgent,
        reboot=_find_reboot_state(subject),
        reboot_reason=reboot.reason if reboot else "",
        reboot_seconds=_to_finite(sum(went)) if went else None,
        reboot_expected=predict_reboot(plan).value if plan else "",
        reboot_expected_reason=explain_reboot(plan) if plan else "",
        reboot_mitigated_by=_find_mitigation(subject),
        live_patches=describe_live_patching(subject.packages.live_patching) if subject.packages else "",
        services_to_restart=", ".join(_find_services_to_restart(subject)),
        window_exceeded=exceeded > 0,
        window_exceeded_seconds=exceeded,
        predicted_seconds=_to_finite(prediction.total_seconds) if prediction else None,
        predicted_least_seconds=_to_finite(compute_min_seconds(plan) if plan else prediction.total_seconds)
        if prediction
        else None,
        prediction_basis=prediction.basis if prediction else "",
        findings_block=levels[FindingLevel.BLOCK],
        findings_warn=levels[FindingLevel.WARN],
        findings_remark=levels[FindingLevel.REMARK],
        kept_conffiles="\n".join(" ".join(path.split()) for path in install.kept_configuration_files)
        if install
        else "",
        os_name=facts.os_name if facts else "",
        os_version=facts.os_version if facts else "",
        kernel=facts.kernel if facts else "",
        arch=facts.arch if facts else "",
        package_manager=facts.managers[0] if facts and facts.managers else "",
        error_kind=error.kind if error else "",
        error_message=error.message if error else "",
        error_hint=error.hint if error else "",
        error_transient=error.transient if error else None,
        kernel_before=outcome.kernel_before if outcome else "",
    )


def _compute_duration(subject: MachineReport) -> float | None:
    if subject.outcome is not None:
        return _compute_seconds_between(subject.outcome.started_at, subject.outcome.ended_at)
    return _to_finite(subject.assessment.seconds) if subject.assessment else None


def _find_reason(subject: MachineReport) -> str:
    if subject.outcome is not None:
        return subject.outcome.reason
    return subject.error.message if subject.error else ""


def _find_reboot_state(subject: MachineReport) -> str:
    if subject.outcome is not None:
        return subject.outcome.reboot.value
    states_by_answer = {"yes": RebootState.REQUIRED, "no": RebootState.NOT_NEEDED}
    answer = subject.packages.reboot.answer.value if subject.packages else ""
    return states_by_answer.get(answer, RebootState.UNKNOWN).value


def _find_mitigation(subject: MachineReport) -> str:
    """Return the live patches that mitigate a required reboot, or ""."""
    if subject.outcome is not None and subject.outcome.reboot is not RebootState.REQUIRED:
        return ""
    return subject.packages.reboot.mitigated_by if subject.packages else ""


def _find_services_to_restart(subject: MachineReport) -> tuple[str, ...]:
    if subject.outcome is not None:
        return subject.outcome.services_to_restart
    return subject.packages.services_to_restart if subject.packages else ()


def build_update_row(subject: MachineReport, result: UpdateResult, *, planned: bool) -> UpdateReportRow:
    """Return the row of an update. ``planned``: see the row."""
    update = result.update
    return UpdateReportRow(
        run_id=subject.run_id,
        machine=subject.machine,
        update_id=update.id,
        name=update.name,
        arch=update.arch,
        version_before=update.installed,
        version_available=update.available,
        version_after=result.version_after,
        classification=update.classification.value,
        severity=update.severity,
        state=result.state.value,
        reason=result.reason,
        planned=planned,
        kb=update.kb,
        cves=None if update.cves is None else _join(" ", update.cves),
        origins=_join("; ", update.origins),
        size_bytes=None if update.size_bytes is None else min(update.size_bytes, _MAX_INTEGER),
        group=update.group,
        held=update.held,
        blocked=update.blocked,
        requires_reboot=update.requires_reboot,
        published=_to_utc(update.published),
        advisories=_join(" ", update.advisories),
        title=update.title,
    )


@lru_cache(maxsize=10_000)
def _join(between: str, texts: tuple[str, ...]) -> str:
    """Return texts as one. That of an update is there once for all machines that lack it."""
    return between.join(texts)


def build_update_rows(subject: MachineReport) -> tuple[UpdateReportRow, ...]:
    """Return the rows of a machine's updates."""
    return tuple(build_update_row(subject, result, planned=planned) for result, planned in find_update_results(subject))


def _build_transaction_rows(subject: MachineReport) -> Iterator[TransactionRow]:
    install = subject.outcome.install if subject.outcome else None
    for transaction in install.transactions if install else ():
        yield TransactionRow(
            run_id=subject.run_id,
            machine=subject.machine,
            number=transaction.number,
            update_count=len(transaction.updates),
            updates=" ".join(transaction.updates),
            started_at=_to_utc(transaction.started_at),
            ended_at=_to_utc(transaction.ended_at),
            seconds=_compute_seconds_between(transaction.started_at, transaction.ended_at),
            exit_code=transaction.exit_code,
            detail=transaction.detail,
            undo=transaction.undo,
        )


def _build_finding_rows(subject: MachineReport) -> Iterator[FindingRow]:
    for finding in subject.findings:
        yield FindingRow(
            run_id=subject.run_id,
            machine=subject.machine,
            check=finding.check,
            level=finding.level.value,
            message=finding.message,
            remedy=finding.remedy,
        )


def _build_step_rows(subject: MachineReport) -> Iterator[StepRow]:
    for step in subject.outcome.steps if subject.outcome else ():
        yield StepRow(
            run_id=subject.run_id,
            machine=subject.machine,
            wave=subject.wave_number,
            step=step.step.value,
            state=step.state.value,
            started_at=_to_utc(step.started_at),
            ended_at=_to_utc(step.ended_at),
            seconds=_compute_seconds_between(step.started_at, step.ended_at),
            message=step.message,
        )


def build_wave_rows(report: RunReport, machines: tuple[MachineReportRow, ...]) -> tuple[WaveRow, ...]:
    """Return a row for each wave, sorted by number."""
    members: dict[int, list[MachineReportRow]] = {wave.number: [] for wave in report.waves}
    for row in machines:
        if row.wave is not None:
            members.setdefault(row.wave, []).append(row)
    canaries: Mapping[int, bool] = {wave.number: wave.canary for wave in report.waves}
    start_times = _find_start_times(report)
    return tuple(
        _build_wave_row(report.run.id, number, rows, start_times, canary=canaries.get(number, False))
        for number, rows in sorted(members.items())
    )


def _find_start_times(report: RunReport) -> dict[str, datetime]:
    """Return when each machine began in its wave: its first step after assess.

    The assess step does not count, because all machines are assessed together before the first wave.
    """
    ends: dict[str, datetime] = {}
    for outcome in report.outcomes:
        starts = [step.started_at for step in outcome.steps if step.step is not Step.ASSESS]
        if starts:
            ends[outcome.machine] = min(starts).astimezone(UTC)
    return ends


def _build_wave_row(
    run_id: str, number: int, rows: list[MachineReportRow], start_times: Mapping[str, datetime], *, canary: bool
) -> WaveRow:
    states = Counter(row.state for row in rows)
    predicted = [row.predicted_seconds for row in rows if row.predicted_seconds is not None]
    return WaveRow(
        run_id=run_id,
        wave=number,
        canary=canary,
        machines=len(rows),
        succeeded=states[OperationState.SUCCEEDED],
        warnings=states[OperationState.COMPLETED_WITH_WARNINGS],
        failed=states[OperationState.FAILED],
        not_started=states[OperationState.NOT_STARTED],
        started_at=min((start_times[row.machine] for row in rows if row.machine in start_times), default=None),
        ended_at=max((row.ended_at for row in rows if row.ended_at and row.machine in start_times), default=None),
        predicted_seconds=max(predicted, default=None),
    )
