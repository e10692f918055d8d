"""The gate of a run that a person has to approve: it waits for an answer, from wherever that comes.

The records decide: whoever answers writes there, and the run reads it there. So it makes no difference where an answer
comes from, one of several wins, and a run that is taken up after a crash finds what was decided.
"""

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from flows.approval import NAME_LENGTH, REMARK_LENGTH, moment_said, nobody_may_approve, objection, said
from flows.ports import Decision, Herald, Ports
from flows.request import AssessRequest, PatchRequest
from tasks.errors import RecordsUnavailable
from tasks.model import Plan, RunReport, Window
from tasks.records.approvals import Answer, Approval, SqlApprovals
from tasks.reporting.text import one_line
from tasks.rules.approval import Approved, command_to_approve, digest, kept_to, shown
from tasks.rules.window import cut_off
from tasks.seams.clock import Clock
from tasks.seams.records import JournalEntry, JournalMark, Records
from tasks.states import Occasion, RebootPolicy, Step
from tasks.steps.context import Control

logger = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_SECONDS = 2.0  # how often the records are asked whether somebody has decided
SLICE_SECONDS = 0.5  # how soon a waiting run hears that it is to stop
_LOOK = timedelta(seconds=LOOK_SECONDS)
ACT = "approval"
"""The act of the journal entry that holds what was shown; its key is the digest. It belongs to no machine."""


@dataclass(frozen=True, slots=True)
class Word:
    """What a person said about a plan."""

    approve: bool
    who: str
    remark: str = ""


class Desk(Protocol):
    """A place besides the records where a person may answer. Its methods don't block and don't raise."""

    def look(self) -> Word | None:
        """Return an answer, once; None while there is none."""
        ...

    def refuse(self, why: str) -> None:
        """The answer can't be taken: say why, and ask again."""
        ...


class NoDesk:
    """Nobody can answer but by the records."""

    def look(self) -> Word | None:
        """There never is an answer."""
        return None

    def refuse(self, why: str) -> None:
        """Nobody answered here."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is asked.

    Attributes:
        until: when it expires, by the run's own clock.
    """

    planned: RunReport
    digest: str
    until: datetime


Host = Callable[[Question, Control, Callable[[Desk], Approval | None]], Approval | None]
"""Puts a question where people see it, and has it waited for there by calling the last argument once."""


def _plainly(question: Question, control: Control, wait: Callable[[Desk], Approval | None]) -> Approval | None:  # noqa: ARG001
    return wait(NoDesk())


def host_here() -> Host:
    """Return how a question is put: in Prefect's UI within a flow run, and elsewhere by the records alone."""
    context = sys.modules.get("prefect.context")  # without it loaded, this can't be a flow run
    if context is None or context.FlowRunContext.get() is None:
        return _plainly
    from flows.approval_prefect import in_prefect  # noqa: PLC0415 - loads Prefect

    return in_prefect


def with_approval(ports: Ports, request: AssessRequest | PatchRequest, approvals: SqlApprovals) -> Ports:
    """Return the way out of a run whose plan a person has to approve, where its request says so.

    A gate that is there already comes first, and what it refuses nobody is asked about.
    """
    if not isinstance(request, PatchRequest) or not request.approval.required:
        return ports
    mine = ApprovalGate(request, approvals, ports.records, ports.clock, say=ports.watch.said, tell=ports.tell)

    def gate(planned: RunReport, control: Control) -> Decision:
        first = ports.gate(planned, control)
        if first.refused:
            return first
        plans = tuple(first.plans.get(plan.machine, plan) for plan in planned.plans)
        second = mine(replace(planned, plans=plans), control)
        return Decision(second.refused, {**first.plans, **second.plans}, (*first.notes, *second.notes))

    return replace(ports, gate=gate)


