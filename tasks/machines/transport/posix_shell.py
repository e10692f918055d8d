"""Runs scripts and jobs in a POSIX shell, over any channel, and finds how its login becomes root.

It is already root, or uses ``sudo -n``, sudo with a password, or ``doas -n``, in this order. If sudo requires a
terminal (requiretty), ``script`` gives sudo one on the machine. The shell's input and output still go through pipes, so
that nothing is echoed, cut or mixed.

The result is kept for the machine, over broken connections. A refusal is kept too where a password is sent, because
repeating a wrong one locks the account.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, NoReturn, Protocol

from pydantic import BaseModel, ValidationError

from inventory.credentials import Credential
from inventory.data_class import dataclass
from inventory.machine import PrivilegeMethod
from tasks.domain.errors import AuthenticationFailed, PrivilegeError, ProtocolViolation
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.transport import Script, ScriptParameter
from tasks.machines.transport.broker import BROKER_PATH
from tasks.machines.transport.lockout_guard import LoginAttempt
from tasks.machines.transport.output_decoder import ScriptOutput, ScriptOutputDecoder, build_frame_mark, generate_nonce
from tasks.machines.transport.script_host import Channel, ScriptHost, find_raw_sections
from tasks.machines.transport.script_library import ScriptLoader, load_script, require_valid_param

SHELL_COMMAND: Final = ("/bin/sh", "-s")
SUDO_COMMAND: Final = ("sudo", "-n", "--", *SHELL_COMMAND)
SUDO_PASSWORD_COMMAND: Final = ("sudo", "-k", "-S", "-p", "", "--", *SHELL_COMMAND)
# Checks only the password. Before a script, sudo would read script lines as passwords after a wrong one.
SUDO_VALIDATE_COMMAND: Final = ("env", "LC_ALL=C", "sudo", "-k", "-S", "-p", "", "-v")
BROKER_COMMAND: Final = ("sudo", "-n", "--", BROKER_PATH)
DOAS_COMMAND: Final = ("doas", "-n", *SHELL_COMMAND)
_REQUIRETTY_MESSAGE: Final = "you must have a tty"
# sudo's messages after a correct password
_NOT_PERMITTED_MESSAGES: Final = ("not in the sudoers", "may not run", "not allowed to")

LoginAttemptOpener = Callable[[str, Credential, Deadline], AbstractContextManager[LoginAttempt]]
"""Opens an attempt of a user with a password, as LockoutGuard.open_attempt does."""


class ShellChannel(Channel, Protocol):
    """An open connection that runs commands as the login. Implementations: ssh/channel.py, local_channel.py."""

    def execute(
        self, command: Sequence[str], stdin: bytes, decoder: ScriptOutputDecoder, *, deadline: Deadline
    ) -> int | None:
        """Run a command and give its output to the decoder, until the answer or the command ends.

        Args:
            command: the command. It has no single quote, ``!`` or backslash: login shells (csh, fish …) interpret them.
            stdin: its whole input; then its stdin is closed.
            decoder: gets stdout and stderr.
            deadline: of the whole exchange. A command that runs longer is left running, never killed.

        Returns:
            The command's exit code, or None if the decoder had its complete answer first.

        Raises:
            ConnectionLost: the connection broke.
            DeadlineExceeded: the deadline has passed; the connection can't be used any more.
            ProtocolViolation: from the decoder.
        """

    def execute_in_shell(
        self,
        command: Sequence[str],
        opening: bytes,
        script_input: bytes,
        decoder: ScriptOutputDecoder,
        *,
        deadline: Deadline,
    ) -> int | None:
        """Let a shell execute a script, as ``execute`` does. It may be the shell of the call before, which waits.

        Args:
            command: starts the shell.
            opening: the input of a new shell before the script.
            script_input: the script. The shell reads on after it.
            decoder: see ``execute``.
            deadline: see ``execute``.
        """


# The escapes that prelude.sh reads: \n, and \u for the other control characters, the quote and the backslash.
_JSON_ESCAPES: Final = {code: f"\\u{code:04x}" for code in (*range(1, 32), ord('"'), ord("\\"))} | {ord("\n"): "\\n"}


def encode_params(params: Mapping[str, ScriptParameter]) -> str:
    """Return parameters as one base64 token: a flat JSON object in the subset that prelude.sh reads.

    Raises:
        RequestError: a name or a value is not valid (see ``require_valid_param``).
    """

    def render(text: str) -> str:
        return f'"{text.translate(_JSON_ESCAPES)}"'

    pairs = []
    for name, value in params.items():
        require_valid_param(name, value)
        value_text = render(value) if isinstance(value, str) else f"[{','.join(map(render, value))}]"
        pairs.append(f"{render(name)}:{value_text}")
    return base64.b64encode(f"{{{','.join(pairs)}}}".encode()).decode("ascii")


SCRIPT_END: Final = b"\n} 3>&1 1>&2 </dev/null\n"
"""The end of the input for one script."""


def build_script_stdin(
    script: str, params: Mapping[str, ScriptParameter], nonce: str, *, keeps_shell: bool = False
) -> bytes:
    """Return the stdin for ``/bin/sh -s``: environment, prelude and script, framed with the nonce.

    It is one compound command. The shell reads it to its closing brace before it executes any of it, so that a broken
    connection executes nothing. Parameters are JSON in base64, never script text. The script runs in a subshell, so
    that its end is always reported (after exit, set -e, or a syntax error at run time). Its stdin is /dev/null. Its
    stdout goes to stderr, because only records go to the controller. With ``keeps_shell``, the shell then waits for
    another script.
    """
    head = f"fp_mark={build_frame_mark(nonce)} FP_TOKEN={encode_params(params)}"
    tail = 'fp_code=$?\nprintf \'\\n%s! %s\\n\' "$fp_mark" "$fp_code" >&3'
    tail += "" if keeps_shell else '\nexit "$fp_code"'
    return f"{{\n{head}\n(\n{build_job_program(script)})\n{tail}".encode() + SCRIPT_END


def build_job_program(script: str) -> str:
    """Return a script with all that comes before it: the text of a job's ``script`` file, which job_run.sh sources."""
    return f"{load_script('environment')}\n{load_script('prelude')}\n{script}\n"


