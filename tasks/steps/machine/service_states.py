"""Asks a Windows machine how it starts services, and whether they run."""

from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.domain.errors import ProtocolViolation
from tasks.domain.protocols.transport import Script, ScriptResult
from tasks.rules.machine_checks.service_starts import ServiceStatus
from tasks.steps.context.machine_context import MachineContext

_MAX_SERVICES: Final = 200


class _ServiceRecord(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    name: str
    start: str
    status: str
    late: bool
    exit_code: int | None


def read_service_states(context: MachineContext, names: Sequence[str]) -> tuple[ServiceStatus, ...]:
    """Return what Windows says of these services. Changes nothing.

    Raises:
        TransportError: no answer.
        ProtocolViolation: the answer is not valid, or not of these services.
    """
    if not names:
        return ()
    script = build_states_script(names)
    return parse_service_states(script, context.transport.run_script(script, deadline=context.build_read_deadline()))


def build_states_script(names: Sequence[str]) -> Script:
    """Return the script that asks for these services, or for the first 200 of them."""
    return Script("service_states", {"services": tuple(names[:_MAX_SERVICES])})


def parse_service_states(script: Script, answer: ScriptResult) -> tuple[ServiceStatus, ...]:
    """Return what an answer says of the services that were asked for.

    Raises:
        ProtocolViolation: the answer is not valid, or not of these services.
    """
    try:
        records = [_ServiceRecord.model_validate(each) for each in answer.find_records("service_state")]
    except ValidationError as error:
        raise ProtocolViolation(f"the states of services can't be understood: {error.errors()[0]['msg']}") from error
    if tuple(each.name for each in records) != script.params["services"]:
        raise ProtocolViolation(
            f"the machine did not tell the states of the services that were asked for "
            f"(exit code {answer.exit_code}): {answer.unframed_output[-300:]}"
        )
    return tuple(ServiceStatus(each.name, each.start, each.status, each.late, each.exit_code) for each in records)
