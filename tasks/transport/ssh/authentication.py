"""Logs in with a key, a password or the agent. It uses only credentials that the inventory names."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import paramiko
from paramiko.agent import AgentKey

from inventory.credentials import Credential, CredentialKind
from tasks.errors import AuthenticationFailed, ConnectionLost, CredentialError, FleetpatchError
from tasks.transport.lockout_guard import LoginAttempt
from tasks.transport.ssh.agent import (
    AGENT_TIMEOUT_SECONDS,
    NO_AGENT_KEY_HINT,
    AgentClient,
    build_agent_error,
    open_agent,
)
from tasks.transport.ssh.private_keys import load_private_key
from tasks.transport.ssh.thread_safe_transport import ThreadSafeTransport

MAX_AGENT_KEYS: Final = 5
"""The maximum of agent keys that are tried. sshd disconnects after six failures, or after its MaxAuthTries."""
LOGIN_TIMEOUT_SECONDS: Final = 30.0
"""For one answer to a credential."""

CredentialResolver: TypeAlias = Callable[[str], Credential]
"""Fetches the credential of a reference; raises CredentialError."""

_KEYBOARD_INTERACTIVE: Final = "keyboard-interactive"
_PAM_NOLOGIN: Final = "nologin"  # in the message of pam_nologin, while a system boots or goes down
_EXTRA_PROOF_HINT: Final = "Give the login of fleetpatch an exception (Match User … AuthenticationMethods publickey)."
_TOO_MANY_KEYS_HINT: Final = (
    "MaxAuthTries may be lower than the number of the agent's keys: give the machine a credential key:PATH, or ssh-add "
    "the right key first."
)


@dataclass(frozen=True, slots=True)
class LoginContext:
    """A login that is about to be tried.

    Attributes:
        transport: a connection to a trusted host.
        user: the login.
        attempt: receives the result.
        require_seconds_left: gives the seconds for the next answer; raises DeadlineExceeded if none are left.
    """

    transport: ThreadSafeTransport
    user: str
    attempt: LoginAttempt
    require_seconds_left: Callable[[float], float]


def authenticate(login: LoginContext, credential: Credential) -> None:
    """Log in, once. A refused credential is not tried again, and none is sent without use.

    Raises:
        AuthenticationFailed: the machine refused it, closed the connection instead of an answer, or requires more than
            one credential.
        ConnectionLost: the connection broke before anything was sent, or the machine allows no logins now.
        CredentialError: the key can't be loaded.
        DeadlineExceeded: the deadline has passed.
    """
    match credential.kind:
        case CredentialKind.AGENT:
            with open_agent(login.require_seconds_left(AGENT_TIMEOUT_SECONDS)) as agent:
                _authenticate_with_agent(login, agent)
        case CredentialKind.KEY | CredentialKind.CERTIFICATE:
            key = load_private_key(credential, login.user)
            _send_credential(login, credential.kind, lambda: login.transport.auth_publickey(login.user, key))
        case CredentialKind.PASSWORD:
            _authenticate_with_password(login, _reveal_password(credential))


def _reveal_password(credential: Credential) -> str:
    if credential.secret is None:
        raise CredentialError("a password credential without a password")
    return credential.secret.reveal()


def _authenticate_with_agent(login: LoginContext, agent: AgentClient) -> None:
    """Offer the agent's keys one after the other. The last accepted key is first, because each refusal counts."""
    accepted = login.attempt.accepted_agent_keys
    keys = sorted(agent.get_keys(), key=lambda key: _rank_agent_key(key, accepted))[:MAX_AGENT_KEYS]
    if not keys:
        raise AuthenticationFailed("the SSH agent has no key", hint=NO_AGENT_KEY_HINT)
    for key in keys:
        try:
            _send_agent_key(login, agent, key)
        except AuthenticationFailed:
            if key is keys[-1] or not login.attempt.is_refused or not login.transport.is_active():
                raise
            login.attempt.is_refused = False  # not refused yet: there is another key
        else:
            accepted[:] = [key.fingerprint, *(name for name in accepted if name != key.fingerprint)]
            return


def _rank_agent_key(key: AgentKey, accepted: list[str]) -> int:
    return accepted.index(key.fingerprint) if key.fingerprint in accepted else len(accepted)


def _send_agent_key(login: LoginContext, agent: AgentClient, key: AgentKey) -> None:
    try:
        _send_credential(login, CredentialKind.AGENT, lambda: login.transport.auth_publickey(login.user, key))
    except FleetpatchError as error:
        if agent.error_message:
            raise build_agent_error(agent.error_message) from error
        raise