class _PrivilegeProbe(BaseModel):
    uid: int
    user: str
    sudo: str
    doas: str
    terminal: bool = False
    sudo_said: str = ""
    doas_said: str = ""


@dataclass(frozen=True, slots=True)
class Escalation:
    """How to get a root shell."""

    command: tuple[str, ...]
    stdin_prefix: bytes = b""  # the input before the script: a line with the password
    program: str = ""  # the program that gives root privilege, or ""
    is_signed: bool = False  # whether its input must be signed for the machine

    def __repr__(self) -> str:
        return f"Escalation(command={self.command!r})"  # stdin_prefix may be a password


NO_ESCALATION: Final = Escalation(SHELL_COMMAND)
_BROKER_ESCALATION: Final = Escalation(BROKER_COMMAND, program="sudo", is_signed=True)
_FIXED_ESCALATIONS: Final = {PrivilegeMethod.NONE: NO_ESCALATION, PrivilegeMethod.BROKER: _BROKER_ESCALATION}
"""Of the methods that need no look at the machine."""


class PrivilegeEscalator:
    """Finds how the login becomes root on one machine, at the first call.

    Args:
        method: from the inventory; AUTO probes.
        read_password: gives the password for sudo, or None if there is none. Called only if sudo requires it.
        open_attempt: prevents that a refused password is sent again, to this and to other machines.
    """

    def __init__(
        self,
        method: PrivilegeMethod,
        *,
        read_password: Callable[[], Credential] | None = None,
        open_attempt: LoginAttemptOpener = lambda _user, _credential, _deadline: nullcontext(LoginAttempt([])),
    ) -> None:
        self._method = method
        self._read_password = read_password
        self._open_attempt = open_attempt
        self._escalation: Escalation | None = _FIXED_ESCALATIONS.get(method)
        self._refusal: PrivilegeError | None = None

    def forget(self) -> None:
        """Find it anew at the next call, because the machine may have changed. Keep the refusal of a password."""
        self._escalation = _FIXED_ESCALATIONS.get(self._method)
        if self._read_password is None:
            self._refusal = None

    def find_escalation(self, channel: ShellChannel, *, deadline: Deadline) -> Escalation:
        """Return how the login becomes root.

        Raises:
            PrivilegeError: it can't; the hint has the line that sudoers needs.
        """
        if self._refusal is not None:
            raise PrivilegeError(self._refusal.message, hint=self._refusal.hint)
        if self._escalation is None:
            try:
                self._escalation = self._choose_escalation(channel, deadline)
            except AuthenticationFailed as withheld:  # may be sent later, after another machine has accepted it
                raise PrivilegeError(withheld.message, hint=withheld.hint) from withheld
            except PrivilegeError as refusal:
                self._refusal = refusal
                raise
        return self._escalation

    def _choose_escalation(self, channel: ShellChannel, deadline: Deadline) -> Escalation:
        probe = _probe_privileges(channel, deadline)
        method = self._method
        auto = method is PrivilegeMethod.AUTO
        if probe.uid == 0:
            return NO_ESCALATION
        if method is PrivilegeMethod.ROOT:
            self._raise_cannot_escalate(probe, "the inventory says it logs in as root")
        if auto or method is PrivilegeMethod.SUDO:
            if probe.sudo == "yes":
                return Escalation(
                    build_terminal_command(SUDO_COMMAND) if probe.terminal else SUDO_COMMAND, program="sudo"
                )
            if probe.sudo != "absent" and self._read_password is not None:
                return self._escalate_with_password(self._read_password(), probe, channel, deadline)
        if probe.doas == "yes" and (auto or method is PrivilegeMethod.DOAS):
            return Escalation(DOAS_COMMAND, program="doas")
        answers = [probe.sudo_said or f"sudo is {probe.sudo}", probe.doas_said or f"doas is {probe.doas}"]
        return self._raise_cannot_escalate(probe, "; ".join(" ".join(text.split())[-200:] for text in answers))

    def _escalate_with_password(
        self, credential: Credential, probe: _PrivilegeProbe, channel: ShellChannel, deadline: Deadline
    ) -> Escalation:
        password = credential.secret.reveal() if credential.secret is not None else ""
        if "\n" in password or "\r" in password:
            self._raise_cannot_escalate(probe, "the password for sudo has a line break in it")
        typed = f"{password}\n".encode()
        decoder = ScriptOutputDecoder(generate_nonce())
        ask = build_terminal_command(SUDO_VALIDATE_COMMAND) if probe.terminal else SUDO_VALIDATE_COMMAND
        shell = build_terminal_command(SUDO_PASSWORD_COMMAND) if probe.terminal else SUDO_PASSWORD_COMMAND
        with self._open_attempt(probe.user, credential, deadline) as attempt:
            if channel.execute(ask, typed, decoder, deadline=deadline) == 0:
                return Escalation(shell, typed, program="sudo")
            # on some systems, sudo echoes the input if there is no terminal
            output = " ".join(decoder.render_unframed_output().replace(password, "***").split())[-200:]
            attempt.is_refused = not any(message in output for message in _NOT_PERMITTED_MESSAGES)
            raise PrivilegeError(
                f"sudo refused the password of {probe.user}: {output}",
                hint=f"Correct what privilege_password refers to, or add to sudoers: {_build_sudoers_line(probe.user)}",
            )

    def _raise_cannot_escalate(self, probe: _PrivilegeProbe, why: str) -> NoReturn:
        sudoers_line = _build_sudoers_line(probe.user)
        if _REQUIRETTY_MESSAGE in probe.sudo_said:
            sudoers_line = (
                f"Defaults:{probe.user} !requiretty (read after the line with requiretty), or install `script`"
            )
        raise PrivilegeError(
            f"the login {probe.user} (uid {probe.uid}) can't become root: {why}",
            hint="If sudo wants a password, set `privilege_password` in the inventory. Otherwise add to "
            f"/etc/sudoers.d/fleetpatch on the machine: {sudoers_line}",
        )


