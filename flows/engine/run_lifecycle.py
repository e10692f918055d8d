"""What surrounds a run's machines: who is told, who has to agree, what its owner runs before and after."""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from flows.engine.resume_state import ResumeState
from flows.ports.ports import GateDecision, Ports
from flows.request.assess_request import AssessRequest
from flows.request.patch_request import PatchRequest
from tasks.errors import FleetpatchError, RecordsError
from tasks.model import Hook, HookResult, RunReport, Wave
from tasks.protocols.clock import Deadline
from tasks.rules.calendar.freezes import Freeze, find_freeze
from tasks.rules.runs.hooks import MACHINE_PLACES, describe_blocking_failure, is_blocking_failure
from tasks.rules.timing.admission import describe_freeze
from tasks.states import HookPoint, NotificationEvent, OperationState
from tasks.steps.context.journal import UNLOCK_ACT
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.run_context import RunContext
from tasks.steps.hooks import HOOK_ACT, find_recorded_results, run_hook_once
from tasks.steps.report import build_outcome

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0  # how often a waiting run looks whether it was asked to stop
RUN_SUBJECT = "run"  # the subject of a run's own hooks


def build_wave_subject(wave: Wave) -> str:
    """Return what a wave is called in its hooks' results."""
    return f"wave {wave.number}"


def _was_wave_started(resume_state: ResumeState, wave: Wave) -> bool:
    """Whether a machine of a wave was begun with; that somebody lifted its lock is nothing that the run did."""
    return any(entry.act != UNLOCK_ACT for name in wave.machines for entry in resume_state.journal.get(name, ()))


