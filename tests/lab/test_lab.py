"""The lab itself: what a test that uses it takes for granted."""

import contextlib
import os
import pwd
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fleetpatch.cli.runtime.exit_codes import ExitCode
from tests.ci.tree import TOP
from tests.lab.fleet import SCRIPT, BootHosts, Lab, LabError, LabHost
from tests.lab.mirror import bookworm, read_sources
from tests.support.other_user import BECOME_NOBODY, run_as_nobody

KEEP = "-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold"
SOON = "systemd-run --on-active=0.2 --timer-property=AccuracySec=100ms"  # else within a minute
APT = f"DEBIAN_FRONTEND=noninteractive apt-get -y -q {KEEP}"


def tag_of(host: LabHost) -> str:
    return host.root.parents[2].name


def traces(tag: str) -> list[str]:
    """Everything on this machine that bears a lab's name."""
    name = f"fp{tag}"
    found = [f"link {line}" for line in run("ip", "-o", "link", "show").splitlines() if name in line]
    found += [f"netns {line}" for line in run("ip", "netns", "list").splitlines() if name in line]
    found += [f"mount {line}" for line in Path("/proc/mounts").read_text().splitlines() if tag in line]
    groups = run("find", "/sys/fs/cgroup", "-type", "d", "-name", f"{name}-*")
    found += [f"cgroup {path}" for path in groups.splitlines()]
    found += [f"path {path}" for path in Path("/var/tmp/fleetpatch-lab").glob(f"*{tag}*")]
    return found + [f"process {pid}: {line}" for pid, line in processes(tag).items()]


