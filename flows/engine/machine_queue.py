"""The machines of a wave or of an assessment: each begins when a worker and all its places are free.

A machine that must wait, for its turn in a set or for a place at something that it shares, occupies no worker. So
other machines go on.
"""

import contextvars
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Condition
from typing import Final, Generic, TypeVar

from flows.ports.ports import Ports
from inventory.data_class import dataclass
from inventory.name_lists import join_first_names
from inventory.resource_limits import Resource, ResourceKind
from tasks.rules.runs.resource_turns import choose_next, describe_full, find_limited_resources
from tasks.steps.context.machine_context import MachineContext

POLL_SECONDS: Final = 1.0  # how often the queue looks at the stop token and the clock while machines wait

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class QueuedMachine:
    """A machine in the queue.

    Attributes:
        variables: a copy of the caller's context, which holds Prefect's flow run.
        ask_at: when it is tried again; None: now.
        look_at: when its second look is due: not before, also in a run that is to stop.
        is_postponed: it leaves the queue without a result.
    """

    context: MachineContext
    variables: contextvars.Context
    ask_at: datetime | None = None
    look_at: datetime | None = None
    is_postponed: bool = False


class MachineQueue(Generic[T]):
    """Calls a body for each machine, in parallel.

    Args:
        contexts: the machines, in the order in which they begin if they may.
        ports: of the run. Its inventory says what machines share.
        body: does what can be done with a machine now, and returns its result. None: it must wait.
        kinds: the kinds of resources whose limits count.
        find_neighbours: returns the machines that may begin because one has ended.
    """

    def __init__(
        self,
        contexts: Sequence[MachineContext],
        ports: Ports,
        body: Callable[[QueuedMachine], T | None],
        kinds: Collection[ResourceKind] = frozenset(ResourceKind),
        find_neighbours: Callable[[str], Collection[str]] = lambda _name: (),
    ) -> None:
        self._waiting = [QueuedMachine(context, contextvars.copy_context()) for context in contexts]
        self._ports, self._body, self._find_neighbours = ports, body, find_neighbours
        names = [context.name for context in contexts]
        self._resources = find_limited_resources(ports.inventory, names, kinds)
        self._in_use: Counter[Resource] = Counter()
        self._announced: set[Resource] = set()
        self._changed = Condition()
        self._in_hand = 0
        self._error: BaseException | None = None
        self._results: list[T] = []

    def run(self, at_once: int) -> list[T]:
        """Run all machines, at most so many at once. Return their results, as they end.

        If a body raises, ask the run to stop, wait for the other bodies, and raise the error.
        """
        if not self._waiting:
            return []
        with ThreadPoolExecutor(min(at_once, len(self._waiting)), thread_name_prefix="machine") as pool:
            try:
                self._hand_out(pool, at_once)
            except BaseException as error:  # noqa: BLE001 - raised below, when the machines that wait have seen the stop
                self._break_off(error)
                self._hand_out(pool, at_once)
        if self._error is not None:
            raise self._error
        return self._results

    def _hand_out(self, pool: ThreadPoolExecutor, at_once: int) -> None:
        """Let machines begin until none is left."""
        while True:
            with self._changed:
                machine = self._find_next() if self._in_hand < at_once else None
                if machine is not None:
                    pool.submit(self._run_turn, machine)
                    self._waiting.remove(machine)
                    self._in_use.update(self._find_resources(machine))
                    self._in_hand += 1
                    continue
                if not self._in_hand and not self._waiting:
                    return
                if self._in_hand:
                    must_ask = any(waiting.ask_at or waiting.look_at for waiting in self._waiting)
                    self._changed.wait(POLL_SECONDS if must_ask else None)
                    continue
            self._ports.clock.sleep(POLL_SECONDS)

    def _find_next(self) -> QueuedMachine | None:
        """Return the first machine that may begin now. Say once of each full resource who waits for it."""
        now, is_stopping = self._ports.clock.now(), self._ports.stop_token.is_stopping
        due = (
            (machine, self._find_resources(machine))
            for machine in self._waiting
            if (machine.look_at is None or machine.look_at <= now)
            and (is_stopping or machine.ask_at is None or machine.ask_at <= now)
        )
        chosen, full = choose_next(due, self._in_use, self._ports.inventory.limits)
        if chosen is not None or self._announced.issuperset(full.values()):
            return chosen
        names: dict[Resource, list[str]] = {}
        for machine in self._waiting:
            if (resource := full.get(self._find_resources(machine))) is not None:
                names.setdefault(resource, []).append(machine.context.name)
        for resource, waiting in names.items():
            reason = describe_full(resource, self._in_use[resource])
            self._ports.progress.note_waiting(waiting, reason)
            if resource not in self._announced:
                verb = "waits" if len(waiting) == 1 else "wait"
                self._ports.listener.on_message(f"{join_first_names(waiting)} {verb}: {reason}")
        self._announced.update(names)
        return None

    def _find_resources(self, machine: QueuedMachine) -> tuple[Resource, ...]:
        return self._resources.get(machine.context.name, ())

    def _run_turn(self, machine: QueuedMachine) -> None:
        name = machine.context.name
        result: T | None = None
        try:
            result = machine.variables.run(self._body, machine)
        except BaseException as error:  # noqa: BLE001 - run() raises it at the end
            self._break_off(error)
            machine.is_postponed = True
        with self._changed:
            self._in_hand -= 1
            self._in_use.subtract(self._find_resources(machine))
            if result is not None:
                self._results.append(result)
            elif not machine.is_postponed:
                self._waiting.append(machine)
            if result is not None or self._error is not None:
                neighbours = self._find_neighbours(name)
                for waiting in self._waiting:
                    if waiting.context.name in neighbours:  # it may be the next one
                        waiting.ask_at = None
            self._changed.notify_all()

    def _break_off(self, error: BaseException) -> None:
        self._ports.stop_token.request_stop(f"the run broke off: {type(error).__name__}: {error}")
        with self._changed:
            self._error = self._error or error
