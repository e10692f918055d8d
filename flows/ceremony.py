"""What surrounds a run's machines: who is told, who has to agree, what its owner runs before and after."""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from flows.past import Past
from flows.ports import Decision, Ports
from flows.request import AssessRequest, PatchRequest
from tasks.errors import FleetpatchError, RecordsError
from tasks.model import Hook, HookResult, RunReport, Wave
from tasks.rules.admission import why_frozen
from tasks.rules.calendar.freezes import Freeze, frozen
from tasks.rules.hooks import OF_A_MACHINE, stops, why_stopped
from tasks.seams.clock import Deadline
from tasks.states import HookPlace, Occasion, OperationState
from tasks.steps.context import Context, Work
from tasks.steps.hooks import ACT, once, recalled
from tasks.steps.journal import UNLOCK
from tasks.steps.report import settle_outcome

logger = logging.getLogger(__name__)

SLICE_SECONDS = 1.0  # how often a waiting run looks whether it was asked to stop
RUN = "run"  # the subject of a run's own hooks


def subject_of(wave: Wave) -> str:
    """Return what a wave is called in its hooks' results."""
    return f"wave {wave.number}"


def _had_its_turn(past: Past, wave: Wave) -> bool:
    """Whether a machine of a wave was begun with; that somebody lifted its lock is nothing that the run did."""
    return any(entry.act != UNLOCK for name in wave.machines for entry in past.journal.get(name, ()))


