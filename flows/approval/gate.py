"""The approval gate of a run: it waits for a decision in the records.

Every answer, from any source, is written to the records, and the run reads it there. So all sources are equal, the
first answer wins, and a resumed run finds the decision.
"""

import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from flows.approval.answers import (
    MAX_NAME_LENGTH,
    MAX_REMARK_LENGTH,
    AnswerSource,
    ApprovalAnswer,
    ApprovalPresenter,
    NoAnswerSource,
    PendingApproval,
    describe_approval,
    find_approval_deadlock,
    find_approval_objection,
    format_moment,
)
from flows.engine.resume_state import parse_recorded_request
from flows.ports.audit import AuditAppender, append_nowhere, build_entry, record_end
from flows.ports.caller import Actor
from flows.ports.ports import Gate, GateDecision, Notifier
from flows.request.patch_request import PatchRequest
from tasks.domain.errors import RecordsError, RecordsUnavailable
from tasks.domain.model import MachinePlan, RunInfo, RunReport, Window
from tasks.domain.protocols.clock import Clock
from tasks.domain.protocols.records import JournalEntry, JournalMark, Records
from tasks.domain.rows.audit import AuditResult
from tasks.domain.states import NotificationOccasion, RebootPolicy, Step
from tasks.records.approvals import Approval, ApprovalDecision, SqlApprovals
from tasks.reports.sanitizing import sanitize_to_one_line
from tasks.rules.runs.approval import (
    ApprovedUpdates,
    build_approve_command,
    collect_planned_updates,
    compute_plan_digest,
    is_approval_required,
    restrict_to_approved,
)
from tasks.rules.timing.maintenance_window import compute_cut_off
from tasks.steps.context.run_control import ProgressListener, StopToken
from tasks.steps.start_checks import is_visit_needed_for_plan

logger = logging.getLogger(__name__)

T = TypeVar("T")

RECORDS_POLL_SECONDS = 2.0  # how often the records are read for a decision
STOP_POLL_SECONDS = 0.5  # how soon a waiting run sees a stop request
_RECORDS_POLL_INTERVAL = timedelta(seconds=RECORDS_POLL_SECONDS)
APPROVAL_ACT = "approval"
"""The act of the journal entry with the plan that was shown. Its key is the digest. It belongs to no machine."""


def choose_presenter() -> ApprovalPresenter:
    """Return the presenter: Prefect's UI inside a flow run, otherwise the records alone."""
    context = sys.modules.get("prefect.context")  # if it is not loaded, this is no flow run
    if context is None or context.FlowRunContext.get() is None:
        return lambda _pending, _stop_token, wait: wait(NoAnswerSource())
    from flows.approval.prefect_form import present_in_prefect  # noqa: PLC0415 - loads Prefect

    return present_in_prefect


def build_gate(
    approvals: SqlApprovals,
    records: Records,
    clock: Clock,
    listener: ProgressListener,
    notify: Notifier,
    append_audit: AuditAppender = append_nowhere,
) -> Gate:
    """Return the gate of all runs. A run waits if its recorded request, with what the policy imposes, requires it."""

    def decide(planned: RunReport, stop_token: StopToken) -> GateDecision:
        if not is_approval_required(planned.run):
            return GateDecision()
        gate = ApprovalGate(
            parse_recorded_request(planned.run),
            approvals,
            records,
            clock,
            print_message=listener.on_message,
            notify=notify,
            append_audit=append_audit,
        )
        return gate(planned, stop_token)

    return decide


