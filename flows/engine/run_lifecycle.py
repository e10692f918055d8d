"""Everything of a run around its machines: notifications, approval, freezes, and hooks."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from flows.engine.event_announcer import RunEvents
from flows.engine.resume_state import ResumeState
from flows.engine.set_plan import describe_sets, read_left_slots
from flows.ports.ports import GateDecision, Ports
from flows.request.patch_request import PatchRequest
from flows.request.read_requests import AssessRequest
from tasks.domain.errors import FleetpatchError, RecordsError
from tasks.domain.model import Hook, HookResult, RunReport, Wave
from tasks.domain.protocols.leases import SetSlot
from tasks.domain.protocols.records import SHARD_ACT
from tasks.domain.states import HookPoint, NotificationOccasion, OperationState
from tasks.rules.calendar.freezes import Freeze, find_freeze
from tasks.rules.runs.hooks import MACHINE_PLACES, build_set_hooks, describe_blocking_failure, is_blocking_failure
from tasks.rules.runs.set_capacity import index_sets
from tasks.rules.timing.admission import describe_freeze
from tasks.rules.updates.transaction_planning import find_shortest_installation
from tasks.steps.context.journal import UNLOCK_ACT
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.run_context import RunContext
from tasks.steps.hooks import HOOK_ACT, find_recorded_results, run_hook_once
from tasks.steps.machine.auto_updaters import explain_left_out
from tasks.steps.outcome import build_outcome
from tasks.steps.start_checks import describe_time_shortage

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0  # how often a waiting run checks its stop token
RUN_SUBJECT = "run"  # the subject of the run's own hooks


def build_wave_hook_subject(wave: Wave) -> str:
    """Return the subject of a wave's hooks."""
    return f"wave {wave.number}"


def _was_wave_started(resume_state: ResumeState, wave: Wave) -> bool:
    """Return whether a machine of a wave has begun, here or in a shard. An unlock by a person does not count."""
    if any(entry.act != UNLOCK_ACT for name in wave.machines for entry in resume_state.journal.get(name, ())):
        return True
    return any(
        entry.act == SHARD_ACT and entry.detail.get("wave") == wave.number for entry in resume_state.journal.get("", ())
    )


