"""Machines whose apt.conf or ucf.conf says something else: what a transaction means stays, and nothing breaks.

They share a host, and install no package of each other.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.domain.model import Outcome
from tasks.domain.states import UpdateState
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import Lab, LabHost
from tests.lab.packages import DebRepository

CONTRARY = """
APT::Get::AutomaticRemove "true"; APT::Get::AutomaticRemove::Kernels "true"; APT::Get::Purge "true";
APT::Get::Upgrade "false"; APT::Get::Only-Upgrade "true"; APT::Get::ReInstall "true"; APT::Get::Fix-Missing "true";
APT::Get::Simulate "true"; APT::Get::Download-Only "true"; APT::Get::Print-URIs "true"; APT::Get::Trivial-Only "true";
APT::Get::Assume-No "true"; APT::Get::Allow-Downgrades "true"; APT::Get::Mark-Auto "true"; APT::Ignore-Hold "true";
APT::Get::Remove "false"; APT::Get::Download "false"; APT::Color "true"; quiet "2";
DPkg::ConfigurePending "false"; Dpkg::Options {"--force-confnew";};
"""


@pytest.fixture(scope="module")
def host(lab: Lab) -> Iterator[LabHost]:
    (booted,) = lab.up(1)
    yield booted
    booted.drop()


def write_settings(host: LabHost, text: str) -> None:
    host.sh(f"cat > /etc/apt/apt.conf.d/99owner <<'END'\n{text}\nEND", root=True)


def test_settings_of_the_machine_change_no_transaction(host: LabHost, tmp_path: Path) -> None:
    """Servers of hosters and images of containers have AutomaticRemove, and one orphan is enough: lab-slow here."""
    write_settings(host, CONTRARY)
    host.sh("apt-mark auto lab-slow; apt-mark hold libexpat1", root=True)
    before = host.package_versions("lab-slow", "libexpat1")
    report = Fleet([host], tmp_path).patch("lab-plain", "lab-conffile", "libssl3", "openssl", "libexpat1")

    outcome = outcome_of(report, host)
    for name in ("lab-plain", "lab-conffile", "libssl3", "openssl"):
        assert result_of(outcome, name).state is UpdateState.INSTALLED
    assert result_of(outcome, "libexpat1").state is UpdateState.EXCLUDED
    assert host.package_versions("lab-plain", "lab-conffile") == {"lab-plain": "2.0", "lab-conffile": "2.0"}
    assert host.package_versions("lab-slow", "libexpat1") == before
    assert host.sh("cat /etc/lab.conf").strip() == "setting=changed by hand"
    assert "lab-plain" not in host.sh("apt-mark showauto").split()


@pytest.mark.public_report("https://github.com/ansible/ansible/pull/70056: an installation that removes orphans")
def test_one_orphan_keeps_no_update_back(host: LabHost, tmp_path: Path) -> None:
    write_settings(host, 'APT::Get::AutomaticRemove "true";')
    host.sh("apt-mark auto lab-slow; apt-mark unhold libexpat1", root=True)
    masks = ("lab-sec", "lab-dep-a", "libexpat1")
    outcome = outcome_of(Fleet([host], tmp_path).patch(*masks), host)
    assert {result_of(outcome, name).state for name in masks} == {UpdateState.INSTALLED}
    left = {each.update.name: each.reason for each in outcome.updates if each.state is UpdateState.EXCLUDED}
    assert not left
    assert host.package_versions("lab-slow") == {"lab-slow": "1.0"}


UCF = [  # what a package calls, what the machine's ucf.conf says then, and what the file has at the end
    ("ucf --three-way", "", "by hand"),
    ("ucf --debconf-ok", "", "by hand"),
    ("ucf", "", "by hand"),
    ("ucf", "conf_force_conffold=YES", "by hand"),
    ("ucf --three-way", "conf_force_conffnew=YES", "setting=2.0"),
    ("UCF_FORCE_CONFFNEW=1 ucf", "", "setting=2.0"),
]
ENVIRONMENT = "env > /root/env; locale charmap > /root/charmap; ls /proc/$$/fd > /root/open; umask > /root/umask"


def add_with_ucf(repository: DebRepository, name: str, version: str, ucf: str, of_the_machine: str) -> None:
    """Make a package that keeps a file in /etc with ucf: the machine's ucf.conf has a line more meanwhile."""
    share = f"/usr/share/{name}/{name}.conf"
    lines = [f"{ucf} {share} /etc/{name}.conf", f"ucfr {name} /etc/{name}.conf"]
    if of_the_machine:
        lines = [f"echo {of_the_machine} >> /etc/ucf.conf", *lines, "sed -i '$d' /etc/ucf.conf"]
    script = "\n".join(["[ $1 = configure ] || exit 0", "set -e", *lines])
    repository.add(
        name, version, control="Depends: ucf", scripts={"postinst": script}, files={share: f"setting={version}\n"}
    )


