"""Logs in with a key, a password or the agent. It uses only credentials that the inventory names."""

from collections.abc import Callable, Sequence
from typing import Final

import paramiko

from inventory.credentials import Credential, CredentialKind
from inventory.data_class import dataclass
from tasks.domain.errors import AuthenticationFailed, ConnectionLost, CredentialError, FleetpatchError, Unreachable
from tasks.machines.transport.lockout_guard import LoginAttempt
from tasks.machines.transport.ssh.offered_keys import (
    AGENT_TIMEOUT_SECONDS,
    AgentClient,
    FileKey,
    OfferableKey,
    OfferedKeys,
    build_agent_error,
    open_agent_keys,
    open_default_keys,
)
from tasks.machines.transport.ssh.private_keys import load_private_key
from tasks.machines.transport.ssh.restricted_transport import ThreadSafeTransport

MAX_OFFERED_KEYS: Final = 5
"""The maximum of keys that are tried, of the agent and of files. sshd disconnects after its MaxAuthTries, mostly 6."""
LOGIN_TIMEOUT_SECONDS: Final = 30.0
"""For one answer to a credential."""

_KEYBOARD_INTERACTIVE: Final = "keyboard-interactive"
_NO_ALGORITHM: Final = "Unable to agree on a pubkey algorithm"
_PAM_NOLOGIN: Final = "nologin"  # in the message of pam_nologin, while a system boots or goes down
_EXTRA_PROOF_HINT: Final = "Give the login of fleetpatch an exception (Match User … AuthenticationMethods publickey)."
_TOO_MANY_KEYS_HINT: Final = (
    f"fleetpatch offers at most {MAX_OFFERED_KEYS} keys, and sshd ends a login after MaxAuthTries of them. "
    "Give the machine a credential key:PATH, or use an agent with fewer keys (ssh-add -d removes one)."
)
_REFUSED_HINT: Final = "Is the public key in its authorized_keys, the account not locked, and the user name right?"
_PUBLIC_KEY: Final = "publickey"


@dataclass(frozen=True, slots=True)
class LoginContext:
    """A login that is about to be tried."""

    transport: ThreadSafeTransport  # a connection to a trusted host
    user: str
    attempt: LoginAttempt
    # Gives the seconds for the next answer; raises DeadlineExceeded if none are left.
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
        case CredentialKind.DEFAULT:
            with open_default_keys(login.require_seconds_left(AGENT_TIMEOUT_SECONDS)) as keys:
                _authenticate_with_keys(login, keys)
        case CredentialKind.AGENT:
            with open_agent_keys(login.require_seconds_left(AGENT_TIMEOUT_SECONDS)) as keys:
                _authenticate_with_keys(login, keys)
        case CredentialKind.KEY | CredentialKind.CERTIFICATE:
            key = load_private_key(credential, login.user)
            name = f" ({credential.path}, {key.fingerprint})" if credential.path else f" ({key.fingerprint})"
            _send_credential(login, credential.kind, lambda: login.transport.auth_publickey(login.user, key), name)
        case CredentialKind.PASSWORD:
            if credential.secret is None:
                raise CredentialError("a password credential without a password")
            _authenticate_with_password(login, credential.secret.reveal())


def _authenticate_with_keys(login: LoginContext, offered: OfferedKeys) -> None:
    """Offer keys one after the other. The last accepted key is first, because each refusal counts."""
    accepted = login.attempt.accepted_keys
    ranks = {fingerprint: rank for rank, fingerprint in enumerate(accepted)}
    # sorting is stable
    keys = sorted(offered.keys, key=lambda key: (ranks.get(key.fingerprint, len(ranks)), key.is_on_token))
    methods = _read_accepted_methods(login, offered.source)
    if not methods:
        return
    if _PUBLIC_KEY not in methods:
        raise _build_method_not_accepted_error(login.user, CredentialKind.KEY, methods)
    results = [f"{key}: the machine accepts no RSA keys" for key in keys if not _is_taken(login.transport, key)]
    keys = [key for key in keys if _is_taken(login.transport, key)]
    for position, key in enumerate(keys[:MAX_OFFERED_KEYS]):
        try:
            _send_key(login, offered.agent, key)
        except AuthenticationFailed as error:
            if not login.attempt.is_refused:
                raise
            results.append(f"{key}: {key.failure or 'refused'}")
            if not login.transport.is_active():
                raise _build_all_refused_error(login, offered, results, keys[position + 1 :]) from error
            login.attempt.is_refused = False  # not refused yet: there may be another key
        else:
            accepted[:] = [key.fingerprint, *(name for name in accepted if name != key.fingerprint)]
            return
    login.attempt.is_refused = True
    raise _build_all_refused_error(login, offered, results, keys[MAX_OFFERED_KEYS:])


