"""Logs in to one machine: one connection, one try, through the guard against locked accounts."""

import time
from typing import Final

import requests
import winrm.transport
from winrm.exceptions import WinRMError
from winrm.protocol import Protocol

from inventory.addresses import WINRM_PORTS
from inventory.credentials import Credential, CredentialResolver
from inventory.data_class import dataclass
from inventory.files.paths import expand_home
from inventory.machine import Machine, WinrmAuthentication, WinrmScheme
from tasks.domain.errors import (
    AuthenticationFailed,
    CannotRun,
    CredentialError,
    DeadlineExceeded,
    HostKeyMismatch,
    HostKeyUnknown,
    TransportError,
    WayUnreachable,
)
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.machines.transport.lockout_guard import LockoutGuard, LoginAttempt
from tasks.machines.transport.tcp_connection import (
    ConnectionDropped,
    ConnectionSilent,
    Service,
    open_tcp_connection,
    try_connection,
)
from tasks.machines.transport.winrm.http_line import HttpLine
from tasks.machines.transport.winrm.kerberos import KDC_AWAY, KerberosFailed
from tasks.machines.transport.winrm.messages import MessageLost, WinrmLoginRefused, WsmanClient, WsmanFault
from tasks.machines.transport.winrm.tls import build_certificate_error, build_tls_context, describe_shown_certificate

PROBE_TIMEOUT_SECONDS: Final = 10.0
"""To find that something listens. Answers of WinRM may take longer."""
LOGIN_TIMEOUT_SECONDS: Final = 60.0
_NO_TIME: Final = "no time was left to log in"
_LISTENER_HINT: Final = (
    "Is it up, and does WinRM listen there? On the machine: winrm enumerate winrm/config/listener; "
    "Get-NetFirewallRule -DisplayGroup 'Windows Remote Management'."
)
_WINRM: Final = Service("WinRM", "Correct it, or the DNS.", refused_hint=_LISTENER_HINT, dropped_hint=_LISTENER_HINT)
_REFUSED_HINTS: Final = {
    WinrmAuthentication.NTLM: "Are user (DOMAIN\\NAME for an account of a domain) and password right, the account not "
    "locked, and may it log in over the network?",
    WinrmAuthentication.CREDSSP: "Are user and password right, the account not locked, and is CredSSP on there "
    "(Enable-WSManCredSSP -Role Server)?",
    WinrmAuthentication.BASIC: "Are user and password right? Basic takes local accounts only, and the machine must "
    'allow it (winrm set winrm/config/service/auth @{Basic="true"}).',
    WinrmAuthentication.KERBEROS: "Is there a valid ticket (klist), do the clocks differ by less than five minutes, "
    "and is the address the name in the machine's service principal (or kerberos_hostname)?",
    WinrmAuthentication.CERTIFICATE: "Is the certificate mapped to an account there (dir WSMan:\\localhost\\"
    "ClientCertificate), its CA trusted, and Certificate = true in winrm/config/service/auth?",
}
_SCHEMES: Final = {
    WinrmAuthentication.NTLM: ("negotiate", "ntlm"),
    WinrmAuthentication.CREDSSP: ("credssp",),
    WinrmAuthentication.BASIC: ("basic",),
    WinrmAuthentication.KERBEROS: ("kerberos", "negotiate"),
    WinrmAuthentication.CERTIFICATE: (),
}


@dataclass(frozen=True, slots=True)
class WinrmEnvironment:
    """What all connections of one inventory share."""

    resolve_credential: CredentialResolver
    clock: Clock
    lockout_guard: LockoutGuard


def open_client(
    machine: Machine, environment: WinrmEnvironment, deadline: Deadline, *, is_first: bool = False
) -> tuple[WsmanClient, str]:
    """Connect, log in and open a shell. Return the connection and the shell.

    If the connection breaks before a password was sent, there are three attempts in all. One attempt is enough if the
    machine stays silent, or if the port is refused and was not open before: then it is closed. Later it may be WinRM
    that restarts. ``is_first``: the machine was never reached before.

    Raises:
        Unreachable: there is no answer, or none of WinRM.
        WayUnreachable: there is none of Kerberos, which was to give a ticket.
        HostKeyMismatch, HostKeyUnknown: the machine's certificate is not the right one.
        AuthenticationFailed: the machine refused the login, now or earlier in this run.
        DeadlineExceeded: the deadline has passed.
        CredentialError, InventoryError: the login, or a file, can't be used.
        WsmanFault: the login worked, and no shell was opened.
    """
    credential = environment.resolve_credential(machine.credential)
    return try_connection(
        lambda: _open_once(machine, credential, environment, deadline),
        machine,
        environment.clock,
        deadline,
        is_refusal_final=is_first,
        late_message=_NO_TIME,
    )