def processes(tag: str) -> dict[int, str]:
    """Processes in a lab's cgroups, or with its name or folder in their command line."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            groups = (folder / "cgroup").read_text()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (folder / "stat").read_text().rpartition(") ")[2][0]
            mine = f"fp{tag}-" in groups or f"fp{tag}-" in command or f"/{tag}/" in command
            if mine and state not in "ZX":  # the dead wait for this machine's init
                found[int(folder.name)] = command
    return found


def run(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def test_hosts_boot_behind_on_security_updates_which_install(lab: Lab, hosts: BootHosts, tmp_path: Path) -> None:
    one, two = hosts(2)
    assert one.sh("ps -o comm= -p 1").strip() == "systemd"
    assert one.sh("hostname").strip() == one.name
    assert one.sh("systemctl is-active ssh nginx cron").split() == ["active"] * 3
    assert one.sh("systemctl --failed --no-legend").strip() == ""
    assert one.boot_id() != two.boot_id()
    assert one.sh("cat /etc/machine-id /etc/ssh/*.pub") != two.sh("cat /etc/machine-id /etc/ssh/*.pub")
    assert one.pending_security() > 1  # lab-sec and Debian's own
    origins = one.sh("apt-cache policy", root=True)
    assert re.search(r"o=Debian,.*n=bookworm-security,l=Debian-Security", origins)
    assert re.search(r"o=Debian,.*n=bookworm-updates,l=Debian,", origins)
    _inventory_names_every_host_and_pins_its_key(lab, one, two)
    _doctor_says_of_fresh_hosts_what_the_tutorial_shows(lab, tmp_path)
    _users_have_the_rights_they_are_named_for(one)
    _security_updates_install(one)
    _made_packages_behave(two)


def _inventory_names_every_host_and_pins_its_key(lab: Lab, one: LabHost, two: LabHost) -> None:
    text = lab.inventory_text()
    for host in (one, two):
        assert f"  - name: {host.name}\n    address: {host.address}\n    user: patch\n" in text
        key = (host.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[1]
        assert f"{host.address} ssh-ed25519 {key}\n" in host.known_hosts.read_text()
    assert f"credential: key:{one.key}\n" in text
    assert f"  known_hosts: {one.known_hosts}\n" in text
    assert one.key.stat().st_mode & 0o077 == 0


def _doctor_says_of_fresh_hosts_what_the_tutorial_shows(lab: Lab, folder: Path) -> None:
    (folder / "fleet.yaml").write_text(lab.inventory_text())
    command = [sys.executable, "-m", "fleetpatch.cli.command", "doctor", "*", "--inventory", str(folder / "fleet.yaml")]
    environment = {**os.environ, "HOME": str(folder), "COLUMNS": "80", "PYTHONPATH": str(TOP)}
    environment["FLEETPATCH_RECORDS_URL"] = f"sqlite:///{folder}/records.db"
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    page = (TOP / "docs/tutorial/first-fleet.md").read_text()
    block = page.partition('fleetpatch doctor "*"')[2].partition("```text\n")[2].partition("```")[0]
    printed = {_without_numbers(line) for line in done.stdout.splitlines()}
    shown = {_without_numbers(line) for line in block.splitlines()}
    assert shown - printed == {"…"}, done.stdout + done.stderr
    assert done.returncode == ExitCode.WARNINGS


def _without_numbers(line: str) -> str:
    return re.sub(r"\[lab-.*\]", "[]", re.sub(r"\b\d+\b", "N", line)).rstrip()


def _users_have_the_rights_they_are_named_for(host: LabHost) -> None:
    assert host.sh("id -u", root=True).strip() == "0"
    assert host.sh("id -un", user="nosudo").strip() == "nosudo"
    with pytest.raises(LabError):
        host.sh("sudo -n true", user="nosudo")
    with pytest.raises(LabError, match="a password is required"):
        host.sh("sudo -n true", user="pwsudo")
    assert host.sh("echo lab-password | sudo -S -p '' id -u", user="pwsudo").strip() == "0"
    with pytest.raises(LabError):
        host.sh("true", user="root")


def _security_updates_install(host: LabHost) -> None:
    before = host.package_versions("lab-sec")
    host.sh("apt-get -qq update", root=True)
    host.sh("grep -- -security /etc/apt/sources.list > /tmp/only", root=True)
    host.sh(f"{APT} -o Dir::Etc::SourceList=/tmp/only dist-upgrade", root=True, timeout=300)
    assert (before, host.package_versions("lab-sec")) == ({"lab-sec": "1.0"}, {"lab-sec": "2.0"})
    assert host.pending_security() == 0
    assert " upgrade lab-sec:all 1.0 2.0" in host.dpkg_log()
    # the same package has a newer version elsewhere, which isn't a security fix
    assert re.search(r"Candidate: 2\.1", host.sh("apt-cache policy lab-sec"))


def _made_packages_behave(host: LabHost) -> None:
    def install(*names: str) -> None:
        host.sh(f"{APT} --only-upgrade install {' '.join(names)}", root=True)

    host.sh("apt-get -qq update; echo 0 > /etc/lab-slow-seconds", root=True)
    install("lab-plain", "lab-slow", "lab-conffile", "lab-dep-b")
    names = ("lab-plain", "lab-slow", "lab-conffile", "lab-dep-a", "lab-dep-b")
    assert host.package_versions(*names) == dict.fromkeys(names, "2.0")
    host.sh("dpkg -i /var/cache/lab/lab-reboot-sec_1.0_all.deb", root=True)
    assert not host.sh("ls /run/reboot-required* 2>/dev/null || true")
    install("lab-reboot-sec")
    assert host.sh("cat /run/reboot-required.pkgs") == "lab-reboot-sec\n"
    assert "Remv lab-plain" in host.sh("apt-get -s --only-upgrade install lab-removes")


def test_a_host_reboots_crashes_loses_its_network_and_powers_itself_off(host: LabHost) -> None:
    _reboot_is_another_boot_with_the_same_disk(host)
    _crash_comes_back_by_itself(host)
    _cut_host_is_silent_and_keeps_running(host)
    _host_that_powers_itself_off_stays_off(host)


def _reboot_is_another_boot_with_the_same_disk(host: LabHost) -> None:
    first = host.boot_id()
    key = host.sh("cat /etc/ssh/ssh_host_ed25519_key.pub")
    host.sh(f"echo kept > /etc/kept; touch /run/reboot-required; {SOON} systemctl reboot", root=True)
    assert host.wait_reboot(first) != first
    assert host.sh("cat /etc/kept /etc/ssh/ssh_host_ed25519_key.pub") == f"kept\n{key}"
    assert not host.sh("ls /run/reboot-required 2>/dev/null || true")


def _crash_comes_back_by_itself(host: LabHost) -> None:
    first = host.boot_id()
    host.crash()
    host.wait_reboot(first)
    assert host.sh("systemctl is-active ssh nginx").split() == ["active"] * 2


def _cut_host_is_silent_and_keeps_running(host: LabHost) -> None:
    first = host.boot_id()
    host.cut()
    assert "network cut" in host.lab.status()
    with pytest.raises((LabError, subprocess.TimeoutExpired)):
        host.sh("true", timeout=12)
    host.mend()
    host.wait_login()
    assert host.boot_id() == first


def _host_that_powers_itself_off_stays_off(host: LabHost) -> None:
    host.sh(f"{SOON} systemctl poweroff", root=True)
    until = time.monotonic() + 240
    while f"{host.name} {host.address} off" not in host.lab.status():
        assert time.monotonic() < until
        time.sleep(0.2)
    host.on()
    host.wait_login()


def test_off_stays_off_until_on_and_what_is_dropped_is_gone_alone(lab: Lab, hosts: BootHosts) -> None:
    one, two = hosts(2)
    first = one.boot_id()
    one.off()
    assert f"{one.number} {one.name} {one.address} off" in lab.status()
    with pytest.raises((LabError, subprocess.TimeoutExpired)):
        one.sh("true", timeout=12)
    (more,) = hosts(1)  # to boot another must not take a host that is off for a wreck
    (one.root / "etc/written-while-off").write_text("yes")
    one.on()
    one.wait_login()
    assert one.boot_id() != first
    assert one.sh("cat /etc/written-while-off") == "yes"
    assert len({one.number, two.number, more.number}) == 3
    _dropped_host_is_gone_alone_and_its_number_too(lab, hosts, one, two)


def _dropped_host_is_gone_alone_and_its_number_too(lab: Lab, hosts: BootHosts, one: LabHost, two: LabHost) -> None:
    two.drop()
    assert two.name not in lab.inventory_text()
    assert two.address not in two.known_hosts.read_text()
    assert not [line for line in traces(tag_of(one)) if re.search(rf"fp{tag_of(one)}-{two.number}\b", line)]
    (three,) = hosts(1)
    assert three.number > two.number
    assert one.sh("echo still here") == "still here\n"
    with pytest.raises(LabError, match="no host"):
        lab.script("drop", "../..")


def test_two_labs_do_not_reach_each_other_and_neither_a_crash_nor_down_leaves_anything(host: LabHost) -> None:
    with Lab("pytest-other") as other:
        other.down()
        strangers = other.up(2)
        gone = tag_of(strangers[0])
        _labs_do_not_meet(host, strangers[0])
        assert {line.split()[0] for line in traces(gone)} == {"link", "netns", "mount", "cgroup", "path", "process"}
        _up_clears_what_a_crash_left(other, *strangers)
        (another,) = other.up(1)
        _the_user_who_called_sudo_has_a_key(other, another)
        another.off()
    assert traces(gone) == []
    other.down()  # and again: nothing to do
    assert host.sh("echo still here") == "still here\n"


def _labs_do_not_meet(host: LabHost, stranger: LabHost) -> None:
    assert tag_of(stranger) != tag_of(host)
    assert stranger.address.rsplit(".", 1)[0] != host.address.rsplit(".", 1)[0]
    assert stranger.key.read_text() != host.key.read_text()
    with pytest.raises(LabError):
        host.sh(f"timeout 5 bash -c '</dev/tcp/{stranger.address}/22'")


def _up_clears_what_a_crash_left(lab: Lab, one: LabHost, two: LabHost) -> None:
    """After an end without any tidying: every process gone, and one pid taken by a process of somebody else."""
    for pid in processes(tag_of(one)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    bystander = subprocess.Popen(["sleep", "300"])
    try:
        supervisor = one.root.parents[2] / "hosts" / str(two.number) / "supervisor.pid"
        supervisor.write_text(f"{bystander.pid} 1\n")
        (three,) = lab.up(1)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    assert three.sh("echo fresh") == "fresh\n"
    assert not one.root.exists()
    assert not two.root.exists()
    assert len(re.findall("name: lab-", lab.inventory_text())) == 1


def _the_user_who_called_sudo_has_a_key(lab: Lab, host: LabHost) -> None:
    nobody = [*BECOME_NOBODY, "env", f"FLEETPATCH_LAB={lab.name}", str(SCRIPT)]
    done = subprocess.run([*nobody, "inventory"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the lab is up, and you have no key to it" in done.stderr
    environment = {**os.environ, "FLEETPATCH_LAB": lab.name or "", "SUDO_UID": str(pwd.getpwnam("nobody").pw_uid)}
    subprocess.run([SCRIPT, "up", "0"], env=environment, check=True)
    inventory = subprocess.run([*nobody, "inventory"], capture_output=True, text=True, check=True).stdout
    key = Path(re.findall(r"credential: key:(.*)", inventory)[0])
    known_hosts = re.findall(r"known_hosts: (.*)", inventory)[0]
    assert (key.stat().st_uid, key.stat().st_mode & 0o777) == (int(environment["SUDO_UID"]), 0o600)
    assert host.address in run_as_nobody(f"print(open({known_hosts!r}).read())")
    number = str(host.number)
    assert subprocess.run([*nobody, "ssh", number, "id", "-un"], capture_output=True, check=True).stdout == b"patch\n"
    with pytest.raises(AssertionError, match="Permission denied"):  # programs with root's rights are among the host's
        run_as_nobody(f"import os; os.listdir({str(host.root.parent)!r})")
    assert f"key:{host.key}\n" in lab.inventory_text()  # root's own


def test_mirror_is_found_in_either_source_format(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://old.example/debian bookworm main\n"
        "deb-src http://src.example/debian bookworm main\n"
        "deb cdrom:[disc]/ bookworm main\n"
        "deb [arch=amd64 signed-by=/usr/share/keyrings/other.gpg] http://other.example/apt bookworm main\n"
        "deb [ arch=amd64 ] http://m.example/debian trixie main contrib # ours\n"
    )
    (tmp_path / "sources.list.d/debian.sources").write_text(
        "Types: deb deb-src\nURIs: http://s.example/debian-security\n# a remark\nSuites: trixie-security\n"
        "Components:\n main\n contrib\nTrusted: yes\n\n"
        "Enabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: main\n"
    )
    found = [re.sub(r"\[signed-by=.*?\] ", "", line) for line in bookworm(read_sources(tmp_path))]
    assert found == [
        "deb http://m.example/debian bookworm main",
        "deb [trusted=yes] http://s.example/debian-security bookworm-security main",
        "deb http://m.example/debian bookworm-updates main",
    ]


def test_mirror_without_a_debian_source_is_none(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://other.example/ubuntu jammy main\n")
    assert bookworm(read_sources(tmp_path)) == []
