"""Asks a machine how long it has run, and whether it may be powered off; and orders that."""

from dataclasses import dataclass

from tasks.domain.errors import ProtocolViolation
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import ScriptParameter, ScriptResult
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.lock_holder import build_lock_holder

SCRIPT_TIMEOUT_SECONDS = 60.0  # one call, including a reconnection


@dataclass(frozen=True, slots=True)
class PowerAnswer:
    """The answer of a machine.

    Attributes:
        up_seconds: since it booted; None: it does not know.
        refusal: why it may not be powered off, or "".
        refusal_kind: claim, job, people, lock, packages, inhibitor, or "".
    """

    up_seconds: float | None = None
    refusal: str = ""
    refusal_kind: str = ""


def read_power(context: MachineContext) -> PowerAnswer:
    """Return how long the machine has run. Changes nothing.

    Raises:
        TransportError: no answer.
        ProtocolViolation: the answer is not valid.
    """
    script = context.build_shared_script("power", {"work": "look"})
    return _parse_answer(context.transport.run_script(script, deadline=_build_deadline(context)), "")


def check_power_off(context: MachineContext) -> PowerAnswer:
    """Return whether the machine may be powered off. Changes nothing.

    Raises:
        TransportError: no answer.
        ProtocolViolation: the answer is not valid.
    """
    return _order(context, "check", "allowed", read_only=True)


def order_power_off(context: MachineContext) -> PowerAnswer:
    """Order the machine to power itself off, unless something is against that.

    Raises:
        TransportError: no answer; it may have received the order.
        ProtocolViolation: the answer is not valid.
    """
    return _order(context, "off", "ordered", read_only=False)


def _order(context: MachineContext, work: str, wanted: str, *, read_only: bool) -> PowerAnswer:
    parameters: dict[str, ScriptParameter] = {
        "work": work,
        "run": build_lock_holder(context),
        "locks": context.manager.lock_files,
    }
    script = context.build_shared_script("power", parameters, read_only=read_only)
    return _parse_answer(context.transport.run_script(script, deadline=_build_deadline(context)), wanted)


def _build_deadline(context: MachineContext) -> Deadline:
    return Deadline.after(context.clock, SCRIPT_TIMEOUT_SECONDS)


def _parse_answer(answer: ScriptResult, wanted: str) -> PowerAnswer:
    power, refused = answer.find_records("power"), answer.find_records("refused")
    if answer.exit_code or len(power) != 1 or (wanted and not refused and not answer.find_records(wanted)):
        raise ProtocolViolation(f"power gave no answer (exit code {answer.exit_code}): {answer.unframed_output[-300:]}")
    up_seconds = power[0].get("up_seconds")
    return PowerAnswer(
        float(up_seconds) if isinstance(up_seconds, int | float) and up_seconds >= 0 else None,
        str(refused[0].get("why") or "it gave no reason") if refused else "",
        str(refused[0].get("about", "")) if refused else "",
    )
