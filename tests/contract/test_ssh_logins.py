"""Logins: a credential is sent to who has a use for it, once; a refusal is remembered, and an agent may be silent."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
import pytest
from paramiko.agent import AgentKey

from inventory.credentials import Credential, CredentialKind, Secret, resolve_credential
from inventory.machine import Machine
from tasks.domain.errors import AuthenticationFailed, CredentialError, Unreachable
from tasks.machines.transport.lockout_guard import LockoutGuard
from tests.contract.ssh_world import GREET, World, outcomes, soon
from tests.support.ssh_server import PASSWORD, Server, new_key

# paramiko's threads, of the client and of the server, may raise when the other side was quicker to hang up
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def secrets(reference: str) -> Credential:
    if reference.startswith("env:"):
        return Credential(CredentialKind.PASSWORD, secret=Secret(reference.removeprefix("env:")))
    return resolve_credential(reference)


@pytest.fixture
def world(world: World) -> World:
    world.secrets = secrets
    return world


def ask(world: World, server: Server, **fields: object) -> int:
    return world.session(server, **fields).run_script(GREET, deadline=soon()).exit_code


@pytest.fixture
def wrong(tmp_path: Path) -> dict[str, str]:
    new_key(tmp_path / "wrong")
    return {"key": f"key:{tmp_path / 'wrong'}", "password": "env:hunter2"}


@pytest.mark.parametrize("kind", ["key", "password"])
@pytest.mark.parametrize("end", [{"cuts_logins": True}, {"tries": 1}, {}])
def test_a_login_that_the_machine_ends_is_refused_and_not_tried_again(world, wrong, kind: str, end: dict[str, object]):
    server = world.server(**end)
    with pytest.raises(AuthenticationFailed) as caught:
        ask(world, server, credential=wrong[kind])
    assert not caught.value.transient
    assert (len(server.logins), server.accepted) == (1, 1)
    if "tries" in end:
        assert "Too many authentication failures" in caught.value.message


@pytest.mark.parametrize("kind", ["key", "password"])
def test_a_refusal_is_remembered_for_its_run_and_for_no_longer(world, wrong, kind: str):
    server = world.server()
    for _ in range(3):
        with pytest.raises(AuthenticationFailed):
            ask(world, server, credential=wrong[kind])
    assert len(server.logins) == 1
    world.logins = LockoutGuard()
    with pytest.raises(AuthenticationFailed, match=f"refused the {kind} of patch"):
        ask(world, server, credential=wrong[kind])
    assert len(server.logins) == 2


def test_another_credential_or_user_is_tried_all_the_same(world, wrong):
    server = world.server()
    for credential, user in ((wrong["key"], "patch"), (wrong["password"], "patch"), (wrong["password"], "another")):
        with pytest.raises(AuthenticationFailed):
            ask(world, server, credential=credential, user=user)
    assert ask(world, server, credential=f"env:{PASSWORD}") == 7
    assert server.logins == ["ssh-ed25519", "password", "password", "password"]


def test_a_wrong_password_reaches_two_machines_of_a_fleet_and_no_more(world):
    servers = [world.server() for _ in range(10)]
    sessions = [world.session(each, name=f"m{n}", credential="env:hunter2") for n, each in enumerate(servers)]
    assert {type(error) for error in outcomes(sessions)} == {AuthenticationFailed}
    assert sum(len(server.logins) for server in servers) == 2
    with pytest.raises(AuthenticationFailed, match=r"is not sent any more: m., m. refused it") as caught:
        ask(world, world.server(), name="last", credential="env:hunter2")
    assert "hunter2" not in f"{caught.value!r} {caught.value.hint} {world.logins.__dict__}"
    assert ask(world, world.server(), name="other", credential=f"env:{PASSWORD}") == 7


def test_one_machine_that_refuses_does_not_keep_the_fleet_from_its_logins(world):
    good, refusing = world.server(), world.server(refuses=True)
    for number in range(4):
        with pytest.raises(AuthenticationFailed, match="refused the password"):
            ask(world, refusing, name=f"r{number}", credential=f"env:{PASSWORD}")
        assert ask(world, good, name=f"n{number}", credential=f"env:{PASSWORD}") == 7


def test_a_password_is_not_sent_to_who_takes_none(world):
    server = world.server(takes="publickey")
    with pytest.raises(AuthenticationFailed, match="accepts no password of patch; it accepts: publickey"):
        ask(world, server, credential=f"env:{PASSWORD}")
    assert (server.logins, server.answers) == ([], [])


def test_a_password_is_given_where_it_is_asked_for_by_dialogue(world):
    server = world.server(takes="publickey,keyboard-interactive")
    assert ask(world, server, credential=f"env:{PASSWORD}") == 7
    with pytest.raises(AuthenticationFailed, match="refused the password of patch"):
        ask(world, server, name="n", credential="env:hunter2")
    assert (server.logins, server.answers) == ([], [PASSWORD, "hunter2"])


def test_a_second_question_is_told_and_never_answered_with_the_password(world):
    server = world.server(takes="keyboard-interactive", asks=("Password: ", "Verification code: "))
    with pytest.raises(AuthenticationFailed, match="asks more of patch than a password: Verification code:"):
        ask(world, server, credential=f"env:{PASSWORD}")
    assert server.answers == [PASSWORD, ""]


def test_a_machine_that_lets_nobody_in_for_now_is_one_that_boots(world):
    server = world.server(cuts_logins=True, banner="System is booting up. See pam_nologin(8).")
    with pytest.raises(Unreachable, match="logins are disabled there now: System is booting up") as caught:
        ask(world, server)
    assert caught.value.transient
    server.cuts_logins = False
    assert ask(world, server) == 7


@dataclass
class Agent:
    """A real ssh-agent."""

    folder: Path
    process: subprocess.Popen[bytes]

    def add(self, path: Path) -> None:
        subprocess.run(["ssh-add", "-q", str(path)], check=True, stderr=subprocess.DEVNULL)

    def freeze(self) -> None:
        self.process.send_signal(19)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "agent")], stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while subprocess.run(["ssh-add", "-l"], capture_output=True, check=False).returncode == 2:  # it takes no calls yet
        assert time.monotonic() < until
        time.sleep(0.02)
    yield Agent(tmp_path, process)
    process.kill()
    process.wait()


def with_keys(agent: Agent, world: World, *, right: int, count: int = 5) -> None:
    for number in range(count):
        path = agent.folder / ("id" if number == right else f"other{number}")
        if number != right:
            new_key(path)
        agent.add(path)


def test_an_agent_with_five_keys_tries_them_on_one_line_and_the_right_one_first_from_then_on(world, agent):
    with_keys(agent, world, right=3)
    first, second = world.server(tries=4), world.server(tries=4)
    assert ask(world, first, credential="agent") == 7
    assert ask(world, second, name="n", credential="agent") == 7
    assert (len(first.logins), first.accepted) == (4, 1)
    assert (len(second.logins), second.accepted) == (1, 1)


def test_an_agent_whose_keys_are_more_than_the_server_allows_is_refused_once(world, agent):
    with_keys(agent, world, right=4)
    server = world.server(tries=4)
    for _ in range(2):
        with pytest.raises(AuthenticationFailed) as caught:
            ask(world, server, credential="agent")
        assert not caught.value.transient
    assert (len(server.logins), server.accepted) == (4, 2)


def test_an_agent_shows_no_key_to_who_takes_none(world, agent):
    with_keys(agent, world, right=4)
    server = world.server(takes="password")
    with pytest.raises(AuthenticationFailed, match="accepts no key of patch; it accepts: password"):
        ask(world, server, credential="agent")
    assert server.logins == []


def frozen(agent: Agent) -> None:
    agent.freeze()


def full(agent: Agent) -> None:
    """So many wait for it that it takes no more connections."""
    agent.freeze()
    for _ in range(200):
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(0)
        LINES.append(line)
        try:
            line.connect(os.environ["SSH_AUTH_SOCK"])
        except BlockingIOError:
            return


LINES: list[socket.socket] = []


@pytest.mark.parametrize("fault", [frozen, full])
def test_a_silent_agent_is_waited_for_as_long_as_there_is_time(world, agent, monkeypatch, fault: Callable[..., None]):
    monkeypatch.setattr("tasks.machines.transport.ssh.authentication.AGENT_TIMEOUT_SECONDS", 1.0)
    fault(agent)
    began = time.monotonic()
    sessions = [world.session(world.server(), name=f"m{n}", credential="agent") for n in range(5)]
    assert {type(error) for error in outcomes(sessions)} == {AuthenticationFailed}
    assert time.monotonic() - began < 50
    while LINES:
        LINES.pop().close()


def test_an_agent_that_falls_silent_when_it_has_to_sign_is_told_as_that(world, agent, monkeypatch):
    monkeypatch.setattr("tasks.machines.transport.ssh.authentication.AGENT_TIMEOUT_SECONDS", 1.0)
    with_keys(agent, world, right=0, count=1)
    server = world.server()
    sign = AgentKey.sign_ssh_data

    def freeze(key: AgentKey, data: bytes, algorithm: str | None = None) -> Any:
        agent.freeze()
        return sign(key, data, algorithm)

    monkeypatch.setattr(AgentKey, "sign_ssh_data", freeze)
    with pytest.raises(AuthenticationFailed, match="the SSH agent does not answer"):
        ask(world, server, credential="agent")
    assert (server.logins, server.accepted) == ([], 1)


@pytest.fixture
def rsa_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A key of RSA; servers say that they take none, as sshd since 9.6 does."""
    monkeypatch.setattr("tests.support.ssh_server._Transport._preferred_pubkeys", ("ssh-ed25519",))
    path = tmp_path / "rsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(path)], check=True)
    return path