def find_winrm_port(machine: Machine) -> int:
    """Return the port of a machine."""
    return machine.port or WINRM_PORTS[machine.winrm.scheme]


def _open_once(
    machine: Machine, credential: Credential, environment: WinrmEnvironment, deadline: Deadline
) -> tuple[WsmanClient, str]:
    client = _build_client(machine, credential)
    clock = environment.clock
    try:
        seconds = deadline.require_seconds(clock, PROBE_TIMEOUT_SECONDS, message=_NO_TIME)
        open_tcp_connection(machine.address, find_winrm_port(machine), seconds, _WINRM).close()
        shell = _log_in(client, machine, credential, environment, deadline)
    except BaseException:
        client.close()
        raise
    if isinstance(shell, WsmanFault):
        client.close()
        raise shell
    return client, shell


def _log_in(
    client: WsmanClient, machine: Machine, credential: Credential, environment: WinrmEnvironment, deadline: Deadline
) -> str | WsmanFault:
    """Return the shell; or the fault that the machine answered to a login that it accepted."""
    clock = environment.clock
    with environment.lockout_guard.open_attempt(
        machine.name, machine.user or "", credential, clock=clock, deadline=deadline
    ) as attempt:
        began = time.monotonic()
        try:
            seconds = deadline.require_seconds(clock, LOGIN_TIMEOUT_SECONDS, message=_NO_TIME)
            if machine.winrm.scheme is WinrmScheme.HTTP:
                client.log_in(seconds)
            return client.open_shell(deadline.require_seconds(clock, LOGIN_TIMEOUT_SECONDS, message=_NO_TIME))
        except WsmanFault as fault:
            return fault
        except KerberosFailed as problem:
            raise _build_kerberos_error(problem) from problem
        except WinrmLoginRefused as refused:
            raise _build_refusal(machine, client, refused, attempt) from None
        except MessageLost as lost:
            if deadline.has_passed(clock):
                attempt.is_interrupted = _sent_password(machine, client)
                raise DeadlineExceeded(_NO_TIME) from lost
            waited = time.monotonic() - began
            if (waited >= LOGIN_TIMEOUT_SECONDS or isinstance(lost.__cause__, requests.Timeout)) and not (
                _sent_password(machine, client)
            ):
                raise ConnectionSilent(
                    f"{machine.address} port {find_winrm_port(machine)} accepts the connection, "
                    f"and gives no answer within {waited:.0f} s",
                    _LISTENER_HINT,
                ) from lost
            raise _build_broken_login(machine, client, lost, attempt) from lost


def _build_client(machine: Machine, credential: Credential) -> WsmanClient:
    settings, port = machine.winrm, find_winrm_port(machine)
    authentication = settings.authentication
    if credential.private_key is not None or credential.issuer is not None:
        raise CredentialError(
            "its credential is a private key, and WinRM needs a password, or the key in a file",
            hint="Let `credential` lead to a password, or write key:PATH for authentication certificate.",
        )
    secret = credential.secret.reveal() if credential.secret else None
    key = credential.path if authentication is WinrmAuthentication.CERTIFICATE else None
    if authentication is WinrmAuthentication.BASIC and not (f"{machine.user}{secret}").isascii():
        raise CredentialError(
            "a user name or password with other than ASCII characters can't be sent with authentication basic",
            hint="Use ntlm, or another password.",
        )
    is_https = settings.scheme is WinrmScheme.HTTPS
    tls = build_tls_context(settings, key, secret if key else None) if is_https else None
    host = f"[{machine.address}]" if ":" in machine.address else machine.address
    try:
        protocol = Protocol(
            f"{settings.scheme.value}://{host}:{port}/{settings.path}",
            transport=authentication.value,
            username=machine.user,
            password=None if key else secret,
            ca_trust_path="",  # the line has its own TLS settings
            cert_pem=str(expand_home(settings.client_certificate)) if settings.client_certificate else None,
            cert_key_pem=str(key) if key else None,
            message_encryption="auto" if is_https else "always",
            kerberos_hostname_override=settings.kerberos_hostname,
            # No proxy. With None, requests changes the environment of the process for a moment at each login: threads
            # that log in at the same time then fail (KeyError: 'no_proxy'), or leave the variable set for all others.
            proxy="",
        )
    except WinRMError as error:
        raise CredentialError(f"this login can't be used: {error}", hint=_REFUSED_HINTS[authentication]) from error
    installed = {
        WinrmAuthentication.KERBEROS: winrm.transport.HAVE_KERBEROS,
        WinrmAuthentication.CREDSSP: winrm.transport.HAVE_CREDSSP,
    }
    if not installed.get(authentication, True):
        raise CannotRun(
            f"authentication {authentication.value} needs a library that is not installed",
            hint=f"Install it where fleetpatch runs: pip install 'pywinrm[{authentication.value}]'.",
        )
    thumbprints = settings.certificate_thumbprint if is_https else ()
    return WsmanClient(protocol, HttpLine(machine.address, port, tls=tls, thumbprints=thumbprints))