def _authenticate_with_password(login: LoginContext, password: str) -> None:
    """Log in with a password. First ask which methods are accepted: the password is not sent without need."""
    kinds = _read_accepted_methods(login)
    if CredentialKind.PASSWORD.value in kinds:
        ask = lambda: login.transport.auth_password(login.user, password, fallback=False)  # noqa: E731
        _send_credential(login, CredentialKind.PASSWORD, ask)
    elif _KEYBOARD_INTERACTIVE in kinds:
        answers = _PromptResponder(password)
        try:
            _send_credential(
                login, CredentialKind.PASSWORD, lambda: login.transport.auth_interactive(login.user, answers)
            )
        except AuthenticationFailed:
            if not answers.unanswered_prompt:
                raise
            raise AuthenticationFailed(
                f"the machine asks more of {login.user} than a password: {answers.unanswered_prompt}",
                hint=_EXTRA_PROOF_HINT,
            ) from None
    elif kinds:
        raise _build_method_not_accepted_error(login.user, CredentialKind.PASSWORD, kinds)


def _read_accepted_methods(login: LoginContext) -> list[str]:
    """Return the methods that the machine accepts, or [] if it accepted the login without a credential."""
    login.transport.auth_timeout = login.require_seconds_left(LOGIN_TIMEOUT_SECONDS)
    try:
        login.transport.auth_none(login.user)
    except paramiko.BadAuthenticationType as error:
        return list(error.allowed_types)
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise _build_no_answer_error(login, CredentialKind.PASSWORD) from error
    return []


class _PromptResponder:
    """Answers the machine's prompts: the first hidden prompt with the password, and no other prompt.

    Attributes:
        unanswered_prompt: the last other prompt.
    """

    def __init__(self, password: str) -> None:
        self._password: str | None = password
        self.unanswered_prompt = ""

    def __call__(self, _title: str, _instructions: str, questions: list[tuple[str, bool]]) -> list[str]:
        return [self._answer_prompt(question, shown=shown) for question, shown in questions]

    def _answer_prompt(self, question: str, *, shown: bool) -> str:
        if shown or self._password is None:
            self.unanswered_prompt = " ".join(question.split())[:80] or "another question"
            return ""
        answer, self._password = self._password, None
        return answer


def _send_credential(login: LoginContext, kind: CredentialKind, ask: Callable[[], list[str]]) -> None:
    """Send one credential, and translate the answer."""
    login.transport.auth_timeout = login.require_seconds_left(LOGIN_TIMEOUT_SECONDS)
    try:
        further = ask()
    except paramiko.BadAuthenticationType as error:
        raise _build_method_not_accepted_error(login.user, kind, error.allowed_types) from None
    except (paramiko.SSHException, OSError, EOFError) as error:
        if _is_refusal(login.transport, error):
            login.attempt.is_refused = True
            raise AuthenticationFailed(
                f"the machine refused the {kind.value} of {login.user}",
                hint="Is the public key in its authorized_keys, the account not locked, and the user name right?",
            ) from None
        raise _build_no_answer_error(login, kind) from error
    if further:
        raise AuthenticationFailed(
            f"the machine wants more than one proof of {login.user}: also {', '.join(further)}", hint=_EXTRA_PROOF_HINT
        )


def _is_refusal(transport: ThreadSafeTransport, error: Exception) -> bool:
    # paramiko reports a broken connection and a silent machine as a failed authentication too
    return isinstance(error, paramiko.AuthenticationException) and transport.is_active() and "timeout" not in str(error)


def _build_no_answer_error(login: LoginContext, kind: CredentialKind) -> FleetpatchError:
    """Return the error for a missing answer: ConnectionLost, or AuthenticationFailed if a credential had been sent."""
    transport = login.transport
    said = transport.disconnect_message or transport.login_banner
    if not transport.credentials_sent:
        message = f": {transport.disconnect_message}" if transport.disconnect_message else ""
        return ConnectionLost(f"the connection was lost during the login{message}")
    if _PAM_NOLOGIN in said and not transport.disconnect_message:
        return ConnectionLost(f"logins are disabled there now: {said}")
    login.attempt.is_refused = bool(transport.disconnect_message)
    login.attempt.is_interrupted = not transport.disconnect_message
    login.require_seconds_left(LOGIN_TIMEOUT_SECONDS)  # if the deadline has passed, that is the error to report
    how = "gave no answer" if transport.is_active() else "closed the connection"
    return AuthenticationFailed(
        f"the machine {how} after the {kind.value} of {login.user} was sent{f'; it said: {said}' if said else ''}",
        hint=_TOO_MANY_KEYS_HINT
        if kind is CredentialKind.AGENT
        else "Look at its sshd's log. It is not sent again in this run.",
    )


def _build_method_not_accepted_error(user: str, kind: CredentialKind, kinds: list[str]) -> AuthenticationFailed:
    return AuthenticationFailed(
        f"the machine accepts no {kind.value} of {user}; it accepts: {', '.join(kinds)}",
        hint="Give the machine's entry another credential, or allow this kind in its sshd_config.",
    )
