"""Kerberos to a Windows host on loopback, with a real KDC: what is proven, what is refused, and the errors.

It needs MIT's KDC, and Python libraries that have no wheels. `make test` does not collect it; `make kerberos` plays it.
"""

import logging
import queue
from logging.handlers import QueueHandler

import pytest
from spnego._gss import GSSAPIProxy

from inventory.credentials import Credential, CredentialKind
from inventory.machine import WinrmAuthentication
from tasks.domain.errors import AuthenticationFailed, ConnectionLost, Unreachable
from tests.contract.winrm.subjects import ask, machine, session, soon, values
from tests.lab.windows.accounts import Account
from tests.lab.windows.fault_schedule import Fault, What
from tests.lab.windows.kerberos_realm import REALM, Realm, why_not
from tests.lab.windows.windows_host import Options, WindowsHost

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())
NAME = "win1.fleet.test"
SERVICE = f"HTTP/{NAME}"
TICKETS = Credential(CredentialKind.AGENT, None, None)


@pytest.fixture
def realm(tmp_path, monkeypatch):
    with Realm(tmp_path / "realm") as it:
        it.add_user("patch")
        it.add_service(SERVICE)
        for name, value in it.environment.items():
            monkeypatch.setenv(name, value)
        it.log_in("patch")
        yield it


@pytest.fixture
def host(tmp_path, authority, table, realm):
    account = Account("patch", "unused", domain="FLEET", upn=f"patch@{REALM}")
    with WindowsHost("WIN1", tmp_path / "host", table, authority=authority, options=Options([account])) as it:
        yield it


def connect(host, *, https=True, user=None, hostname=NAME, address=None):
    one = machine(host, WinrmAuthentication.KERBEROS, https=https, kerberos_hostname=hostname)
    object.__setattr__(one, "user", user)
    object.__setattr__(one, "address", address or one.address)
    return session(one, "", resolve=lambda _: TICKETS)


def outcomes(host):
    return [login.outcome for login in host.accounts.logins]


@pytest.mark.parametrize("user", [None, "patch", f"patch@{REALM}"])
@pytest.mark.parametrize("https", [True, False])
def test_a_ticket_logs_in_and_seals_messages(host, https, user):
    with connect(host, https=https, user=user) as it:
        assert values(it.run_script(ask("count 3000"), deadline=soon())) == list(range(3000))
        host.drop_connections(reset=False)
        assert it.run_script(ask("say", x="ü"), deadline=soon()).records == ({"kind": "said", "x": "ü"},)
    assert outcomes(host) == ["ok", "ok"]
    assert host.settings.in_the_clear == 0


def test_the_address_is_the_name_in_the_service_principal(host, realm):
    realm.add_service("HTTP/localhost")
    with connect(host, https=False, hostname=None, address="localhost") as it:
        it.run_script(ask("say"), deadline=soon())


def test_a_login_over_https_is_bound_to_the_certificate(host):
    host.settings.strict_bindings = True
    with connect(host) as it:
        it.run_script(ask("say"), deadline=soon())
    assert outcomes(host) == ["ok"]
    other = host.authority.for_host("WIN2").der
    host.settings.certificate = lambda: other  # what it sees is not what the client sees: someone is between
    with pytest.raises(AuthenticationFailed), connect(host) as it:
        it.run_script(ask("say"), deadline=soon())
    assert outcomes(host)[1:] == ["unknown user"]


@pytest.mark.parametrize("what", [What.BAD_SEAL, What.RESET, What.CUT, What.UNAUTHORISED])
@pytest.mark.parametrize("at", ["Command", "Receive"])
def test_what_breaks_is_begun_on_another_connection(host, at, what):
    with connect(host, https=False) as it:
        it.run_script(ask("say"), deadline=soon())
        host.add_faults([Fault(at, what)])
        assert values(it.run_script(ask("count 50"), deadline=soon())) == list(range(50))
    assert set(outcomes(host)) == {"ok"}


# ---- no ticket: the machine is not asked


def no_tickets(realm):
    realm.log_out()


def expired(realm):
    realm.let_expire("patch")


def skewed_from_the_kdc(realm):
    realm.shift_clock(900)


def no_kdc(realm):
    realm.stop()


@pytest.mark.parametrize("https", [True, False])
@pytest.mark.parametrize(
    ("spoil", "error", "says", "remedy"),
    [
        (no_tickets, AuthenticationFailed, "No Kerberos credentials available", "kinit"),
        (expired, AuthenticationFailed, "Ticket expired", "KRB5_CLIENT_KTNAME"),
        (skewed_from_the_kdc, AuthenticationFailed, "Clock skew too great", "NTP"),
        (no_kdc, Unreachable, "Cannot contact any KDC", "domain controller"),
    ],
)
def test_what_no_ticket_can_be_got_for_is_told_and_succeeds_once_there_is_one(
    host, realm, https, spoil, error, says, remedy
):
    spoil(realm)
    with connect(host, https=https) as it:
        with pytest.raises(error, match=says) as caught:
            it.run_script(ask("say"), deadline=soon())
        assert remedy in caught.value.hint
        assert "authGSS" not in str(caught.value)
        assert outcomes(host) == []
        if error is Unreachable:
            realm.start()
        realm.log_in("patch")
        assert it.run_script(ask("say"), deadline=soon()).exit_code == 0
    assert outcomes(host) == ["ok"]