class RunLifecycle:
    """Everything of one run around its machines. Errors of hooks, notifications and the approval do not raise.

    Attributes:
        results: the results of hooks of the run and its waves, and all hook results of an earlier process.
        notes: for the report: who approved what, which freeze is overridden, and what of the turns of machine sets.
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
        self._ports, self._run_context, self._resume_state = ports, run_context, resume_state
        self._build_report, self._stop_on_records_error = build_report, stop_on_records_error
        self._lead_time, self._hooks = timedelta(0), tuple[Hook, ...]()
        self._freezes, self._checks_freezes, self._override_reason = tuple[Freeze, ...](), False, ""
        if isinstance(request, PatchRequest):
            self._freezes = tuple(freeze.to_freeze(request.window.zone) for freeze in request.freezes)
            self._override_reason = request.override_freeze
            self._checks_freezes = not request.download_only
            self._lead_time = timedelta(minutes=request.window.lead_minutes)
            self._hooks = () if request.download_only else request.hooks.to_hooks()
        self._is_started = resume_state is not None and any(
            _was_wave_started(resume_state, wave) for wave in resume_state.waves
        )
        self._started_subjects = {RUN_SUBJECT} if self._is_started else set[str]()
        self._started_subjects |= self._find_earlier_subjects()
        self._events = RunEvents(run_context, request, ports.inventory.sets)
        self.results: list[HookResult] = []
        self.notes: tuple[str, ...] = ()
        self._left_slots: tuple[SetSlot, ...] | None = None

    def describe_sets(self, waves: Sequence[Wave]) -> tuple[str, ...]:
        """Return the notes on machine sets. Members that earlier runs left drained are those of the first call."""
        if not self._ports.inventory.sets:
            return ()
        if self._left_slots is None and waves:
            self._left_slots = read_left_slots(self._ports)
        return describe_sets(self._ports.inventory.sets, waves, self._left_slots or ())

    def restore_hook_results(self) -> None:
        """Restore the hook results of an earlier process of the run.

        Raises:
            RecordsError: the journal can't be parsed.
        """
        sets = index_sets(self._ports.inventory.sets)
        for name, entries in self._resume_state.journal.items() if self._resume_state is not None else ():
            subjects = {name} if name else self._find_earlier_subjects()
            hooks = [hook for hook in self._hooks if (hook.place in MACHINE_PLACES) == bool(name)]
            hooks += build_set_hooks(sets.get(name, ()))
            for subject in subjects:
                self.results += find_recorded_results(hooks, subject, entries)

    def notify(self, occasion: NotificationOccasion, report: RunReport) -> None:
        """Send a notification, unless another process has the run lease.

        It may have it if the records don't answer: then only an end that they have is sent, or that it is unknown.
        """
        token, is_unknown = self._ports.stop_token, report.run.state is OperationState.UNKNOWN
        if not token.may_tell() and (token.is_lease_lost or not is_unknown):
            return
        try:
            self._ports.notify(occasion, report)
        except Exception:
            logger.exception("run %s: the notification that it is %s failed", report.run.id, occasion)

    def notify_planned(self) -> None:
        """Send the notification with the plan, once. It says which freeze the run overrides."""
        self.describe_freeze()
        if self._resume_state is None or not self._resume_state.waves:
            self.notify(NotificationOccasion.PLANNED, self._build_report())

    def rehearse(self, request: PatchRequest, contexts: Sequence[MachineContext]) -> None:
        """Rehearse for the machines of the run before anybody approves its plan. See ``rehearse_machines``."""
        from flows.engine.rehearsals import rehearse_machines  # noqa: PLC0415 - few runs have them

        stop = self._stop_on_records_error
        self.notes += rehearse_machines(self._ports, request, self._resume_state, contexts, stop)

    def await_approval(self) -> GateDecision:
        """Wait for the decision whether the run may begin. If the gate fails, the run is refused."""
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
        self.notes = (*self.notes, *decision.notes)
        return decision

    def run_hooks_and_wait_for_window(self, contexts: Sequence[MachineContext], waves: Sequence[Wave]) -> str:
        """Run the hooks before the run and wait for the window. Return why nothing may begin, or "".

        Before it opens, the reboots of the first machines are announced.

        With a lead, the hooks run before the window opens and share the lead time. Without a lead they run in the
        window. No hook runs while a freeze touches what is left of the lead. Freezes are checked again, because one may
        have been declared while the run waited.
        """
        window, clock = self._run_context.window, self._ports.clock
        if self._lead_time:
            self.wait_until(window.start - self._lead_time)
            self._wait_for_lead_without_freeze()
        else:
            self._wait_for_window(contexts, waves)
        if reason := self._stop_if_frozen():
            return reason
        until = window.end if clock.now() >= window.start else min(clock.now() + self._lead_time, window.end)
        reason = self._run_hooks_before(HookPoint.BEFORE_RUN, RUN_SUBJECT, until)
        if reason:
            return reason
        if clock.now() < window.start:
            self._wait_for_window(contexts, waves)
            if reason := self._stop_if_frozen():
                return reason
        if not self._ports.stop_token.is_stopping and not self._is_started and clock.now() < window.end:
            self.notify(NotificationOccasion.STARTED, self._build_report())
        return ""

    def run_hooks_before_wave(self, wave: Wave) -> str:
        """Run the hooks before a wave. Return why neither this wave nor a later one may begin, or ""."""
        return self._stop_if_frozen() or self._run_hooks_before(
            HookPoint.BEFORE_WAVE, build_wave_hook_subject(wave), self._run_context.window.end
        )

    def run_hooks_after_wave(self, wave: Wave) -> str:
        """Run the hooks after a wave, if it was started now or earlier. Return why no later wave may begin, or ""."""
        if self._resume_state is not None and _was_wave_started(self._resume_state, wave):
            self._started_subjects.add(build_wave_hook_subject(wave))
        return self._run_hooks_after(HookPoint.AFTER_WAVE, build_wave_hook_subject(wave))

    def run_hooks_after_run(self) -> None:
        """Run the hooks after the run, if the hooks before it were started. End what the run has left announced."""
        self._events.close()
        self._run_hooks_after(HookPoint.AFTER_RUN, RUN_SUBJECT)

    def describe_failed_hooks(self) -> str:
        """Return the failures of hooks of the run and its waves that must succeed, or ""."""
        own = [result for result in self.results if result.hook.place not in MACHINE_PLACES]
        return "; ".join(describe_blocking_failure(result) for result in own if is_blocking_failure(result))

    def wait_until(self, until: datetime) -> None:
        """Wait until the given time, the window's end, or a stop request."""
        clock, stop_token = self._ports.clock, self._ports.stop_token
        until = min(until, self._run_context.window.end)
        while not stop_token.is_stopping and (left := (until - clock.now()).total_seconds()) > 0:
            clock.sleep(min(POLL_SECONDS, left))

    def explain_no_begin(self, contexts: Sequence[MachineContext]) -> str:
        """Return why nothing of a plan would begin in its window: a freeze, or too little time; or "".

        Nothing to do is no reason. Of several machines without enough time, the one that needs the least is named.
        """
        if reason := self.describe_freeze():
            return f"nothing would begin: {reason}"
        shortages = {
            context: describe_time_shortage(context)
            for context in contexts
            if context.state.plan is not None
            and context.state.error is None
            and context.plan.chosen
            and not context.plan.refusals
            and not explain_left_out(context)
        }
        if not shortages or not all(shortages.values()):
            return ""

        def compute_needed_seconds(context: MachineContext) -> float:
            plan = context.plan
            _, seconds = find_shortest_installation(plan.chosen, context.rates, plan.prediction.stage)
            return seconds + context.reboot_reserve_seconds

        least = min(shortages, key=compute_needed_seconds)
        others = f", which needs the least time of {len(shortages)} machines" if len(shortages) > 1 else ""
        return f"nothing would begin: {shortages[least]} ({least.name}{others})"

    def describe_freeze(self) -> str:
        """Return which freeze the run's window touches now, or ""."""
        if not self._checks_freezes:
            return ""
        window = self._run_context.window
        freeze = find_freeze(window, self._read_freezes())
        if freeze is None and self._override_reason:
            self._note_override(find_freeze(window, (*self._freezes, *self._ports.read_overridden_freezes())))
        return describe_freeze(freeze, window) if freeze is not None else ""

    def _note_override(self, freeze: Freeze | None) -> None:
        """Record in the report which freeze the run overrides, who wants that, and why."""
        if freeze is None:
            return
        who, freeze_text = self._run_context.run.started_by, describe_freeze(freeze, self._run_context.window)
        note = f"a freeze is overridden by {who}, because: {self._override_reason} ({freeze_text})"
        if note not in self.notes:
            self.notes = (*self.notes, note)
            self._ports.listener.on_message(note)

    def _stop_if_frozen(self) -> str:
        """Stop the run if its window touches a freeze now. Return the reason, or ""."""
        stop_token = self._ports.stop_token
        reason = "" if stop_token.is_stopping else self.describe_freeze()
        if reason:
            self._ports.listener.on_message(reason)
            stop_token.request_stop(reason)
        return reason

    def _read_freezes(self) -> Sequence[Freeze]:
        own = () if self._override_reason else self._freezes
        return (*own, *self._ports.read_declared_freezes())

    def _wait_for_lead_without_freeze(self) -> None:
        """Wait while a freeze touches what is left of the lead, at the longest until the window opens."""
        window, clock = self._run_context.window, self._ports.clock
        has_hooks = bool(self._find_hooks(HookPoint.BEFORE_RUN))
        while has_hooks and not self._ports.stop_token.is_stopping and clock.now() < window.start:
            freezes = self._read_freezes()
            freeze = find_freeze(replace(window, start=clock.now(), end=window.start), freezes)
            if freeze is None or find_freeze(window, freezes) is not None:  # then the run is stopped
                return
            self._ports.listener.on_message(f"the hooks before the run wait: {describe_freeze(freeze, window)}")
            self.wait_until(min(freeze.end, window.start))

    def _wait_for_window(self, contexts: Sequence[MachineContext], waves: Sequence[Wave]) -> None:
        start, announcement = self._run_context.window.start, self._events.find_first_announcement()
        if announcement is not None and self._ports.clock.now() < start:
            self.wait_until(announcement)
            if not self._ports.stop_token.is_stopping:
                try:
                    self._events.announce_first_machines(contexts, waves)
                except RecordsError as error:
                    self._stop_on_records_error(error)
        if self._ports.clock.now() < start:
            self._ports.listener.on_message(f"waiting for the window to open at {start:%Y-%m-%d %H:%M:%S} UTC")
            self.wait_until(start)

    def _find_earlier_subjects(self) -> set[str]:
        """Return the subjects (the run, its waves) for which an earlier process has run hooks."""
        entries = self._resume_state.journal.get("", ()) if self._resume_state is not None else ()
        return {entry.key.rpartition("/")[2] for entry in entries if entry.act == HOOK_ACT}

    def _run_hooks_before(self, place: HookPoint, subject: str, until: datetime) -> str:
        """Run hooks before something until one fails that must succeed. Return its failure, or "".

        If the run was asked to stop, return "": its machines report the reason.
        """
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
        """Run all hooks after something, even if one of them fails."""
        reason: list[str] = []
        for hook in self._find_hooks(place) if subject in self._started_subjects else ():
            if self._ports.stop_token.is_lease_lost:
                break
            try:
                result = self._run_hook(hook, subject, None)
            except RecordsError as error:
                self._stop_on_records_error(error)
                break
            reason += [describe_blocking_failure(result)] if is_blocking_failure(result) else []
        return "; ".join(reason)

    def _find_hooks(self, place: HookPoint) -> Sequence[Hook]:
        return [hook for hook in self._hooks if hook.place is place]

    def _run_hook(self, hook: Hook, subject: str, until: datetime | None) -> HookResult:
        self._ports.listener.on_message(f"hook {hook.name} ({hook.place}, {subject})")
        result = run_hook_once(self._run_context, hook, subject, self._run_context.call_hook, until)
        results = [
            hook_result
            for hook_result in self.results
            if (hook_result.hook.place, hook_result.hook.name, hook_result.subject) != _build_result_key(result)
        ]
        self.results = [*results, result]
        self._ports.listener.on_message(
            f"hook {hook.name}: {result.message or 'done' if result.succeeded else 'FAILED: ' + result.message}"
        )
        return result


def _build_result_key(result: HookResult) -> tuple[HookPoint, str, str]:
    return result.hook.place, result.hook.name, result.subject


def build_machine_report(context: MachineContext, waves: Sequence[Wave], results: Sequence[HookResult]) -> RunReport:
    """Return the report of one unfinished machine, with its part of the wave and the hooks that concern it."""
    name, state = context.name, context.state
    concern = [result for result in results if result.subject == name or result.hook.place not in MACHINE_PLACES]
    return RunReport(
        run=context.run,
        outcomes=(build_outcome(context),),
        waves=tuple(replace(wave, machines=(name,)) for wave in waves if name in wave.machines),
        plans=(state.plan,) if state.plan else (),
        assessments=(state.last_assessment,) if state.last_assessment else (),
        hooks=merge_hook_results(concern, state.hooks),
    )


def merge_hook_results(
    run_results: Sequence[HookResult], machine_results: Sequence[HookResult]
) -> tuple[HookResult, ...]:
    """Return each hook's result once, the oldest first."""
    by_identity = {_build_result_key(result): result for result in (*run_results, *machine_results)}
    return tuple(sorted(by_identity.values(), key=lambda result: result.started_at))
