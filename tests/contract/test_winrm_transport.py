"""The WinRM transport against a Windows host on loopback: logins, certificates, faults and deadlines."""

import threading
from collections.abc import Iterator

import pytest

from inventory.machine import WinrmAuthentication
from tasks.errors import (
    AuthenticationFailed,
    CannotRun,
    ConnectionLost,
    CredentialError,
    DeadlineExceeded,
    HostKeyMismatch,
    HostKeyUnknown,
    InventoryError,
    PrivilegeError,
    ProtocolViolation,
    TransportError,
    Unreachable,
)
from tasks.protocols.clock import Deadline
from tasks.transport.lockout_guard import LockoutGuard
from tasks.transport.winrm import login as winrm_login
from tests.contract.winrm_subjects import CLOCK, PowerShellTable, ask, machine, session
from tests.lab.windows.accounts import Account
from tests.lab.windows.certificates import Authority
from tests.lab.windows.fault_schedule import Fault, What
from tests.lab.windows.shells import Quotas
from tests.lab.windows.windows_host import ADMINISTRATOR, Options, WindowsHost

NTLM, BASIC = WinrmAuthentication.NTLM, WinrmAuthentication.BASIC
GUEST = Account("guest", "guest", administrator=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def table() -> Iterator[PowerShellTable]:
    it = PowerShellTable()
    yield it
    for gate in it.gates.values():
        gate.set()


@pytest.fixture
def host(tmp_path, authority, table) -> Iterator[WindowsHost]:
    with WindowsHost(
        "WIN1", tmp_path, table, authority=authority, options=Options([ADMINISTRATOR, GUEST], quotas=Quotas(shells=40))
    ) as it:
        yield it


@pytest.fixture(autouse=True)
def _without_waits(monkeypatch):
    monkeypatch.setattr(winrm_login, "RETRY_DELAYS_SECONDS", (0.02, 0.02))


def soon(seconds: float = 60.0) -> Deadline:
    return Deadline.after(CLOCK, seconds)


def values(result):
    return [record["value"] for record in result.find_records("number")]


# ---- logins


@pytest.mark.parametrize(("how", "https"), [(NTLM, True), (NTLM, False), (BASIC, True)])
def test_a_password_logs_in_once_for_many_scripts(host, how, https):
    with session(machine(host, how, https=https), host.password) as it:
        for number in range(3):
            result = it.run_script(ask("say", text=f"ünï {number}"), deadline=soon())
            assert result.records == ({"kind": "said", "text": f"ünï {number}"},)
            assert result.unframed_output == ""
        assert len(host.shells.open) == 1
    assert [login.outcome for login in host.accounts.logins] == ["ok"]
    assert host.shells.open == []


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


# ---- what is not there


def test_a_machine_that_is_off_is_unreachable_after_three_attempts(host, monkeypatch):
    one = machine(host)
    host.power_off()
    asked = []
    probe = winrm_login._probe_port
    monkeypatch.setattr(winrm_login, "_probe_port", lambda *them: (asked.append(1), probe(*them)))
    with pytest.raises(Unreachable, match="refuses connections"):
        session(one, host.password).run_script(ask("say"), deadline=soon())
    assert len(asked) == 3


def test_a_name_that_does_not_exist_is_told(host):
    one = machine(host)
    object.__setattr__(one, "address", "no-such-host.invalid")
    with pytest.raises(Unreachable, match="can't be resolved"):
        session(one, host.password).run_script(ask("say"), deadline=soon())


@pytest.mark.parametrize("what", [What.EMPTY_500, What.GARBAGE, What.UNAVAILABLE, What.BAD_XML])
@pytest.mark.parametrize("https", [True, False])
def test_something_else_at_the_port_is_unreachable(host, what, https):
    host.add_faults([Fault("any", what, times=100)])
    with pytest.raises(TransportError) as caught:
        session(machine(host, https=https), host.password).run_script(ask("say"), deadline=soon())
    assert caught.value.hint
    assert host.accounts.wrong_passwords == 0


def test_a_redirect_is_not_followed(host):
    host.add_faults([Fault("any", What.REDIRECT, times=100)])
    with pytest.raises(TransportError):
        session(machine(host, BASIC), host.password).run_script(ask("say"), deadline=soon())


# ---- what breaks


@pytest.mark.parametrize("https", [True, False])
@pytest.mark.parametrize("what", [What.RESET, What.CLOSE, What.CUT, What.UNAUTHORISED, What.EMPTY_500, What.BAD_XML])
@pytest.mark.parametrize("at", ["Command", "Send", "Receive", "Signal"])
def test_a_connection_that_breaks_anywhere_loses_and_doubles_nothing(host, table, https, what, at):
    with session(machine(host, https=https), host.password) as it:
        it.run_script(ask("say"), deadline=soon())
        host.add_faults([Fault(at, what)])
        script = ask("count 50", read_only=True)
        assert values(it.run_script(script, deadline=soon())) == list(range(50))
        assert values(it.run_script(script, deadline=soon())) == list(range(50))
    assert host.accounts.wrong_passwords == 0
    assert len(host.schedule.met()) == 1


@pytest.mark.parametrize("at", ["Command", "Send", "Receive"])
@pytest.mark.parametrize("acts", [False, True])
def test_a_script_that_changes_something_runs_once_though_the_connection_breaks(host, table, at, acts):
    with session(machine(host, https=False), host.password) as it:
        it.run_script(ask("say"), deadline=soon())
        host.add_faults([Fault(at, What.RESET, acts=acts)])
        gate = table.gate("g")
        threading.Timer(0.3, gate.set).start()
        script = ask("wait g", read_only=False)
        if (at, acts) == ("Receive", True):
            # the part of the answer that was on its way is gone, and it is told so, instead of a shorter answer
            with pytest.raises(ConnectionLost, match="a part of the machine's answer was lost"):
                it.run_script(script, deadline=soon())
        else:
            assert it.run_script(script, deadline=soon()).records == ({"kind": "begun"},)
    assert table.runs.count("wait g") == 1


@pytest.mark.parametrize("https", [True, False])
def test_an_idle_connection_that_the_machine_closed_is_replaced(host, https):
    with session(machine(host, https=https), host.password) as it:
        it.run_script(ask("say"), deadline=soon())
        host.drop_connections(reset=False)
        assert it.run_script(ask("say", x="1"), deadline=soon()).records == ({"kind": "said", "x": "1"},)
    assert [login.outcome for login in host.accounts.logins] == ["ok", "ok"]


def test_a_lost_shell_is_replaced_before_anything_ran_in_it(host, table):
    with session(machine(host), host.password) as it:
        it.run_script(ask("say"), deadline=soon())
        host.add_faults([Fault("Command", What.SHELL_LOST)])
        it.run_script(ask("count 1", read_only=False), deadline=soon())
    assert table.runs == ["say", "count 1"]


def test_a_reboot_in_the_middle_is_a_lost_connection_for_a_script_that_changes_something(host, table):
    with session(machine(host), host.password) as it:
        it.run_script(ask("say"), deadline=soon())
        host.add_faults([Fault("Receive", What.REBOOT)])
        with pytest.raises(ConnectionLost, match="shell on the machine is gone"):
            it.run_script(ask("wait g", read_only=False), deadline=soon())
        assert it.run_script(ask("say"), deadline=soon()).exit_code == 0
    assert host.boots == 2


@pytest.mark.parametrize(
    "what", [What.QUOTA_OPERATIONS, What.QUOTA_OPERATIONS_WMI, What.STALE_PROFILE, What.QUOTA_SHELLS]
)
def test_a_full_quota_is_waited_for(host, table, what, monkeypatch):
    monkeypatch.setattr("tasks.transport.winrm.channel.QUOTA_PAUSE_SECONDS", 0.01)
    with session(machine(host), host.password) as it:
        it.run_script(ask("say"), deadline=soon())
        host.add_faults([Fault("Command", what)])
        it.run_script(ask("count 1", read_only=False), deadline=soon())
    assert table.runs == ["say", "count 1"]


@pytest.mark.parametrize(("what", "error"), [(What.QUOTA_SHELLS, ConnectionLost), (What.ACCESS_DENIED, PrivilegeError)])
def test_a_shell_that_is_not_opened_is_told_with_its_remedy(host, what, error):
    host.add_faults([Fault("Create", what, times=100)])
    with pytest.raises(error) as caught:
        session(machine(host), host.password).run_script(ask("say", read_only=False), deadline=soon())
    assert "winrs" in caught.value.hint or "Administrators" in caught.value.hint
    assert {login.outcome for login in host.accounts.logins} == {"ok"}


@pytest.mark.parametrize("https", [True, False])
def test_an_answer_of_another_request_or_with_a_wrong_seal_is_not_taken(host, https):
    with session(machine(host, https=https), host.password) as it:
        it.run_script(ask("say"), deadline=soon())
        host.add_faults([Fault("Receive", What.OTHER_ANSWER), Fault("Receive", What.BAD_SEAL, nth=3)])
        result = it.run_script(ask("count 3"), deadline=soon())
    assert values(result) == [0, 1, 2]
    assert "not yours" not in result.unframed_output


def test_an_answer_in_the_clear_is_not_taken_over_http(host):
    with session(machine(host, https=False), host.password) as it:
        it.run_script(ask("say"), deadline=soon())
        host.add_faults([Fault("any", What.GARBAGE, times=1000)])
        with pytest.raises(TransportError):
            it.run_script(ask("say"), deadline=soon())


# ---- deadlines and hostile output


@pytest.mark.parametrize("what", [What.HANG, What.SLOW])
@pytest.mark.parametrize("at", ["Create", "Command", "Send", "Receive"])
def test_a_machine_that_hangs_costs_no_more_than_the_deadline(host, what, at):
    host.add_faults([Fault(at, what, times=100, seconds=30.0)])
    began = CLOCK.now()
    with pytest.raises(DeadlineExceeded) as caught:
        session(machine(host), host.password).run_script(ask("say"), deadline=soon(1.0))
    assert (CLOCK.now() - began).total_seconds() < 15
    assert caught.value.machine == "WIN1"


def test_what_runs_longer_than_the_deadline_is_left_running(host, table):
    it = session(machine(host), host.password)
    with pytest.raises(DeadlineExceeded):
        it.run_script(ask("wait g", read_only=False), deadline=soon(1.5))
    it.close()
    (shell,) = host.shells.open
    assert shell.busy
    assert it.run_script(ask("say"), deadline=soon()).exit_code == 0
    table.gate("g").set()


def test_a_passed_deadline_asks_nothing(host):
    with pytest.raises(DeadlineExceeded):
        session(machine(host), host.password).run_script(ask("say"), deadline=soon(-1.0))
    assert host.connected == 0


def test_output_without_end_is_refused_in_bounded_memory(host):
    with pytest.raises(ProtocolViolation, match="that are no answer"), session(machine(host), host.password) as it:
        it.run_script(ask("pour 70", read_only=False), deadline=soon(120))


def test_noise_beside_an_answer_is_kept_short(host):
    with session(machine(host), host.password) as it:
        result = it.run_script(ask("pour 4"), deadline=soon())
    assert result.exit_code == 0
    assert 50_000 < len(result.unframed_output) < 100_000


def test_a_powershell_that_ends_without_an_answer_is_told(host):
    with session(machine(host), host.password) as it, pytest.raises(ProtocolViolation, match="no end"):
        it.run_script(ask("crash"), deadline=soon())


# ---- many


def test_thirty_sessions_at_once(host, authority, tmp_path):
    guard, results, errors = LockoutGuard(), [], []

    def work(number: int) -> None:
        try:
            with session(machine(host, https=number % 2 == 0), host.password, guard=guard) as it:
                answers = (it.run_script(ask("say", n=str(number)), deadline=soon(300)) for _ in range(3))
                results.extend(answer.records[0]["n"] for answer in answers)
        except Exception as error:  # noqa: BLE001  # it is the test's result
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(results) == sorted(str(number) for number in range(30) for _ in range(3))
