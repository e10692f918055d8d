"""What many machines share, against a real sshd: a jump host, a password, an agent, and how often it is asked."""

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from inventory.credentials import Credential, CredentialKind, Secret, resolve_credential
from inventory.machine import HostKeySettings, Inventory, Machine, PrivilegeMethod
from tasks.domain.errors import AuthenticationFailed, FleetpatchError, Unreachable, WayUnreachable
from tasks.machines.transport import tcp_connection
from tasks.machines.transport.lockout_guard import LockoutGuard
from tasks.machines.transport.session import Session
from tasks.machines.transport.session_factory import build_session
from tasks.machines.transport.ssh import jump_hosts
from tasks.machines.transport.ssh.jump_hosts import JumpHostPool
from tests.contract.ssh_world import GREET, outcomes, soon
from tests.contract.transport_subjects import scripts
from tests.lab.fleet import Lab, LabHost
from tests.lab.killing import wait_for
from tests.lab.test_ssh import CLOCK, machine_of

Open = Callable[..., Session]
PASSWORD = "lab-password"
SETTINGS = "etc/ssh/sshd_config.d/a.conf"

SILENT = """
use IO::Socket::INET;
my $full = IO::Socket::INET->new(LocalPort => 7000, Listen => 1) or die;
my @waiting = map { IO::Socket::INET->new(PeerAddr => "127.0.0.1:7000", Blocking => 0) } 1..8;
sleep 600;
"""  # who connects gets no answer at all, as from a machine that is off and not on the same network


def secrets(reference: str) -> Credential:
    if reference.startswith("env:"):
        return Credential(CredentialKind.PASSWORD, secret=Secret(reference.removeprefix("env:")))
    return resolve_credential(reference)


@pytest.fixture(scope="module")
def three(lab: Lab) -> Iterator[list[LabHost]]:
    made = lab.up(3)
    yield made
    for host in made:
        host.drop()


@pytest.fixture
def fleet(three: list[LabHost]) -> Iterator[list[LabHost]]:
    """The three hosts of all tests here; their sshd has its own settings again after each test."""
    yield three
    for host in three:
        if host.root.joinpath(SETTINGS).exists():
            configured(host)
            host.root.joinpath(SETTINGS).unlink()


@pytest.fixture
def host(fleet: list[LabHost]) -> LabHost:
    return fleet[0]


@pytest.fixture
def open_to() -> Iterator[Open]:
    """`open_to(host, *others, …)` gives a Session; all of a test are of one run."""
    opened: list[Session] = []
    bastions, logins = JumpHostPool(), LockoutGuard()

    def make(host: LabHost, *others: Machine, **fields: object) -> Session:
        machine = replace(machine_of(host), privilege=PrivilegeMethod.NONE, **fields)  # type: ignore[arg-type]
        keys = HostKeySettings(known_hosts=host.known_hosts)
        it = build_session(
            machine,
            Inventory((machine, *others), keys),
            clock=CLOCK,
            resolve_credential=secrets,
            jump_hosts=bastions,
            lockout_guard=logins,
            script_loader=scripts,
        )
        opened.append(it)
        return it

    yield make
    for it in opened:
        it.close()
    bastions.close()


def configured(host: LabHost, *lines: str) -> None:
    """Write sshd's settings, and wait until it listens with them."""
    text = "\\n".join(lines)
    host.sh(
        f"printf '{text}\\n' > /{SETTINGS}\n"
        "starts() { journalctl --sync; journalctl -t sshd --no-pager | grep -c 'Server listening'; }\n"
        'before=$(starts); systemctl reload ssh; until [ "$(starts)" -gt "$before" ]; do sleep 0.1; done',
        root=True,
    )


def logged(host: LabHost, words: str) -> int:
    """How often sshd said that. Its log is a moment late."""
    time.sleep(0.5)
    return int(host.sh(f"journalctl --sync; journalctl -t sshd --no-pager | grep -c '{words}' || true", root=True))