def build_terminal_command(command: Sequence[str]) -> tuple[str, ...]:
    """Return a command that runs another one with a controlling terminal, while its stdin and outputs stay pipes."""
    inner = " ".join(word or ":" for word in command)  # the empty word is sudo's prompt
    wrapped = f'script -qec "{inner} <&3 >&4 2>&5" /dev/null 3<&0 4>&1 5>&2 </dev/null >/dev/null'
    return ("/bin/sh", "-c", f"exec env SHELL=/bin/sh {wrapped}")


def _build_sudoers_line(user: str) -> str:
    return f"{user} ALL=(root) NOPASSWD: ALL"


def _probe_privileges(channel: ShellChannel, deadline: Deadline) -> _PrivilegeProbe:
    nonce = generate_nonce()
    decoder = ScriptOutputDecoder(nonce)
    channel.execute(SHELL_COMMAND, build_script_stdin(load_script("privilege"), {}, nonce), decoder, deadline=deadline)
    for record in decoder.build_output().records:
        if record["kind"] == "privilege":
            try:
                return _PrivilegeProbe.model_validate(record)
            except ValidationError as error:
                raise ProtocolViolation(
                    f"the machine's answer about privileges can't be understood: {error}"
                ) from error
    raise ProtocolViolation("the machine did not say which privileges the login has")