class Ceremony:
    """What surrounds the machines of one run. Nothing of it raises for what others do wrong.

    Args:
        ports: the way out.
        context: of the run.
        request: what was asked for.
        past: what an earlier process of the run has left.
        as_it_stands: gives the run's report as far as it has come.
        hold: told that the records failed.

    Attributes:
        results: what came of the hooks of the run and its waves, and what an earlier process has of all others.
        notes: for the report: who agreed to what.
    """

    def __init__(
        self,
        ports: Ports,
        context: Context,
        request: PatchRequest | AssessRequest,
        past: Past | None,
        as_it_stands: Callable[[], RunReport],
        hold: Callable[[RecordsError], None],
    ) -> None:
        self._ports = ports
        self._context = context
        self._past = past
        self._as_it_stands = as_it_stands
        self._hold = hold
        self._lead, self._hooks = timedelta(0), tuple[Hook, ...]()
        self._freezes, self._heeds_freezes = tuple[Freeze, ...](), False
        if isinstance(request, PatchRequest):
            self._freezes = tuple(each.read(request.window.zone) for each in request.freezes)
            self._heeds_freezes = not request.download_only
            self._lead = timedelta(minutes=request.window.lead_minutes)
            self._hooks = () if request.download_only else request.hooks.listed()
        self._begun = past is not None and any(_had_its_turn(past, wave) for wave in past.waves)
        self._opened = {RUN} if self._begun else set[str]()
        self._opened |= self._asked_before()
        self.results: list[HookResult] = []
        self.notes: tuple[str, ...] = ()

    def recall(self) -> None:
        """Take in what an earlier process of the run has left of its hooks.

        Raises:
            RecordsError: the journal can't be understood.
        """
        if self._past is None or not self._hooks:
            return
        for name, entries in self._past.journal.items():
            subjects = {name} if name else self._asked_before()
            hooks = [hook for hook in self._hooks if (hook.place in OF_A_MACHINE) == bool(name)]
            for subject in subjects:
                self.results += recalled(hooks, subject, entries)

    def tell(self, occasion: Occasion, report: RunReport) -> None:
        """Tell people, unless the run is somebody else's by now."""
        if self._ports.control.taken_over:
            return
        try:
            self._ports.tell(occasion, report)
        except Exception:
            logger.exception("run %s: people could not be told that it is %s", report.run.id, occasion)

    def tell_planned(self) -> None:
        """Tell people what is going to be done, once."""
        if self._past is None or not self._past.waves:
            self.tell(Occasion.PLANNED, self._as_it_stands())

    def tell_end(self, report: RunReport, *, failed: bool) -> None:
        """Tell people how the run has ended; ``failed``: not as its report says, for history could not be kept."""
        if failed or report.run.state is OperationState.FAILED:
            occasion = Occasion.FAILED
        else:
            stopped = self._ports.control.stopping and not self._ports.control.suspended
            occasion = Occasion.CANCELLED if stopped else Occasion.FINISHED
        self.tell(occasion, report)

    def agreed(self) -> Decision:
        """Wait until the run may go on, or may not. A gate that breaks lets nothing through."""
        try:
            decision = self._ports.gate(self._as_it_stands(), self._ports.control)
        except RecordsError as error:
            self._hold(error)
            decision = Decision(refused=f"whether it may go on could not be found out: {error.message}")
        except FleetpatchError as error:
            decision = Decision(refused=f"whether it may go on could not be found out: {error.message}")
        except Exception as error:
            logger.exception("run %s: whether it may go on could not be found out", self._context.run.id)
            decision = Decision(refused=f"whether it may go on could not be found out: {type(error).__name__}: {error}")
        self.notes = decision.notes
        return decision

    def open(self) -> str:
        """Run what comes before the run, wait for the window, and return why nothing may be begun, or "".

        With a lead, the hooks have it for themselves, and all of it together; without one they run in the window.
        Freezes are looked at again: one may have been declared while the run waited.
        """
        window, clock = self._context.window, self._ports.clock
        if self._lead:
            self.rest(window.start - self._lead)
        else:
            self._wait_for_start()
        if why := self._frozen():
            return why
        until = window.end if clock.now() >= window.start else min(clock.now() + self._lead, window.end)
        why = self._before(HookPlace.BEFORE_RUN, RUN, until)
        if why:
            return why
        if clock.now() < window.start:
            self._wait_for_start()
            if why := self._frozen():
                return why
        if not self._ports.control.stopping and not self._begun and clock.now() < window.end:
            self.tell(Occasion.STARTED, self._as_it_stands())
        return ""

    def open_wave(self, wave: Wave) -> str:
        """Run what comes before a wave; return why neither it nor a later one may begin, or ""."""
        return self._frozen() or self._before(HookPlace.BEFORE_WAVE, subject_of(wave), self._context.window.end)

    def close_wave(self, wave: Wave) -> str:
        """Run what comes after a wave if its turn came, now or before; return why no later one may begin, or ""."""
        if self._past is not None and _had_its_turn(self._past, wave):
            self._opened.add(subject_of(wave))
        return self._after(HookPlace.AFTER_WAVE, subject_of(wave))

    def close(self) -> None:
        """Run what comes after the run, if what comes before it had its turn."""
        self._after(HookPlace.AFTER_RUN, RUN)

    def faults(self) -> str:
        """Return which hooks of the run and its waves failed that must succeed, or ""."""
        own = [result for result in self.results if result.hook.place not in OF_A_MACHINE]
        return "; ".join(why_stopped(result) for result in own if stops(result))

    def rest(self, until: datetime) -> None:
        """Let time pass until that moment or the window's end, or until the run is asked to stop."""
        clock, control = self._ports.clock, self._ports.control
        until = min(until, self._context.window.end)
        while not control.stopping and (left := (until - clock.now()).total_seconds()) > 0:
            clock.sleep(min(SLICE_SECONDS, left))

    def _frozen(self) -> str:
        """Return why a freeze takes the window away by now, and stop the run for it; "" when none does."""
        control, window = self._ports.control, self._context.window
        if not self._heeds_freezes or control.stopping:
            return ""
        freeze = frozen(window, (*self._freezes, *self._ports.freezes()))
        if freeze is None:
            return ""
        why = why_frozen(freeze, window)
        self._ports.watch.said(why)
        control.stop(why)
        return why

    def _wait_for_start(self) -> None:
        start = self._context.window.start
        if self._ports.clock.now() < start:
            self._ports.watch.said(f"waiting for the window to open at {start:%Y-%m-%d %H:%M:%S} UTC")
            self.rest(start)

    def _asked_before(self) -> set[str]:
        """Return which of the run and its waves an earlier process has run hooks for."""
        entries = self._past.journal.get("", ()) if self._past is not None else ()
        return {entry.key.rpartition("/")[2] for entry in entries if entry.act == ACT}

    def _before(self, place: HookPlace, subject: str, until: datetime) -> str:
        """Run hooks before something until one stops it. Once the run is asked to stop, its machines say so."""
        control = self._ports.control
        if control.stopping:
            return ""
        self._opened.add(subject)
        for hook in self._placed(place):
            try:
                result = self._run(hook, subject, until)
            except RecordsError as error:
                self._hold(error)
                return f"hook {hook.name} was not run: {error.message}"
            if stops(result):
                return "" if control.stopping else why_stopped(result)
        return ""

    def _after(self, place: HookPlace, subject: str) -> str:
        """Run hooks after something: all of them, whatever came of the others."""
        why: list[str] = []
        for hook in self._placed(place) if subject in self._opened else ():
            if self._ports.control.taken_over:
                break
            try:
                result = self._run(hook, subject, None)
            except RecordsError as error:
                self._hold(error)
                break
            why += [why_stopped(result)] if stops(result) else []
        return "; ".join(why)

    def _placed(self, place: HookPlace) -> Sequence[Hook]:
        return [hook for hook in self._hooks if hook.place is place]

    def _run(self, hook: Hook, subject: str, until: datetime | None) -> HookResult:
        self._ports.watch.said(f"hook {hook.name} ({hook.place}, {subject})")
        result = once(self._context, hook, subject, self._context.call_hook, until)
        known = [each for each in self.results if (each.hook.place, each.hook.name, each.subject) != _identity(result)]
        self.results = [*known, result]
        self._ports.watch.said(
            f"hook {hook.name}: {result.message or 'done' if result.succeeded else 'FAILED: ' + result.message}"
        )
        return result


