"""SSH against real hosts: trust, privileges, jump hosts, and jobs that outlive whatever happens to their line."""

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from inventory.credentials import Credential, CredentialKind, Secret, resolve_credential
from inventory.machine import HostKeyPolicy, HostKeySettings, Inventory, Machine
from tasks.domain.errors import (
    AuthenticationFailed,
    ConnectionLost,
    DeadlineExceeded,
    HostKeyMismatch,
    HostKeyUnknown,
    PrivilegeError,
    ScriptFailed,
    TransportError,
    Unreachable,
)
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import Job, JobPhase, Script
from tasks.machines.transport.session import Session
from tasks.machines.transport.session_factory import build_session
from tasks.machines.transport.ssh.jump_hosts import JumpHostPool
from tasks.steps.machine.facts import read_facts
from tests.contract.transport_subjects import scripts
from tests.lab.fleet import Lab, LabError, LabHost

CLOCK = SystemClock()
LIST = Script("job_list")

Open = Callable[..., Session]


@pytest.fixture(scope="module")
def host(lab: Lab) -> Iterator[LabHost]:
    """One for all tests that leave it as it was."""
    (made,) = lab.up(1)
    yield made
    made.drop()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Open]:
    """`session(host, …)` gives a Session to a host; fields of the machine and the inventory as keywords."""
    opened: list[Session] = []
    bastions = JumpHostPool()

    def make(
        host: LabHost, *others: Machine, keys: HostKeySettings | None = None, secrets=resolve_credential, **fields
    ) -> Session:
        machine = replace(machine_of(host), **fields)
        inventory = Inventory((machine, *others), keys or HostKeySettings(known_hosts=host.known_hosts))
        it = build_session(
            machine, inventory, clock=CLOCK, resolve_credential=secrets, jump_hosts=bastions, script_loader=scripts
        )
        opened.append(it)
        return it

    yield make
    for it in opened:
        it.close()
    bastions.close()


def machine_of(host: LabHost) -> Machine:
    return Machine(host.name, host.address, user=host.user, credential=f"key:{host.key}")


def soon(seconds: float = 90.0) -> Deadline:
    return Deadline.after(CLOCK, seconds)


T = TypeVar("T")


def patient(look: Callable[[], T], wanted: Callable[[T], bool], seconds: float = 240.0) -> T:
    """Look until it is so, over whatever happens to the line."""
    until = soon(seconds)
    while True:
        try:
            seen = look()
            if wanted(seen):
                return seen
        except TransportError as error:
            assert error.transient or isinstance(error, AuthenticationFailed), error  # noqa: PT017  # pam_nologin at boot
        assert not until.has_passed(CLOCK), "it did not come about"
        CLOCK.sleep(0.3)


def drop_logins(host: LabHost) -> None:
    """Restart sshd and cut every line that is open, as an upgrade of openssh may."""
    host.sh("systemd-run -q sh -c 'sleep 0.2; systemctl restart ssh; pkill -KILL -u patch sshd'", root=True)
    CLOCK.sleep(1)


def test_another_host_key_is_quarantined_before_any_login(host, session, tmp_path):
    known = tmp_path / "known_hosts"
    new = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(new)], check=True)
    known.write_text(f"{host.address} {new.with_suffix('.pub').read_text()}")
    with pytest.raises(HostKeyMismatch, match="but pinned is") as caught:
        session(host, keys=HostKeySettings(known_hosts=known)).run_script(LIST, deadline=soon())
    assert caught.value.machine == host.name
    with pytest.raises(HostKeyUnknown):
        session(host, keys=HostKeySettings(known_hosts=tmp_path / "none")).run_script(LIST, deadline=soon())
    learned = HostKeySettings(HostKeyPolicy.LEARN, tmp_path / "learned")
    assert session(host, keys=learned).run_script(LIST, deadline=soon()).exit_code == 0
    pinned = HostKeySettings(HostKeyPolicy.PINNED, tmp_path / "learned")
    assert session(host, keys=pinned).run_script(LIST, deadline=soon()).exit_code == 0


def test_a_login_without_sudo_is_told_what_sudoers_lacks_and_an_unknown_one_is_refused(host, session):
    with pytest.raises(PrivilegeError, match="the login nosudo") as caught:
        session(host, user="nosudo").run_script(LIST, deadline=soon())
    assert "nosudo ALL=(root) NOPASSWD: ALL" in caught.value.hint
    assert session(host, user="nosudo").run_script(replace(LIST, privileged=False), deadline=soon()).exit_code == 0
    with pytest.raises(AuthenticationFailed):
        session(host, user="nobody-there").run_script(LIST, deadline=soon())


