"""Asks a machine how healthy it is, what went wrong since, and about its units and services."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from inventory.name_lists import format_count
from tasks.domain.errors import DeadlineExceeded, ProtocolViolation, ScriptFailed
from tasks.domain.model import Finding
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Script, ScriptResult
from tasks.domain.states import FindingLevel, Step
from tasks.machines.managers.running_programs import parse_units
from tasks.rules.machine_checks.units import ServiceStatus, UnitStatus
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.facts import parse_findings

HEALTH_CHECK: Final = "health"
"""The check of whether the machine says how healthy it is."""
SCRIPT_TIMEOUT_SECONDS: Final = 90.0


def check_health(context: MachineContext) -> Sequence[Finding]:
    """Return what endangers an installation on this machine.

    Raises:
        TransportError: the connection failed. A machine that does not answer in time is only a finding.
    """
    script = context.manager.health_script
    return () if script is None else _run_health_script(context, script)


def check_health_since(context: MachineContext) -> Sequence[Finding]:
    """Return what went wrong on this machine since the run began there, without what the pre-check has found.

    Raises:
        TransportError: the connection failed. A machine that does not answer in time is only a finding.
    """
    script = context.manager.health_script
    if script is None:
        return ()
    # clocks differ: the machine is asked by its own
    starts = (record.started_at for record in context.state.steps if record.step is not Step.ASSESS)
    since = min(starts, default=context.run.started_at).timestamp() + context.facts.clock_skew_seconds
    script = replace(script, params={**script.params, "since": str(math.floor(since))})
    return [finding for finding in _run_health_script(context, script) if finding not in context.state.findings]


def _run_health_script(context: MachineContext, script: Script) -> Sequence[Finding]:
    try:
        answer = context.transport.run_script(script, deadline=Deadline.after(context.clock, SCRIPT_TIMEOUT_SECONDS))
    except DeadlineExceeded:
        reason = f"not known: the machine has not answered in {SCRIPT_TIMEOUT_SECONDS:.0f} s"
        return (Finding(HEALTH_CHECK, FindingLevel.GOOD, reason),)
    if answer.exit_code:
        raise ScriptFailed(
            f"{script.name} ended with {answer.exit_code}",
            exit_code=answer.exit_code,
            output_tail=answer.unframed_output,
            machine=context.name,
        )
    return parse_findings(answer)


_MAX_UNITS: Final = 200
"""Of more units, nobody reads the words."""
_STARTERS: Final = ("WantedBy", "RequiredBy", "UpheldBy")


def read_unit_states(context: MachineContext, names: Sequence[str]) -> tuple[UnitStatus, ...]:
    """Return what systemd says of these units. Changes nothing.

    Raises:
        TransportError: no answer.
        ProtocolViolation: the answer is not valid.
    """
    asked = tuple(names[:_MAX_UNITS])
    if not asked:
        return ()
    answer = context.transport.run_script(
        Script("unit_states", {"units": asked}), deadline=context.build_read_deadline()
    )
    texts_by_unit = {str(record.get("name")): str(record.get("text", "")) for record in answer.find_records("words")}
    shown = next(iter(answer.find_records("section")), {})
    blocks = parse_units(str(shown.get("text", "")))
    if len(blocks) != len(asked):
        counted = format_count(len(blocks), "unit")
        raise ProtocolViolation(
            f"systemctl shows {counted} of {len(asked)} (exit code {shown.get('exit_code')}): "
            f"{str(shown.get('stderr', ''))[-300:]}"
        )
    return tuple(
        build_unit_status(name, block, texts_by_unit.get(name, "")) for name, block in zip(asked, blocks, strict=True)
    )


def build_unit_status(name: str, shown: Mapping[str, str], words: str = "") -> UnitStatus:
    """Return a unit's status from the properties that systemctl shows.

    Old versions of systemd lack some of the properties. ``words`` are the unit's last words in the log.
    """
    was_checked = shown.get("ConditionTimestampMonotonic", "0") not in {"", "0"}
    return UnitStatus(
        name,
        load=shown.get("LoadState", ""),
        active=shown.get("ActiveState", ""),
        sub=shown.get("SubState", ""),
        kind=shown.get("Type", ""),
        wanted_by=tuple(word for key in _STARTERS for word in shown.get(key, "").split()),
        triggered_by=tuple(shown.get("TriggeredBy", "").split()),
        has_bus_name=bool(shown.get("BusName")),
        has_job=shown.get("Job", "") not in {"", "0"},
        lacks_condition=was_checked and shown.get("ConditionResult") == "no",
        was_active=shown.get("ActiveEnterTimestampMonotonic", "0") not in {"", "0"},
        words=words,
    )


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
        records = [_ServiceRecord.model_validate(record) for record in answer.find_records("service_state")]
    except ValidationError as error:
        raise ProtocolViolation(f"the states of services can't be understood: {error.errors()[0]['msg']}") from error
    if tuple(record.name for record in records) != script.params["services"]:
        raise ProtocolViolation(
            f"the machine did not tell the states of the services that were asked for "
            f"(exit code {answer.exit_code}): {answer.unframed_output[-300:]}"
        )
    return tuple(
        ServiceStatus(record.name, record.start, record.status, record.late, record.exit_code) for record in records
    )
