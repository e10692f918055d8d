"""Runs scripts and jobs in PowerShell on Windows, over any channel."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from tasks.errors import PrivilegeError, ProtocolViolation
from tasks.protocols.clock import Clock, Deadline
from tasks.protocols.transport import Script, ScriptParameter
from tasks.transport.clixml import render_clixml
from tasks.transport.framing import generate_nonce
from tasks.transport.output_decoder import ScriptOutput, ScriptOutputDecoder
from tasks.transport.powershell_channel import PowerShellChannel
from tasks.transport.powershell_framing import (
    LANGUAGE_MODE_EXIT_CODE,
    build_command_line,
    build_job_script,
    build_script_stdin,
    encode_params,
)
from tasks.transport.script_host import ScriptHost
from tasks.transport.script_library import ScriptLoader, load_windows_script

_NOT_FOUND_EXIT_CODES: Final = frozenset({9009, 2, 3})  # of cmd.exe, when there is no powershell.exe
_ANSWER_HINT: Final = (
    "Look at what Windows PowerShell does for this login there: powershell.exe -NoProfile must start, "
    "and a virus scanner may stop it."
)


class PowerShellHost(ScriptHost):
    r"""A Windows machine behind an open channel; a Transport that does not reconnect (session.py does).

    Args:
        channel: open channel to the machine. Its login is an administrator: nothing raises its rights.
        machine: its name, for errors.
        clock: for wall times.
        job_root: folder of fleetpatch on the machine; "" for %SystemRoot%\FleetPatch.
        script_loader: gives a script's text by its name.
    """

    def __init__(
        self,
        channel: PowerShellChannel,
        *,
        machine: str,
        clock: Clock,
        job_root: str = "",
        script_loader: ScriptLoader = load_windows_script,
    ) -> None:
        super().__init__(
            channel,
            machine=machine,
            clock=clock,
            job_root=job_root,
            script_loader=script_loader,
            required_loader=load_windows_script,
        )
        self._channel = channel

    def _build_job_params(self, script: Script) -> Mapping[str, ScriptParameter]:
        return {
            "wrapper": load_windows_script("job_run"),
            "program": build_job_script(self._compose(script)),
            "token": encode_params(script.params),
        }

    def _execute_script(self, script: Script, deadline: Deadline) -> ScriptOutput:
        with self._add_machine_to_errors():
            text = self._compose(script)
            params = self._build_params(script, text)
            nonce = generate_nonce()
            decoder = ScriptOutputDecoder(nonce, hint=_ANSWER_HINT)
            stdin = build_script_stdin(text, params, nonce)
            status = self._channel.execute(
                build_command_line(), stdin, decoder, deadline=deadline, may_be_ended=script.read_only
            )
            if status is not None and not decoder.is_complete:
                _raise_if_not_started(status, decoder)
            output = decoder.build_output()
            unframed = render_clixml(output.unframed_output.replace("\r\n", "\n")).strip("\r\n")
            return replace(output, unframed_output=unframed)


def _raise_if_not_started(status: int, decoder: ScriptOutputDecoder) -> None:
    """Raise the error if a command that gave no answer ended with an exit code that says why."""
    said = " ".join(render_clixml(decoder.render_unframed_output()).split())[-500:]
    if status == LANGUAGE_MODE_EXIT_CODE and not said:
        raise PrivilegeError(
            "PowerShell runs in constrained language mode for this login, in which fleetpatch's scripts can't run",
            hint="A policy (AppLocker, App Control) decides that: allow full language mode for administrators there.",
        )
    if status in _NOT_FOUND_EXIT_CODES and "powershell" in said.lower():
        raise ProtocolViolation(
            f"the machine has no powershell.exe that this login can start: {said}",
            hint="Windows PowerShell 5.1 is part of Windows Server 2016 and later; look at the PATH of that login.",
        )
