"""Kerberos without its library: what its errors mean, and how often a login is sent."""

from unittest.mock import Mock

import pytest
import requests

from inventory.machine import WinrmAuthentication
from tasks.domain.errors import AuthenticationFailed, WayUnreachable
from tasks.machines.transport.winrm.kerberos import (
    KerberosFailed,
    allow_one_login,
    describe_kerberos_error,
    is_kerberos_error,
)
from tasks.machines.transport.winrm.login import _REFUSED_HINTS, _build_kerberos_error

UNSPECIFIED = ("Unspecified GSS failure.  Minor code may provide more information", 851968)


class GSSError(Exception):
    """As the library's own."""


GSSError.__module__ = "kerberos"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ((UNSPECIFIED, ("Ticket expired", -1765328352)), ("Ticket expired", -1765328352)),
        ((("Invalid token was supplied", 589824), ("Success", 100001)), ("Invalid token was supplied", 589824)),
        (("something else",), ("something else", 0)),
    ],
)
def test_the_most_exact_text_is_told(args, told):
    error = GSSError(*args)
    assert is_kerberos_error(error)
    assert describe_kerberos_error(error) == told


@pytest.mark.parametrize(
    ("code", "kind", "remedy"),
    [
        (-1765328228, WayUnreachable, "domain controller"),
        (-1765328352, AuthenticationFailed, "kinit"),
        (-1765328347, AuthenticationFailed, "NTP"),
        (-1765328377, AuthenticationFailed, "setspn"),
        (-1, AuthenticationFailed, _REFUSED_HINTS[WinrmAuthentication.KERBEROS]),
    ],
)
def test_each_problem_has_its_remedy(code, kind, remedy):
    error = _build_kerberos_error(KerberosFailed("no ticket", code))
    assert type(error) is kind
    assert remedy in error.hint


def auth(**methods):
    it = Mock(**methods)
    return it, it.handle_401


def response(*, with_login):
    return Mock(request=Mock(headers={"Authorization": "Negotiate YII="} if with_login else {}))


@pytest.mark.parametrize("https", [True, False])
def test_a_refused_login_is_not_sent_again(https):
    it, handle = auth()
    allow_one_login(it, is_https=https)
    assert it.force_preemptive is not https  # over HTTPS, the certificate is to be seen first
    asked, refused = response(with_login=False), response(with_login=True)
    assert it.handle_401(asked, timeout=1) is handle.return_value
    assert it.handle_401(refused) is refused
    handle.assert_called_once_with(asked, timeout=1)


def test_a_missing_ticket_is_told_though_the_library_would_drop_it():
    def generate(*_):
        try:
            raise GSSError(UNSPECIFIED, ("Ticket expired", -1765328352))
        except GSSError:
            raise requests.RequestException("authGSSClientStep() failed")  # noqa: B904  # as the library does

    it, _ = auth(generate_request_header=generate)
    allow_one_login(it, is_https=True)
    with pytest.raises(KerberosFailed, match="no Kerberos ticket for this machine: Ticket expired"):
        it.generate_request_header(None, "win1")


def test_a_machine_that_does_not_prove_itself_is_told():
    it, _ = auth(authenticate_server=lambda _: False)
    allow_one_login(it, is_https=True)
    with pytest.raises(KerberosFailed, match="did not prove"):
        it.authenticate_server(None)
