"""Logins to a Windows host on loopback: what is proven, what is refused, and how often a password is sent."""

import os

import pytest

from inventory.machine import WinrmAuthentication
from tasks.domain.errors import (
    AuthenticationFailed,
    CannotRun,
    CredentialError,
    HostKeyMismatch,
    HostKeyUnknown,
    InventoryError,
    PrivilegeError,
    TransportError,
)
from tasks.machines.transport.lockout_guard import LockoutGuard
from tests.contract.winrm.subjects import BASIC, NTLM, ask, machine, session, soon, values
from tests.lab.windows.fault_schedule import Fault, What


@pytest.mark.parametrize(("how", "https"), [(NTLM, True), (NTLM, False), (BASIC, True)])
def test_a_password_logs_in_once_for_many_scripts(host, how, https):
    with session(machine(host, how, https=https), host.password) as it:
        for number in range(3):
            result = it.run_script(ask("say", text=f"ünï {number}"), deadline=soon())
            assert result.records == ({"kind": "said", "text": f"ünï {number}"},)
            assert result.unframed_output == ""
        assert len(host.shells.open) == 1
    assert {login.outcome for login in host.accounts.logins} == {"ok"}
    assert len(host.accounts.logins) == 1 or how is BASIC  # which is sent with each message
    assert host.shells.open == []