class ApprovalGate:
    """The gate of a run that a person has to approve (see flows/ports.py).

    Args:
        request: of the run.
        approvals: where decisions are kept.
        records: where what was shown is kept.
        clock: of the run.
        say: told what goes on.
        tell: tells people that they are waited for.
        host: puts the question; by default where the run is.
    """

    def __init__(
        self,
        request: PatchRequest,
        approvals: SqlApprovals,
        records: Records,
        clock: Clock,
        *,
        say: Callable[[str], None] = logger.info,
        tell: Herald | None = None,
        host: Host | None = None,
    ) -> None:
        self._request = request
        self._approvals = approvals
        self._records = records
        self._clock = clock
        self._say = say
        self._tell = tell
        self._host = host

    def __call__(self, planned: RunReport, control: Control) -> Decision:
        """Wait for a person's word about a plan, and return what it means for the run.

        Raises:
            RecordsError: the records can't be used, and waiting does not help.
        """
        if not self._changes_anything(planned):
            return Decision(notes=("approval: nobody was asked, since nothing would be changed",))
        items = shown(planned.plans)
        if control.stopping:  # before it came here: a run that is only settled asks nobody any more
            found = self._known(planned.run.id, control)
            return self._meaning(found, planned, items) if found is not None else _undecided(control)
        asked = self._patiently(lambda: self._ask(planned, items), control, _window(planned).end)
        if asked is None:
            return _undecided(control)
        approval, until = asked
        if approval.answer is Answer.WAITING:
            found = self._put(Question(planned, approval.digest, until), control)
            if found is None:
                return _undecided(control)
            approval = found
        return self._meaning(approval, planned, items)

    def _known(self, run_id: str, control: Control) -> Approval | None:
        """Return what was decided before; None when nothing was, or it can't be read."""
        try:
            found = self._approvals.of(run_id)
        except RecordsUnavailable:
            return None
        if found is not None and found.answer is Answer.WAITING:
            self._withdraw(run_id, found.digest, control)
            return None
        return found

    def _changes_anything(self, planned: RunReport) -> bool:
        """Whether there is anything to approve: without an update a machine is visited for these reasons only."""
        asked = self._request
        visits = asked.reboot is RebootPolicy.ALWAYS or asked.reboot_pending_first or asked.repair
        return visits or any(plan.chosen for plan in planned.plans)

    def _ask(self, planned: RunReport, items: Approved) -> tuple[Approval, datetime]:
        """Put the plan up for approval, and return what stands and when it expires by our clock."""
        now, window, mark = self._clock.now(), _window(planned), digest(items)
        until = cut_off(window, self._request.reboot, self._request.reboot_reserve_minutes * 60)
        if self._request.approval.expires_minutes is not None:
            until = min(until, now + timedelta(minutes=self._request.approval.expires_minutes))
        if not any(entry.act == ACT and entry.key == mark for entry in self._records.entries(planned.run.id, "")):
            detail: dict[str, object] = {machine: dict(each) for machine, each in items.items()}
            self._records.append(
                JournalEntry(planned.run.id, "", Step.ASSESS, JournalMark.AFTER, ACT, mark, now, {"shown": detail})
            )
        approval = self._approvals.ask(planned.run.id, mark, max(0.0, (until - now).total_seconds()))
        left = approval.expires_at - self._approvals.now()
        # Nobody is asked when it is too late, nor when no answer could be taken.
        why = nobody_may_approve(self._request, planned.run.started_by)
        if approval.answer is Answer.WAITING and (why or left <= timedelta()):
            approval = self._approvals.decide(planned.run.id, mark, Answer.EXPIRED, "", why) or approval
        return approval, now + left

    def _put(self, question: Question, control: Control) -> Approval | None:
        run, zone = question.planned.run, _window(question.planned).zone
        how = command_to_approve(run.id, question.digest)
        waits = f"waits for approval until {moment_said(question.until, zone)}: {how}"
        self._say(f"run {run.id} {waits}")
        self._tell_people(replace(question.planned, run=replace(run, message=waits)))
        host = self._host or host_here()
        return host(question, control, lambda desk: self._wait(question, control, desk))

    def _tell_people(self, planned: RunReport) -> None:
        """Tell them; that this can't be done is no reason not to wait for them."""
        if self._tell is None:
            return
        try:
            self._tell(Occasion.WAITING, planned)
        except Exception:
            logger.exception("run %s: people could not be told that it waits for them", planned.run.id)

    def _wait(self, question: Question, control: Control, desk: Desk) -> Approval | None:
        """Wait for a decision; None when the run was stopped first, or the records stayed away to the window's end."""
        run, word, end = question.planned.run, None, _window(question.planned).end
        looked: datetime | None = None
        while not control.stopping:
            now = self._clock.now()
            word = word or self._taken(desk.look(), question, desk)
            if word is not None or now >= question.until or looked is None or now - looked >= _LOOK:
                looked = now
                found = self._settled(question, word)
                if found is not None and found.answer is not Answer.WAITING:
                    return found
                if found is not None and word is not None:  # its time was over, by the database's clock
                    word = None
                if found is None and now >= end:
                    return None
            self._clock.sleep(SLICE_SECONDS)
        self._withdraw(run.id, question.digest, control)
        return None

    def _taken(self, word: Word | None, question: Question, desk: Desk) -> Word | None:
        """Return a word that may count; one that may not is given back with the reason."""
        if word is None:
            return None
        answer = Answer.APPROVED if word.approve else Answer.REJECTED
        why = objection(self._request, question.planned.run.started_by, word.who, answer=answer)
        if why:
            self._say(f"an answer was not taken: {why}")
            desk.refuse(why)
            return None
        return word

    def _settled(self, question: Question, word: Word | None) -> Approval | None:
        """Write down what was said, or that time is over, and return what stands; None while the records are away."""
        run_id, mark = question.planned.run.id, question.digest
        try:
            if word is not None:
                answer = Answer.APPROVED if word.approve else Answer.REJECTED
                who, remark = one_line(word.who, NAME_LENGTH), one_line(word.remark, REMARK_LENGTH)
                return self._approvals.decide(run_id, mark, answer, who, remark)
            if self._clock.now() >= question.until:
                return self._approvals.decide(run_id, mark, Answer.EXPIRED, "")
            return self._approvals.of(run_id)
        except RecordsUnavailable as error:
            logger.warning("whether run %s is approved can't be read now: %s", run_id, error.message)
            return None

    def _withdraw(self, run_id: str, mark: str, control: Control) -> None:
        """A run that is stopped waits for nobody any more; one that is suspended or somebody else's still does."""
        if control.taken_over or control.suspended:
            return
        try:
            self._approvals.decide(run_id, mark, Answer.EXPIRED, "", f"the run was stopped: {control.reason}")
        except RecordsUnavailable as error:
            logger.warning("that run %s waits no more is not in the records: %s", run_id, error.message)

    def _patiently(self, call: Callable[[], T], control: Control, until: datetime) -> T | None:
        held = False
        while not control.stopping and (not held or self._clock.now() < until):
            try:
                return call()
            except RecordsUnavailable as error:
                if not held:
                    self._say(f"holding before approval: the records are away ({error.message})")
                held = True
                self._clock.sleep(LOOK_SECONDS)
        return None

    def _meaning(self, approval: Approval, planned: RunReport, items: Approved) -> Decision:
        zone = _window(planned).zone
        if approval.answer is not Answer.APPROVED:
            return Decision(refused=said(approval, zone), notes=(said(approval, zone),))
        approved: Approved | None = items if approval.digest == digest(items) else self._shown(approval)
        if approved is None:
            why = f"the plan is no longer what {approval.who} approved, and what that was is not in the journal"
            return Decision(refused=why, notes=(said(approval, zone),))
        plans: dict[str, Plan] = {}
        for plan in planned.plans:
            kept = kept_to(plan, approved, self._request.approval.changed, approval.who)
            if kept is not plan:
                plans[plan.machine] = kept
        cut = tuple(f"{name}: {plan.notes[-1]}" for name, plan in plans.items())
        return Decision(plans=plans, notes=(said(approval, zone), *cut))

    def _shown(self, approval: Approval) -> Approved | None:
        """Return what stood in the plan that was approved."""
        for entry in self._records.entries(approval.run_id, ""):
            if entry.act == ACT and entry.key == approval.digest:
                told = entry.detail.get("shown")
                if isinstance(told, dict):
                    return {str(name): {str(k): str(v) for k, v in each.items()} for name, each in told.items()}
        return None


def _undecided(control: Control) -> Decision:
    if control.stopping:
        return Decision(refused=f"the run was stopped while it waited for approval: {control.reason}")
    return Decision(refused="the records were away until the window's end, so nobody's approval could be read")


def _window(planned: RunReport) -> Window:
    if planned.run.window is None:
        raise ValueError(f"run {planned.run.id} has no window")
    return planned.run.window
