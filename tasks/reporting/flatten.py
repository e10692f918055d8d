"""A run's report, laid out as tables. Pure: no pandas, no files.

Each machine has one row, also when the run ended before it had an outcome: dry runs have plans, assessments have
assessments. What a machine's updates are is taken from the first of outcome, plan and assessment that knows.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from tasks.model import Assessment, ErrorInfo, HookResult, Outcome, Plan, RunReport, UpdateResult, Wave
from tasks.reporting.compliance import compliance_of
from tasks.reporting.rows import (
    FindingRow,
    HookRow,
    MachineRow,
    RunRow,
    StepRow,
    Tables,
    TransactionRow,
    UpdateRow,
)
from tasks.reporting.waves import wave_rows
from tasks.rules.counts import UpdateCounts, count_results
from tasks.rules.figures import least_seconds, reboot_of, worked_seconds
from tasks.states import SETTLED, URGENT, FindingLevel, OperationState, RebootState, UpdateState

_BIGGEST = 2**63 - 1  # what an integer column holds; sizes are told by machines


@dataclass(frozen=True, slots=True)
class Subject:
    """Everything that a report says of one machine."""

    run_id: str
    machine: str
    wave: Wave | None
    outcome: Outcome | None
    plan: Plan | None
    assessment: Assessment | None

    @property
    def wave_number(self) -> int | None:
        """The wave it was in, or is planned for."""
        if self.outcome is not None and self.outcome.wave is not None:
            return self.outcome.wave
        return self.wave.number if self.wave else None

    @property
    def state(self) -> OperationState:
        """The outcome's state; without one, whether it could be assessed, or that nothing was begun."""
        if self.outcome is not None:
            return self.outcome.state
        if self.plan is not None or self.assessment is None:
            return OperationState.NOT_STARTED
        return OperationState.FAILED if self.assessment.error else OperationState.SUCCEEDED

    @property
    def error(self) -> ErrorInfo | None:
        """What went wrong."""
        if self.outcome is not None:
            return self.outcome.error or (self.outcome.install.error if self.outcome.install else None)
        return self.assessment.error if self.assessment else None


def subjects(report: RunReport) -> tuple[Subject, ...]:
    """Return all machines that the report speaks of: those with an outcome first, each in the report's order."""
    plans = {plan.machine: plan for plan in report.plans}
    assessments = {assessment.machine: assessment for assessment in report.assessments}  # the last one is the newest
    waves = {name: wave for wave in report.waves for name in wave.machines}

    def about(machine: str, outcome: Outcome | None) -> Subject:
        return Subject(
            run_id=report.run.id,
            machine=machine,
            wave=waves.get(machine),
            outcome=outcome,
            plan=plans.get(machine),
            assessment=assessments.get(machine),
        )

    done = {outcome.machine for outcome in report.outcomes}
    others = dict.fromkeys(name for name in (*waves, *plans, *assessments) if name not in done)
    return tuple([about(o.machine, o) for o in report.outcomes] + [about(name, None) for name in others])


def results(subject: Subject) -> Iterator[tuple[UpdateResult, bool]]:
    """Yield each update of a machine, and whether a plan chose it that is not carried out."""
    outcome, plan, assessment = subject.outcome, subject.plan, subject.assessment
    if outcome is not None and (outcome.updates or plan is None or outcome.install is not None):
        chosen = {update.id for update in plan.chosen} if plan is not None and outcome.install is None else set()
        for result in outcome.updates:
            yield result, result.state is UpdateState.PENDING and result.update.id in chosen
    elif plan is not None:
        yield from ((UpdateResult(update, UpdateState.PENDING, "planned"), True) for update in plan.chosen)
        yield from ((result, False) for result in plan.skipped)
    elif assessment is not None and assessment.packages is not None:
        yield from ((UpdateResult(update, UpdateState.PENDING), False) for update in assessment.packages.updates)


def is_urgent(result: UpdateResult) -> bool:
    """Return whether that is a critical or security update that is not installed."""
    return result.update.classification in URGENT and result.state not in SETTLED


