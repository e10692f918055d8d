"""Logging in: keys (loaded once and shared), passwords, the agent; each by reference, none looked for."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import paramiko
from paramiko.agent import AgentKey

from inventory.credentials import Credential, CredentialKind
from tasks.errors import AuthenticationFailed, ConnectionLost, CredentialError, FleetpatchError
from tasks.transport.logins import Attempt
from tasks.transport.ssh.agent import ANSWER_SECONDS, NO_KEY, BoundedAgent, the_agent, unanswered
from tasks.transport.ssh.protocol import CorrectedTransport

AGENT_KEYS: Final = 5
"""Keys of an agent that are tried; sshd ends the line after six failures, or as few as its MaxAuthTries says."""
LOGIN_SECONDS: Final = 30.0
"""For one answer to a credential."""

Secrets: TypeAlias = Callable[[str], Credential]
"""Fetches what a reference stands for; raises CredentialError."""

_INTERACTIVE: Final = "keyboard-interactive"
_NOBODY_GETS_IN: Final = "nologin"  # pam_nologin's word, while a system boots or goes down
_EXCEPTION: Final = "Give the login of fleetpatch an exception (Match User … AuthenticationMethods publickey)."
_TOO_MANY: Final = (
    "MaxAuthTries may be lower than the number of the agent's keys: give the machine a credential key:PATH, or ssh-add "
    "the right key first."
)
_Version: TypeAlias = tuple[int, int]
_keys: Final[dict[Path, tuple[_Version, paramiko.PKey]]] = {}
_keys_lock: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class Login:
    """A login that is about to be tried.

    Attributes:
        transport: a connection to a host that is trusted.
        user: who logs in.
        attempt: is told how it ends.
        left: gives the seconds for the next answer; raises DeadlineExceeded when there are none.
    """

    transport: CorrectedTransport
    user: str
    attempt: Attempt
    left: Callable[[float], float]


def log_in(login: Login, credential: Credential) -> None:
    """Authenticate, once: a refused credential is not tried again, and none is sent to a server that does not take it.

    Raises:
        AuthenticationFailed: the machine refused it, ended the line instead of answering, or wants more than one proof.
        ConnectionLost: the line was cut before anything was sent, or the machine lets nobody in for now.
        CredentialError: the key can't be loaded.
        DeadlineExceeded: time is over.
    """
    match credential.kind:
        case CredentialKind.AGENT:
            with the_agent(login.left(ANSWER_SECONDS)) as agent:
                _with_agent(login, agent)
        case CredentialKind.KEY:
            key = load_key(credential)
            _show(login, credential.kind, lambda: login.transport.auth_publickey(login.user, key))
        case CredentialKind.PASSWORD:
            _with_password(login, _reveal(credential))


def load_key(credential: Credential) -> paramiko.PKey:
    """Return a private key, with the user certificate that lies beside it (PATH-cert.pub), if any.

    It is loaded once for all machines, as loading an RSA key or opening one with a passphrase costs a quarter of a
    second; and again when one of the files has changed, as certificates are short-lived.

    Raises:
        CredentialError: no key, an unknown kind, or a wrong passphrase.
    """
    path = credential.path
    if path is None:
        raise CredentialError("a key credential without a file", hint="Write key:PATH.")
    with _keys_lock:
        version = (_changed(path), _changed(path.with_name(f"{path.name}-cert.pub")))
        known = _keys.get(path)
        if known is None or known[0] != version:
            known = (version, _read_key(path, credential))
            _keys[path] = known
        return known[1]


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _read_key(path: Path, credential: Credential) -> paramiko.PKey:
    passphrase = credential.secret.reveal().encode() if credential.secret else None
    try:
        # the stubs know the argument's old name and type
        return paramiko.PKey.from_path(path, passphrase)  # type: ignore[arg-type]
    except (paramiko.SSHException, ValueError, TypeError, OSError) as error:
        # the library's text may hold parts of the file: its kind alone is told
        raise CredentialError(
            f"the private key {path} can't be loaded ({type(error).__name__})",
            hint="Is it an unencrypted ed25519, ECDSA or RSA key, or is its passphrase right? Write "
            "key:PATH?passphrase=REF for an encrypted one.",
        ) from None


def _reveal(credential: Credential) -> str:
    if credential.secret is None:
        raise CredentialError("a password credential without a password")
    return credential.secret.reveal()


def _with_agent(login: Login, agent: BoundedAgent) -> None:
    """Show the agent's keys one after the other; first the one that was taken last, for each refusal is counted."""
    taken = login.attempt.keys
    keys = sorted(agent.get_keys(), key=lambda key: _place(key, taken))[:AGENT_KEYS]
    if not keys:
        raise AuthenticationFailed("the SSH agent holds no key", hint=NO_KEY)
    for key in keys:
        try:
            _show_of_agent(login, agent, key)
        except AuthenticationFailed:
            if key is keys[-1] or not login.attempt.refused or not login.transport.is_active():
                raise
            login.attempt.refused = False  # not yet: there is another key
        else:
            taken[:] = [key.fingerprint, *(name for name in taken if name != key.fingerprint)]
            return