def accepted(host: LabHost) -> int:
    """Logins without those of the one who asks."""
    host.sh("true")
    return logged(host, "Accepted publickey for nosudo")


def test_ten_machines_that_are_off_behind_a_jump_host_cost_no_other_its_connection(fleet, open_to, monkeypatch):
    monkeypatch.setattr(jump_hosts, "CHANNEL_TIMEOUT_SECONDS", 6.0)
    outer, inner, _ = fleet
    bastion = replace(machine_of(outer), name="bastion", user="nosudo")
    inner.sh(f"systemd-run -q perl -e '{SILENT}'; sleep 1", root=True)
    healthy = open_to(inner, bastion, name="healthy", jump=("bastion",))
    healthy.run_script(GREET, deadline=soon())
    before = accepted(outer)
    sick = [open_to(inner, bastion, name=f"off{n}", port=7000, jump=("bastion",)) for n in range(5)]
    sick += [open_to(inner, bastion, name=f"closed{n}", port=1 + n, jump=("bastion",)) for n in range(5)]

    told = outcomes(sick, 120)

    assert {type(error) for error in told} == {Unreachable}
    assert ["no answer in 6 s" in str(error) for error in told] == [True] * 5 + [False] * 5
    assert ["Connect failed: Connection refused" in str(error) for error in told] == [False] * 5 + [True] * 5
    healthy.run_script(replace(GREET, read_only=False), deadline=soon())  # on the very line that it had
    assert accepted(outer) == before


def test_a_jump_host_that_forbids_forwarding_or_hangs(fleet, open_to, monkeypatch):
    monkeypatch.setattr(jump_hosts, "CHANNEL_TIMEOUT_SECONDS", 6.0)
    monkeypatch.setattr(jump_hosts, "JUMP_HOST_TIMEOUT_SECONDS", 10.0)
    outer, inner, _ = fleet
    bastion = replace(machine_of(outer), name="bastion", user="nosudo")
    configured(outer, "MaxSessions 1")  # channels to others are no sessions
    sessions = [open_to(inner, bastion, name=f"n{n}", jump=("bastion",)) for n in range(8)]
    assert outcomes(sessions) == [None] * 8

    # the connection's own process hangs: its kernel still takes what is sent
    outer.sh("pkill -STOP -u nosudo sshd", root=True)
    late = open_to(inner, bastion, name="late", jump=("bastion",))
    late.run_script(GREET, deadline=soon(120))
    outer.sh("pkill -KILL -u nosudo sshd", root=True)

    configured(outer, "AllowTcpForwarding no")
    outer.sh("pkill -KILL -u nosudo sshd || true", root=True)
    with pytest.raises(Unreachable, match="Administratively prohibited"):
        open_to(inner, bastion, name="forbidden", jump=("bastion",)).run_script(GREET, deadline=soon())

    # and the one that takes connections and never greets
    configured(outer, "AllowTcpForwarding yes")
    outer.sh(
        "pkill -KILL -u nosudo sshd || true; systemd-run -q sh -c 'kill -STOP $(pgrep -o sshd); touch /etc/stopped; "
        "until [ -e /etc/may-go-on ]; do sleep 0.2; done; kill -CONT $(pgrep -o sshd)'",
        root=True,
    )
    wait_for((outer.root / "etc/stopped").exists, "that sshd is stopped")
    began = time.monotonic()
    told = outcomes([open_to(inner, bastion, name=f"v{n}", jump=("bastion",)) for n in range(5)], 300)
    took = time.monotonic() - began
    (outer.root / "etc/may-go-on").touch()
    assert took < 40  # one after the other would wait for 50
    assert {type(error) for error in told} == {WayUnreachable}, told
    assert all(error is not None and error.machine == "bastion" for error in told)


