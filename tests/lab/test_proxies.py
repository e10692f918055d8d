"""What asks and what installs reach the repositories in the same way, whichever login has the proxy."""

from pathlib import Path

import pytest

from tasks.domain.states import OperationState, UpdateState
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import BootHosts, Flavour, LabHost
from tests.lab.proxy import REPOSITORY, Proxy, point_to

METADATA = {"apt": "InRelease", "dnf": "repomd.xml", "zypper": "repomd.xml"}
PACKAGE = {"apt": ".deb", "dnf": ".rpm", "zypper": ".rpm"}


def in_the_machines_file(host: LabHost, proxy: str) -> None:
    """/etc/environment: pam_env gives it to a login, sudo of Debian takes it away again, systemd never has it."""
    host.sh(f"echo 'http_proxy=\"http://{proxy}\"  # of the site' >>/etc/environment", root=True)


def in_the_login(host: LabHost, proxy: str) -> None:
    """The login has it, and sudo lets it through: a job of systemd has neither."""
    host.sh(
        f"echo 'SetEnv http_proxy=http://{proxy}' >/etc/ssh/sshd_config.d/proxy.conf; systemctl restart ssh;"
        "echo 'Defaults env_keep += http_proxy' >/etc/sudoers.d/proxy",
        root=True,
    )


@pytest.mark.parametrize("place", [in_the_machines_file, in_the_login])
@pytest.mark.parametrize("flavour", ["apt", "dnf", "zypper"])
def test_questions_and_jobs_use_the_same_proxy(hosts: BootHosts, tmp_path: Path, flavour: Flavour, place) -> None:
    (host,) = hosts(1, flavour)
    with Proxy(host) as proxy:
        point_to(host, REPOSITORY)
        place(host, proxy.address)

        outcome = outcome_of(Fleet([host], tmp_path).patch("lab-plain"), host)

        assert outcome.state in {OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS}, outcome.reason
        assert result_of(outcome, "lab-plain").state is UpdateState.INSTALLED
        assert host.package_versions("lab-plain")["lab-plain"].startswith("2.0")
        assert any(path.endswith(METADATA[flavour]) for path in proxy.asked)  # a question, over SSH
        assert any("lab-plain" in path and path.endswith(PACKAGE[flavour]) for path in proxy.asked)  # a job of systemd


def test_a_proxy_that_systemd_alone_has_is_nobodys(hosts: BootHosts, tmp_path: Path) -> None:
    (host,) = hosts(1)
    with Proxy(host) as proxy:
        host.sh(f"systemctl set-environment http_proxy=http://{proxy.address}", root=True)

        outcome = outcome_of(Fleet([host], tmp_path).patch("lab-plain"), host)

        assert result_of(outcome, "lab-plain").state is UpdateState.INSTALLED
        assert proxy.asked == []
