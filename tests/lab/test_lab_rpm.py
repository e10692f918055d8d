"""The lab's hosts that play RHEL and SUSE: what a test that uses them takes for granted."""

import time

import pytest

from tests.lab.fleet import BootHosts, Flavour, LabError, LabHost

INSTALL: dict[Flavour, str] = {"dnf": "dnf -y upgrade", "zypper": "zypper -n update"}
PLAYS: dict[Flavour, str] = {"dnf": "rocky 9.4", "zypper": "sles 15.6"}
FOUND: dict[Flavour, list[str]] = {"dnf": ["dnf", "rpm", "yum"], "zypper": ["rpm", "zypper"]}
KERNEL: dict[Flavour, str] = {"dnf": "kernel-core", "zypper": "kernel-default"}
FIRST = "base big conffile dep-a dep-b failing message old plain reboot removes sec slow stack"
STRANGE = """sed 's,updates,badkey,; s,lab\\]$,bad],; s,^name=.*,name=bad,' {0}/lab.repo > {0}/bad.repo"""


def install(host: LabHost, *names: str) -> str:
    return host.sh(f"{INSTALL[host.flavour]} {' '.join(names)} 2>&1", root=True)


@pytest.mark.parametrize("flavour", ["dnf", "zypper"])
def test_hosts_play_their_distribution_and_are_behind(hosts: BootHosts, flavour: Flavour) -> None:
    (host,) = hosts(1, flavour)
    assert host.sh("ps -o comm= -p 1").strip() == "systemd"
    assert host.sh("systemctl is-active ssh nginx cron").split() == ["active"] * 3
    assert host.sh("systemctl --failed --no-legend").strip() == ""
    assert host.sh(". /etc/os-release; echo $ID $VERSION_ID").strip() == PLAYS[flavour]
    there = host.sh("for it in apt-get dpkg dpkg-query dnf needrestart rpm yum zypper; do command -v $it; done; true")
    assert [line.rpartition("/")[2] for line in there.splitlines()] == FOUND[flavour]
    assert f"{host.name} {host.address} on ({flavour})" in host.lab.status()
    first = {name: version for name, version in host.package_versions().items() if name.startswith("lab-")}
    assert first == {f"lab-{name}": "1.0-1" for name in FIRST.split()}
    assert host.pending_security() == 3  # lab-sec, lab-big, lab-message
    _a_package_of_a_stranger_is_refused(host)
    _updates_behave(host)
    if flavour == "zypper":
        _patches_are_of_each_kind(host)
    _what_waits_in_the_cache_is_behind_too(host)
    _a_power_cut_in_a_transaction_leaves_a_database_that_opens(host)


def _a_package_of_a_stranger_is_refused(host: LabHost) -> None:
    repositories = "/etc/yum.repos.d" if host.flavour == "dnf" else "/etc/zypp/repos.d"
    host.sh(STRANGE.format(repositories), root=True)
    ask = "dnf -y upgrade lab-plain" if host.flavour == "dnf" else "zypper -n refresh"
    with pytest.raises(LabError, match=r"GPG check FAILED|Signature verification failed"):
        host.sh(f"{ask} 2>&1", root=True)
    host.sh(f"rm {repositories}/bad.repo", root=True)
    assert host.package_versions("lab-plain") == {"lab-plain": "1.0-1"}


def _updates_behave(host: LabHost) -> None:
    host.sh("echo 0 > /etc/lab-slow-seconds", root=True)
    with pytest.raises(LabError, match="conflicts with lab-plain"):
        install(host, "lab-removes")
    with pytest.raises(LabError, match="cannot migrate data"):
        install(host, "lab-failing")
    host.sh("touch /etc/lab-failing-fixed", root=True)
    names = ("lab-plain", "lab-slow", "lab-conffile", "lab-dep-b", "lab-failing")
    install(host, *names)
    assert host.package_versions(*names, "lab-dep-a") == dict.fromkeys((*names, "lab-dep-a"), "2.0-1")
    assert host.sh("cat /etc/lab.conf /etc/lab.conf.rpmnew") == "setting=changed by hand\nsetting=2.0\n"
    install(host, "lab-sec")
    assert host.package_versions("lab-sec") == {"lab-sec": "2.1-1"}
    host.sh(f"{host.flavour} {'-y' if host.flavour == 'dnf' else '-n'} install lab-new", root=True)
    assert host.package_versions("lab-old", "lab-new") == {"lab-new": "2.0-1"}


def _patches_are_of_each_kind(host: LabHost) -> None:
    before_all_others = host.sh("zypper -n patch || echo $?", root=True)
    assert "restart required" in before_all_others
    assert before_all_others.endswith("\n103\n")
    assert "'LAB-2026:10-1' is interactive, skipping" in host.sh("zypper -n patch --dry-run", root=True)
    assert not host.sh("ls /run/reboot-needed || true")
    install(host, "lab-reboot")
    assert host.sh("ls /run/reboot-needed").strip() == "/run/reboot-needed"


def _what_waits_in_the_cache_is_behind_too(host: LabHost) -> None:
    kernel = KERNEL[host.flavour]
    pending = host.pending_security()
    host.sh(f"cd /var/cache/lab; rpm -U lab-reboot-sec-*.rpm {kernel}-*.rpm", root=True)
    assert host.pending_security() == pending + 2
    install(host, kernel)
    assert host.sh(f"rpm -q {kernel}; ls /boot").split() == [
        *(f"{kernel}-{version}-1.noarch" for version in ("1.0", "2.0")),
        *(f"vmlinuz-{version}-{kernel}" for version in ("1.0", "2.0")),
    ]


def _a_power_cut_in_a_transaction_leaves_a_database_that_opens(host: LabHost) -> None:
    host.sh("cd /var/cache/lab; rpm -e lab-slow", root=True)
    host.sh("echo 60 > /etc/lab-slow-seconds", root=True)
    first = host.boot_id()
    order = f"{host.flavour} {'-y' if host.flavour == 'dnf' else '-n'} install lab-slow"
    host.sh(f"systemd-run -q --unit=slow {order}", root=True)
    until = time.monotonic() + 120
    while not host.sh("pgrep -xa sleep || true"):  # the package's script
        assert time.monotonic() < until
        time.sleep(0.2)
    host.crash()
    assert host.wait_reboot(first) != first
    host.sh("rpm --verifydb", root=True)
    assert host.package_versions("lab-plain") == {"lab-plain": "2.0-1"}