class RunLifecycle:
    """What surrounds the machines of one run. Nothing of it raises for what others do wrong.

    Args:
        ports: the way out.
        run_context: of the run.
        request: what was asked for.
        resume_state: what an earlier process of the run has left.
        build_report: gives the run's report as far as it has come.
        stop_on_records_error: told that the records failed.

    Attributes:
        results: what came of the hooks of the run and its waves, and what an earlier process has of all others.
        notes: for the report: who agreed to what.
    """

    def __init__(
        self,
        ports: Ports,
        run_context: RunContext,
        request: PatchRequest | AssessRequest,
        resume_state: ResumeState | None,
        build_report: Callable[[], RunReport],
        stop_on_records_error: Callable[[RecordsError], None],
    ) -> None:
        self._ports = ports
        self._run_context = run_context
        self._resume_state = resume_state
        self._build_report = build_report
        self._stop_on_records_error = stop_on_records_error
        self._lead_time, self._hooks = timedelta(0), tuple[Hook, ...]()
        self._freezes, self._checks_freezes = tuple[Freeze, ...](), False
        if isinstance(request, PatchRequest):
            self._freezes = tuple(each.to_freeze(request.window.zone) for each in request.freezes)
            self._checks_freezes = not request.download_only
            self._lead_time = timedelta(minutes=request.window.lead_minutes)
            self._hooks = () if request.download_only else request.hooks.to_hooks()
        self._is_started = resume_state is not None and any(
            _was_wave_started(resume_state, wave) for wave in resume_state.waves
        )
        self._started_subjects = {RUN_SUBJECT} if self._is_started else set[str]()
        self._started_subjects |= self._find_earlier_subjects()
        self.results: list[HookResult] = []
        self.notes: tuple[str, ...] = ()

    def restore_hook_results(self) -> None:
        """Take in what an earlier process of the run has left of its hooks.

        Raises:
            RecordsError: the journal can't be understood.
        """
        if self._resume_state is None or not self._hooks:
            return
        for name, entries in self._resume_state.journal.items():
            subjects = {name} if name else self._find_earlier_subjects()
            hooks = [hook for hook in self._hooks if (hook.place in MACHINE_PLACES) == bool(name)]
            for subject in subjects:
                self.results += find_recorded_results(hooks, subject, entries)

    def notify(self, occasion: NotificationEvent, report: RunReport) -> None:
        """Tell people, unless the run is somebody else's by now."""
        if self._ports.stop_token.is_lease_lost:
            return
        try:
            self._ports.notify(occasion, report)
        except Exception:
            logger.exception("run %s: the notification that it is %s failed", report.run.id, occasion)

    def notify_planned(self) -> None:
        """Tell people what is going to be done, once."""
        if self._resume_state is None or not self._resume_state.waves:
            self.notify(NotificationEvent.PLANNED, self._build_report())

    def notify_end(self, report: RunReport, *, failed: bool) -> None:
        """Tell people how the run has ended; ``failed``: not as its report says, for history could not be kept."""
        if failed or report.run.state is OperationState.FAILED:
            occasion = NotificationEvent.FAILED
        else:
            stopped = self._ports.stop_token.is_stopping and not self._ports.stop_token.is_suspended
            occasion = NotificationEvent.CANCELLED if stopped else NotificationEvent.FINISHED
        self.notify(occasion, report)

    def await_approval(self) -> GateDecision:
        """Wait until the run may go on, or may not. A gate that breaks lets nothing through."""
        try:
            decision = self._ports.gate(self._build_report(), self._ports.stop_token)
        except RecordsError as error:
            self._stop_on_records_error(error)
            decision = GateDecision(refusal=f"the approval could not be checked: {error.message}")
        except FleetpatchError as error:
            decision = GateDecision(refusal=f"the approval could not be checked: {error.message}")
        except Exception as error:
            logger.exception("run %s: the approval could not be checked", self._run_context.run.id)
            decision = GateDecision(refusal=f"the approval could not be checked: {type(error).__name__}: {error}")
        self.notes = decision.notes
        return decision

    def start_run(self) -> str:
        """Run what comes before the run, wait for the window, and return why nothing may be begun, or "".

        With a lead, the hooks have it for themselves, and all of it together; without one they run in the window.
        Freezes are looked at again: one may have been declared while the run waited.
        """
        window, clock = self._run_context.window, self._ports.clock
        if self._lead_time:
            self.wait_until(window.start - self._lead_time)
        else:
            self._wait_for_window()
        if why := self._stop_if_frozen():
            return why
        until = window.end if clock.now() >= window.start else min(clock.now() + self._lead_time, window.end)
        why = self._run_hooks_before(HookPoint.BEFORE_RUN, RUN_SUBJECT, until)
        if why:
            return why
        if clock.now() < window.start:
            self._wait_for_window()
            if why := self._stop_if_frozen():
                return why
        if not self._ports.stop_token.is_stopping and not self._is_started and clock.now() < window.end:
            self.notify(NotificationEvent.STARTED, self._build_report())
        return ""

    def start_wave(self, wave: Wave) -> str:
        """Run what comes before a wave; return why neither it nor a later one may begin, or ""."""
        return self._stop_if_frozen() or self._run_hooks_before(
            HookPoint.BEFORE_WAVE, build_wave_subject(wave), self._run_context.window.end
        )

    def finish_wave(self, wave: Wave) -> str:
        """Run what comes after a wave if its turn came, now or before; return why no later one may begin, or ""."""
        if self._resume_state is not None and _was_wave_started(self._resume_state, wave):
            self._started_subjects.add(build_wave_subject(wave))
        return self._run_hooks_after(HookPoint.AFTER_WAVE, build_wave_subject(wave))

    def finish_run(self) -> None:
        """Run what comes after the run, if what comes before it had its turn."""
        self._run_hooks_after(HookPoint.AFTER_RUN, RUN_SUBJECT)

    def describe_failed_hooks(self) -> str:
        """Return which hooks of the run and its waves failed that must succeed, or ""."""
        own = [result for result in self.results if result.hook.place not in MACHINE_PLACES]
        return "; ".join(describe_blocking_failure(result) for result in own if is_blocking_failure(result))

    def wait_until(self, until: datetime) -> None:
        """Let time pass until that moment or the window's end, or until the run is asked to stop."""
        clock, stop_token = self._ports.clock, self._ports.stop_token
        until = min(until, self._run_context.window.end)
        while not stop_token.is_stopping and (left := (until - clock.now()).total_seconds()) > 0:
            clock.sleep(min(POLL_SECONDS, left))

    def _stop_if_frozen(self) -> str:
        """Return why a freeze takes the window away by now, and stop the run for it; "" when none does."""
        stop_token, window = self._ports.stop_token, self._run_context.window
        if not self._checks_freezes or stop_token.is_stopping:
            return ""
        freeze = find_freeze(window, (*self._freezes, *self._ports.read_declared_freezes()))
        if freeze is None:
            return ""
        why = describe_freeze(freeze, window)
        self._ports.listener.on_message(why)
        stop_token.request_stop(why)
        return why

    def _wait_for_window(self) -> None:
        start = self._run_context.window.start
        if self._ports.clock.now() < start:
            self._ports.listener.on_message(f"waiting for the window to open at {start:%Y-%m-%d %H:%M:%S} UTC")
            self.wait_until(start)

    def _find_earlier_subjects(self) -> set[str]:
        """Return which of the run and its waves an earlier process has run hooks for."""
        entries = self._resume_state.journal.get("", ()) if self._resume_state is not None else ()
        return {entry.key.rpartition("/")[2] for entry in entries if entry.act == HOOK_ACT}

    def _run_hooks_before(self, place: HookPoint, subject: str, until: datetime) -> str:
        """Run hooks before something until one stops it. Once the run is asked to stop, its machines say so."""
        stop_token = self._ports.stop_token
        if stop_token.is_stopping:
            return ""
        self._started_subjects.add(subject)
        for hook in self._find_hooks(place):
            try:
                result = self._run_hook(hook, subject, until)
            except RecordsError as error:
                self._stop_on_records_error(error)
                return f"hook {hook.name} was not run: {error.message}"
            if is_blocking_failure(result):
                return "" if stop_token.is_stopping else describe_blocking_failure(result)
        return ""

    def _run_hooks_after(self, place: HookPoint, subject: str) -> str:
        """Run hooks after something: all of them, whatever came of the others."""
        why: list[str] = []
        for hook in self._find_hooks(place) if subject in self._started_subjects else ():
            if self._ports.stop_token.is_lease_lost:
                break
            try:
                result = self._run_hook(hook, subject, None)
            except RecordsError as error:
                self._stop_on_records_error(error)
                break
            why += [describe_blocking_failure(result)] if is_blocking_failure(result) else []
        return "; ".join(why)

    def _find_hooks(self, place: HookPoint) -> Sequence[Hook]:
        return [hook for hook in self._hooks if hook.place is place]

    def _run_hook(self, hook: Hook, subject: str, until: datetime | None) -> HookResult:
        self._ports.listener.on_message(f"hook {hook.name} ({hook.place}, {subject})")
        result = run_hook_once(self._run_context, hook, subject, self._run_context.call_hook, until)
        known = [
            each
            for each in self.results
            if (each.hook.place, each.hook.name, each.subject) != _build_result_key(result)
        ]
        self.results = [*known, result]
        self._ports.listener.on_message(
            f"hook {hook.name}: {result.message or 'done' if result.succeeded else 'FAILED: ' + result.message}"
        )
        return result