def _place(key: AgentKey, taken: list[str]) -> int:
    return taken.index(key.fingerprint) if key.fingerprint in taken else len(taken)


def _show_of_agent(login: Login, agent: BoundedAgent, key: AgentKey) -> None:
    try:
        _show(login, CredentialKind.AGENT, lambda: login.transport.auth_publickey(login.user, key))
    except FleetpatchError as error:
        if agent.trouble:
            raise unanswered(agent.trouble) from error
        raise


def _with_password(login: Login, password: str) -> None:
    """Ask first which kinds are taken: a password is sent to nobody who has no use for it."""
    kinds = _kinds_taken(login)
    if CredentialKind.PASSWORD.value in kinds:
        ask = lambda: login.transport.auth_password(login.user, password, fallback=False)  # noqa: E731
        _show(login, CredentialKind.PASSWORD, ask)
    elif _INTERACTIVE in kinds:
        answers = _Answers(password)
        try:
            _show(login, CredentialKind.PASSWORD, lambda: login.transport.auth_interactive(login.user, answers))
        except AuthenticationFailed:
            if not answers.further:
                raise
            raise AuthenticationFailed(
                f"the machine asks more of {login.user} than a password: {answers.further}", hint=_EXCEPTION
            ) from None
    elif kinds:
        raise _not_taken(login.user, CredentialKind.PASSWORD, kinds)


def _kinds_taken(login: Login) -> list[str]:
    """Return the kinds of credential that the machine takes; none when it let the user in without any."""
    login.transport.auth_timeout = login.left(LOGIN_SECONDS)
    try:
        login.transport.auth_none(login.user)
    except paramiko.BadAuthenticationType as error:
        return list(error.allowed_types)
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise _unanswered(login, CredentialKind.PASSWORD) from error
    return []


class _Answers:
    """What is answered to a machine that asks: the password to the first hidden question, and nothing to any other.

    Attributes:
        further: what else was asked.
    """

    def __init__(self, password: str) -> None:
        self._password: str | None = password
        self.further = ""

    def __call__(self, _title: str, _instructions: str, questions: list[tuple[str, bool]]) -> list[str]:
        return [self._answer(question, shown=shown) for question, shown in questions]

    def _answer(self, question: str, *, shown: bool) -> str:
        if shown or self._password is None:
            self.further = " ".join(question.split())[:80] or "another question"
            return ""
        answer, self._password = self._password, None
        return answer


def _show(login: Login, kind: CredentialKind, ask: Callable[[], list[str]]) -> None:
    """Send one credential, and translate the answer."""
    login.transport.auth_timeout = login.left(LOGIN_SECONDS)
    try:
        further = ask()
    except paramiko.BadAuthenticationType as error:
        raise _not_taken(login.user, kind, error.allowed_types) from None
    except (paramiko.SSHException, OSError, EOFError) as error:
        if _is_refusal(login.transport, error):
            login.attempt.refused = True
            raise AuthenticationFailed(
                f"the machine refused the {kind.value} of {login.user}",
                hint="Is the public key in its authorized_keys, the account not locked, and the user name right?",
            ) from None
        raise _unanswered(login, kind) from error
    if further:
        raise AuthenticationFailed(
            f"the machine wants more than one proof of {login.user}: also {', '.join(further)}", hint=_EXCEPTION
        )


def _is_refusal(transport: CorrectedTransport, error: Exception) -> bool:
    # paramiko calls a line that was cut, or a machine that fell silent, a failed authentication as well
    return isinstance(error, paramiko.AuthenticationException) and transport.is_active() and "timeout" not in str(error)


def _unanswered(login: Login, kind: CredentialKind) -> FleetpatchError:
    """Return what it means that no answer came: a line that was cut, unless a credential had been sent on it."""
    transport = login.transport
    said = transport.parting or transport.greeting
    if not transport.proofs:
        return ConnectionLost(
            f"the line was cut during the login{f': {transport.parting}' if transport.parting else ''}"
        )
    if _NOBODY_GETS_IN in said and not transport.parting:
        return ConnectionLost(f"nobody may log in there for now: {said}")
    login.attempt.refused = bool(transport.parting)
    login.attempt.cut = not transport.parting
    login.left(LOGIN_SECONDS)  # when our own time is over, that is what has to be told
    how = "gave no answer" if transport.is_active() else "ended the line"
    return AuthenticationFailed(
        f"the machine {how} after the {kind.value} of {login.user} was sent{f'; it said: {said}' if said else ''}",
        hint=_TOO_MANY if kind is CredentialKind.AGENT else "Look at its sshd's log. It is not sent again in this run.",
    )


def _not_taken(user: str, kind: CredentialKind, kinds: list[str]) -> AuthenticationFailed:
    return AuthenticationFailed(
        f"the machine takes no {kind.value} of {user}; it takes: {', '.join(kinds)}",
        hint="Give the machine's entry another credential, or allow this kind in its sshd_config.",
    )