def _identity(result: HookResult) -> tuple[HookPlace, str, str]:
    return result.hook.place, result.hook.name, result.subject


def all_results(kept: Sequence[HookResult], of_machines: Sequence[HookResult]) -> tuple[HookResult, ...]:
    """Return each hook's result once, oldest first."""
    by_identity = {_identity(result): result for result in (*kept, *of_machines)}
    return tuple(sorted(by_identity.values(), key=lambda result: result.started_at))


def of_machine(work: Work, order: Sequence[Wave], kept: Sequence[HookResult]) -> RunReport:
    """Return the report of one machine whose turn is not over: with its part of its wave, and hooks that concern it."""
    name, run = work.name, work.run
    concern = [result for result in kept if result.subject == name or result.hook.place not in OF_A_MACHINE]
    return RunReport(
        run=work.context.run,
        outcomes=(settle_outcome(work),),
        waves=tuple(replace(wave, machines=(name,)) for wave in order if name in wave.machines),
        plans=(run.plan,) if run.plan else (),
        assessments=(run.assessment,) if run.assessment else (),
        hooks=all_results(concern, run.hooks),
    )


def calling(ports: Ports, as_it_stands: Callable[[str], RunReport]) -> Callable[[Hook, str, Deadline], HookResult]:
    """Return how a hook that is no command on a machine is run in this run."""
    return functools.partial(_call, ports, as_it_stands)


def _call(
    ports: Ports, as_it_stands: Callable[[str], RunReport], hook: Hook, subject: str, deadline: Deadline
) -> HookResult:
    report = as_it_stands(subject if hook.place in OF_A_MACHINE else "")
    return ports.call_hook(hook, report, subject, deadline)
