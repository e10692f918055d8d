"""Patching real machines that are in trouble, or get into it while they are patched."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.states import OperationState, UpdateState
from tasks.steps.context.stop_token import StopToken
from tests.lab.engine import Fleet, Telling, configured_times, outcome_of, result_of
from tests.lab.fleet import LabHost

Boot = Callable[[int], list[LabHost]]


@pytest.fixture
def fleet(hosts: Boot, tmp_path: Path) -> Fleet:
    """One host; tests that need more make their own."""
    return Fleet(hosts(1), tmp_path)


def test_a_window_about_to_close_holds_what_it_can_and_kills_nothing(fleet: Fleet) -> None:
    (host,) = fleet.hosts
    host.sh("echo 40 > /etc/lab-slow-seconds", root=True)
    masks = ("lab-slow", "lab-plain", "lab-conffile", "lab-dep-*", "lab-sec", "lab-reboot")

    report = fleet.patch(*masks, minutes=1.0, reboot="Never", stage=False)

    outcome = outcome_of(report, host)
    assert report.run.window is not None
    assert outcome.install is not None
    states = {result.update.name: result.state for result in outcome.updates if result.update.name.startswith("lab-")}
    assert UpdateState.NOT_ATTEMPTED in states.values(), states
    for result in outcome.updates:
        if result.state is UpdateState.NOT_ATTEMPTED:
            assert " left" in result.reason or "no time" in result.reason
    for transaction in outcome.install.transactions:
        assert transaction.started_at is not None
        assert transaction.started_at < report.run.window.end
        assert transaction.ended_at is not None
        assert transaction.exit_code == 0
    on_host = host.package_versions()
    for name, state in states.items():
        if state is UpdateState.NOT_ATTEMPTED:
            assert on_host[name] == "1.0"
        if state is UpdateState.INSTALLED:
            assert on_host[name].startswith("2.")
    assert host.sh("dpkg --audit", root=True).strip() == ""
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS


def test_a_run_that_is_stopped_lets_its_transaction_end(fleet: Fleet) -> None:
    (host,) = fleet.hosts
    host.sh("echo 8 > /etc/lab-slow-seconds", root=True)
    control = StopToken()
    watch = Telling(on_install=lambda: control.request_stop("tested"))

    outcome = outcome_of(fleet.patch("lab-slow", reboot="Always", control=control, watch=watch), host)

    assert result_of(outcome, "lab-slow").state is UpdateState.INSTALLED
    assert host.package_versions("lab-slow") == {"lab-slow": "2.0"}
    assert outcome.reboot_result is not None
    assert outcome.reboot_result.count == 0


def test_a_host_that_is_off_costs_only_itself(hosts: Boot, tmp_path: Path) -> None:
    dead, alive = hosts(2)
    fleet = Fleet([dead, alive], tmp_path)
    dead.off()

    report = fleet.patch("lab-plain", waves={"failure_budget_count": 1})

    outcome = outcome_of(report, dead)
    assert outcome.state is OperationState.FAILED
    assert outcome.error is not None
    assert outcome.error.kind == "Unreachable"
    assert outcome_of(report, alive).state is OperationState.SUCCEEDED


def test_a_wrong_host_key_is_never_spoken_to(fleet: Fleet) -> None:
    (host,) = fleet.hosts
    key = host.sh("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2]
    flipped = key[1][:-6] + ("AAAAAA" if not key[1].endswith("AAAAAA") else "BBBBBB")
    wrong = fleet.place / "known_hosts"
    wrong.write_text(f"{host.address} {key[0]} {flipped}\n")
    fleet.describe()
    fleet.inventory.write_text(fleet.inventory.read_text().replace(str(host.known_hosts), str(wrong)))

    outcome = outcome_of(fleet.patch("lab-plain"), host)

    assert outcome.state is OperationState.FAILED
    assert outcome.error is not None
    assert outcome.error.kind == "HostKeyMismatch"
    assert host.package_versions("lab-plain") == {"lab-plain": "1.0"}


def test_a_login_without_sudo_is_told_what_it_lacks(fleet: Fleet) -> None:
    (host,) = fleet.hosts
    fleet.describe(every={"user": "nosudo"})

    outcome = outcome_of(fleet.patch("lab-plain"), host)

    assert outcome.state is OperationState.FAILED
    assert outcome.error is not None
    assert outcome.error.kind == "PrivilegeError"
    assert "nosudo" in outcome.error.hint


def test_a_full_disk_is_found_before_anything_is_changed(fleet: Fleet) -> None:
    (host,) = fleet.hosts
    used = int(host.sh("du -sm /var", root=True).split()[0])
    host.sh(
        f"mount -t tmpfs -o size={used + 40}m tmpfs /mnt && cp -a /var/. /mnt/ && mount --bind /mnt /var", root=True
    )
    before = host.package_versions()

    outcome = outcome_of(fleet.patch(), host)

    assert outcome.state is OperationState.FAILED
    assert "disk" in outcome.reason or "space" in outcome.reason, outcome.reason
    assert host.package_versions() == before


def test_a_network_that_goes_away_in_the_middle_loses_nothing(fleet: Fleet) -> None:
    (host,) = fleet.hosts
    host.sh("echo 25 > /etc/lab-slow-seconds", root=True)
    mended: list[float] = []

    def cut() -> None:
        host.cut()

        def mend() -> None:
            time.sleep(15)
            host.mend()
            mended.append(time.monotonic())

        threading.Thread(target=mend, daemon=True).start()

    outcome = outcome_of(fleet.patch("lab-slow", "lab-plain", watch=Telling(on_install=cut)), host)

    assert mended
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert host.package_versions("lab-slow", "lab-plain") == {"lab-slow": "2.0", "lab-plain": "2.0"}
    assert configured_times(host, "lab-slow", "2.0") == 1
    assert configured_times(host, "lab-plain", "2.0") == 1


def interrupt_dpkg(host: LabHost) -> None:
    """Leave a package unpacked and not configured, as a power cut does."""
    fetch = "cd /tmp && apt-get -qq update && apt-get -qq download lab-plain"
    host.sh(f"{fetch} && dpkg --unpack /tmp/lab-plain_2*.deb", root=True)
    assert "lab-plain" in host.sh("dpkg --audit", root=True)


def test_interrupted_packages_block_unless_repair_is_allowed(fleet: Fleet) -> None:
    (host,) = fleet.hosts
    interrupt_dpkg(host)

    outcome = outcome_of(fleet.patch("lab-conffile"), host)

    assert outcome.state is OperationState.FAILED
    assert host.package_versions("lab-conffile") == {"lab-conffile": "1.0"}
    assert "lab-plain" in host.sh("dpkg --audit", root=True)


def test_interrupted_packages_are_repaired_when_allowed(fleet: Fleet) -> None:
    (host,) = fleet.hosts
    interrupt_dpkg(host)

    outcome = outcome_of(fleet.patch("lab-conffile", repair=True), host)

    assert outcome.state is not OperationState.FAILED, outcome.reason
    assert host.sh("dpkg --audit", root=True).strip() == ""
    assert host.package_versions("lab-plain", "lab-conffile") == {"lab-plain": "2.0", "lab-conffile": "2.0"}


def test_a_bashrc_that_prints_does_no_harm(fleet: Fleet) -> None:
    (host,) = fleet.hosts
    host.sh('sed -i \'1i echo "welcome {\\"kind\\": \\"facts\\"}"; echo oops >&2\' ~/.bashrc')

    outcome = outcome_of(fleet.patch("lab-plain"), host)

    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert host.package_versions("lab-plain") == {"lab-plain": "2.0"}