def tables(report: RunReport, counted: Mapping[str, UpdateCounts] | None = None) -> Tables:
    """Lay a report out as tables.

    Args:
        report: the run.
        counted: numbers of updates by machine, of a report whose outcomes are without them: its table of updates is
            empty then.
    """
    about = subjects(report)
    listed = [tuple(results(subject)) for subject in about]
    known = counted or {}
    counts = [
        known.get(s.machine) or count_results(r for r, _ in found) for s, found in zip(about, listed, strict=True)
    ]
    machines = tuple(_machine_row(subject, found) for subject, found in zip(about, counts, strict=True))
    return Tables(
        runs=(_run_row(report, machines),),
        machines=machines,
        updates=tuple(
            _update_row(s, result, planned=planned)
            for s, found in zip(about, listed, strict=True)
            for result, planned in found
        ),
        transactions=tuple(row for subject in about for row in _transaction_rows(subject)),
        findings=tuple(row for subject in about for row in _finding_rows(subject)),
        waves=wave_rows(report, machines),
        timeline=tuple(row for subject in about for row in _step_rows(subject)),
        hooks=tuple(_hook_row(report.run.id, result) for result in report.hooks),
    )


def _hook_row(run_id: str, result: HookResult) -> HookRow:
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
        started_at=utc(result.started_at),
        ended_at=utc(result.ended_at),
        seconds=between(result.started_at, result.ended_at),
        target=hook.target,
    )


def utc(at: datetime | None) -> datetime | None:
    """Return the same moment in UTC."""
    return None if at is None else at.astimezone(UTC)


def between(start: datetime | None, end: datetime | None) -> float | None:
    """Return the seconds between two moments, or None when one is missing."""
    return None if start is None or end is None else (end - start).total_seconds()


def finite(value: float | None) -> float | None:
    """Return the figure, or None for what is none (JSON has no NaN and no infinity)."""
    return None if value is None or not math.isfinite(value) else float(value)


def _run_row(report: RunReport, machines: tuple[MachineRow, ...]) -> RunRow:
    run, window = report.run, report.run.window
    states = Counter(row.state for row in machines)
    reboots = Counter(row.reboot for row in machines)
    return RunRow(
        run_id=run.id,
        kind=run.kind,
        state=run.state.value,
        message=run.message,
        scope=run.scope,
        started_by=run.started_by,
        flow_run_id=run.flow_run_id,
        started_at=utc(run.started_at),
        ended_at=utc(run.ended_at),
        seconds=between(run.started_at, run.ended_at),
        window_start=utc(window.start) if window else None,
        window_end=utc(window.end) if window else None,
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
        pending=sum(row.pending for row in machines),
        excluded=sum(row.excluded for row in machines),
        not_selected=sum(row.not_selected for row in machines),
        not_attempted=sum(row.not_attempted for row in machines),
        urgent_pending=sum(row.urgent_pending for row in machines),
        reboots_completed=reboots[RebootState.COMPLETED],
        reboots_failed=reboots[RebootState.FAILED],
        reboots_required=reboots[RebootState.REQUIRED],
        request=json.dumps(run.request, sort_keys=True, default=str),
        notes="\n".join(" ".join(note.split()) for note in report.notes),
    )


def _machine_row(subject: Subject, found: UpdateCounts) -> MachineRow:
    outcome, plan, error = subject.outcome, subject.plan, subject.error
    levels = Counter(finding.level for finding in outcome.findings) if outcome else Counter()
    reboot = outcome.reboot_result if outcome else None
    exceeded = (finite(outcome.window_exceeded_seconds) or 0.0) if outcome else 0.0
    prediction = (outcome.prediction if outcome else None) or (plan.prediction if plan else None)
    install = outcome.install if outcome else None
    facts = (outcome.facts if outcome else None) or (subject.assessment.facts if subject.assessment else None)
    went = [x for x in (reboot.down_seconds, reboot.up_seconds) if x is not None] if reboot else []
    return MachineRow(
        run_id=subject.run_id,
        machine=subject.machine,
        wave=subject.wave_number,
        canary=bool(subject.wave and subject.wave.canary),
        state=subject.state.value,
        reason=_reason(subject),
        compliance=compliance_of(outcome, subject.assessment, found).value,
        started_at=utc(outcome.started_at) if outcome else None,
        ended_at=utc(outcome.ended_at) if outcome else None,
        seconds=_seconds(subject),
        worked_seconds=worked_seconds(outcome) if outcome else _seconds(subject),
        updates=found.total,
        planned=len(plan.chosen) if plan else None,
        installed=found.of(UpdateState.INSTALLED),
        repaired=found.of(UpdateState.REPAIRED),
        failed=found.of(UpdateState.FAILED),
        pending=found.of(UpdateState.PENDING),
        excluded=found.of(UpdateState.EXCLUDED),
        not_selected=found.of(UpdateState.NOT_SELECTED),
        not_attempted=found.of(UpdateState.NOT_ATTEMPTED),
        urgent_pending=found.urgent,
        reboot=_reboot_state(subject),
        reboot_reason=reboot.reason if reboot else "",
        reboot_seconds=finite(sum(went)) if went else None,
        reboot_expected=reboot_of(plan).value if plan else "",
        services_to_restart=", ".join(_services_to_restart(subject)),
        window_exceeded=exceeded > 0,
        window_exceeded_seconds=exceeded,
        predicted_seconds=finite(prediction.total) if prediction else None,
        predicted_least_seconds=finite(least_seconds(plan) if plan else prediction.total) if prediction else None,
        prediction_basis=prediction.basis if prediction else "",
        findings_block=levels[FindingLevel.BLOCK],
        findings_warn=levels[FindingLevel.WARN],
        kept_conffiles="\n".join(" ".join(path.split()) for path in install.conffiles) if install else "",
        os_name=facts.os_name if facts else "",
        os_version=facts.os_version if facts else "",
        kernel=facts.kernel if facts else "",
        arch=facts.arch if facts else "",
        package_manager=facts.managers[0] if facts and facts.managers else "",
        error_kind=error.kind if error else "",
        error_message=error.message if error else "",
        error_hint=error.hint if error else "",
        error_transient=error.transient if error else None,
    )


