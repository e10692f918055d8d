"""Services of real machines: whose listeners count, and what becomes of those that run replaced files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.domain.model import Outcome
from tasks.domain.states import FindingLevel, OperationState, UpdateState
from tasks.rules.machine_checks.services import SERVICE_RESTART_CHECK
from tasks.steps.machine import package_state
from tests.lab.engine import Fleet, Telling, outcome_of, result_of
from tests.lab.fleet import LabHost

Boot = Callable[[int], list[LabHost]]

LISTENER = "IO::Socket::INET->new(Listen => 5, LocalPort => {port}, ReuseAddr => 1)"
CLIENT = "IO::Socket::INET->new(Proto => 'udp', LocalPort => {port})"
HOLD = "perl -MIO::Socket::INET -e 'my $s = {what} or die $!; sleep 900'"
GONE = "grep -c ' /usr/lib/.*libssl.so.3.*(deleted)$' /proc/{pid}/maps || true"

PORTS = "8080", "45123", "8090"


def hold(what: str, port: int) -> str:
    return HOLD.replace("{what}", what.replace("{port}", str(port)))


def open_ports(host: LabHost) -> set[str]:
    lines = host.sh("ss -Hlntu || ss -lntu").splitlines()
    return {f"{line.split()[0]}/{line.split()[4].rpartition(':')[2]}" for line in lines if len(line.split()) > 4}


def main_pid(host: LabHost, unit: str) -> str:
    return host.sh(f"systemctl show -p MainPID --value {unit}").strip()


def told(outcome: Outcome, check: str) -> dict[FindingLevel, str]:
    return {each.level: each.message for each in outcome.findings if each.check == check}


def test_ephemeral_ports_and_users_programs_fail_no_machine_and_a_service_that_is_gone_does(
    hosts: Boot, tmp_path: Path
) -> None:
    (host,) = hosts(1)
    fleet = Fleet([host], tmp_path)
    host.sh(f"setsid -f {hold(LISTENER, 8080)} >/dev/null 2>&1 </dev/null", user="nosudo")
    host.sh(f"systemd-run -q --unit=lab-client {hold(CLIENT, 45123)}", root=True)
    host.sh(f"systemd-run -q --unit=lab-shop -p User=nosudo {hold(LISTENER, 8090)}", root=True)
    ours = {f"tcp/{PORTS[0]}", f"udp/{PORTS[1]}", f"tcp/{PORTS[2]}"}
    count = f"ss -Hlntu | grep -cE ':({'|'.join(PORTS)}) '"
    host.sh(f"for i in $(seq 100); do [ $({count}) = 3 ] && exit; sleep 0.1; done; exit 1")
    assert ours <= open_ports(host)

    def end() -> None:
        host.sh("pkill -u nosudo -f 'LocalPort => 8080'; systemctl stop lab-client", root=True)

    outcome = outcome_of(fleet.patch("lab-plain", watch=Telling(on_install=end), reboot="Never"), host)
    assert ours & open_ports(host) == {"tcp/8090"}
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert outcome.facts is not None
    assert {(each.program, each.unit) for each in outcome.facts.services.listeners} >= {
        ("perl", "lab-shop.service"),
        ("nginx", "nginx.service"),
        ("sshd", "ssh.service"),
    }

    watch = Telling(on_install=lambda: host.sh("systemctl stop lab-shop", root=True))
    outcome = outcome_of(fleet.patch("lab-sec", watch=watch, reboot="Never", come_back_seconds=1), host)
    assert outcome.state is OperationState.FAILED
    assert "nothing listens any more on tcp/8090 (perl of lab-shop.service)" in outcome.reason


def test_services_that_run_a_replaced_library_are_told_and_renewed_by_default(hosts: Boot, tmp_path: Path) -> None:
    (host,) = hosts(1)
    fleet = Fleet([host], tmp_path)
    web, ssh, boot = main_pid(host, "nginx"), main_pid(host, "ssh"), host.boot_id()

    outcome = outcome_of(fleet.patch("libssl3", reboot="Never", restart_services="Never"), host)
    assert result_of(outcome, "libssl3").state is UpdateState.INSTALLED
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    warning = told(outcome, SERVICE_RESTART_CHECK)[FindingLevel.WARN]
    assert "nginx.service" in warning
    assert host.sh(GONE.replace("{pid}", web), root=True).strip() != "0"
    assert main_pid(host, "nginx") == web

    host.sh("mv /usr/sbin/needrestart /usr/sbin/needrestart.gone", root=True)  # and told without its help as well
    plan = fleet.patch("lab-none", dry_run=True, restart_services="IfRequired", reboot="Never").plans[0]
    assert any("to be restarted unless it reboots: " in note and "nginx.service" in note for note in plan.notes), plan
    host.sh("mv /usr/sbin/needrestart.gone /usr/sbin/needrestart", root=True)

    outcome = outcome_of(fleet.patch("lab-none", reboot="Never"), host)
    assert "nginx.service" in told(outcome, SERVICE_RESTART_CHECK)[FindingLevel.GOOD]
    assert main_pid(host, "nginx") not in {web, "0"}
    assert host.sh(GONE.replace("{pid}", main_pid(host, "nginx")), root=True).strip() == "0"
    assert main_pid(host, "ssh") not in {ssh, "0"}  # the connection of the run has outlived it
    assert host.boot_id() == boot
    assert {"tcp/80", "tcp/22"} <= open_ports(host)
    assert outcome.state in {OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS}
    left = told(outcome, SERVICE_RESTART_CHECK).get(FindingLevel.WARN, "")
    assert "nginx.service" not in left

    outcome = outcome_of(fleet.patch(), host)  # as people begin: nothing but defaults
    assert (outcome.state, outcome.services_to_restart) == (OperationState.SUCCEEDED, ()), outcome.reason


ADMIN = """[Unit]
After=multi-user.target
[Service]
Type=exec
ExecStart=/usr/bin/apt-get install -y --reinstall lab-slow
[Install]
WantedBy=multi-user.target
"""


def test_packages_that_somebody_changes_after_the_boot_are_waited_for_or_told(
    hosts: Boot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (host,) = hosts(1)
    fleet = Fleet([host], tmp_path)
    host.sh(
        f"cat > /etc/systemd/system/lab-admin.service <<'END'\n{ADMIN}END\nsystemctl enable -q lab-admin", root=True
    )
    host.sh("echo 20 > /etc/lab-slow-seconds", root=True)

    outcome = outcome_of(fleet.patch("lab-plain", reboot="Always"), host)
    assert host.package_versions("lab-slow") == {"lab-slow": "2.0"}  # their transaction was seen to its end
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason

    host.sh("echo 40 > /etc/lab-slow-seconds", root=True)
    monkeypatch.setattr(package_state, "MAX_WAIT_SECONDS", 2.0)
    outcome = outcome_of(fleet.patch("lab-sec", reboot="Always", come_back_seconds=2), host)
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    warning = told(outcome, "packages")[FindingLevel.WARN]
    assert "packages could not be checked: they were being changed by apt-get (pid " in warning
    assert "half" in host.sh("dpkg -s lab-slow | grep ^Status", root=True)