def test_sudo_with_a_password(host, session):
    def secrets(reference: str) -> Credential:
        if reference.startswith("env:"):
            return Credential(CredentialKind.PASSWORD, secret=Secret(reference.removeprefix("env:")))
        return resolve_credential(reference)

    right = session(host, user="pwsudo", privilege_password="env:lab-password", secrets=secrets)
    assert read_facts(right, CLOCK, soon()).privilege == "sudo"
    right.start_job(Job("with-password", Script("work")), deadline=soon())
    view = patient(
        lambda: right.poll_job("with-password", deadline=soon()), lambda view: view.phase is JobPhase.FINISHED
    )
    assert view.exit_code == 3
    with pytest.raises(PrivilegeError):
        session(host, user="pwsudo").run_script(LIST, deadline=soon())
    wrong = session(host, user="pwsudo", privilege_password="env:not-it", secrets=secrets)
    for _ in range(3):
        with pytest.raises(PrivilegeError, match="refused the password of pwsudo") as caught:
            wrong.run_script(LIST, deadline=soon())
        assert "not-it" not in f"{caught.value} {caught.value.hint}"
    journal = host.sh("journalctl --no-pager", root=True)
    assert journal.count("1 incorrect password attempt") == 1, "a wrong password locks accounts when it is tried again"
    assert "lab-password" not in journal
    assert "not-it" not in journal


REMEDY = "Defaults:patch !requiretty"
WITHOUT_SCRIPT = f"""
rm /usr/bin/script
echo 'until [ -e /tmp/go ]; do sleep 0.2; done; echo "{REMEDY}" >/etc/sudoers.d/it; touch /tmp/done' >/root/remedy
setsid -f sh /root/remedy >/dev/null 2>&1
"""


def test_a_sudo_that_wants_a_terminal(hosts, session):
    """It gets one from ``script``; without that, the remedy that is told is one that helps."""
    (host,) = hosts(1)
    password = Credential(CredentialKind.PASSWORD, secret=Secret("lab-password"))
    host.sh("sed -i '1i Defaults requiretty\\nDefaults use_pty' /etc/sudoers", root=True)
    with pytest.raises(LabError, match="you must have a tty"):
        host.sh("true", root=True)

    plain = session(host)
    assert read_facts(plain, CLOCK, soon()).privilege == "sudo"
    plain.start_job(Job("on-terminal", Script("work")), deadline=soon())
    view = patient(lambda: plain.poll_job("on-terminal", deadline=soon()), lambda view: view.phase is JobPhase.FINISHED)
    assert view.exit_code == 3
    secrets = lambda reference: password if reference.startswith("env:") else resolve_credential(reference)  # noqa: E731
    right = session(host, user="pwsudo", privilege_password="env:x", secrets=secrets)
    assert read_facts(right, CLOCK, soon()).privilege == "sudo"

    plain.run_script(Script("probe", {"command": WITHOUT_SCRIPT, "timeout": "5"}), deadline=soon())
    with pytest.raises(PrivilegeError) as caught:
        session(host).run_script(LIST, deadline=soon())
    assert REMEDY in caught.value.hint
    host.sh("touch /tmp/go; until [ -e /tmp/done ]; do sleep 0.2; done", timeout=120)
    assert session(host).run_script(LIST, deadline=soon()).exit_code == 0


def test_through_a_jump_host_one_after_the_other_and_sixty_at_once(hosts, session):
    outer, inner = hosts(2)
    jump = replace(machine_of(outer), name="bastion")
    through = session(inner, jump, jump=("bastion",))
    facts = read_facts(through, CLOCK, soon())
    assert facts.boot_id == inner.boot_id()
    seen = inner.sh("ss -Htn state established sport = :22")
    assert outer.address in seen
    drop_logins(outer)
    assert read_facts(through, CLOCK, soon()).boot_id == facts.boot_id

    sessions = [session(inner, jump, jump=("bastion",), name=f"m{number}") for number in range(60)]
    drop_logins(outer)  # all sixty find the jump host's login closed

    def ask(it: Session) -> int:
        try:
            return it.run_script(replace(LIST, privileged=False), deadline=soon(120)).exit_code
        finally:
            it.close()

    with ThreadPoolExecutor(60) as pool:
        assert list(pool.map(ask, sessions)) == [0] * 60


