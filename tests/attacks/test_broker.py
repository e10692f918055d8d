"""Attacks on a machine's broker: by somebody who has the login that fleetpatch uses, and not the controller's key."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from inventory.files.own_keys import ensure_key
from inventory.machine import PrivilegeMethod
from tasks.domain.errors import PrivilegeError
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import Script
from tasks.machines.transport import posix_shell
from tasks.machines.transport.broker import signing
from tasks.machines.transport.local_channel import LocalShellChannel
from tasks.machines.transport.posix_shell import Escalation, PosixShell, PrivilegeEscalator
from tasks.machines.transport.script_library import load_script

SHELLS = (("dash",), ("bash", "--posix"), ("busybox", "sh"))
SCRIPT = b"echo ran; id -u\n"


@dataclass
class Machine:
    """A machine with a broker: its files in a folder, and a program `id` that says root."""

    folder: Path
    shell: tuple[str, ...]

    @property
    def broker(self) -> Path:
        return self.folder / "broker.sh"

    def call(self, sent: bytes, *words: str) -> tuple[int, str, str]:
        """Call the broker, as sudo would."""
        command = (*self.shell, str(self.broker), *words)
        done = subprocess.run(command, input=sent, capture_output=True, check=False, timeout=60)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def refuses(self, sent: bytes, why: str, *words: str) -> bool:
        code, out, err = self.call(sent, *words)
        assert (code, out) == (1, ""), err
        assert why in err
        return not list((self.folder / "state").glob("work.*"))  # and leaves nothing


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def machine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "keys"))
    made = Machine(tmp_path, request.param)
    for name in ("home", "state/used", "bin"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "home/machine").write_text("web-1\n")
    (tmp_path / "bin/id").write_text("#!/bin/sh\necho 0\n")
    (tmp_path / "bin/id").chmod(0o755)
    signing.sign_script(SCRIPT, "web-1", datetime.now(UTC))  # makes the key
    write_public_key(tmp_path)
    text = load_script("broker", signing.__package__ or "")
    for old, new in (
        ("/etc/fleetpatch-broker", f"{tmp_path}/home"),
        ("/var/lib/fleetpatch-broker", f"{tmp_path}/state"),
        ("PATH=/usr/sbin", f"PATH={tmp_path}/bin:/usr/sbin"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    made.broker.write_text(text)
    return made


def write_public_key(folder: Path) -> None:
    key = serialization.load_pem_private_key(ensure_key("broker"), None).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "home/controller.pem").write_bytes(pem)


def sign(script: bytes = SCRIPT, name: str = "web-1", later: timedelta = timedelta()) -> bytes:
    return signing.sign_script(script, name, datetime.now(UTC) + later)


def test_what_the_controller_signed_runs_once(machine: Machine) -> None:
    """Attacker: the login. Way: record a signed script and send it again. Must hold: it runs the first time only."""
    sent = sign()
    assert machine.call(sent)[:2] == (0, "ran\n0\n")
    assert machine.refuses(sent, "it was used before")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda sent: b"id -u\n", "the input is not for it"),
        (lambda sent: b"", "it has no input"),
        (lambda sent: sent.replace(b"echo ran", b"echo own"), "the signature is not the controller's"),
        (lambda sent: sent.replace(b"machine web-1", b"machine web-2"), "the signature is not the controller's"),
        (lambda sent: sent[:-1], "the input is not complete"),
        (lambda sent: b"fleetpatch-broker 1 6 AAAA\nid -u\n", "the signature is not the controller's"),
        (lambda sent: b"fleetpatch-broker 1 6\nid -u\n", "the input has no signature"),
        (lambda sent: b"fleetpatch-broker 1 99999999999999999999 AAAA\n", "too large"),
        (lambda sent: b"fleetpatch-broker 1 99999999 AAAA\n", "too large"),
        (lambda sent: b"fleetpatch-broker 1 a[$(id)] AAAA\n", "too large"),
        (lambda sent: b"fleetpatch-broker 1 6 $(id)\n", "the input has no signature"),
    ],
)
def test_what_nobody_signed_does_not_run(machine: Machine, change: Callable[[bytes], bytes], why: str) -> None:
    """Attacker: the login. Way: no signature, a changed script, a cut one, words of the shell. Must hold: refused."""
    assert machine.refuses(change(sign()), why)


def test_what_was_added_behind_is_not_run(machine: Machine) -> None:
    """Attacker: the login. Way: more lines behind a signed script. Must hold: only what was signed runs."""
    code, out, _ = machine.call(sign(b"echo ran\n") + b"echo more\n")
    assert (code, out) == (0, "ran\n")


def test_a_script_for_another_machine_is_refused(machine: Machine) -> None:
    """Attacker: the login on two machines. Way: send here what was signed for there. Must hold: refused."""
    assert machine.refuses(sign(name="web-2"), "signed for another machine: web-2")


def test_an_old_and_a_much_too_new_script_are_refused(machine: Machine) -> None:
    """Attacker: the login. Way: keep a script that never arrived, and send it later. Must hold: it has expired."""
    assert machine.refuses(sign(later=timedelta(minutes=-6)), "it has expired")
    assert machine.refuses(sign(later=timedelta(minutes=6)), "valid for too long")


def test_another_key_is_refused(machine: Machine) -> None:
    """Attacker: another controller, or the login with a key of its own. Must hold: refused."""
    (machine.folder / "keys/broker").unlink()
    assert machine.refuses(sign(), "the signature is not the controller's")


def test_arguments_are_refused(machine: Machine) -> None:
    """Attacker: the login. Way: options of a shell. Must hold: refused, whatever is signed."""
    assert machine.refuses(sign(), "it takes no arguments", "-c", "id")


def test_scripts_of_the_transport_go_through_it(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller signs by itself; a script gets its parameters, and its records come back."""
    command = (*machine.shell, str(machine.broker))
    monkeypatch.setitem(
        posix_shell._FIXED_ESCALATIONS,
        PrivilegeMethod.BROKER,
        Escalation(command, program="sudo", is_signed=True),
    )
    clock = SystemClock()
    shell = PosixShell(
        LocalShellChannel(clock), machine="web-1", privilege=PrivilegeEscalator(PrivilegeMethod.BROKER), clock=clock
    )
    answer = shell.run_script(Script("privilege", privileged=True), deadline=Deadline.after(clock, 60))
    assert [record["kind"] for record in answer.records] == ["privilege"]
    (machine.folder / "home/machine").write_text("web-2\n")
    with pytest.raises(PrivilegeError, match="signed for another machine: web-1"):
        shell.run_script(Script("privilege", privileged=True), deadline=Deadline.after(clock, 60))