@pytest.fixture(scope="module")
def updated(host: LabHost, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The outcome of a run that updates packages with scripts that look around, and others with ucf."""
    place = tmp_path_factory.mktemp("scripts")
    repository = DebRepository(place / "own")
    for version, script in (("1.0", ":"), ("2.0", ENVIRONMENT)):
        repository.add("lab-env", version, scripts={"postinst": script})
        for number, (ucf, of_the_machine, _) in enumerate(UCF):
            add_with_ucf(repository, f"lab-ucf-{number}", version, ucf, of_the_machine)
        if version == "1.0":
            repository.publish(host)
            host.sh("dpkg -i /srv/own/*.deb; for file in /etc/lab-ucf-*; do echo by hand > $file; done", root=True)
    repository.publish(host)
    return outcome_of(Fleet([host], place).patch("lab-env", "lab-ucf-*"), host)


@pytest.mark.public_report("https://github.com/canonical/ubuntu-pro-client/issues/131: ucf has options of its own")
@pytest.mark.parametrize("number", range(len(UCF)), ids=[" ".join(case[:2]) for case in UCF])
def test_ucf_does_as_it_does_by_hand(host: LabHost, updated: Outcome, number: int) -> None:
    """A run can't ask a person, so an edited file is kept. An order of the owner or of the package comes first."""
    name, file = f"lab-ucf-{number}", UCF[number][2]
    assert result_of(updated, name).state is UpdateState.INSTALLED, result_of(updated, name).reason
    assert host.package_versions(name) == {name: "2.0"}
    assert host.sh(f"cat /etc/{name}.conf").strip() == file
    (kept,) = [finding.message for finding in updated.findings if finding.check == "configuration-files"]
    assert (f"/etc/{name}.conf" in kept) == (file == "by hand"), kept


BY_HAND = {"HOME", "PATH", "PWD", "OLDPWD", "SHLVL", "TERM", "LANG", "LC_ALL", "_", "LOGNAME", "USER", "SHELL"}
OURS = {"DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1", "APT_LISTCHANGES_FRONTEND=none"}
OF_OTHERS = ("DPKG_", "DEBCONF_", "DEBIAN_HAS_FRONTEND", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID")


def test_the_scripts_of_packages_get_what_they_get_by_hand(host: LabHost, updated: Outcome) -> None:
    """And UTF-8, which tools in Ruby and older ones in Python need for their files."""
    assert result_of(updated, "lab-env").state is UpdateState.INSTALLED
    found = host.sh("cat /root/env", root=True).split("\n")
    more = [line for line in found if line and not line.startswith(OF_OTHERS) and line.partition("=")[0] not in BY_HAND]
    assert set(more) == OURS
    assert host.sh("cat /root/charmap", root=True).strip() == "UTF-8"
    assert host.sh("cat /root/umask", root=True).strip() == "0022"
    assert "3" not in host.sh("cat /root/open", root=True).split()