class ApprovalGate:
    """The gate of a run that requires an approval (see flows/ports/ports.py).

    Args:
        presenter: shows the approval; by default where the run executes.
        append_audit: stores the answers that a presenter gets. Those in the records are recorded where they are given.
    """

    def __init__(
        self,
        request: PatchRequest,
        approvals: SqlApprovals,
        records: Records,
        clock: Clock,
        *,
        print_message: Callable[[str], None] = logger.info,
        notify: Notifier | None = None,
        presenter: ApprovalPresenter | None = None,
        append_audit: AuditAppender = append_nowhere,
    ) -> None:
        self._request, self._approvals, self._records, self._clock = request, approvals, records, clock
        self._print_message, self._notify, self._presenter = print_message, notify, presenter
        self._append_audit = append_audit

    def __call__(self, planned: RunReport, stop_token: StopToken) -> GateDecision:
        """Wait for the decision on a plan, and return its result for the run.

        Raises:
            RecordsError: the records are not usable, and waiting does not help.
        """
        if not self.is_approval_needed(planned):
            return GateDecision(notes=("approval: not requested, because nothing would be changed",))
        planned_updates = collect_planned_updates(planned.plans)
        if stop_token.is_stopping:  # stopped before the approval: a run that is finalized does not ask
            decision = self._read_earlier_decision(planned.run.id, stop_token)
            return (
                self._build_gate_decision(decision, planned, planned_updates)
                if decision is not None
                else _build_undecided(stop_token)
            )
        requested = self._retry_while_unavailable(
            lambda: self._request_approval(planned, planned_updates), stop_token, _require_window(planned).end
        )
        if requested is None:
            return _build_undecided(stop_token)
        approval, until = requested
        if approval.decision is ApprovalDecision.WAITING:
            decision = self._present_and_wait(PendingApproval(planned, approval.digest, until), stop_token)
            if decision is None:
                return _build_undecided(stop_token)
            approval = decision
        return self._build_gate_decision(approval, planned, planned_updates)

    def _read_earlier_decision(self, run_id: str, stop_token: StopToken) -> Approval | None:
        """Return the earlier decision; None if there is none, or if it can't be read."""
        try:
            approval = self._approvals.find_approval(run_id)
        except RecordsUnavailable:
            return None
        if approval is not None and approval.decision is ApprovalDecision.WAITING:
            self._withdraw_request(run_id, approval.digest, stop_token)
            return None
        return approval

    def is_approval_needed(self, planned: RunReport) -> bool:
        """Return whether anything may begin: a hook, an update, or a visit to a machine without an update."""
        request = self._request
        if (
            request.hooks.to_hooks()
            or request.reboot is RebootPolicy.ALWAYS
            or request.reboot_pending_first
            or request.repair
        ):
            return True
        options = request.to_patch_options(window=planned.run.window)
        packages = {assessment.machine: assessment.packages for assessment in planned.assessments}
        return any(is_visit_needed_for_plan(plan, packages.get(plan.machine), options) for plan in planned.plans)

    def _request_approval(self, planned: RunReport, items: ApprovedUpdates) -> tuple[Approval, datetime]:
        """Request the approval of the plan. Return the approval, and when it expires by the run's clock."""
        now, window, mark = self._clock.now(), _require_window(planned), compute_plan_digest(items, planned.run.request)
        until = compute_cut_off(window, self._request.reboot, self._request.reboot_reserve_minutes * 60)
        if self._request.approval.expires_minutes is not None:
            until = min(until, now + timedelta(minutes=self._request.approval.expires_minutes))
        if not any(
            entry.act == APPROVAL_ACT and entry.key == mark for entry in self._records.read_entries(planned.run.id, "")
        ):
            detail: dict[str, object] = {machine: dict(versions) for machine, versions in items.items()}
            self._records.append_entry(
                JournalEntry(
                    planned.run.id, "", Step.ASSESS, JournalMark.AFTER, APPROVAL_ACT, mark, now, {"shown": detail}
                )
            )
        approval = self._approvals.request_approval(planned.run.id, mark, max(0.0, (until - now).total_seconds()))
        remaining = approval.expires_at - self._approvals.read_current_time()
        # Do not ask if it is too late, or if no person may approve the run.
        reason = find_approval_deadlock(self._request, planned.run.started_by)
        if approval.decision is ApprovalDecision.WAITING and (reason or remaining <= timedelta()):
            approval = self._approvals.decide(planned.run.id, mark, ApprovalDecision.EXPIRED, "", reason) or approval
        return approval, now + remaining

    def _present_and_wait(self, pending: PendingApproval, stop_token: StopToken) -> Approval | None:
        run, zone = pending.planned.run, _require_window(pending.planned).zone
        command = build_approve_command(run.id, pending.digest)
        waits = f"waits for approval until {format_moment(pending.expires_at, zone)}: {command}"
        self._print_message(f"run {run.id} {waits}")
        if self._notify is not None:
            try:
                self._notify(NotificationOccasion.WAITING, replace(pending.planned, run=replace(run, message=waits)))
            except Exception:  # it waits for approval anyway
                logger.exception("run %s: the notification that it waits for approval failed", run.id)
        host = self._presenter or choose_presenter()
        return host(pending, stop_token, lambda desk: self._wait_for_decision(pending, stop_token, desk))

    def _wait_for_decision(
        self, pending: PendingApproval, stop_token: StopToken, source: AnswerSource
    ) -> Approval | None:
        """Wait for a decision. Return None if the run was stopped, or the records stayed unavailable."""
        run, answer, end = pending.planned.run, None, _require_window(pending.planned).end
        looked: datetime | None = None
        while not stop_token.is_stopping:
            now = self._clock.now()
            answer = answer or self._accept_answer(source.read_answer(), pending, source)
            if (
                answer is not None
                or now >= pending.expires_at
                or looked is None
                or now - looked >= _RECORDS_POLL_INTERVAL
            ):
                looked = now
                decision = self._save_or_read_decision(pending, answer)
                if decision is not None and decision.decision is not ApprovalDecision.WAITING:
                    return decision
                if decision is not None and answer is not None:  # the approval had expired, by the database's clock
                    answer = None
                if decision is None and now >= end:
                    return None
            self._clock.sleep(STOP_POLL_SECONDS)
        self._withdraw_request(run.id, pending.digest, stop_token)
        return None

    def _accept_answer(
        self, submitted: ApprovalAnswer | None, pending: PendingApproval, source: AnswerSource
    ) -> ApprovalAnswer | None:
        """Return an answer that is allowed. Refuse any other answer with the reason."""
        if submitted is None:
            return None
        answer = ApprovalDecision.APPROVED if submitted.is_approval else ApprovalDecision.REJECTED
        reason = find_approval_objection(self._request, pending.planned.run.started_by, submitted.who, answer=answer)
        if reason:
            self._record_answer(submitted, pending, AuditResult.REFUSED, reason)
            self._print_message(f"an answer was not accepted: {reason}")
            source.reject_answer(reason)
            return None
        return submitted

    def _save_or_read_decision(self, pending: PendingApproval, submitted: ApprovalAnswer | None) -> Approval | None:
        """Record the answer or the expiry, and return the approval; None while the records are unavailable."""
        run_id, mark = pending.planned.run.id, pending.digest
        try:
            if submitted is not None:
                answer = ApprovalDecision.APPROVED if submitted.is_approval else ApprovalDecision.REJECTED
                caller = sanitize_to_one_line(submitted.who, MAX_NAME_LENGTH)
                remark = sanitize_to_one_line(submitted.remark, MAX_REMARK_LENGTH)
                self._record_answer(submitted, pending, AuditResult.BEGUN)
                decided = self._approvals.decide(run_id, mark, answer, caller, remark)
                is_decided = decided is not None and (decided.decision, decided.who) == (answer, caller)
                result = AuditResult.DONE if is_decided else AuditResult.FAILED
                self._record_answer(submitted, pending, result, "" if is_decided else "another answer was first")
                return decided
            if self._clock.now() >= pending.expires_at:
                return self._approvals.decide(run_id, mark, ApprovalDecision.EXPIRED, "")
            return self._approvals.find_approval(run_id)
        except RecordsUnavailable as error:
            logger.warning("the approval of run %s can't be read now: %s", run_id, error.message)
            return None

    def _record_answer(
        self, answer: ApprovalAnswer, pending: PendingApproval, result: AuditResult, message: str = ""
    ) -> None:
        """Store an answer in the audit log. Whoever may use Prefect can type any name into its form."""
        actor = Actor("", "prefect", answer.who, "the form in Prefect")
        act = "approve" if answer.is_approval else "reject"
        detail = f"plan {pending.digest[:12]}"
        entry = build_entry(actor, self._clock, act, pending.planned.run.id, detail, result, message)
        if result is AuditResult.BEGUN:
            self._append_audit(entry)
        else:
            record_end(self._append_audit, entry)

    def _withdraw_request(self, run_id: str, mark: str, stop_token: StopToken) -> None:
        """Expire the approval of a stopped run. Keep it if the run is suspended or another process has its lease."""
        if stop_token.is_lease_lost or stop_token.is_suspended:
            return
        try:
            self._approvals.decide(
                run_id, mark, ApprovalDecision.EXPIRED, "", f"the run was stopped: {stop_token.reason}"
            )
        except RecordsUnavailable as error:
            logger.warning("the end of run %s's wait for approval is not in the records: %s", run_id, error.message)

    def _retry_while_unavailable(self, call: Callable[[], T], stop_token: StopToken, until: datetime) -> T | None:
        is_waiting = False
        while not stop_token.is_stopping and (not is_waiting or self._clock.now() < until):
            try:
                return call()
            except RecordsUnavailable as error:
                if not is_waiting:
                    self._print_message(f"waiting before approval: records database unavailable ({error.message})")
                is_waiting = True
                self._clock.sleep(RECORDS_POLL_SECONDS)
        return None

    def _build_gate_decision(self, approval: Approval, planned: RunReport, items: ApprovedUpdates) -> GateDecision:
        zone = _require_window(planned).zone
        if approval.decision is not ApprovalDecision.APPROVED:
            return GateDecision(refusal=describe_approval(approval, zone), notes=(describe_approval(approval, zone),))
        try:
            self._approvals.require_sealed(approval)
        except RecordsError as error:
            return GateDecision(refusal=f"{error.message}. {error.hint}", notes=(describe_approval(approval, zone),))
        approved: ApprovedUpdates | None = (
            items
            if approval.digest == compute_plan_digest(items, planned.run.request)
            else self._read_approved_items(approval, planned.run)
        )
        if approved is None:
            reason = f"the plan is no longer what {approval.who} approved, and what that was is not in the journal"
            return GateDecision(refusal=reason, notes=(describe_approval(approval, zone),))
        plans: dict[str, MachinePlan] = {}
        for plan in planned.plans:
            restricted_plan = restrict_to_approved(plan, approved, self._request.approval.changed, approval.who)
            if restricted_plan is not plan:
                plans[plan.machine] = restricted_plan
        cut = tuple(f"{name}: {plan.notes[-1]}" for name, plan in plans.items())
        return GateDecision(plans=plans, notes=(describe_approval(approval, zone), *cut))

    def _read_approved_items(self, approval: Approval, run: RunInfo) -> ApprovedUpdates | None:
        """Return the updates of the approved plan from the journal."""
        for entry in self._records.read_entries(approval.run_id, ""):
            if entry.act == APPROVAL_ACT and entry.key == approval.digest:
                recorded_items = entry.detail.get("shown")
                if isinstance(recorded_items, dict):
                    updates = {
                        str(name): {str(k): str(v) for k, v in versions.items()}
                        for name, versions in recorded_items.items()
                    }
                    return updates if compute_plan_digest(updates, run.request) == approval.digest else None
        return None


def _build_undecided(stop_token: StopToken) -> GateDecision:
    if stop_token.is_stopping:
        return GateDecision(refusal=f"the run was stopped while it waited for approval: {stop_token.reason}")
    return GateDecision(
        refusal="the records database was unavailable until the window's end: no approval could be read"
    )


def _require_window(planned: RunReport) -> Window:
    if planned.run.window is None:
        raise ValueError(f"run {planned.run.id} has no window")
    return planned.run.window
