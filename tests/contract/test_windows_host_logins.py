"""The Windows host for tests takes the logins that a real one takes, and refuses what a real one refuses."""

import base64
import http.client
import os
import ssl
import threading
from pathlib import Path

import pytest
import requests
import spnego
from requests.auth import AuthBase
from winrm.exceptions import InvalidCredentialsError, WinRMTransportError, WSManFaultError

from tests.lab.windows.accounts import Account
from tests.lab.windows.certificates import Authority
from tests.lab.windows.executor import Script
from tests.lab.windows.sealing import seal, unseal
from tests.lab.windows.windows_host import ADMINISTRATOR
from tests.support.winrm_client import client, run, scripted

HOSTNAME = {"hostname": Script((b"WIN1\r\n",))}
CORP = Account("patch", "d0main:äö", domain="CORP", upn="patch@corp.example")
GUEST = Account("guest", "guest", administrator=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def host(tmp_path, authority):
    accounts = [ADMINISTRATOR, CORP, GUEST]
    with scripted("WIN1", tmp_path, HOSTNAME, authority=authority, accounts=accounts) as it:
        yield it


@pytest.mark.parametrize(
    ("transport", "https"), [("ntlm", False), ("ntlm", True), ("basic", True), ("ssl", True), ("certificate", True)]
)
def test_every_login_runs_a_command(host, transport, https):
    assert run(client(host, transport, https=https), "hostname") == (b"WIN1\r\n", b"", 0)
    assert host.connected == 1
    assert {login.outcome for login in host.accounts.logins} == {"ok"}
    assert host.accounts.wrong_passwords == 0


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("administrator", ADMINISTRATOR.password),
        (".\\Administrator", ADMINISTRATOR.password),
        ("WIN1\\Administrator", ADMINISTRATOR.password),
        ("CORP\\patch", CORP.password),
        ("patch@corp.example", CORP.password),
    ],
)
def test_a_name_may_have_any_form_that_windows_takes(host, user, password):
    assert run(client(host, username=user, password=password), "hostname").exit_code == 0


def test_messages_over_http_are_encrypted_and_those_in_the_clear_refused(host):
    with pytest.raises(WinRMTransportError) as caught:
        run(client(host, message_encryption="never"), "hostname")
    assert (caught.value.code, caught.value.response_text) == (500, "")
    assert host.schedule.counts.get("Create", 0) == 0
    host.settings.allow_unencrypted = True
    assert run(client(host, message_encryption="never"), "hostname").exit_code == 0


def test_messages_over_https_may_be_encrypted_as_well(host):
    assert run(client(host, https=True, message_encryption="always"), "hostname").exit_code == 0


def test_wrong_passwords_are_counted_and_unknown_users_are_not(host):
    for user, password in (("Administrator", "wrong"), ("WIN1\\Administrator", "x"), ("nobody", "x")):
        with pytest.raises(InvalidCredentialsError):
            run(client(host, username=user, password=password), "hostname")
    with pytest.raises(InvalidCredentialsError):
        run(client(host, "basic", https=True, password="wrong"), "hostname")
    assert [login.outcome for login in host.accounts.logins] == [
        "wrong password",
        "wrong password",
        "unknown user",
        "wrong password",
    ]
    assert host.accounts.wrong_passwords == 3


def test_an_account_is_locked_after_so_many_wrong_passwords_and_others_are_not(tmp_path, authority):
    accounts = [ADMINISTRATOR, CORP]
    host = scripted("WIN1", tmp_path, HOSTNAME, authority=authority, accounts=accounts, lockout_threshold=2)
    with host:
        for _ in range(2):
            with pytest.raises(InvalidCredentialsError):
                run(client(host, password="wrong"), "hostname")
        for transport, https in (("ntlm", False), ("basic", True)):
            with pytest.raises(InvalidCredentialsError):
                run(client(host, transport, https=https), "hostname")
        assert [login.outcome for login in host.accounts.logins] == ["wrong password"] * 2 + ["locked out"] * 2
        assert run(client(host, username="CORP\\patch", password=CORP.password), "hostname").exit_code == 0


