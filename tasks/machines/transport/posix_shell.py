"""Runs scripts and jobs in a POSIX shell, over any channel."""

from collections.abc import Mapping
from typing import Final

from tasks.domain.errors import PrivilegeError
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.transport import Script, ScriptParameter
from tasks.machines.transport.framing import build_job_script, build_script_stdin, encode_params, generate_nonce
from tasks.machines.transport.job_records import find_raw_sections
from tasks.machines.transport.output_decoder import ScriptOutput, ScriptOutputDecoder
from tasks.machines.transport.privilege_escalation import NO_ESCALATION, PrivilegeEscalator
from tasks.machines.transport.script_host import ScriptHost
from tasks.machines.transport.script_library import ScriptLoader, load_script
from tasks.machines.transport.shell_channel import ShellChannel

_BROKER_HINT: Final = "Install it again as root on the machine: fleetpatch broker MACHINE prints how."


class PosixShell(ScriptHost):
    """A machine behind an open channel; a Transport that does not reconnect (session.py does).

    Args:
        channel: open channel to the machine.
        machine: its name, for errors.
        privilege: how its login becomes root.
        clock: for wall times.
        job_root: directory of jobs on the machine; "" for /var/lib/fleetpatch/jobs.
        script_loader: gives a script's text by its name.
    """

    def __init__(
        self,
        channel: ShellChannel,
        *,
        machine: str,
        privilege: PrivilegeEscalator,
        clock: Clock,
        job_root: str = "",
        script_loader: ScriptLoader = load_script,
    ) -> None:
        super().__init__(channel, machine=machine, clock=clock, job_root=job_root, script_loader=script_loader)
        self._channel = channel
        self._privilege = privilege

    def _build_job_params(self, script: Script) -> Mapping[str, ScriptParameter]:
        return {
            "wrapper": load_script("job_run"),
            "program": build_job_script(self._compose(script)),
            "token": encode_params(script.params),
        }

    def _execute_script(self, script: Script, deadline: Deadline) -> ScriptOutput:
        with self._add_machine_to_errors():
            text = self._compose(script)
            params = self._build_params(script, text)
            escalation = (
                self._privilege.find_escalation(self._channel, deadline=deadline)
                if script.privileged
                else NO_ESCALATION
            )
            nonce = generate_nonce()
            decoder = ScriptOutputDecoder(
                nonce, secret=escalation.stdin_prefix, raw_sections=find_raw_sections(script.name)
            )
            script_input = build_script_stdin(text, params, nonce)
            if escalation.is_signed:
                from tasks.machines.transport.broker.signing import sign_script  # noqa: PLC0415 - few machines have a broker

                script_input = sign_script(script_input, self._machine, self._clock.now())
            stdin = escalation.stdin_prefix + script_input
            status = self._channel.execute(escalation.command, stdin, decoder, deadline=deadline)
            if status == 1 and not decoder.is_complete and escalation.program:
                output = " ".join(decoder.render_unframed_output().split())[-300:]
                raise PrivilegeError(
                    f"{escalation.program} refused to run a shell: {output}",
                    hint=_BROKER_HINT if escalation.is_signed else "The login must be allowed to run /bin/sh as root.",
                )
            return decoder.build_output()