def _build_result_key(result: HookResult) -> tuple[HookPoint, str, str]:
    return result.hook.place, result.hook.name, result.subject


def merge_hook_results(
    run_results: Sequence[HookResult], machine_results: Sequence[HookResult]
) -> tuple[HookResult, ...]:
    """Return each hook's result once, oldest first."""
    by_identity = {_build_result_key(result): result for result in (*run_results, *machine_results)}
    return tuple(sorted(by_identity.values(), key=lambda result: result.started_at))


def build_machine_report(
    context: MachineContext, order: Sequence[Wave], run_results: Sequence[HookResult]
) -> RunReport:
    """Return the report of one machine whose turn is not over: with its part of its wave, and hooks that concern it."""
    name, run = context.name, context.state
    concern = [result for result in run_results if result.subject == name or result.hook.place not in MACHINE_PLACES]
    return RunReport(
        run=context.run_context.run,
        outcomes=(build_outcome(context),),
        waves=tuple(replace(wave, machines=(name,)) for wave in order if name in wave.machines),
        plans=(run.plan,) if run.plan else (),
        assessments=(run.assessment,) if run.assessment else (),
        hooks=merge_hook_results(concern, run.hooks),
    )


def build_hook_caller(
    ports: Ports, build_report: Callable[[str], RunReport]
) -> Callable[[Hook, str, Deadline], HookResult]:
    """Return how a hook that is no command on a machine is run in this run."""
    return functools.partial(_call_hook, ports, build_report)


def _call_hook(
    ports: Ports, build_report: Callable[[str], RunReport], hook: Hook, subject: str, deadline: Deadline
) -> HookResult:
    report = build_report(subject if hook.place in MACHINE_PLACES else "")
    return ports.call_hook(hook, report, subject, deadline)
