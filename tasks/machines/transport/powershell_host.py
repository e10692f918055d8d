"""Runs scripts and jobs in PowerShell on Windows, over any channel."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NoReturn

from tasks.domain.errors import PrivilegeError, ProtocolViolation, UnsupportedSystem
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.transport import Script, ScriptParameter
from tasks.machines.transport.clixml import render_clixml
from tasks.machines.transport.framing import generate_nonce
from tasks.machines.transport.job_records import find_raw_sections
from tasks.machines.transport.output_decoder import ScriptOutput, ScriptOutputDecoder
from tasks.machines.transport.powershell_channel import PowerShellChannel
from tasks.machines.transport.powershell_framing import (
    LANGUAGE_MODE_EXIT_CODE,
    build_command_line,
    build_job_script,
    build_script_stdin,
    encode_params,
)
from tasks.machines.transport.script_host import ScriptHost
from tasks.machines.transport.script_library import ScriptLoader, find_required_scripts, load_windows_script
from tasks.rules.redaction import redact_text

_NOT_FOUND_EXIT_CODES: Final = frozenset({9009, 2, 3})  # of cmd.exe, when there is no powershell.exe
_NOT_READ_EXIT_CODE: Final = 122  # of the bootstrap; Windows PowerShell 2 has no ConvertFrom-Json
_PARAMETERS_OF_SCRIPTS: Final[Mapping[str, Mapping[str, str]]] = {
    "commands": {"policy": "Bypass"},
    "task_scheduler": {"policy": "Bypass"},
    "updaters": {"policy": "Bypass"},
    "facts": {"machine_id_key": r"HKLM:\SOFTWARE\Microsoft\Cryptography"},
}
"""By the script that reads them. PowerShell logs each script with such a word as a warning (event 4104), so no script
has them in its text."""
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

    def _build_params(self, script: Script, text: str) -> dict[str, ScriptParameter]:
        params = super()._build_params(script, text)
        for name in (*find_required_scripts(text), script.name):
            params |= _PARAMETERS_OF_SCRIPTS.get(name, {})
        return params

    def _execute_script(self, script: Script, deadline: Deadline) -> ScriptOutput:
        with self._add_machine_to_errors():
            text = self._compose(script)
            params = self._build_params(script, text)
            nonce = generate_nonce()
            decoder = ScriptOutputDecoder(nonce, hint=_ANSWER_HINT, raw_sections=find_raw_sections(script.name))
            stdin = build_script_stdin(text, params, nonce)
            status = self._channel.execute(
                build_command_line(), stdin, decoder, deadline=deadline, may_be_ended=script.read_only
            )
            if status is not None and not decoder.is_complete:
                _raise_without_answer(status, decoder)
            output = decoder.build_output()
            unframed = redact_text(render_clixml(output.unframed_output.replace("\r\n", "\n"))).strip("\r\n")
            return replace(output, unframed_output=unframed)


def _raise_without_answer(status: int, decoder: ScriptOutputDecoder) -> NoReturn:
    """Raise the error of a command that ended and gave no complete answer, with what it said."""
    output = " ".join(redact_text(render_clixml(decoder.render_unframed_output())).split())[-500:]
    if status == LANGUAGE_MODE_EXIT_CODE and not output:
        raise PrivilegeError(
            "PowerShell runs in constrained language mode for this login, in which fleetpatch's scripts can't run",
            hint="A policy (AppLocker, App Control) decides that: allow full language mode for administrators there.",
        )
    if status in _NOT_FOUND_EXIT_CODES and "powershell" in output.lower():
        raise ProtocolViolation(
            f"the machine has no powershell.exe that this login can start: {output}",
            hint="Windows PowerShell 5.1 is part of Windows Server 2016 and later; look at the PATH of that login.",
        )
    if status == _NOT_READ_EXIT_CODE and "ConvertFrom-Json" in output:
        raise UnsupportedSystem(
            "it has Windows PowerShell 2, and 5.1 is the oldest that works",
            hint="Install the Windows Management Framework 5.1 on it.",
        )
    raise ProtocolViolation(
        f"PowerShell ended there with exit code {status}, and its answer has no end"
        + (f"; it also said: {output}" if output else ""),
        hint=_ANSWER_HINT,
    )
