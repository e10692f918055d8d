"""Machines whose apt.conf or ucf.conf says something else: what a transaction means stays, and nothing breaks."""

from pathlib import Path

import pytest

from tasks.states import UpdateState
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import LabHost
from tests.lab.packages import DebRepository

CONTRARY = """
APT::Get::AutomaticRemove "true"; APT::Get::AutomaticRemove::Kernels "true"; APT::Get::Purge "true";
APT::Get::Upgrade "false"; APT::Get::Only-Upgrade "true"; APT::Get::ReInstall "true"; APT::Get::Fix-Missing "true";
APT::Get::Simulate "true"; APT::Get::Download-Only "true"; APT::Get::Print-URIs "true"; APT::Get::Trivial-Only "true";
APT::Get::Assume-No "true"; APT::Get::Allow-Downgrades "true"; APT::Get::Mark-Auto "true"; APT::Ignore-Hold "true";
APT::Get::Remove "false"; APT::Get::Download "false"; APT::Color "true"; quiet "2";
DPkg::ConfigurePending "false"; Dpkg::Options {"--force-confnew";};
"""


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
    host.sh("apt-mark auto lab-slow", root=True)
    outcome = outcome_of(Fleet([host], tmp_path).patch(), host)
    left = {each.update.name: each.reason for each in outcome.updates if each.state is UpdateState.EXCLUDED}
    assert not left
    assert host.pending_security() == 0
    assert host.package_versions("lab-slow") == {"lab-slow": "1.0"}


def add_with_ucf(repository: DebRepository, version: str, ucf: str) -> None:
    """Make a package that keeps a file in /etc with ucf."""
    share = "/usr/share/lab-ucf/lab-ucf.conf"
    script = f"[ $1 = configure ] || exit 0\nset -e\n{ucf} {share} /etc/lab-ucf.conf\nucfr lab-ucf /etc/lab-ucf.conf"
    repository.add(
        "lab-ucf", version, control="Depends: ucf", scripts={"postinst": script}, files={share: f"setting={version}\n"}
    )


@pytest.mark.public_report("https://github.com/canonical/ubuntu-pro-client/issues/131: ucf has options of its own")
@pytest.mark.parametrize(
    ("ucf", "of_the_machine", "file"),
    [
        ("ucf --three-way", "", "by hand"),
        ("ucf --debconf-ok", "", "by hand"),
        ("ucf", "", "by hand"),
        ("ucf", "conf_force_conffold=YES", "by hand"),
        ("ucf --three-way", "conf_force_conffnew=YES", "setting=2.0"),
        ("UCF_FORCE_CONFFNEW=1 ucf", "", "setting=2.0"),
    ],
)
def test_ucf_does_as_it_does_by_hand(host: LabHost, tmp_path: Path, ucf: str, of_the_machine: str, file: str) -> None:
    """An edited file is kept, as nobody can be asked; the owner's, or the package's, own order counts."""
    repository = DebRepository(tmp_path / "own")
    add_with_ucf(repository, "1.0", ucf)
    repository.publish(host)
    repository.install(host, "lab-ucf", "1.0")
    host.sh(f"echo by hand > /etc/lab-ucf.conf; echo '{of_the_machine}' >> /etc/ucf.conf", root=True)
    add_with_ucf(repository, "2.0", ucf)
    repository.publish(host)

    outcome = outcome_of(Fleet([host], tmp_path).patch("lab-ucf"), host)
    assert result_of(outcome, "lab-ucf").state is UpdateState.INSTALLED, result_of(outcome, "lab-ucf").reason
    assert host.package_versions("lab-ucf") == {"lab-ucf": "2.0"}
    assert host.sh("cat /etc/lab-ucf.conf").strip() == file
    kept = [finding.message for finding in outcome.findings if finding.check == "configuration-files"]
    assert bool(kept) == (file == "by hand"), outcome.findings


BY_HAND = {"HOME", "PATH", "PWD", "OLDPWD", "SHLVL", "TERM", "LANG", "LC_ALL", "_", "LOGNAME", "USER", "SHELL"}
OURS = {"DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1", "APT_LISTCHANGES_FRONTEND=none"}
OF_OTHERS = ("DPKG_", "DEBCONF_", "DEBIAN_HAS_FRONTEND", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID")


def test_the_scripts_of_packages_get_what_they_get_by_hand(host: LabHost, tmp_path: Path) -> None:
    """And UTF-8, which tools in Ruby and older ones in Python need for their files."""
    repository = DebRepository(tmp_path / "own")
    repository.add("lab-env", "1.0")
    repository.publish(host)
    repository.install(host, "lab-env", "1.0")
    script = "env > /root/env; locale charmap > /root/charmap; ls /proc/$$/fd > /root/open; umask > /root/umask"
    repository.add("lab-env", "2.0", scripts={"postinst": script})
    repository.publish(host)
    outcome = outcome_of(Fleet([host], tmp_path).patch("lab-env"), host)
    assert result_of(outcome, "lab-env").state is UpdateState.INSTALLED
    found = host.sh("cat /root/env", root=True).split("\n")
    more = [line for line in found if line and not line.startswith(OF_OTHERS) and line.partition("=")[0] not in BY_HAND]
    assert set(more) == OURS
    assert host.sh("cat /root/charmap", root=True).strip() == "UTF-8"
    assert host.sh("cat /root/umask", root=True).strip() == "0022"
    assert "3" not in host.sh("cat /root/open", root=True).split()