_BROKER_HINT: Final = "Install it again as root on the machine: fleetpatch broker MACHINE prints how."


class PosixShell(ScriptHost[ShellChannel]):
    """A machine behind an open channel; a Transport that does not reconnect (session.py does).

    See ScriptHost. ``privilege`` finds how its login becomes root. ``job_root`` is "" for /var/lib/fleetpatch/jobs.
    """

    def __init__(
        self,
        channel: ShellChannel,
        *,
        machine: str,
        privilege: PrivilegeEscalator,
        clock: Clock,
        job_root: str = "",
        script_loader: ScriptLoader | None = None,
    ) -> None:
        super().__init__(channel, machine=machine, clock=clock, job_root=job_root, script_loader=script_loader)
        self._privilege = privilege

    can_wait = True
    load_own_script = staticmethod(load_script)
    build_job_program = staticmethod(build_job_program)
    encode_params = staticmethod(encode_params)

    def _execute_script(self, script: Script, deadline: Deadline) -> ScriptOutput:
        text, params = self._prepare_script(script)
        escalation = NO_ESCALATION
        if script.privileged:
            escalation = self._privilege.find_escalation(self._channel, deadline=deadline)
        nonce = generate_nonce()
        decoder = ScriptOutputDecoder(
            nonce, secret=escalation.stdin_prefix, raw_sections=find_raw_sections(script.name)
        )
        script_input = build_script_stdin(text, params, nonce, keeps_shell=not escalation.is_signed)
        if escalation.is_signed:
            from tasks.machines.transport.broker.signing import sign_script  # noqa: PLC0415 - few machines have a broker

            signed_input = sign_script(script_input, self._machine, self._clock.now())
            status = self._channel.execute(escalation.command, signed_input, decoder, deadline=deadline)
        else:
            status = self._channel.execute_in_shell(
                escalation.command, escalation.stdin_prefix, script_input, decoder, deadline=deadline
            )
        if status == 1 and not decoder.is_complete and escalation.program:
            output = " ".join(decoder.render_unframed_output().split())[-300:]
            raise PrivilegeError(
                f"{escalation.program} refused to run a shell: {output}",
                hint=_BROKER_HINT if escalation.is_signed else "The login must be allowed to run /bin/sh as root.",
            )
        return decoder.build_output()