def _get_key(key: OfferableKey) -> paramiko.PKey:
    return key.key if isinstance(key, FileKey) else key


def _is_taken(transport: ThreadSafeTransport, key: OfferableKey) -> bool:
    """Return whether the machine takes signatures of such a key. paramiko would end the connection instead."""
    names: bytes = transport.server_extensions.get("server-sig-algs", b"")  # type: ignore[attr-defined]  # not in the stubs
    return "rsa" not in _get_key(key).get_name() or not names or b"rsa-sha2-" in names


def _send_key(login: LoginContext, agent: AgentClient | None, key: OfferableKey) -> None:
    kind = "key" if isinstance(key, FileKey) else "agent's key"
    try:
        _send_credential(login, kind, lambda: login.transport.auth_publickey(login.user, _get_key(key)), f" ({key})")
    except FleetpatchError as error:
        if agent is not None and agent.error_message and not isinstance(key, FileKey):
            raise build_agent_error(agent.error_message, key) from error
        raise


def _build_all_refused_error(
    login: LoginContext, offered: OfferedKeys, results: list[str], rest: Sequence[OfferableKey]
) -> AuthenticationFailed:
    message = login.transport.disconnect_message
    details = [*results, *([f"it said: {message}"] if message else [])]
    details += [f"not offered: {', '.join(map(str, rest))}"] if rest else []
    hint = _TOO_MANY_KEYS_HINT if rest or message else _REFUSED_HINT
    return AuthenticationFailed(
        f"the machine accepted no key of {offered.source} for {login.user}: {'; '.join((*details, *offered.faults))}",
        hint=" ".join((*offered.remedies, hint)),
    )


