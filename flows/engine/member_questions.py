"""The members of machine sets: their health and their roles, each asked with a connection of its own."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from datetime import datetime, timedelta
from typing import Final

from inventory.machine import Inventory, MachineSet
from tasks.domain.errors import FleetpatchError, RecordsError
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.states import Step
from tasks.rules.runs.set_capacity import MemberRefusal, WaitsFor, check_role_order, find_rank
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.run_context import RunContext
from tasks.steps.context.run_control import ProgressListener, StopToken
from tasks.steps.machine.set_member import add_member_health_finding, ask_member_role, check_member_health, open_member

FRESH: Final = timedelta(seconds=10)
"""How long an answer about a member's health is used for other members that wait."""
FRESH_BEFORE_CHANGE: Final = timedelta(seconds=5)
"""The same just before a change: many members of a large set may arrive there together."""
_MAX_ASKED_AT_ONCE: Final = 16


class MemberQuestions:
    """Questions to the members of machine sets. Safe for use by many threads."""

    def __init__(self, inventory: Inventory, run_context: RunContext) -> None:
        self._machines = {machine.name: machine for machine in inventory.machines}
        self._run_context = run_context
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._asked: dict[tuple[str, str], Future[str]] = {}
        self._health: dict[tuple[str, str], tuple[datetime, str]] = {}
        self._roles: dict[tuple[str, str], str] = {}

    def close(self) -> None:
        """End the threads."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()

    def find_down(self, machine_set: MachineSet, names: Sequence[str], *, fresh: bool = False) -> Mapping[str, str]:
        """Return which of these members are not healthy, with the reason.

        A member is asked only once at a time: who needs the same answer meanwhile gets it, too.

        Args:
            machine_set: the set, whose checks count.
            names: the members.
            fresh: a change follows, so only very new answers count.
        """
        oldest = self._run_context.clock.now() - (FRESH_BEFORE_CHANGE if fresh else FRESH)
        answers, asked = {}, {}
        with self._lock:
            for name in names:
                cached = self._health.get((machine_set.name, name))
                if cached is not None and cached[0] >= oldest:
                    answers[name] = cached[1]
                else:
                    key = (machine_set.name, name)
                    if key not in self._asked:
                        if self._pool is None:
                            self._pool = ThreadPoolExecutor(_MAX_ASKED_AT_ONCE, thread_name_prefix="health")
                        self._asked[key] = self._pool.submit(copy_context().run, self._ask_health, machine_set, name)
                    asked[name] = self._asked[key]
        answers |= {name: future.result() for name, future in asked.items()}
        return {name: answers[name] for name in names if answers[name]}

    def _ask_health(self, machine_set: MachineSet, name: str) -> str:
        key = (machine_set.name, name)
        try:
            try:
                with open_member(self._run_context, self._machines[name]) as context:
                    reason = check_member_health(context, machine_set.healthy)
            except FleetpatchError as error:
                reason = error.message
            with self._lock:
                self._health[key] = (self._run_context.clock.now(), reason)
        finally:
            with self._lock:
                self._asked.pop(key, None)
        return reason

    def ask_own_role(self, machine_set: MachineSet, context: MachineContext) -> str:
        """Ask a member for its role, with its own connection. Raise FleetpatchError if it can't be asked."""
        role = "" if machine_set.role is None else ask_member_role(context, machine_set.role)
        with self._lock:
            self._roles[machine_set.name, context.name] = role
        return role

    def find_role(self, machine_set: MachineSet, name: str, is_enough: Callable[[str], bool]) -> str:
        """Return the role of another member: the known one if that is enough, otherwise its answer now.

        If it can't be asked, its last known role counts; "" if there is none.
        """
        with self._lock:
            cached = self._roles.get((machine_set.name, name))
        if cached is not None and is_enough(cached):
            return cached
        with suppress(FleetpatchError), open_member(self._run_context, self._machines[name]) as context:
            return self.ask_own_role(machine_set, context)
        return cached or ""


