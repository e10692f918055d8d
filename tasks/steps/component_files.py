"""Sends the file of a component to a machine, in parts, if the controller has it and the machine lacks it."""

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from inventory.machine import OsFamily
from tasks.domain.components import Component, ComponentVersion
from tasks.domain.errors import ProtocolViolation, RequestError, ScriptFailed
from tasks.domain.states import Step
from tasks.rules.components.versions import find_listed_version
from tasks.steps.component_choice import get_component_order
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.machine_lock import LOCK_RENEWAL_INTERVAL, renew_lock
from tasks.steps.machine.retry import build_retry_deadline, retry_transient
from tasks.steps.start_checks import explain_no_start

PART_BYTES: Final = {OsFamily.LINUX: 192 * 1024, OsFamily.WINDOWS: 48 * 1024}
"""The size of a part. It travels as text, and the machine keeps it in memory."""
_MAX_IDLE_PARTS: Final = 3
"""So many parts in a row may bring the machine no further."""


def send_component_files(context: MachineContext) -> str:
    """Send what the plan's component needs: the version that comes, and the one that is there, for the way back.

    It may take long, so the machine lock is kept meanwhile.

    Returns:
        why it was ended early, so that nothing may be installed: a stop, no time left, or a lost lock. Or "".

    Raises:
        FleetpatchError: a file can't be read or stored, or the machine was lost. The component was not changed.
    """
    guard = _Guard(context)
    component = get_component_order(context).component
    for update in context.plan.chosen:
        for text in (update.installed or "", update.available):
            version = find_listed_version(component.versions, text)
            if version is not None and (reason := _send(context, component, version, guard)):
                return reason
    return ""


def send_to_new_disk(context: MachineContext, component: Component, version: ComponentVersion) -> str:
    """Send the file of a version to a new OS disk. Neither a request to stop nor the window's end keeps it away.

    Returns:
        why it was ended early: a lost lock. Or "".

    Raises:
        FleetpatchError: the file can't be read or stored, or the machine was lost.
    """
    return _send(context, component, version, _Guard(context, lambda _context: ""))


class _Guard:
    """Looks before each part whether the machine may still be written to, and keeps the machine lock."""

    def __init__(
        self, context: MachineContext, explain_no_part: Callable[[MachineContext], str] = explain_no_start
    ) -> None:
        self._context, self._renewed_at, self._explain_no_part = context, context.clock.now(), explain_no_part

    def explain_end(self) -> str:
        """Return why no further part may be sent, or ""."""
        context, now = self._context, self._context.clock.now()
        if reason := self._explain_no_part(context):
            return reason
        if now - self._renewed_at < LOCK_RENEWAL_INTERVAL:
            return ""
        self._renewed_at = now
        return retry_transient(context, lambda: renew_lock(context), build_retry_deadline(context))


def _send(context: MachineContext, component: Component, version: ComponentVersion, guard: _Guard) -> str:
    if not version.file:
        return ""
    try:
        with Path(version.file).open("rb") as stream:
            reason = _send_parts(context, component, version, stream, guard)
            return f"its file was not sent whole: {reason}" if reason else ""
    except OSError as error:
        raise RequestError(
            f"the file {version.file} can't be read: {error.strerror}",
            hint="Put it there, or correct `file` in components.yaml.",
        ) from error


def _send_parts(
    context: MachineContext, component: Component, version: ComponentVersion, stream: IO[bytes], guard: _Guard
) -> str:
    size, part_bytes, idle = os.fstat(stream.fileno()).st_size, PART_BYTES[context.state.machine.os], 0
    have, is_whole = _put(context, component, version, size, 0, b"")
    while not is_whole:
        if reason := guard.explain_end():
            return reason
        stream.seek(have)
        part = stream.read(part_bytes)
        context.report_progress(Step.INSTALL, f"sending its file: {have * 100 // max(size, 1)} %")
        before = have
        have, is_whole = _put(context, component, version, size, have, part)
        idle = 0 if have > before else idle + 1
        if not is_whole and idle >= _MAX_IDLE_PARTS:
            raise ScriptFailed("the file of the component does not arrive", exit_code=1, machine=context.name)
    return ""


def _put(
    context: MachineContext, component: Component, version: ComponentVersion, size: int, offset: int, part: bytes
) -> tuple[int, bool]:
    """Send a part, and return how many bytes are there, and whether the file is whole. Safe to repeat."""
    script = context.build_shared_script(
        "component_put",
        {
            "component": component.name,
            "sha256": version.digest.removeprefix("sha256:"),
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