@pytest.mark.parametrize(("how", "https"), [(NTLM, True), (NTLM, False), (BASIC, True)])
def test_no_login_changes_or_follows_the_environment(host, how, https, monkeypatch):
    """Machines log in side by side, in threads of one process: a change of its environment would reach the others."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # where nothing listens
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    changed = set()
    set_item = type(os.environ).__setitem__

    def record(environment, name, value):
        changed.add(name)
        set_item(environment, name, value)

    monkeypatch.setattr(type(os.environ), "__setitem__", record)
    with session(machine(host, how, https=https), host.password) as it:
        records = it.run_script(ask("say", text="here"), deadline=soon()).records
    assert records == ({"kind": "said", "text": "here"},)
    assert changed == set()


def test_a_client_certificate_logs_in(host):
    certificate = host.client_certificate()
    one = machine(host, WinrmAuthentication.CERTIFICATE, client_certificate=certificate.chain)
    with session(one, "", key=certificate.key) as it:
        assert it.run_script(ask("say", x="y"), deadline=soon()).records == ({"kind": "said", "x": "y"},)
    assert {(login.method, login.outcome) for login in host.accounts.logins} == {("certificate", "ok")}


def test_a_key_of_another_certificate_is_told_before_anything_is_sent(host):
    one = machine(host, WinrmAuthentication.CERTIFICATE)
    with pytest.raises(InventoryError, match=r"client certificate .* can't be used"):
        session(one, "", key=host.certificate.key).run_script(ask("say"), deadline=soon())
    assert host.connected == 0


@pytest.mark.parametrize(("how", "https"), [(NTLM, True), (NTLM, False), (BASIC, True)])
def test_a_wrong_password_is_sent_once(host, how, https):
    guard = LockoutGuard()
    one = machine(host, how, https=https)
    for message in ("refused the login of Administrator", "earlier in this run; it is not sent again"):
        with pytest.raises(AuthenticationFailed, match=message) as caught:
            session(one, "wrong", guard=guard).run_script(ask("say"), deadline=soon())
        assert caught.value.machine == "WIN1"
        assert caught.value.hint
        assert "wrong" not in str(caught.value)
    assert host.accounts.wrong_passwords == 1


def test_a_password_is_not_sent_to_the_whole_fleet_if_two_machines_refuse_it(host):
    guard = LockoutGuard()
    for name in ("a", "b", "c"):
        one = machine(host)
        object.__setattr__(one, "name", name)
        with pytest.raises(AuthenticationFailed):
            session(one, "wrong", guard=guard).run_script(ask("say"), deadline=soon())
    assert host.accounts.wrong_passwords == 2


def test_a_method_that_is_off_is_told_as_that(host):
    host.settings.offered["https"] = frozenset({"negotiate"})
    guard = LockoutGuard()
    for _ in range(2):
        with pytest.raises(AuthenticationFailed, match="accepts no authentication basic; it accepts: negotiate"):
            session(machine(host, BASIC), host.password, guard=guard).run_script(ask("say"), deadline=soon())


def test_a_login_that_is_no_administrator_is_told_what_it_lacks(host):
    one = machine(host)
    object.__setattr__(one, "user", "guest")
    with pytest.raises(PrivilegeError, match="may not use remote shells") as caught:
        session(one, "guest").run_script(ask("say"), deadline=soon())
    assert "LocalAccountTokenFilterPolicy" in caught.value.hint
    assert caught.value.machine == "WIN1"
    assert host.accounts.wrong_passwords == 0


def test_basic_takes_only_ascii(host):
    with pytest.raises(CredentialError, match="ASCII"):
        session(machine(host, BASIC), "pässwörd").run_script(ask("say"), deadline=soon())
    assert host.connected == 0


@pytest.mark.parametrize("how", [WinrmAuthentication.KERBEROS, WinrmAuthentication.CREDSSP])
def test_a_library_that_is_missing_is_named(host, how, monkeypatch):
    monkeypatch.setattr(f"winrm.transport.HAVE_{how.name}", False)
    with pytest.raises(CannotRun, match=how.value) as caught:
        session(machine(host, how), host.password).run_script(ask("say"), deadline=soon())
    assert f"pywinrm[{how.value}]" in caught.value.hint


# ---- certificates


@pytest.mark.parametrize("digest", ["thumbprint", "sha256"])
def test_a_pinned_certificate_needs_no_ca(host, digest):
    shown = host.show("self-signed")
    pins = ("0" * 40, getattr(shown, digest).lower())
    with session(machine(host, certificate_thumbprint=pins), host.password) as it:
        assert it.run_script(ask("say"), deadline=soon()).exit_code == 0


@pytest.mark.parametrize("how", [NTLM, BASIC])
def test_another_certificate_than_the_pinned_one_gets_no_password(host, how):
    pin = host.certificate.sha256.lower()
    host.show("renewed")
    one = machine(host, how, certificate_thumbprint=(pin,))
    with pytest.raises(HostKeyMismatch, match="not the pinned one"):
        session(one, host.password).run_script(ask("say"), deadline=soon())
    assert host.accounts.logins == []


@pytest.mark.parametrize(
    ("kind", "why"), [("self-signed", "self.signed"), ("expired", "expired"), ("other-name", "not valid for")]
)
def test_a_certificate_that_is_not_trusted_gets_no_password(host, kind, why):
    host.show(kind)
    with pytest.raises(HostKeyUnknown, match=why) as caught:
        session(machine(host, BASIC), host.password).run_script(ask("say"), deadline=soon())
    assert caught.value.hint
    assert host.accounts.logins == []


def test_a_ca_of_this_system_does_not_trust_the_test_authority(host):
    with pytest.raises(HostKeyUnknown):
        session(machine(host, ca_file=None), host.password).run_script(ask("say"), deadline=soon())


def test_a_ca_file_that_is_none_is_told(host, tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(InventoryError, match="ca_file"):
        session(machine(host, ca_file=tmp_path / "ca.pem"), host.password).run_script(ask("say"), deadline=soon())


def test_http_at_the_port_of_https_is_told(host):
    one = machine(host)
    object.__setattr__(one, "port", host.http_port)
    with pytest.raises(TransportError, match="TLS handshake failed") as caught:
        session(one, host.password).run_script(ask("say"), deadline=soon())
    assert "HTTPS" in caught.value.hint


@pytest.mark.parametrize("https", [True, False])
def test_credssp_logs_in_and_follows_broken_connections(host, https):
    pytest.importorskip("requests_credssp", reason="pywinrm[credssp] is not installed")
    with session(machine(host, WinrmAuthentication.CREDSSP, https=https), host.password) as it:
        assert values(it.run_script(ask("count 3000"), deadline=soon())) == list(range(3000))
        host.drop_connections(reset=False)
        assert it.run_script(ask("say", x="1"), deadline=soon()).records == ({"kind": "said", "x": "1"},)
    assert [login.outcome for login in host.accounts.logins] == ["ok", "ok"]


@pytest.mark.parametrize("what", [What.BAD_SEAL, What.RESET, What.CUT, What.UNAUTHORISED])
@pytest.mark.parametrize("at", ["Command", "Receive"])
def test_what_breaks_with_credssp_is_begun_on_another_connection(host, at, what):
    pytest.importorskip("requests_credssp", reason="pywinrm[credssp] is not installed")
    with session(machine(host, WinrmAuthentication.CREDSSP, https=False), host.password) as it:
        it.run_script(ask("say"), deadline=soon())
        host.add_faults([Fault(at, what)])
        assert values(it.run_script(ask("count 50"), deadline=soon())) == list(range(50))
    assert {login.outcome for login in host.accounts.logins} == {"ok"}
    assert host.settings.in_the_clear == 0


@pytest.mark.parametrize("https", [True, False])
def test_credssp_sends_a_wrong_password_once(host, https):
    pytest.importorskip("requests_credssp", reason="pywinrm[credssp] is not installed")
    guard = LockoutGuard()
    for message in ("refused the login of Administrator", "it is not sent again"):
        one = machine(host, WinrmAuthentication.CREDSSP, https=https)
        with pytest.raises(AuthenticationFailed, match=message):
            session(one, "wrong", guard=guard).run_script(ask("say"), deadline=soon())