def _seconds(subject: Subject) -> float | None:
    if subject.outcome is not None:
        return between(subject.outcome.started_at, subject.outcome.ended_at)
    return finite(subject.assessment.seconds) if subject.assessment else None


def _reason(subject: Subject) -> str:
    if subject.outcome is not None:
        return subject.outcome.reason
    return subject.error.message if subject.error else ""


def _reboot_state(subject: Subject) -> str:
    if subject.outcome is not None:
        return subject.outcome.reboot.value
    packages = subject.assessment.packages if subject.assessment else None
    known = {"yes": RebootState.REQUIRED, "no": RebootState.NOT_NEEDED}
    return known.get(packages.reboot.answer.value if packages else "", RebootState.UNKNOWN).value


def _services_to_restart(subject: Subject) -> tuple[str, ...]:
    if subject.outcome is not None:
        return subject.outcome.services_to_restart
    packages = subject.assessment.packages if subject.assessment else None
    return packages.services_to_restart if packages else ()


def _update_row(subject: Subject, result: UpdateResult, *, planned: bool) -> UpdateRow:
    update = result.update
    return UpdateRow(
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
        cves=None if update.cves is None else " ".join(update.cves),
        origins="; ".join(update.origins),
        size_bytes=None if update.size_bytes is None else min(update.size_bytes, _BIGGEST),
        group=update.group,
        held=update.held,
        blocked=update.blocked,
        requires_reboot=update.requires_reboot,
        published=utc(update.published),
    )


def _transaction_rows(subject: Subject) -> Iterator[TransactionRow]:
    install = subject.outcome.install if subject.outcome else None
    for transaction in install.transactions if install else ():
        yield TransactionRow(
            run_id=subject.run_id,
            machine=subject.machine,
            number=transaction.number,
            update_count=len(transaction.updates),
            updates=" ".join(transaction.updates),
            started_at=utc(transaction.started_at),
            ended_at=utc(transaction.ended_at),
            seconds=between(transaction.started_at, transaction.ended_at),
            exit_code=transaction.exit_code,
            detail=transaction.detail,
        )


def _finding_rows(subject: Subject) -> Iterator[FindingRow]:
    for finding in subject.outcome.findings if subject.outcome else ():
        yield FindingRow(
            run_id=subject.run_id,
            machine=subject.machine,
            check=finding.check,
            level=finding.level.value,
            message=finding.message,
            remedy=finding.remedy,
        )


def _step_rows(subject: Subject) -> Iterator[StepRow]:
    for step in subject.outcome.steps if subject.outcome else ():
        yield StepRow(
            run_id=subject.run_id,
            machine=subject.machine,
            wave=subject.wave_number,
            step=step.step.value,
            state=step.state.value,
            started_at=utc(step.started_at),
            ended_at=utc(step.ended_at),
            seconds=between(step.started_at, step.ended_at),
            message=step.message,
        )