def test_a_wrong_password_reaches_two_of_three_machines_and_each_once(fleet, open_to, monkeypatch):
    monkeypatch.setattr(tcp_connection, "RETRY_DELAYS_SECONDS", (0.05, 0.05))
    before = sum(logged(host, "Failed password for pwsudo") for host in fleet)
    for number, host in enumerate(fleet):
        configured(host, "PasswordAuthentication yes", f"MaxAuthTries {1 + number}")
    fields = {"user": "pwsudo", "credential": "env:hunter2"}
    for _ in range(2):
        told = outcomes([open_to(host, name=host.name, **fields) for host in fleet])
        assert {type(error) for error in told} == {AuthenticationFailed}
    assert sum(logged(host, "Failed password for pwsudo") for host in fleet) - before == 2
    right = {**fields, "credential": f"env:{PASSWORD}"}
    assert outcomes([open_to(host, name=host.name, **right) for host in fleet]) == [None] * 3


def test_a_password_by_dialogue_and_a_machine_that_lets_nobody_in(host, open_to, monkeypatch):
    monkeypatch.setattr(tcp_connection, "RETRY_DELAYS_SECONDS", (0.05, 0.05))
    configured(host, "PasswordAuthentication no", "KbdInteractiveAuthentication yes")
    fields = {"user": "pwsudo", "credential": f"env:{PASSWORD}"}
    open_to(host, **fields).run_script(GREET, deadline=soon())
    with pytest.raises(AuthenticationFailed, match="refused the password of pwsudo"):
        open_to(host, **{**fields, "credential": "env:hunter2"}).run_script(GREET, deadline=soon())
    configured(host, "PasswordAuthentication no", "KbdInteractiveAuthentication no")
    before = logged(host, "password")
    with pytest.raises(AuthenticationFailed, match="accepts no password of pwsudo; it accepts: publickey"):
        open_to(host, name="other", **fields).run_script(GREET, deadline=soon())
    assert logged(host, "password") == before

    nologin = host.root / "etc/nologin"
    nologin.write_text("System is booting up. See pam_nologin(8).\n")
    refused: FleetpatchError | None = None
    try:
        open_to(host, name="booting", user="nosudo").run_script(GREET, deadline=soon())
    except FleetpatchError as error:
        refused = error
    assert isinstance(refused, Unreachable), refused
    assert "logins are disabled there now: System is booting up" in refused.message
    nologin.unlink()
    open_to(host, name="booting", user="nosudo").run_script(GREET, deadline=soon())


def test_an_agent_with_five_keys_at_a_server_that_allows_four(host, open_to, monkeypatch, tmp_path: Path):
    def keygen(name: str) -> Path:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
        return tmp_path / name

    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "agent")], stdout=subprocess.DEVNULL)
    try:
        while not (tmp_path / "agent").exists():
            time.sleep(0.02)
        wrong = [keygen(f"k{number}") for number in range(4)]
        for key in (*wrong, host.key):
            subprocess.run(["ssh-add", "-q", str(key)], check=True, stderr=subprocess.DEVNULL)
        configured(host, "MaxAuthTries 4", "LogLevel VERBOSE")
        before = logged(host, "Too many authentication failures")
        for words in ("Too many authentication failures", "earlier in this run"):
            with pytest.raises(AuthenticationFailed, match=words):
                open_to(host, name="five", credential="agent").run_script(GREET, deadline=soon())
        assert logged(host, "Too many authentication failures") - before == 1
        subprocess.run(["ssh-add", "-q", "-d", str(wrong[0])], check=True, stderr=subprocess.DEVNULL)
        open_to(host, name="four", credential="agent").run_script(GREET, deadline=soon())
        before = logged(host, "Failed publickey")
        open_to(host, name="again", credential="agent").run_script(GREET, deadline=soon())
        assert logged(host, "Failed publickey") == before  # the key that was taken goes first
    finally:
        agent.kill()
        agent.wait()