def test_a_job_outlives_a_restart_of_sshd_and_its_login(host, session):
    it = session(host)
    it.start_job(Job("outlives", Script("endless")), deadline=soon())
    drop_logins(host)
    view = it.poll_job("outlives", deadline=soon())
    assert (view.phase, view.events) == (JobPhase.RUNNING, ({"kind": "begun"},))
    assert "fleetpatch-outlives.service" in host.sh("systemctl list-units --no-legend 'fleetpatch-*'")
    assert "job outlives" in host.sh("systemd-inhibit --list --no-pager")
    host.sh("systemctl stop --no-block fleetpatch-outlives", root=True)  # asked to end, it is waited for
    CLOCK.sleep(0.5)
    assert it.poll_job("outlives", deadline=soon()).phase is JobPhase.RUNNING
    it.run_script(Script("job_stop", {"id": "outlives"}), deadline=soon())
    view = patient(lambda: it.poll_job("outlives", deadline=soon()), lambda view: view.phase is JobPhase.FINISHED)
    assert [event["kind"] for event in view.events] == ["begun", "stopped"]
    inhibitors = "systemd-inhibit --list --no-pager --no-legend | grep fleetpatch || true"
    assert patient(lambda: host.sh(inhibitors), lambda left: not left) == ""  # looks every two seconds whether it ended


def test_a_unit_that_systemd_can_not_run_is_told_at_once_with_its_reason(host, session):
    it = session(host)
    folder = "/run/systemd/system/fleetpatch-.service.d"
    for number, (setting, why) in enumerate(
        (
            ("ReadOnlyPaths=/var", "cannot create .*log: Read-only file system"),
            ("InaccessiblePaths=/usr/bin/env", "Failed at step EXEC spawning /usr/bin/env: Permission denied"),
        )
    ):
        text = f"[Service]\\n{setting}\\n"
        host.sh(f"mkdir -p {folder} && printf '{text}' >{folder}/10.conf && systemctl daemon-reload", root=True)
        began = CLOCK.now()
        try:
            with pytest.raises(ScriptFailed, match=f"never begins: its process ended first .*: .*{why}"):
                it.start_job(Job(f"denied-{number}", Script("work")), deadline=soon())
        finally:
            host.sh(f"rm -r {folder} && systemctl daemon-reload", root=True)
        assert (CLOCK.now() - began).total_seconds() < 20
        assert it.poll_job(f"denied-{number}", deadline=soon()).phase is JobPhase.ABSENT
    assert host.sh("systemctl list-units --all --no-legend 'fleetpatch-denied*'") == ""
    stub = "/usr/local/sbin/systemd-inhibit"  # without an inhibitor, a job goes on, and its log says so
    host.sh(
        f"printf '#!/bin/sh\\necho Failed to inhibit: Access denied >&2; exit 1' >{stub}; chmod +x {stub}", root=True
    )
    try:
        it.start_job(Job("uninhibited", Script("work")), deadline=soon())
        view = patient(
            lambda: it.poll_job("uninhibited", deadline=soon()), lambda view: view.phase is JobPhase.FINISHED
        )
    finally:
        host.sh(f"rm {stub}", root=True)
    assert (view.exit_code, "Failed to inhibit: Access denied" in view.log) == (3, True)


def test_a_cut_network_loses_nothing_and_who_comes_back_attaches(host, session):
    it = session(host)
    job = Job("cut", Script("work"))
    assert not it.start_job(job, deadline=soon()).attached
    host.cut()
    try:
        began = CLOCK.now()
        with pytest.raises((ConnectionLost, Unreachable)) as caught:
            it.poll_job("cut", deadline=soon(4))
        assert caught.value.transient
        assert (CLOCK.now() - began).total_seconds() < 60
        with pytest.raises((ConnectionLost, Unreachable, DeadlineExceeded)):
            it.start_job(Job("never", Script("work")), deadline=soon(3))
    finally:
        host.mend()
    view = patient(lambda: it.poll_job("cut", deadline=soon()), lambda view: view.phase is JobPhase.FINISHED)
    assert (view.exit_code, [event["kind"] for event in view.events]) == (3, ["begun", "done"])
    assert it.start_job(job, deadline=soon()).attached


def test_a_power_cut_loses_the_job_and_says_so(host, session):
    it = session(host)
    before = read_facts(it, CLOCK, soon())
    it.start_job(Job("crashed", Script("endless")), deadline=soon())
    host.sh("sync", root=True)
    host.crash()
    view = patient(lambda: it.poll_job("crashed", deadline=soon(10)), lambda view: view.phase is not JobPhase.RUNNING)
    assert view.phase is JobPhase.LOST
    assert read_facts(it, CLOCK, soon()).boot_id != before.boot_id


