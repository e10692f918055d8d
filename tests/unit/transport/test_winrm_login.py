"""What an answer without WS-Management means during a login, by its HTTP status and what was sent before it."""

from unittest.mock import Mock

import pytest

from inventory.machine import Machine, OsFamily, TransportKind, WinrmAuthentication, WinrmScheme, WinrmSettings
from tasks.domain.errors import AuthenticationFailed, TransportError
from tasks.machines.transport.lockout_guard import LoginAttempt
from tasks.machines.transport.tcp_connection import ConnectionDropped
from tasks.machines.transport.winrm.login import _build_broken_login, _build_refusal, find_winrm_port
from tasks.machines.transport.winrm.messages import MessageLost, WinrmLoginRefused

NTLM, CERTIFICATE, BASIC = WinrmAuthentication.NTLM, WinrmAuthentication.CERTIFICATE, WinrmAuthentication.BASIC


def machine(how: WinrmAuthentication, scheme: WinrmScheme = WinrmScheme.HTTPS) -> Machine:
    settings = WinrmSettings(scheme=scheme, authentication=how)
    return Machine("w", "h", transport=TransportKind.WINRM, os=OsFamily.WINDOWS, user="u", winrm=settings)


@pytest.mark.parametrize(
    ("how", "sent", "status", "error", "interrupted", "refused"),
    [
        (NTLM, 0, 0, ConnectionDropped, False, False),
        (NTLM, 1, 0, ConnectionDropped, False, False),
        (NTLM, 2, 0, AuthenticationFailed, True, False),
        (BASIC, 1, 500, AuthenticationFailed, True, False),
        (CERTIFICATE, 1, 0, ConnectionDropped, False, False),
        (NTLM, 0, 503, ConnectionDropped, False, False),
        (NTLM, 0, 404, TransportError, False, False),
        (CERTIFICATE, 1, 403, AuthenticationFailed, False, True),
    ],
)
def test_a_login_without_an_answer(how, sent, status, error, interrupted, refused):
    attempt = LoginAttempt([])
    client = Mock(credentials_sent=sent)
    found = _build_broken_login(machine(how), client, MessageLost("gone", status), attempt)
    assert type(found) is error
    assert (attempt.is_interrupted, attempt.is_refused) == (interrupted, refused)


@pytest.mark.parametrize(
    ("how", "sent", "offered", "message", "refused"),
    [
        (NTLM, 2, "Negotiate", "refused the login of u", True),
        (NTLM, 0, 'Basic realm="WSMAN", Kerberos', "it accepts: basic, kerberos", False),
        (BASIC, 1, "Negotiate", "it accepts: negotiate", False),
        (BASIC, 1, 'Basic realm="WSMAN"', "refused the login of u", True),
        (BASIC, 1, "", "refused the login of u", True),
        (WinrmAuthentication.KERBEROS, 1, "Negotiate", "refused the login of u", True),
    ],
)
def test_a_refusal(how, sent, offered, message, refused):
    attempt = LoginAttempt([])
    error = _build_refusal(machine(how), Mock(credentials_sent=sent), WinrmLoginRefused(offered), attempt)
    assert message in error.message
    assert error.hint
    assert attempt.is_refused is refused


def test_a_port_follows_from_the_scheme():
    assert [find_winrm_port(machine(NTLM, scheme)) for scheme in WinrmScheme] == [5986, 5985]