def test_the_environment_of_the_process_says_nothing_about_accounts_and_stays_as_it_was(host, monkeypatch, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("WIN1:Administrator:other\n")
    monkeypatch.setenv("NTLM_USER_FILE", str(elsewhere))
    assert run(client(host), "hostname").exit_code == 0
    assert os.environ["NTLM_USER_FILE"] == str(elsewhere)


def test_a_changed_password_counts_from_the_next_login(host):
    host.accounts.change_password("Administrator", "new")
    with pytest.raises(InvalidCredentialsError):
        run(client(host, password=ADMINISTRATOR.password), "hostname")
    assert run(client(host), "hostname").exit_code == 0


def test_basic_is_not_offered_over_http_and_certificates_of_strangers_are_refused(host):
    with pytest.raises(InvalidCredentialsError):
        run(client(host, "basic"), "hostname")
    assert host.accounts.logins == []
    stranger = host.authority.for_user("somebody@localhost")
    options = {"cert_pem": str(stranger.chain), "cert_key_pem": str(stranger.key)}
    with pytest.raises(InvalidCredentialsError):
        run(client(host, "certificate", https=True, **options), "hostname")
    assert host.accounts.logins[-1].outcome == "refused"


def test_who_is_no_administrator_logs_in_and_is_denied_a_shell(host):
    with pytest.raises(WSManFaultError) as caught:
        run(client(host, username="guest", password="guest"), "hostname")
    assert (caught.value.wsman_fault_code, caught.value.fault_subcode) == (5, "w:AccessDenied")


@pytest.mark.parametrize(("https", "offered"), [(False, ["Negotiate", "CredSSP"]), (True, None)])
def test_a_stranger_is_told_how_to_log_in(host, https, offered):
    url = host.https_url if https else host.http_url
    session = requests.Session()
    session.trust_env = False
    with session:
        reply = session.post(url, data=b"x", verify=str(host.ca_file))
        told = reply.raw.headers.getlist("WWW-Authenticate")
    assert reply.status_code == 401
    assert told == (offered or ["Negotiate", 'Basic realm="WSMAN"', "CredSSP"])


def test_a_login_can_be_bound_to_the_certificate(host):
    host.settings.strict_bindings = True
    assert run(client(host, https=True), "hostname").exit_code == 0
    with pytest.raises(InvalidCredentialsError):
        run(client(host, https=True, send_cbt=False), "hostname")


@pytest.mark.parametrize("kind", ["self-signed", "expired", "other-name"])
def test_a_client_that_looks_at_the_certificate_refuses_what_nobody_should_take(host, kind):
    assert run(client(host, "basic", https=True), "hostname").exit_code == 0
    host.show(kind)
    with pytest.raises(requests.exceptions.SSLError):
        run(client(host, "basic", https=True), "hostname")


def test_a_renewed_certificate_is_as_good_and_another_one(host):
    before = host.thumbprint
    host.show("renewed")
    assert run(client(host, "basic", https=True), "hostname").exit_code == 0
    shown = ssl.get_server_certificate((host.address, host.https_port))
    assert (len(host.thumbprint), host.thumbprint != before) == (40, True)
    assert ssl.PEM_cert_to_DER_cert(shown) == host.certificate.der


class _Changing(AuthBase):
    """Changes every encrypted body on its way."""

    def __init__(self, inner, change):
        self._inner = inner
        self._change = change

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def __call__(self, request):
        if request.body:
            request.body = self._change(request.body)
        return self._inner(request)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body[:-40] + bytes([body[-40] ^ 1]) + body[-39:],
        lambda body: body.replace(b"Length=1", b"Length=2"),
        lambda body: body.replace(b"octet-stream", b"octet-scream"),
    ],
    ids=["content", "length", "form"],
)
def test_a_message_that_was_changed_on_its_way_ends_the_connection(host, change):
    protocol = client(host)
    shell = protocol.open_shell()
    session = protocol.transport.build_session()
    session.auth = _Changing(session.auth, change)
    with pytest.raises(requests.exceptions.ConnectionError):
        protocol.run_command(shell, "hostname")
    assert host.schedule.counts.get("Command", 0) == 0
    protocol.transport.close_session()


def test_credssp_logs_in_and_encrypts_long_messages_in_pieces(host):
    context = spnego.client(host.user, host.password, protocol="credssp")
    connection = http.client.HTTPConnection(host.address, host.http_port, timeout=60)
    try:
        token, status = context.step(), 0
        while token:
            header = {"Authorization": f"CredSSP {base64.b64encode(token).decode()}"}
            connection.request("POST", "/wsman", headers=header)
            reply = connection.getresponse()
            status = reply.status
            reply.read()
            told = reply.headers.get("WWW-Authenticate", "")
            token = context.step(base64.b64decode(told.removeprefix("CredSSP "))) if told else None
        assert status == 200
        body = Path(__file__).parent.parent / "data/windows/identify.xml"
        content_type, sealed = seal(context, "credssp", body.read_bytes() + b" " * 40_000)
        assert sealed.count(b"octet-stream") == 3
        connection.request("POST", "/wsman", body=sealed, headers={"Content-Type": content_type})
        reply = connection.getresponse()
        assert reply.status == 200
        assert b"OS: 10.0.20348" in unseal(context, reply.read())
    finally:
        connection.close()


def test_thirty_clients_at_once_and_two_hosts_with_the_same_user_keep_their_own(tmp_path, authority):
    """Every client has a connection of its own; the passwords of one host count at no other."""
    accounts = [Account("Administrator", "one")], [Account("Administrator", "two")]
    hosts = [
        scripted(f"WIN{n}", tmp_path / str(n), {"hostname": Script((b"WIN%d" % n,))}, authority=authority, accounts=own)
        for n, own in enumerate(accounts)
    ]
    told: list[tuple[int, bytes]] = []

    def ask(number: int) -> None:
        told.append((number % 2, run(client(hosts[number % 2]), "hostname").stdout))

    with hosts[0], hosts[1]:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(told) == [(0, b"WIN0")] * 15 + [(1, b"WIN1")] * 15
        with pytest.raises(InvalidCredentialsError):
            run(client(hosts[0], password="two"), "hostname")
