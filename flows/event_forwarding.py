"""Lays the forwarder of scheduled events down on machines whose owners agree, and takes it away."""

import functools
import re
from collections.abc import Sequence
from contextlib import closing
from enum import StrEnum
from typing import Final

from flows.machine_visits import build_visit_context, visit_machines
from flows.policy.enforcement import enforce_act_policy
from flows.ports.ports import Ports
from inventory.data_class import dataclass
from inventory.event_delivery import EventDelivery
from inventory.machine import Machine, OsFamily
from tasks.domain.errors import FleetpatchError, RequestError
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import ScriptRecord
from tasks.domain.states import OperationState, Step
from tasks.rules.policy.model import RiskyOption
from tasks.steps.context.machine_context import MachineContext, MachineState

_TARGET: Final = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]{1,253}):([0-9]{1,5})")
_SCRIPT_SECONDS: Final = 120.0


class ForwarderState(StrEnum):
    """What a machine has, or what became of an order for it."""

    LAID = "laid"
    ABSENT = "absent"
    UNCHANGED = "unchanged"
    REFUSED = "refused"  # nothing was changed
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ForwarderOrder:
    """What is asked for."""

    target: str = ""  # the endpoint, "host:port", as machines reach it
    is_removal: bool = False  # whether the forwarder is taken away
    dry_run: bool = False  # tell what machines have. Nothing is changed.


@dataclass(frozen=True, slots=True)
class ForwarderResult:
    """What became of the order on one machine."""

    machine: str
    state: ForwarderState
    target: str = ""
    message: str = ""
    remedy: str = ""


def parse_target(text: str) -> str:
    """Return the endpoint of a forwarder. Raise RequestError if it is no host with a port."""
    match = _TARGET.fullmatch(text.strip())
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise RequestError(
            f"--to {text!r} is no endpoint",
            hint="Give its host and port, as machines reach it: fleet.example.org:4281.",
        )
    return text.strip()


def change_forwarders(
    machines: Sequence[Machine], ports: Ports, order: ForwarderOrder, at_once: int
) -> tuple[ForwarderResult, ...]:
    """Carry an order out on machines, several at once. An error of one machine is its result.

    Raises:
        InventoryError: the policy can't be read.
        PolicyRefused: a rule or a freeze of the policy forbids changes now.
    """
    if not order.dry_run:
        policies = ports.read_deployed_policies()
        enforce_act_policy(RiskyOption.FORWARDER, machines, ports.inventory, ports.clock.now(), policies)
    return visit_machines(machines, at_once, functools.partial(_change_safely, ports, order))


def _change_safely(ports: Ports, order: ForwarderOrder, machine: Machine) -> ForwarderResult:
    ports.listener.on_progress(machine.name, Step.INSTALL, None, "looking")
    try:
        result = _explain_refusal(order, machine) or _change(ports, order, machine)
    except FleetpatchError as error:
        result = ForwarderResult(machine.name, ForwarderState.FAILED, message=error.message, remedy=error.hint)
    is_bad = result.state is ForwarderState.FAILED
    state = OperationState.FAILED if is_bad else OperationState.SUCCEEDED
    ports.listener.on_step_finished(machine.name, Step.INSTALL, state.value, result.message if is_bad else "")
    return result


def _explain_refusal(order: ForwarderOrder, machine: Machine) -> ForwarderResult | None:
    """Return why nothing may be changed on a machine. To take something away, nobody has to agree."""
    if order.dry_run or order.is_removal:
        return None
    message, remedy = "", ""
    if machine.scheduled_events is not EventDelivery.FORWARDER:
        message = f"its owner does not agree: scheduled_events is {machine.scheduled_events}"
        remedy = "Set `scheduled_events: forwarder` in the inventory."
    elif not machine.owner.is_patchable:
        message, remedy = f"fleetpatch may not change it: its owner is {machine.owner}", "Set owner in the inventory."
    elif machine.os is not OsFamily.LINUX:
        message, remedy = "there is a forwarder for Linux only", "Set `scheduled_events: file` in the inventory."
    return ForwarderResult(machine.name, ForwarderState.REFUSED, message=message, remedy=remedy) if message else None


def _change(ports: Ports, order: ForwarderOrder, machine: Machine) -> ForwarderResult:
    work = "look" if order.dry_run else "remove" if order.is_removal else "lay"
    with closing(ports.connect(machine)) as transport:
        context = MachineContext(build_visit_context(ports, "events"), transport, MachineState(machine))
        params = {"work": work, "target": order.target}
        script = context.build_shared_script("event_forwarder", params, read_only=order.dry_run)
        answer = transport.run_script(script, deadline=Deadline.after(ports.clock, _SCRIPT_SECONDS))
    if not answer.records:
        message = f"it gave no answer (exit code {answer.exit_code})"
        return ForwarderResult(
            machine.name, ForwarderState.FAILED, message=message, remedy=answer.unframed_output[-300:]
        )
    return _to_result(machine.name, answer.records[-1], order)


def _to_result(machine: str, record: ScriptRecord, order: ForwarderOrder) -> ForwarderResult:
    if record.get("kind") == "refused":
        return ForwarderResult(machine, ForwarderState.REFUSED, message=str(record.get("why")))
    if record.get("kind") == "unchanged":
        return ForwarderResult(machine, ForwarderState.UNCHANGED, order.target)
    if record.get("state") not in {ForwarderState.LAID.value, ForwarderState.ABSENT.value}:
        message = "it has units of that name that are not fleetpatch's"
        return ForwarderResult(machine, ForwarderState.REFUSED, message=message)
    return ForwarderResult(machine, ForwarderState(str(record["state"])), str(record.get("target") or ""))