def test_a_reboot_is_ordered_once(host, session):
    it = session(host)
    facts = read_facts(it, CLOCK, soon())
    assert facts.can_reboot
    assert facts.job_runner == "systemd"
    order = Script("reboot", {"expected_boot_id": facts.boot_id, "delay": "1"}, read_only=False)
    assert [it.run_script(order, deadline=soon()).records[0]["kind"] for _ in range(2)] == ["ordered", "ordered"]
    now = host.wait_reboot(facts.boot_id)
    assert now != facts.boot_id
    (again,) = it.run_script(replace(order, read_only=True), deadline=soon()).records
    assert again["kind"] == "refused"
    assert read_facts(it, CLOCK, soon()).boot_id == now


def test_facts_agree_with_what_the_host_says_to_openssh(host, session):
    facts = read_facts(session(host), CLOCK, soon())
    assert facts.os_id == "debian"
    assert facts.managers[0] == "apt"
    assert facts.kernel == host.sh("uname -r").strip()
    assert {"tcp/22", "tcp/80"} <= set(facts.services.listening)
    assert abs(facts.clock_skew_seconds) < 30
    host.sh("systemd-run --unit=doomed false; sleep 0.5", root=True)
    assert "doomed.service" in read_facts(session(host), CLOCK, soon()).services.failed


def test_certificates_of_hosts_and_users(hosts, session, tmp_path):
    (host,) = hosts(1)

    def keygen(*words: object) -> None:
        subprocess.run(["ssh-keygen", "-q", *map(str, words)], check=True)

    authority = tmp_path / "ca"
    keygen("-t", "ed25519", "-N", "", "-f", authority)
    known = tmp_path / "known_hosts"
    known.write_text(f"@cert-authority {host.address} {authority.with_suffix('.pub').read_text()}")
    keys = HostKeySettings(HostKeyPolicy.CA, known)
    with pytest.raises(HostKeyUnknown, match="no host certificate"):
        session(host, keys=keys).run_script(LIST, deadline=soon())
    for kind in ("ed25519", "ecdsa"):
        public = host.root / f"etc/ssh/ssh_host_{kind}_key.pub"
        keygen("-s", authority, "-h", "-I", "lab", "-n", host.address, "-V", "-1h:+1h", public)
    user = tmp_path / "user"
    keygen("-t", "ed25519", "-N", "", "-f", user)
    keygen("-s", authority, "-I", "fleetpatch", "-n", "patch", "-V", "-1h:+1h", user.with_suffix(".pub"))
    (host.root / "etc/ssh/user_ca.pub").write_text(authority.with_suffix(".pub").read_text())
    config = host.root / "etc/ssh/sshd_config.d/certificates.conf"
    for kind in ("ed25519", "ecdsa"):
        config.write_text(
            f"HostKey /etc/ssh/ssh_host_{kind}_key\nHostCertificate /etc/ssh/ssh_host_{kind}_key-cert.pub\n"
            "TrustedUserCAKeys /etc/ssh/user_ca.pub\n"
        )
        host.sh("systemctl reload ssh; sleep 0.5", root=True)
        it = session(host, keys=keys, credential=f"key:{user}")
        assert it.run_script(LIST, deadline=soon()).exit_code == 0
    keygen(
        "-s",
        authority,
        "-h",
        "-I",
        "lab",
        "-n",
        "elsewhere",
        "-V",
        "-1h:+1h",
        host.root / "etc/ssh/ssh_host_ecdsa_key.pub",
    )
    host.sh("systemctl reload ssh; sleep 0.5", root=True)
    with pytest.raises(HostKeyMismatch, match="it is for elsewhere"):
        session(host, keys=keys).run_script(LIST, deadline=soon())


ALGORITHMS = (
    # what the server allows, whether the machine is marked as an old one -> whether they find a common one
    ("KexAlgorithms curve25519-sha256", False, True),
    ("KexAlgorithms diffie-hellman-group14-sha256", False, False),
    ("KexAlgorithms diffie-hellman-group14-sha256", True, True),
    ("Ciphers aes256-ctr\nMACs hmac-sha2-512", False, True),
    ("Ciphers chacha20-poly1305@openssh.com", True, False),
)


def test_algorithms_are_those_that_are_allowed(host, session):
    for config, legacy, works in ALGORITHMS:
        (host.root / "etc/ssh/sshd_config.d/algorithms.conf").write_text(f"{config}\n")
        host.sh("systemctl reload ssh; sleep 0.5", root=True)
        it = session(host, legacy_crypto=legacy)
        try:
            said = f"exit code {it.run_script(LIST, deadline=soon()).exit_code}"
        except TransportError as error:
            said = str(error)
        it.close()
        assert ("exit code 0" if works else "none of the algorithms") in said, f"{config}, legacy {legacy}: {said}"
    host.sh("rm /etc/ssh/sshd_config.d/algorithms.conf; systemctl reload ssh; sleep 0.5", root=True)