def test_a_key_that_the_server_takes_no_signatures_of_is_named_and_not_tried_again(world, rsa_key):
    server = world.server()
    with pytest.raises(AuthenticationFailed, match=rf"accepts no RSA keys, and the key of patch \({rsa_key}, SHA256:"):
        ask(world, server, credential=f"key:{rsa_key}")
    assert (server.logins, server.accepted) == ([], 1)


def test_an_agent_goes_on_to_the_key_that_the_server_takes(world, agent, rsa_key):
    agent.add(rsa_key)
    server = world.server()
    with pytest.raises(AuthenticationFailed, match=r"ssh-rsa SHA256:\S+ \(\S+\): the machine accepts no RSA keys"):
        ask(world, server, name="n", credential="agent")
    with_keys(agent, world, right=1, count=2)
    assert ask(world, server, credential="agent") == 7
    assert server.logins == ["ssh-ed25519", "ssh-ed25519"]


@pytest.mark.parametrize("error", [TypeError("no such thing"), ValueError("x"), paramiko.SSHException("refused")])
def test_a_key_that_the_agent_cannot_sign_with_is_named_and_the_next_one_is_tried(world, agent, monkeypatch, error):
    with_keys(agent, world, right=1, count=2)
    sign = AgentKey.sign_ssh_data

    def sign_or_fail(key: AgentKey, data: bytes, algorithm: str | None = None) -> Any:
        if key.fingerprint != world.key.fingerprint:
            raise error
        return sign(key, data, algorithm)

    monkeypatch.setattr(AgentKey, "sign_ssh_data", sign_or_fail)
    server = world.server()
    assert ask(world, server, credential="agent") == 7
    assert server.accepted == 1
    subprocess.run(["ssh-add", "-q", "-d", str(agent.folder / "id")], check=True)
    with pytest.raises(AuthenticationFailed, match=r"SHA256:\S+ \(\S+\): the agent did not sign with it$"):
        ask(world, server, name="n", credential="agent")


