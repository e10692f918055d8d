"""Keys that can't log in, before the right one and alone, against a real sshd and a real agent; and logins that run
something else. Each has one message, with the remedy, and without the words of libraries."""

import base64
import os
import re
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.ports.caller import Actor
from flows.trust import trust_host_keys
from inventory.known_hosts import PinnedKey
from inventory.machine import HostKeySettings, Inventory, Machine
from tasks.domain.errors import AuthenticationFailed, CredentialError, FleetpatchError, Unreachable
from tasks.domain.rows.audit import AuditEntry
from tasks.machines.transport.ssh.host_key_trust import HostKeyTrust, ShownHostKey
from tests.contract.ssh_world import GREET, soon
from tests.lab.fleet import Lab, LabHost
from tests.lab.test_ssh import machine_of
from tests.lab.test_ssh_shared import configured, open_to
from tests.support.ssh_server import new_key

__all__ = ["open_to"]

INTERNAL_WORDS = re.compile(
    r"TypeError|ValueError|Errno|FP_TOKEN|fp_mark|UnknownKeyType|Exception|EOFError|None\b|<class"
)


def field(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def write_token_key(path: Path) -> Path:
    """The file of a FIDO key, as ``ssh-keygen -t ed25519-sk`` writes it; there is no token."""
    check = os.urandom(4)
    public = field(b"sk-ssh-ed25519@openssh.com") + field(os.urandom(32)) + field(b"ssh:")
    private = check + check + public + b"\x01" + field(os.urandom(64)) + field(b"") + field(b"me@token")
    private += bytes(range(1, 9 - len(private) % 8)) if len(private) % 8 else b""
    head = b"openssh-key-v1\0" + field(b"none") + field(b"none") + field(b"") + struct.pack(">I", 1)
    text = base64.encodebytes(head + field(public) + field(private)).decode()
    path.write_text(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}-----END OPENSSH PRIVATE KEY-----\n")
    path.chmod(0o600)
    return path


def write_key(path: Path, *words: str) -> Path:
    kind = words or ("-t", "ed25519")
    subprocess.run(["ssh-keygen", "-q", "-N", "", *kind, "-C", f"me@{path.name}", "-f", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def host(lab: Lab) -> Iterator[LabHost]:
    (made,) = lab.up(1)
    yield made
    made.drop()


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "agent")], stdout=subprocess.DEVNULL)
    while not (tmp_path / "agent").exists():
        time.sleep(0.02)
    yield process
    process.kill()
    process.wait()


def add(*paths: Path) -> None:
    for path in paths:
        subprocess.run(["ssh-add", "-q", str(path)], check=True, stderr=subprocess.DEVNULL)


def fail(session, kind: type[FleetpatchError]) -> str:
    """What a login that must fail says, with its remedy."""
    with pytest.raises(kind) as caught:
        session.run_script(GREET, deadline=soon())
    assert caught.value.hint
    words = f"{caught.value} {caught.value.hint}"
    assert not INTERNAL_WORDS.search(words), words
    return words


def test_keys_that_cannot_log_in_before_the_right_one(host, open_to, agent, tmp_path) -> None:
    rsa = write_key(tmp_path / "rsa", "-t", "rsa", "-b", "2048")
    add(write_token_key(tmp_path / "token"), rsa, write_key(tmp_path / "other"), host.key)
    for name, line in (("plain", "LogLevel VERBOSE"), ("no RSA", "PubkeyAcceptedAlgorithms ssh-ed25519")):
        configured(host, line)
        assert open_to(host, name=name, credential="agent").run_script(GREET, deadline=soon()).exit_code == 7
    words = fail(open_to(host, name="alone", credential=f"key:{rsa}"), AuthenticationFailed)
    assert re.search(rf"refused the key of patch \({rsa}, SHA256:\S+\)", words)


def test_an_agent_with_a_token_key_alone(host, open_to, agent, tmp_path) -> None:
    configured(host, "")
    add(write_token_key(tmp_path / "token"))
    words = fail(open_to(host, credential="agent"), AuthenticationFailed)
    assert re.search(
        r"sk-ssh-ed25519 SHA256:\S+ \(me@token\): the agent did not sign with it, it needs its token", words
    )


@pytest.mark.parametrize("tries", [6, 3])
def test_an_agent_with_more_keys_than_are_offered(host, open_to, agent, tmp_path, tries: int) -> None:
    configured(host, f"MaxAuthTries {tries}")
    add(*(write_key(tmp_path / f"k{number}") for number in range(6)), host.key)
    words = fail(open_to(host, name=f"many{tries}", credential="agent"), AuthenticationFailed)
    refused, _, rest = words.partition("not offered: ")
    offered = min(5, tries)
    assert refused.count("SHA256:") == offered
    assert all(f"(me@k{number}): refused" in refused for number in range(offered))
    assert rest.count("SHA256:") == 7 - offered
    assert "MaxAuthTries" in words
    assert ("Too many authentication failures" in words) == (tries == 3)


