"""Carries out a change on many machines outside of a run: record, connect, change, record. One door for all of them."""

import functools
import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from flows.machine_visits import build_visit_context, visit_machines
from flows.ports.ports import Ports
from inventory.data_class import dataclass
from inventory.machine import Machine
from tasks.domain.errors import FleetpatchError, InternalError, RecordsError
from tasks.domain.model import Finding
from tasks.domain.states import ChangeState, OperationState, Step
from tasks.steps.context.machine_context import MachineContext, MachineState

logger = logging.getLogger(__name__)
OWNER_REMEDY: Final = "Set owner in the inventory."


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """What became of an order on one machine."""

    machine: str
    state: ChangeState
    # Of the machine afterwards, in the words of the act; None when it has none, or is not known.
    status: StrEnum | None = None
    message: str = ""  # what was done, or why not
    remedy: str = ""
    steps: tuple[str, ...] = ()  # what is done, in words: commands, registry values, requests
    prerequisites: tuple[Finding, ...] = ()


class OrderJournal(Protocol):
    """Where orders are recorded, before they begin and when they have ended."""

    def begin(self, order_id: str, act: str, machine: str, by: str, at: datetime) -> None:
        """Store that an order begins on a machine."""

    def end(
        self,
        order_id: str,
        machine: str,
        state: ChangeState,
        at: datetime,
        *,
        message: str,
        remedy: str,
        steps: Sequence[str],
    ) -> None:
        """Store what became of it."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for."""

    id: str  # the same for all its machines
    act: str  # in words: "hotpatch enroll"
    by: str  # who asks
    journal: OrderJournal  # where it is recorded
    dry_run: bool = False  # tell what would be done. Machines are only read, and nothing is recorded.
    at_once: int = 20


Change = Callable[[MachineContext], ChangeResult]


def carry_out_order(
    machines: Sequence[Machine], ports: Ports, order: Order, change: Change, find_refusal: Callable[[Machine], str]
) -> tuple[ChangeResult, ...]:
    """Carry out an order on machines, several at once. An error of one machine is its result.

    An interruption begins nothing more. It waits for changes that have begun, so that their locks are released.

    Args:
        machines: the machines.
        ports: reach them.
        order: what is asked for.
        change: changes one machine. It is not called where the order can't be recorded.
        find_refusal: returns why the inventory forbids it on a machine, or "".
    """
    return visit_machines(machines, order.at_once, functools.partial(_carry_out, ports, order, change, find_refusal))


def _carry_out(
    ports: Ports, order: Order, change: Change, find_refusal: Callable[[Machine], str], machine: Machine
) -> ChangeResult:
    ports.listener.on_progress(machine.name, Step.ASSESS, None, "looking")
    result = _change_recorded(ports, order, change, find_refusal, machine)
    is_bad = result.state is ChangeState.FAILED
    state = OperationState.FAILED if is_bad else OperationState.SUCCEEDED
    ports.listener.on_step_finished(machine.name, Step.ASSESS, state.value, result.message if is_bad else "")
    return result


def _change_recorded(
    ports: Ports, order: Order, change: Change, find_refusal: Callable[[Machine], str], machine: Machine
) -> ChangeResult:
    if not order.dry_run:
        try:
            order.journal.begin(order.id, order.act, machine.name, order.by, ports.clock.now())
        except RecordsError as error:
            return ChangeResult(machine.name, ChangeState.FAILED, message=error.message, remedy=error.hint)
    result = _change_safely(ports, change, find_refusal, machine)
    if not order.dry_run:
        try:
            order.journal.end(
                order.id,
                machine.name,
                result.state,
                ports.clock.now(),
                message=result.message,
                remedy=result.remedy,
                steps=result.steps,
            )
        except RecordsError as error:
            lack = f"what became of it could not be recorded: {error.message}"
            return replace(result, message="; ".join(filter(None, [result.message, lack])))
    return result


def _change_safely(
    ports: Ports, change: Change, find_refusal: Callable[[Machine], str], machine: Machine
) -> ChangeResult:
    if refusal := find_refusal(machine):
        return ChangeResult(machine.name, ChangeState.REFUSED, message=refusal, remedy=OWNER_REMEDY)
    try:
        with closing(ports.connect(machine)) as transport:
            return change(MachineContext(build_visit_context(ports, "order"), transport, MachineState(machine)))
    except FleetpatchError as error:
        return ChangeResult(machine.name, ChangeState.FAILED, message=error.message, remedy=error.hint)
    except Exception as error:  # an unexpected error of one machine must not hide the results of the others
        logger.exception("%s: the change failed unexpectedly", machine.name)
        fault = InternalError(f"{type(error).__name__}: {error}", hint="This is a fault in fleetpatch.")
        return ChangeResult(machine.name, ChangeState.FAILED, message=fault.message, remedy=fault.hint)


def refuse_other_owners(machine: Machine) -> str:
    """Return why fleetpatch may not change a machine: another one patches it; "" if it may."""
    return "" if machine.owner.is_patchable else f"fleetpatch may not change it: its owner is {machine.owner}"