@pytest.mark.parametrize("hostname", ["win9.fleet.test", None])
def test_a_name_without_a_service_principal_is_told(host, hostname):
    with pytest.raises(AuthenticationFailed, match=r"Server HTTP/.* not found") as caught:
        connect(host, hostname=hostname).run_script(ask("say"), deadline=soon())
    assert "kerberos_hostname" in caught.value.hint
    assert outcomes(host) == []


def test_a_user_without_a_ticket_is_told(host):
    with pytest.raises(AuthenticationFailed, match=f"other@{REALM}") as caught:
        connect(host, user=f"other@{REALM}").run_script(ask("say"), deadline=soon())
    assert "kinit" in caught.value.hint


def test_the_library_logs_nothing_itself(host, realm):
    realm.log_out()
    told: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = QueueHandler(told)
    logging.getLogger().addHandler(handler)
    try:
        with pytest.raises(AuthenticationFailed):
            connect(host).run_script(ask("say"), deadline=soon())
    finally:
        logging.getLogger().removeHandler(handler)
    assert told.empty()


# ---- tickets that the machine refuses: it is asked once


@pytest.mark.parametrize("https", [True, False])
def test_another_key_than_the_machine_s_is_refused_once(host, realm, https):
    realm.change_keys(SERVICE)
    with pytest.raises(AuthenticationFailed, match=r"refused this login \(kerberos\)") as caught:
        connect(host, https=https).run_script(ask("say"), deadline=soon())
    assert "service principal" in caught.value.hint
    assert outcomes(host) == ["unknown user"]


@pytest.mark.parametrize("https", [True, False])
def test_a_machine_whose_clock_differs_refuses_once(host, realm, https):
    realm.get_ticket(SERVICE)
    realm.shift_clock(900)
    with pytest.raises(AuthenticationFailed, match=r"refused this login \(kerberos\)") as caught:
        connect(host, https=https).run_script(ask("say"), deadline=soon())
    assert "clocks" in caught.value.hint
    assert outcomes(host) == ["unknown user"]


def test_a_machine_that_does_not_prove_itself_is_told(host, monkeypatch):
    monkeypatch.setattr("spnego._gss.GSSAPIProxy.step", _wrong_answer(GSSAPIProxy.step))
    with pytest.raises(AuthenticationFailed, match="did not prove with Kerberos"):
        connect(host).run_script(ask("say"), deadline=soon())


def _wrong_answer(step):
    def changed(*args, **options):
        answer = step(*args, **options)
        return answer[:-1] + bytes([answer[-1] ^ 1])

    return changed


# ---- in the middle of a run


def test_a_ticket_for_the_machine_needs_no_kdc(host, realm):
    realm.get_ticket(SERVICE)
    realm.stop()
    with connect(host) as it:
        it.run_script(ask("say"), deadline=soon())


@pytest.mark.parametrize("https", [True, False])
def test_a_connection_outlives_its_ticket_and_the_next_one_needs_another(host, realm, https):
    with connect(host, https=https) as it:
        it.run_script(ask("say"), deadline=soon())
        realm.let_expire("patch")
        it.run_script(ask("say"), deadline=soon())
        host.drop_connections(reset=False)
        for _ in range(2):
            with pytest.raises(AuthenticationFailed, match="Ticket expired"):
                it.run_script(ask("say"), deadline=soon())
        realm.log_in("patch")
        it.run_script(ask("say"), deadline=soon())
    assert outcomes(host) == ["ok", "ok"]


def test_a_command_that_may_run_when_the_ticket_has_expired_is_no_refused_one(host, table, realm):
    with connect(host, https=False) as it:
        it.run_script(ask("say"), deadline=soon())
        realm.let_expire("patch")
        host.add_faults([Fault("Receive", What.RESET)])
        with pytest.raises(ConnectionLost, match="Ticket expired") as caught:
            it.run_script(ask("wait g", read_only=False), deadline=soon())
    assert "kinit" in caught.value.hint
    assert table.runs.count("wait g") == 1


@pytest.mark.parametrize("had", ["no ticket", "an expired one"])
def test_a_keytab_gets_tickets_by_itself(host, realm, monkeypatch, had):
    if had == "no ticket":
        realm.log_out()
    else:
        realm.let_expire("patch")
    monkeypatch.setenv("KRB5_CLIENT_KTNAME", f"{realm.folder}/patch.keytab")
    with connect(host) as it:
        it.run_script(ask("say"), deadline=soon())