def test_the_default_keys_of_openssh(host, open_to, agent, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    configured(host, "MaxAuthTries 3")
    folder = tmp_path / ".ssh"
    folder.mkdir(mode=0o700)
    shutil.copy2(host.key, folder / "id_ed25519")
    write_key(folder / "id_rsa", "-t", "rsa", "-b", "2048")
    (folder / "id_ecdsa_sk").write_bytes(write_token_key(tmp_path / "token").read_bytes())
    (folder / "id_ecdsa_sk").chmod(0o600)
    machine = Machine("m", "a")
    add(*(write_key(tmp_path / f"k{number}") for number in range(3)))
    words = fail(open_to(host, name="tries", credential=machine.credential), AuthenticationFailed)
    refused, _, rest = words.partition("not offered: ")
    assert refused.count("): refused") == 3
    assert f"({folder / 'id_ed25519'})" in rest
    assert "FIDO key" in rest
    subprocess.run(["ssh-add", "-q", "-D"], check=True, stderr=subprocess.DEVNULL)
    assert open_to(host, credential=machine.credential).run_script(GREET, deadline=soon()).exit_code == 7


def test_the_host_key_is_learned_as_ssh_shows_and_finds_it(host, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    inventory = Inventory((machine_of(host),), HostKeySettings())
    entries: list[AuditEntry] = []

    def trust() -> ShownHostKey:
        groups = trust_host_keys(
            inventory.machines, inventory, lambda unknown: unknown, entries.append, Actor("ann", "os"),
            at_once=1, detail="",
        )  # fmt: skip
        return next(groups)[0]

    learned = trust()
    assert learned.state is HostKeyTrust.TRUSTED
    shown = host.sh("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub", root=True)
    assert learned.fingerprint.removeprefix("ED25519 ") in shown
    known = tmp_path / ".ssh" / "known_hosts"
    options = ("-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes")
    subprocess.run(["ssh", *options, "-i", str(host.key), f"{host.user}@{host.address}", "true"], check=True)
    other = PinnedKey("ssh-ed25519", new_key(tmp_path / "other").get_base64())
    known.write_text(f"{host.address} {other.type} {other.base64}\n")
    changed = trust()
    assert changed.state is HostKeyTrust.CHANGED
    assert changed.message.count("SHA256:") == 2
    assert len(entries) == 2


def test_an_agent_that_is_gone(host, open_to, agent, monkeypatch) -> None:
    agent.kill()
    agent.wait()
    assert "there is no SSH agent any more at /" in fail(
        open_to(host, name="dead", credential="agent"), AuthenticationFailed
    )
    monkeypatch.delenv("SSH_AUTH_SOCK")
    words = fail(open_to(host, name="unset", credential="agent"), AuthenticationFailed)
    assert "SSH_AUTH_SOCK is not set" in words
    assert "key:PATH" in words


def test_a_locked_agent(host, open_to, agent, tmp_path) -> None:
    add(host.key)
    askpass = tmp_path / "askpass"
    askpass.write_text("#!/bin/sh\necho locked\n")
    askpass.chmod(0o700)
    subprocess.run(
        ["setsid", "ssh-add", "-x"],
        env={**os.environ, "SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force"},
        check=True,
    )
    assert "the SSH agent has no key" in fail(open_to(host, name="locked", credential="agent"), AuthenticationFailed)


def test_key_files_that_are_of_no_use(host, open_to, tmp_path) -> None:
    public = write_key(tmp_path / "id").with_suffix(".pub")
    public.chmod(0o600)
    locked = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True)
    for path, expected in (
        (write_token_key(tmp_path / "token"), "FIDO key (sk-ssh-ed25519@openssh.com)"),
        (public, "is a public key"),
        (locked, "is encrypted, and the credential has no passphrase"),
    ):
        assert expected in fail(open_to(host, credential=f"key:{path}"), CredentialError)
    assert f"key:{locked}?passphrase=REF" in fail(open_to(host, credential=f"key:{locked}"), CredentialError)


@pytest.mark.parametrize(
    "command", ["/bin/cat", "internal-sftp", "/usr/sbin/nologin", "echo This is for backups only."]
)
def test_a_login_that_runs_something_else(host, open_to, command: str) -> None:
    configured(host, "Match User nosudo", f"ForceCommand {command}")
    words = fail(open_to(host, user="nosudo", name=command), FleetpatchError)
    assert "ForceCommand" in words
    if "cat" in command:
        assert "the machine sent the script back, and did not run it" in words


def test_an_alias_of_openssh(host, open_to) -> None:
    words = fail(open_to(host, address="alias.invalid"), Unreachable)
    assert "alias.invalid can't be resolved" in words
    assert "does not read ~/.ssh/config" in words
