"""Sends the file of a component to a machine, in parts, if the controller has it and the machine lacks it."""

import base64
from pathlib import Path
from typing import Final

from inventory.machine import OsFamily
from tasks.domain.components import ComponentVersion
from tasks.domain.errors import ProtocolViolation, RequestError, ScriptFailed
from tasks.domain.states import Step
from tasks.rules.components.versions import find_listed_version
from tasks.steps.component_choice import get_component_order
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.retry import build_retry_deadline, retry_transient

PART_BYTES: Final = {OsFamily.LINUX: 192 * 1024, OsFamily.WINDOWS: 48 * 1024}
"""The size of a part. It travels as text, and the machine keeps it in memory."""
_MAX_IDLE_PARTS: Final = 3
"""So many parts in a row may bring the machine no further."""


def send_component_files(context: MachineContext) -> None:
    """Send what the plan's component needs: the version that comes, and the one that is there, for the way back.

    Raises:
        FleetpatchError: a file can't be read or stored, or the machine was lost. The component was not changed.
    """
    component = get_component_order(context).component
    for update in context.plan.chosen:
        for text in (update.installed or "", update.available):
            version = find_listed_version(component.versions, text)
            if version is not None and version.file:
                _send(context, version)


def _send(context: MachineContext, version: ComponentVersion) -> None:
    try:
        content = Path(version.file).read_bytes()
    except OSError as error:
        raise RequestError(
            f"the file {version.file} can't be read: {error.strerror}",
            hint="Put it there, or correct `file` in components.yaml.",
        ) from error
    size, part_bytes, idle = len(content), PART_BYTES[context.state.machine.os], 0
    have, is_whole = _put(context, version, size, 0, b"")
    while not is_whole:
        part = content[have : have + part_bytes]
        context.report_progress(Step.INSTALL, f"sending its file: {have * 100 // max(size, 1)} %")
        before = have
        have, is_whole = _put(context, version, size, have, part)
        idle = 0 if have > before else idle + 1
        if not is_whole and idle >= _MAX_IDLE_PARTS:
            raise ScriptFailed("the file of the component does not arrive", exit_code=1, machine=context.name)


def _put(context: MachineContext, version: ComponentVersion, size: int, offset: int, part: bytes) -> tuple[int, bool]:
    """Send a part, and return how many bytes are there, and whether the file is whole. Safe to repeat."""
    script = context.build_shared_script(
        "component_put",
        {
            "component": get_component_order(context).component.name,
            "sha256": version.sha256,
            "size": str(size),
            "offset": str(offset),
            "data": base64.b64encode(part).decode("ascii"),
        },
        read_only=False,
    )
    answer = retry_transient(
        context,
        lambda: context.transport.run_script(script, deadline=context.build_read_deadline()),
        build_retry_deadline(context),
    )
    refusals = answer.find_records("refused")
    if refusals:
        raise ScriptFailed(
            f"the file of the component can't be stored: {str(refusals[0].get('why'))[:300]}",
            exit_code=answer.exit_code,
            machine=context.name,
        )
    records = answer.find_records("component_file")
    have, is_whole = (records[0].get("have"), records[0].get("is_whole")) if records else (None, None)
    if not isinstance(have, int) or not isinstance(is_whole, bool):
        raise ProtocolViolation(f"the machine did not say what it has of a file: {answer.unframed_output[-200:]}")
    if why := str(records[0].get("why") or ""):
        raise ScriptFailed(
            f"the file of the component can't be stored: {why[:300]}",
            exit_code=answer.exit_code,
            machine=context.name,
            hint="Make room on the machine, or compare the file on the controller with its digest.",
        )
    return max(0, min(have, size)), is_whole
