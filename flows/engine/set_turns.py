"""The turns of members of machine sets: who may go out of service now, and when it is back.

A member's turn begins when all its sets allow it. The slots are in the records, so they hold for all runs and all
controllers. Just before the first change the run looks again at the member's role and at the health of the others. The
turn ends when the member is healthy again. If it is not, its slots stay until the end of the run; if it is drained,
until it is brought back: it may look healthy while nobody sends it requests.
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from flows.engine.member_questions import MemberQuestions, MemberRoles, await_health
from flows.engine.run_slots import RunSlots
from flows.ports.ports import Ports
from inventory.machine import MachineSet
from tasks.domain.errors import RecordsError, RecordsUnavailable
from tasks.domain.model import Finding
from tasks.domain.protocols.leases import SetSlot, SlotRule
from tasks.domain.states import FindingLevel, HookPoint, Step
from tasks.rules.runs.hooks import build_set_hooks, is_blocking_failure
from tasks.rules.runs.set_capacity import (
    MemberRefusal,
    SetSituation,
    WaitsFor,
    check_capacity,
    describe_left,
    find_domain,
    index_sets,
    select_slots,
)
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_context import RunContext
from tasks.steps.hooks import run_undrains
from tasks.steps.machine.set_member import (
    check_member_health,
    explain_member_left_drained,
    find_drained_sets,
    is_out_of_service,
)
from tasks.steps.pipeline import find_next_step


class SetTurns:
    """The turns of the members of machine sets in one run. Safe for use by many threads.

    Args:
        contexts: the machines that this run has still to finish, by name.
    """

    def __init__(self, ports: Ports, run_context: RunContext, contexts: Mapping[str, MachineContext]) -> None:
        self._clock, self._stop_token, self._listener = ports.clock, ports.stop_token, ports.listener
        self._contexts = contexts
        self._sets = {name: sets for name, sets in index_sets(ports.inventory.sets).items() if name in contexts}
        self._done: set[str] = set()
        self._in_turn: set[str] = set()
        self._taken_over: dict[str, str] = {}  # member -> how an earlier run left it
        self._wave_number = 0
        self._states_at_begin: dict[str, MachineState] = {}
        self._again: dict[str, MemberRefusal] = {}
        self._unhealthy_since: dict[str, datetime] = {}
        self._notes: dict[str, str] = {}
        self._run_id = run_context.run.id
        self._slots = RunSlots(ports, run_context, self._is_to_come)
        self._questions = MemberQuestions(ports.inventory, run_context)
        self._roles = MemberRoles(self._sets, self._questions, self._is_left, self._is_later, self._note)
        self._domains: Mapping[str, Mapping[str, str]] = {
            machine_set.name: {
                name: find_domain(machine_set, ports.inventory.find_machine(name)) for name in machine_set.members
            }
            for machine_set in ports.inventory.sets
            if self._sets and machine_set.update_domain
        }
        for name, sets in self._sets.items():
            contexts[name].set_hooks = build_set_hooks(sets)

    @property
    def notes(self) -> tuple[str, ...]:
        """What people have to know of the sets after the run."""
        return tuple(self._notes.values())

    def close(self) -> None:
        """End the threads that ask members."""
        self._questions.close()

    def find_neighbours(self, name: str) -> Collection[str]:
        """Return the machines that share a set with a machine."""
        return {member for machine_set in self._sets.get(name, ()) for member in machine_set.members}

    def concern(self, names: Collection[str]) -> bool:
        """Return whether one of these machines is a member of a set."""
        return any(name in self._sets for name in names)

    def release_untouched_slots(self) -> None:
        """End the slots that an earlier process of this run took for machines that it did not touch."""
        if self._sets:
            self._slots.release_untouched(
                lambda name: name in self._contexts and not is_out_of_service(self._contexts[name])
            )

    def set_wave_number(self, number: int) -> None:
        """Set which wave begins. Members in later waves are not waited for."""
        self._wave_number = number

    def mark_done(self, name: str) -> None:
        """Record that a machine has its outcome. No role waits for it any more."""
        self._done.add(name)

    def needs_turn(self, context: MachineContext) -> bool:
        """Return whether a machine is a member of a set, and is changed by this run."""
        if context.name not in self._sets or context.run.kind != "patch":
            return False
        return self.goes_first(context) or _has_work(context)

    def goes_first(self, context: MachineContext) -> bool:
        """Return whether a machine is out of service already, by this run or by an earlier one."""
        if is_out_of_service(context) or context.name not in self._sets:
            return is_out_of_service(context)
        try:
            return self._slots.find_left(context.name) is not None
        except RecordsError:
            return False  # the question for its turn waits for the records

    def begin(self, context: MachineContext) -> MemberRefusal | None:
        """Take a member's slots. Return why it must wait; None: its turn has begun.

        A machine that an earlier process of this run has taken out of service gets its slots in any case: it is out of
        service, whether they allow it or not. So does one that an earlier run has left drained.
        """
        name = context.name
        self._states_at_begin[name] = context.state
        try:
            if is_out_of_service(context):
                self._in_turn.add(name)
                self._take(context, lambda _: lambda _slots: "")
                return None
            refusal = self._check_and_take(context)
        except RecordsUnavailable as error:
            if name in self._in_turn:
                return None  # its slots are still there from the earlier process
            refusal = MemberRefusal(f"the slots of its sets can't be read: {error.message}", WaitsFor.TURN)
        except RecordsError as error:
            self._stop_token.request_stop(f"the records failed: {error.message}")
            if name in self._in_turn:
                return None
            refusal = MemberRefusal(error.message, WaitsFor.NOTHING)
        if refusal is None:
            self._in_turn.add(name)
            self._unhealthy_since.pop(name, None)
            context.explain_no_first_change = functools.partial(self._explain_no_first_change, context)
            return None
        context.transport.close()
        return self._limit_patience(name, refusal)

    def end(self, context: MachineContext) -> MemberRefusal | None:
        """End a member's turn. Return why it must have another one; None: its turn is over.

        If it is not healthy, its slots stay until the end of the run. If it is drained, they stay until it is brought
        back. The report says why.
        """
        name = context.name
        try:
            if self._stop_token.is_lease_lost:
                return None
            refusal = self._again.pop(name, None)
            if refusal is not None and not is_out_of_service(context) and name not in self._taken_over:
                self._slots.release(name)
                if context.state.halted == refusal.reason:
                    context.state = self._states_at_begin[name]
                    return self._limit_patience(name, refusal)
                return None
            left = self._taken_over.get(name)
            reason = (
                self._bring_back(context) if left and not is_out_of_service(context) else self._find_trouble(context)
            )
            if not self._stop_token.still_holds_lease():
                return None  # another process has this run, and this turn
            if reason:
                self._slots.keep(name, reason, drained := self._find_drained(context))
                remedy = f"; patch it again, or bring it back and say `fleetpatch sets release {name}`"
                stays = (
                    f"{name} stays drained" if drained else f"{name} counts as out of service until the end of this run"
                )
                self._note(name, f"{stays}: {reason:.300}{remedy if drained else ''}")
                return None
            self._slots.release(name)
            if left:
                sets = ", ".join(machine_set.name for machine_set in self._sets[name])
                context.add_finding(Finding(f"set {sets}", FindingLevel.GOOD, f"brought back into set {sets}: {left}"))
                self._note(name, f"{name} was brought back into set {sets}: {left}")
            return None
        finally:
            self._in_turn.discard(name)

    def _check_and_take(self, context: MachineContext) -> MemberRefusal | None:
        name = context.name
        if left := self._slots.find_left(name):
            reason = self._take(context, lambda _: functools.partial(_require_left, name))
            if not reason:
                self._taken_over[name] = describe_left(left)
            return MemberRefusal(reason, WaitsFor.TURN) if reason else None
        if refusal := self._check_sets(name, {}):
            return refusal  # without a look at any machine: others have their turns
        if refusal := self._roles.check(context):
            return refusal
        down = self._find_down(name, fresh=False)
        if refusal := self._check_sets(name, down):
            return refusal
        reason = self._take(context, lambda set_name: self._build_rule(name, set_name, down))
        return MemberRefusal(reason, WaitsFor.TURN) if reason else None

    def _explain_no_first_change(self, context: MachineContext) -> str:
        """Return why a member may not be changed now, or "". Roles and health may have changed since it began.

        If it may, it is recorded as drained before the drain begins. It is out of service from now on.
        """
        name = context.name
        is_first = name in self._taken_over  # it is out of service whatever its role

        def check() -> MemberRefusal | None:
            if not is_first and (refusal := self._roles.check(context)):
                return refusal
            self._slots.forget()
            return self._check_sets(name, self._find_down(name, fresh=True))

        refusal = self._slots.retry(check)
        if refusal is None:
            self._slots.mark_drained(name, [machine_set.name for machine_set in self._sets[name] if machine_set.drain])
            return ""
        self._again[name] = refusal
        return refusal.reason

    def _take(self, context: MachineContext, may_take: Callable[[str], SlotRule]) -> str:
        machine, now, drained = context.state.machine, self._clock.now(), self._find_drained(context)
        set_slots = [
            SetSlot(
                machine_set.name,
                machine.name,
                self._run_id,
                now,
                find_domain(machine_set, machine),
                drained=machine_set.name in drained,
            )
            for machine_set in self._sets[machine.name]
        ]
        return self._slots.take(set_slots, may_take)

    def _find_drained(self, context: MachineContext) -> Collection[str]:
        was_left = context.name in self._taken_over
        if not is_out_of_service(context) and not was_left:
            return ()
        return find_drained_sets(
            context, [machine_set.name for machine_set in self._sets[context.name] if machine_set.drain or was_left]
        )

    def _build_rule(self, name: str, set_name: str, down: Mapping[str, Mapping[str, str]]) -> SlotRule:
        (machine_set,) = [other_set for other_set in self._sets[name] if other_set.name == set_name]

        def decide(slots: Sequence[SetSlot]) -> str:
            refusal = self._check_set(machine_set, name, slots, down.get(set_name, {}))
            return refusal.reason if refusal is not None else ""

        return decide

    def _check_sets(self, name: str, down: Mapping[str, Mapping[str, str]]) -> MemberRefusal | None:
        """Return why a set does not allow a member to begin. What can't be helped by waiting comes first."""
        slots, run_id = self._slots.read(), self._run_id
        is_other_open = any(slot.run_id != run_id and not slot.is_left for slot in slots)
        abandoned = self._slots.find_abandoned() if is_other_open else ()
        checked = (
            self._check_set(machine_set, name, slots, down.get(machine_set.name, {}), abandoned)
            for machine_set in self._sets[name]
        )
        refusals = [refusal for refusal in checked if refusal is not None]
        refusals.sort(key=lambda refusal: refusal.waits_for is not WaitsFor.NOTHING)
        return refusals[0] if refusals else None

    def _check_set(
        self,
        machine_set: MachineSet,
        name: str,
        slots: Sequence[SetSlot],
        down: Mapping[str, str],
        abandoned: Collection[str] = (),
    ) -> MemberRefusal | None:
        domains = self._domains.get(machine_set.name, {})
        slots = self._slots.judge(select_slots(machine_set, slots, domains))
        held = {slot.machine for slot in slots}
        situation = SetSituation(
            machine_set,
            slots,
            {member: reason for member, reason in down.items() if member not in held},
            domains,
            returning={member for member in held if self._is_to_come(member)},
            later={member for member in held if self._is_to_come(member) and self._is_later(member)},
            abandoned=abandoned,
        )
        return check_capacity(situation, name, self._run_id)

    def _find_down(self, name: str, *, fresh: bool) -> Mapping[str, Mapping[str, str]]:
        """Return the members of each set that are not healthy. Members with a slot count anyway, and are not asked."""
        held = {slot.machine for slot in self._slots.read()}
        down_by_set = {}
        for machine_set in self._sets[name]:
            others = [member for member in machine_set.members if member != name and member not in held]
            down_by_set[machine_set.name] = self._questions.find_down(machine_set, others, fresh=fresh)
        return down_by_set

    def _is_left(self, name: str) -> bool:
        """Return whether this run has still to change a member."""
        context = self._contexts.get(name)
        return name in self._in_turn or (context is not None and name not in self._done and _has_work(context))

    def _is_to_come(self, name: str) -> bool:
        """Return whether this run has still to finish a machine."""
        return name in self._contexts and name not in self._done

    def _is_later(self, name: str) -> bool:
        return (self._contexts[name].state.wave or 0) > self._wave_number

    def _note(self, key: str, text: str) -> None:
        """Tell people something once: now, and in the report."""
        if key not in self._notes:
            self._notes[key] = text
            self._listener.on_message(text)

    def _limit_patience(self, name: str, refusal: MemberRefusal) -> MemberRefusal:
        """Return the refusal. Members that are not healthy are waited for only as long as one may take after a turn."""
        if refusal.waits_for is not WaitsFor.HEALTH:
            self._unhealthy_since.pop(name, None)
            return refusal
        now = self._clock.now()
        since = self._unhealthy_since.setdefault(name, now)
        patience = max(machine_set.healthy_seconds for machine_set in self._sets[name])
        return replace(refusal, waits_for=WaitsFor.NOTHING) if now - since >= timedelta(seconds=patience) else refusal

    def _bring_back(self, context: MachineContext) -> str:
        """Bring back a member that an earlier run left drained. Return why it stays out of service, or ""."""
        name = context.name
        try:
            for machine_set in self._sets[name]:
                if reason := check_member_health(context, machine_set.healthy):
                    reason = f"{self._taken_over[name]}; it is not brought back, because it is not healthy: {reason}"
                    remedy = f"Look at {name}. When it is back, say `fleetpatch sets release {name}`."
                    context.add_finding(Finding(f"set {machine_set.name}", FindingLevel.WARN, reason, remedy))
                    return reason
            return run_undrains(context) or await_health(
                context, self._sets[context.name], self._clock, self._listener, self._stop_token
            )
        except RecordsError as error:
            self._stop_token.request_stop(f"the records failed: {error.message}")
            return f"{self._taken_over[name]}; it is not brought back: {error.message}"
        finally:
            context.transport.close()

    def _find_trouble(self, context: MachineContext) -> str:
        """Return why a member stays out of service after its turn, or "". Wait until it is healthy."""
        try:
            left = explain_member_left_drained(context)
        except RecordsError as error:
            return f"it is not known what was done to it: {error.message}"
        if left:
            return left
        failed = [
            result
            for result in context.state.hooks
            if result.hook.place is HookPoint.AFTER_MACHINE and is_blocking_failure(result)
        ]
        names = {hook.name for hook in context.set_hooks}
        for result in failed:
            if result.hook.name in names:
                return f"hook {result.hook.name} failed: {result.message}"
        if not is_out_of_service(context) and context.state.install is None and not context.state.reboots:
            return ""  # nothing was done to it
        try:
            return await_health(context, self._sets[context.name], self._clock, self._listener, self._stop_token)
        finally:
            context.transport.close()


def _require_left(name: str, slots: Sequence[SetSlot]) -> str:
    is_left = any(slot.machine == name and slot.is_left for slot in slots)
    return "" if is_left else "another run has just brought it back"


def _has_work(context: MachineContext) -> bool:
    return find_next_step(context.state, context.options) is not Step.REPORT