class MemberRoles:
    """The roles of the members of sets in one run. Safe for use by many threads.

    Args:
        is_left: whether this run has still to change a member.
        warn: is told of orders that contradict each other: an id, and the words.
    """

    def __init__(
        self,
        sets: Mapping[str, Sequence[MachineSet]],
        questions: MemberQuestions,
        is_left: Callable[[str], bool],
        is_later: Callable[[str], bool],
        warn: Callable[[str, str], None],
    ) -> None:
        self._sets = sets
        self._questions = questions
        self._is_left, self._is_later = is_left, is_later
        self._warn = warn

    def check(self, context: MachineContext) -> MemberRefusal | None:
        """Return why the turn of a member's role has not come yet; None if it has.

        Raises:
            RecordsError: the records failed.
        """
        own_roles: dict[str, str] = {}
        for machine_set in self._sets[context.name]:
            if machine_set.role is None or not machine_set.order:
                continue
            try:
                role = own_roles[machine_set.name] = self._questions.ask_own_role(machine_set, context)
            except RecordsError:
                raise
            except FleetpatchError as error:
                return MemberRefusal(f"set {machine_set.name}: its role is not known: {error.message}", WaitsFor.HEALTH)
            if rank := find_rank(machine_set, role):
                left = [name for name in machine_set.members if name != context.name and self._is_left(name)]

                # One that would have to come first says itself when its role changes.
                def is_earlier(role: str, machine_set: MachineSet = machine_set, rank: int = rank) -> bool:
                    return find_rank(machine_set, role) < rank

                roles = {name: self._questions.find_role(machine_set, name, is_earlier) for name in left}
                for name in [name for name, other in roles.items() if find_rank(machine_set, other) < rank]:
                    if self._comes_after(name, context.name, machine_set, own_roles):
                        del roles[name]
                later = {name for name in roles if self._is_later(name)}
                if refusal := check_role_order(machine_set, role, roles, later):
                    return refusal
        return None

    def _comes_after(self, other: str, name: str, machine_set: MachineSet, own_roles: Mapping[str, str]) -> bool:
        """Return whether an earlier set of the inventory lets the other member come after this one.

        Each would wait for the other until the end of the window, so the set that the inventory names first counts.
        """
        for earlier_set in self._sets[name]:
            if earlier_set is machine_set:
                break
            if earlier_set.name not in own_roles or other not in earlier_set.members:
                continue
            rank = find_rank(earlier_set, own_roles[earlier_set.name])

            def is_later(role: str, earlier_set: MachineSet = earlier_set, rank: int = rank) -> bool:
                return find_rank(earlier_set, role) > rank

            role = self._questions.find_role(earlier_set, other, is_later)
            if find_rank(earlier_set, role) > rank:
                self._warn(
                    f"{earlier_set.name}/{machine_set.name}",
                    f"the orders of the sets {earlier_set.name} and {machine_set.name} contradict each other, "
                    f"for {name} and {other}: that of set {earlier_set.name} counts",
                )
                return True
        return False


HEALTH_POLL_SECONDS: Final = 5.0


def await_health(
    context: MachineContext, sets: Sequence[MachineSet], clock: Clock, listener: ProgressListener, stop_token: StopToken
) -> str:
    """Return why a member is not healthy in the time that its sets give it, or ""."""
    for machine_set in sets:
        deadline, is_told = Deadline.after(clock, machine_set.healthy_seconds), False
        while reason := check_member_health(context, machine_set.healthy):
            if deadline.has_passed(clock) or stop_token.is_lease_lost:
                reason = f"it is not healthy {machine_set.healthy_seconds:.0f} s after its turn: {reason}"
                add_member_health_finding(context, f"set {machine_set.name}", reason)
                return reason
            if not is_told:
                listener.on_progress(context.name, Step.VALIDATE, None, f"waiting until it is healthy: {reason}")
            is_told = True
            clock.sleep(min(HEALTH_POLL_SECONDS, max(0.1, deadline.remaining_seconds(clock))))
    return ""