def test_a_key_file_with_which_the_library_fails_is_named(world, monkeypatch):
    sign = type(world.key).sign_ssh_data

    def fail(key: paramiko.PKey, *more: Any) -> Any:
        if key.fingerprint == world.key.fingerprint:
            raise TypeError("no such thing")
        return sign(key, *more)

    monkeypatch.setattr(type(world.key), "sign_ssh_data", fail)
    server = world.server()
    with pytest.raises(
        AuthenticationFailed, match=rf"the key of patch \({world.folder / 'id'}, SHA256:\S+\)$"
    ) as caught:
        ask(world, server)
    assert "TypeError" not in f"{caught.value} {caught.value.hint}"
    assert server.accepted == 1


def test_a_user_who_has_no_name_and_an_address_that_is_no_name(world, monkeypatch):
    def find_no_name() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", find_no_name)
    with pytest.raises(CredentialError, match="names no user"):
        ask(world, world.server(), user=None)
    with pytest.raises(Unreachable, match="can't be resolved: it is no valid name"):
        ask(world, world.server(), address=f"a..{'b' * 70}")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder ~/.ssh of somebody who has no agent."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    folder = tmp_path / ".ssh"
    folder.mkdir(mode=0o700)
    return folder


def encrypt(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "words", "-f", str(path)], check=True, stdout=subprocess.DEVNULL)