def _authenticate_with_password(login: LoginContext, password: str) -> None:
    """Log in with a password. First ask which methods are accepted: the password is not sent without need."""
    kinds = _read_accepted_methods(login, CredentialKind.PASSWORD)
    if CredentialKind.PASSWORD.value in kinds:
        ask = lambda: login.transport.auth_password(login.user, password, fallback=False)  # noqa: E731
        _send_credential(login, CredentialKind.PASSWORD, ask)
    elif _KEYBOARD_INTERACTIVE in kinds:
        passwords, other_prompts = [password], [""]

        def answer_prompts(_title: str, _instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
            """Answer the first hidden prompt with the password, and no other prompt."""
            answers = []
            for prompt, is_echoed in prompts:
                if is_echoed or not passwords:
                    other_prompts.append(" ".join(prompt.split())[:80] or "another question")
                answers.append("" if is_echoed or not passwords else passwords.pop())
            return answers

        ask = lambda: login.transport.auth_interactive(login.user, answer_prompts)  # noqa: E731
        try:
            _send_credential(login, CredentialKind.PASSWORD, ask)
        except AuthenticationFailed:
            if not other_prompts[-1]:
                raise
            message = f"the machine asks more of {login.user} than a password: {other_prompts[-1]}"
            raise AuthenticationFailed(message, hint=_EXTRA_PROOF_HINT) from None
    elif kinds:
        raise _build_method_not_accepted_error(login.user, CredentialKind.PASSWORD, kinds)


def _read_accepted_methods(login: LoginContext, kind: str) -> list[str]:
    """Return the methods that the machine accepts, or [] if it accepted the login without a credential."""
    login.transport.auth_timeout = login.require_seconds_left(LOGIN_TIMEOUT_SECONDS)
    try:
        login.transport.auth_none(login.user)
    except paramiko.BadAuthenticationType as error:
        return list(error.allowed_types)
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise _build_no_answer_error(login, kind) from error
    return []


def _send_credential(login: LoginContext, kind: str, ask: Callable[[], list[str]], name: str = "") -> None:
    """Send one credential, and translate the answer.

    ``kind`` and ``name`` say in errors which one it is; ``ask`` sends it.
    """
    login.transport.auth_timeout = login.require_seconds_left(LOGIN_TIMEOUT_SECONDS)
    try:
        further = ask()
    except paramiko.BadAuthenticationType as error:
        raise _build_method_not_accepted_error(login.user, kind, error.allowed_types) from None
    except (paramiko.SSHException, OSError, EOFError) as error:
        # paramiko reports a broken connection and a silent machine as a failed authentication too
        is_active = login.transport.is_active()
        if is_active and isinstance(error, paramiko.AuthenticationException) and "timeout" not in str(error):
            login.attempt.is_refused = True
            raise AuthenticationFailed(
                f"the machine refused the {kind} of {login.user}{name}", hint=_REFUSED_HINT
            ) from None
        if _NO_ALGORITHM in str(error):
            raise AuthenticationFailed(
                f"the machine accepts no RSA keys, and the {kind} of {login.user}{name} is one",
                hint="Use an Ed25519 key, or allow rsa-sha2-256 there (PubkeyAcceptedAlgorithms in its sshd_config).",
            ) from None
        raise _build_no_answer_error(login, kind, name) from error
    except Exception as error:
        if not name:
            raise
        raise AuthenticationFailed(
            f"the SSH library can't log in with the {kind} of {login.user}{name}",
            hint="Use another key: ssh-keygen -t ed25519. The log of --debug has the library's error.",
        ) from error
    if further:
        raise AuthenticationFailed(
            f"the machine wants more than one proof of {login.user}: also {', '.join(further)}", hint=_EXTRA_PROOF_HINT
        )


def _build_no_answer_error(login: LoginContext, kind: str, name: str = "") -> FleetpatchError:
    """Return the error for a missing answer: ConnectionLost, or AuthenticationFailed if a credential had been sent."""
    transport = login.transport
    server_message = transport.disconnect_message or transport.login_banner
    if not transport.credentials_sent and transport.is_active():
        seconds = login.require_seconds_left(LOGIN_TIMEOUT_SECONDS)  # if none are left, that is the error to report
        return Unreachable(
            f"the machine does not answer the login within {seconds:.0f} s",
            hint="Its SSH server accepts connections, and hangs or is overloaded: look at that machine.",
        )
    if not transport.credentials_sent:
        message = f": {transport.disconnect_message}" if transport.disconnect_message else ""
        return ConnectionLost(f"the connection was lost during the login{message}")
    if _PAM_NOLOGIN in server_message and not transport.disconnect_message:
        return ConnectionLost(f"logins are disabled there now: {server_message}")
    login.attempt.is_refused = bool(transport.disconnect_message)
    login.attempt.is_interrupted = not transport.disconnect_message
    login.require_seconds_left(LOGIN_TIMEOUT_SECONDS)  # if the deadline has passed, that is the error to report
    event = "gave no answer" if transport.is_active() else "closed the connection"
    also = f"; it said: {server_message}" if server_message else ""
    return AuthenticationFailed(
        f"the machine {event} after the {kind} of {login.user}{name} was sent{also}",
        hint="Look at its sshd's log. It is not sent again in this run.",
    )


def _build_method_not_accepted_error(user: str, kind: str, methods: list[str]) -> AuthenticationFailed:
    return AuthenticationFailed(
        f"the machine accepts no {kind} of {user}; it accepts: {', '.join(methods)}",
        hint="Give the machine's entry another credential, or allow this kind in its sshd_config.",
    )