def _sent_password(machine: Machine, client: WsmanClient) -> bool:
    # NTLM and CredSSP begin with a message that proves nothing
    needed = 1 if machine.winrm.authentication is WinrmAuthentication.BASIC else 2
    return machine.winrm.authentication.needs_password and client.credentials_sent >= needed


def _build_refusal(
    machine: Machine, client: WsmanClient, refused: WinrmLoginRefused, attempt: LoginAttempt
) -> AuthenticationFailed:
    authentication = machine.winrm.authentication
    schemes = _SCHEMES[authentication]
    offered = [word for part in refused.offered.split(",") if (word := part.strip().partition(" ")[0].lower())]
    attempt.is_refused = _sent_password(machine, client) or not authentication.needs_password
    if schemes and offered and not set(schemes) & set(offered):
        if authentication is WinrmAuthentication.BASIC:  # it looked at no password
            attempt.is_refused = False
        options = ", ".join(dict.fromkeys(offered))
        return AuthenticationFailed(
            f"the machine accepts no authentication {authentication.value}; it accepts: {options}",
            hint="Set winrm.authentication to one of these, or allow this one in winrm/config/service/auth there.",
        )
    login = f"the login of {machine.user}" if machine.user else "this login"
    reason = f": {refused.reason[:300]}" if refused.reason else ""
    message = f"the machine refused {login} ({authentication.value}){reason}"
    return AuthenticationFailed(message, hint=_REFUSED_HINTS[authentication])


def _build_kerberos_error(problem: KerberosFailed) -> TransportError:
    kind = WayUnreachable if problem.code in KDC_AWAY else AuthenticationFailed
    return kind(str(problem), hint=problem.hint or _REFUSED_HINTS[WinrmAuthentication.KERBEROS])


def _build_broken_login(machine: Machine, client: WsmanClient, lost: MessageLost, attempt: LoginAttempt) -> Exception:
    """Return the error for a login without a usable answer."""
    text = str(lost)
    if machine.winrm.scheme is WinrmScheme.HTTPS and ("ssl" in text.lower() or "certificate" in text.lower()):
        error = build_certificate_error(lost, machine.winrm)
        if isinstance(error, HostKeyMismatch | HostKeyUnknown):
            description = describe_shown_certificate(machine.address, find_winrm_port(machine))
            error.hint = " ".join(filter(None, (error.hint, description)))
        return error
    if lost.status == 403 and machine.winrm.authentication is WinrmAuthentication.CERTIFICATE:
        attempt.is_refused = True
        hint = _REFUSED_HINTS[WinrmAuthentication.CERTIFICATE]
        return AuthenticationFailed("the machine refused the client certificate (HTTP 403)", hint=hint)
    if lost.status in {403, 404, 405}:
        return TransportError(
            f"{machine.address} port {find_winrm_port(machine)} answers, and not as WinRM: {text}",
            hint="Correct the port, or winrm.path.",
        )
    if lost.status == 503:
        return ConnectionDropped("the machine's WinRM service does not run, or is starting", _LISTENER_HINT)
    if _sent_password(machine, client):
        attempt.is_interrupted = True
        return AuthenticationFailed(
            f"the machine gave no answer after the password of {machine.user} was sent: {text}",
            hint="Look at its event log (Security). It is not sent again in this run.",
        )
    message = f"there is no answer of WinRM at {machine.address} port {find_winrm_port(machine)}: {text}"
    return ConnectionDropped(message, _LISTENER_HINT)