def test_without_a_credential_the_default_keys_are_offered_as_ssh_offers_them(world, home):
    names = ("id_rsa", "id_ecdsa", "id_ed25519")
    for name in names:
        new_key(home / name)  # their kinds make no difference to their order
    server = world.server()
    server.user_key = paramiko.PKey.from_path(home / "id_ed25519")
    assert ask(world, server, credential=Machine("m", "a").credential) == 7
    assert ask(world, server, name="n", credential="default") == 7
    assert (len(server.logins), server.accepted) == (4, 2)  # three, then the accepted one first
    server.user_key = world.key
    with pytest.raises(AuthenticationFailed) as caught:
        ask(world, server, name="o", credential="default")
    assert [caught.value.message.index(f"{home / name}") for name in ("id_ed25519", "id_rsa", "id_ecdsa")] == sorted(
        caught.value.message.index(f"{home / name}") for name in names
    )


def test_keys_of_the_agent_come_before_files_and_those_of_both_first(world, home, agent):
    with_keys(agent, world, right=3, count=3)
    default = new_key(home / "id_ed25519")
    (home / "id_ed25519.pub").write_text(f"{default.get_name()} {default.get_base64()}\n")
    alone = new_key(home / "id_ecdsa")
    agent.add(home / "id_ed25519")
    encrypt(home / "id_ed25519")  # the agent has it: no passphrase is needed
    server = world.server(tries=5)
    server.user_key = default
    assert ask(world, server, credential="default") == 7
    assert len(server.logins) == 1
    world.logins = LockoutGuard()
    server.user_key = alone
    assert ask(world, server, credential="default") == 7
    assert (len(server.logins), server.accepted) == (6, 2)


def test_default_keys_that_cannot_be_used_are_named_with_their_remedy(world, home):
    new_key(home / "id_rsa")
    (home / "id_rsa").chmod(0o644)
    new_key(home / "id_ed25519")
    encrypt(home / "id_ed25519")
    with pytest.raises(AuthenticationFailed) as caught:
        ask(world, world.server(), credential="default")
    message, hint = caught.value.message, caught.value.hint
    assert f"{home / 'id_rsa'} is open to others (mode 0644)" in message
    assert f"{home / 'id_ed25519'} is encrypted" in message
    assert f"ssh-add {home / 'id_ed25519'}" in hint
    assert f"key:{home / 'id_ed25519'}?passphrase=" in hint


def test_without_agent_and_default_keys_it_is_said_which_were_looked_for(world, home):
    with pytest.raises(AuthenticationFailed, match=r"no key .*SSH_AUTH_SOCK is not set.*id_rsa.*id_ed25519") as caught:
        ask(world, world.server(), credential="default")
    assert "ssh-keygen" in caught.value.hint


def test_a_server_that_allows_two_tries_gets_two_keys_and_the_rest_is_named(world, home):
    names = ("id_rsa", "id_ecdsa", "id_ed25519")
    for name in names:
        new_key(home / name)
    server = world.server(tries=2)
    with pytest.raises(AuthenticationFailed, match=r"not offered: ssh-ed25519 SHA256:\S+ \(\S+id_ed25519\)"):
        ask(world, server, credential="default")
    assert (len(server.logins), server.accepted) == (2, 1)
