"""How a login becomes root: already root, ``sudo -n``, sudo with a password, ``doas -n``, in this order.

A sudo that wants a terminal (requiretty) gets one from ``script``, on the machine and for itself alone: what goes to
the shell and what comes back still goes through pipes, so that nothing is echoed, cut or mixed.

What was found is remembered for the machine, over reconnects; a refusal too, for a wrong password that is tried again
and again locks the account.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, NoReturn

from pydantic import BaseModel, ValidationError

from inventory.credentials import Credential
from inventory.machine import PrivilegeMethod
from tasks.errors import PrivilegeError, ProtocolViolation
from tasks.seams.clock import Deadline
from tasks.transport.framing import Decoder, compose, load_script, new_nonce
from tasks.transport.line import Line
from tasks.transport.logins import Attempt, NotSent

SHELL: Final = ("/bin/sh", "-s")
SUDO: Final = ("sudo", "-n", "--", *SHELL)
SUDO_PASSWORD: Final = ("sudo", "-k", "-S", "-p", "", "--", *SHELL)
# Asks for the password alone: before a script, a wrong one would make sudo read on and take script lines for passwords.
SUDO_ASK: Final = ("env", "LC_ALL=C", "sudo", "-k", "-S", "-p", "", "-v")
DOAS: Final = ("doas", "-n", *SHELL)
_NO_TERMINAL: Final = "you must have a tty"
_PASSWORD_IS_RIGHT: Final = ("not in the sudoers", "may not run", "not allowed to")  # what sudo says to a right one

Attempts = Callable[[str, Credential, Deadline], AbstractContextManager[Attempt]]
"""Opens an attempt of a user with a password, as Logins.attempt does."""


class _Answer(BaseModel):
    uid: int
    user: str
    sudo: str
    doas: str
    terminal: bool = False
    sudo_said: str = ""
    doas_said: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """How to get a root shell.

    Attributes:
        words: the command.
        before: what goes before the script: a password line.
        by: the program that gives the privileges, or "".
    """

    words: tuple[str, ...]
    before: bytes = b""
    by: str = ""

    def __repr__(self) -> str:
        return f"Way(words={self.words!r})"  # what goes before may be a password


AS_LOGIN: Final = Way(SHELL)


class Privilege:
    """The way to root on one machine, found at first need.

    Args:
        method: what the machine's owner says; AUTO probes.
        password: gives the password for sudo, or None when there is none. Asked for only when sudo wants it.
        attempts: keep a password that was refused from being sent again, here and on other machines.
    """

    def __init__(
        self,
        method: PrivilegeMethod,
        *,
        password: Callable[[], Credential] | None = None,
        attempts: Attempts = lambda _user, _credential, _deadline: nullcontext(Attempt([])),
    ) -> None:
        self._method = method
        self._password = password
        self._attempts = attempts
        self._way: Way | None = AS_LOGIN if method is PrivilegeMethod.NONE else None
        self._refusal: PrivilegeError | None = None

    def way(self, line: Line, *, deadline: Deadline) -> Way:
        """Return the way to root.

        Raises:
            PrivilegeError: there is none; the hint has the line that sudoers lacks.
        """
        if self._refusal is not None:
            raise PrivilegeError(self._refusal.message, hint=self._refusal.hint)
        if self._way is None:
            try:
                self._way = self._find(line, deadline)
            except NotSent as kept:  # may be sent later: when another machine has taken it
                raise PrivilegeError(kept.message, hint=kept.hint) from kept
            except PrivilegeError as refusal:
                self._refusal = refusal
                raise
        return self._way

    def _find(self, line: Line, deadline: Deadline) -> Way:
        answer = _ask(line, deadline)
        wanted = self._method
        auto = wanted is PrivilegeMethod.AUTO
        if answer.uid == 0:
            return AS_LOGIN
        if wanted is PrivilegeMethod.ROOT:
            self._refuse(answer, "the inventory says it logs in as root")
        if auto or wanted is PrivilegeMethod.SUDO:
            if answer.sudo == "yes":
                return Way(on_terminal(SUDO) if answer.terminal else SUDO, by="sudo")
            if answer.sudo != "absent" and self._password is not None:
                return self._with_password(self._password(), answer, line, deadline)
        if answer.doas == "yes" and (auto or wanted is PrivilegeMethod.DOAS):
            return Way(DOAS, by="doas")
        said = [answer.sudo_said or f"sudo is {answer.sudo}", answer.doas_said or f"doas is {answer.doas}"]
        return self._refuse(answer, "; ".join(" ".join(text.split())[-200:] for text in said))

    def _with_password(self, credential: Credential, answer: _Answer, line: Line, deadline: Deadline) -> Way:
        password = credential.secret.reveal() if credential.secret is not None else ""
        if "\n" in password or "\r" in password:
            self._refuse(answer, "the password for sudo has a line break in it")
        typed = f"{password}\n".encode()
        decoder = Decoder(new_nonce())
        ask = on_terminal(SUDO_ASK) if answer.terminal else SUDO_ASK
        shell = on_terminal(SUDO_PASSWORD) if answer.terminal else SUDO_PASSWORD
        with self._attempts(answer.user, credential, deadline) as attempt:
            if line.exchange(ask, typed, decoder, deadline=deadline) == 0:
                return Way(shell, typed, by="sudo")
            # some systems' sudo repeats what was typed when there is no terminal
            said = " ".join(decoder.noise().replace(password, "***").split())[-200:]
            attempt.refused = not any(words in said for words in _PASSWORD_IS_RIGHT)
            raise PrivilegeError(
                f"sudo refused the password of {answer.user}: {said}",
                hint=f"Correct what privilege_password refers to, or add to sudoers: {_sudoers(answer.user)}",
            )

    def _refuse(self, answer: _Answer, why: str) -> NoReturn:
        raise PrivilegeError(
            f"the login {answer.user} (uid {answer.uid}) can't become root: {why}",
            hint=f"Add to /etc/sudoers.d/fleetpatch on the machine: {_lacking(answer)}",
        )


def on_terminal(words: Sequence[str]) -> tuple[str, ...]:
    """Return a command that runs another one with a controlling terminal, while its stdin and outputs stay pipes."""
    inner = " ".join(word or ":" for word in words)  # the empty word is sudo's prompt
    wrapped = f'script -qec "{inner} <&3 >&4 2>&5" /dev/null 3<&0 4>&1 5>&2 </dev/null >/dev/null'
    return ("/bin/sh", "-c", f"exec env SHELL=/bin/sh {wrapped}")


def _lacking(answer: _Answer) -> str:
    """Return the line that sudoers lacks."""
    if _NO_TERMINAL in answer.sudo_said:
        return f"Defaults:{answer.user} !requiretty (read after the line with requiretty), or install `script`"
    return _sudoers(answer.user)


def _sudoers(user: str) -> str:
    return f"{user} ALL=(root) NOPASSWD: ALL"


def _ask(line: Line, deadline: Deadline) -> _Answer:
    nonce = new_nonce()
    decoder = Decoder(nonce)
    line.exchange(SHELL, compose(load_script("privilege"), {}, nonce), decoder, deadline=deadline)
    for record in decoder.result().records:
        if record["kind"] == "privilege":
            try:
                return _Answer.model_validate(record)
            except ValidationError as error:
                raise ProtocolViolation(f"the machine's answer about privileges makes no sense: {error}") from error
    raise ProtocolViolation("the machine did not say which privileges the login has")
