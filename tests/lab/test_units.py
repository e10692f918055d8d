"""Units of systemd on real machines: what was active before a reboot is active after it, or its absence is told."""

from pathlib import Path

import pytest

from tasks.domain.model import Outcome
from tasks.domain.states import FindingLevel, OperationState, RebootState, Step
from tasks.rules.machine_checks.next_boot_needs import REBOOT_LOSS_CHECK
from tasks.steps.machine import next_boot
from tests.lab.engine import Fleet, Telling, outcome_of
from tests.lab.fleet import BootHosts, Flavour, LabHost

HOST_ID = Path("/proc/sys/kernel/random/boot_id")
UNITS = {
    "srv-data.mount": "[Mount]\nWhat=/var/lib/lab-data\nWhere=/srv/data\nType=none\nOptions=bind\n",
    "lab-app.service": "[Unit]\nRequiresMountsFor=/srv/data\n[Service]\nExecStart=/bin/sleep infinity\n",
    "lab-tick.timer": "[Timer]\nOnCalendar=hourly\n",
    "lab-tick.service": "[Service]\nType=oneshot\nExecStart=/bin/true\n",
    "lab-once.service": "[Unit]\nConditionPathExists=/run/lab-once\n"
    "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
    "lab-short.service": "[Service]\nExecStart=/bin/sleep 3\n",
    # as in a container that is given no boot id of its own, and whose network has come up without its default route
    "lab-host-id.service": "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nRemainAfterExit=yes\n"
    "ExecStart=/bin/sh -c 'while umount /proc/sys/kernel/random/boot_id; do :; done 2>/dev/null; "
    "ip route del default; true'\n",
    "lab-hand.service": "[Service]\nExecStart=/bin/sleep infinity\n",
}
WANTED = (
    *("lab-app.service", "lab-host-id.service", "lab-once.service", "lab-short.service"),
    *("lab-tick.timer", "srv-data.mount"),
)


def add_units(host: LabHost) -> None:
    """Add units, of which only lab-hand.service is not enabled, and start them."""
    for name, text in UNITS.items():
        install = "[Install]\nWantedBy=multi-user.target\n" if name in WANTED else ""
        (host.root / "etc/systemd/system" / name).write_text(f"{text}{install}")
    host.sh(
        "mkdir -p /var/lib/lab-data /srv/data; touch /run/lab-once; systemctl daemon-reload;"
        f"systemctl enable -q {' '.join(WANTED)}; systemctl start {' '.join(WANTED)} lab-hand.service;"
        "systemd-run -q --unit=lab-transient sleep infinity; mount -t tmpfs none /mnt;"
        "mkdir -p /srv/hand; mount --bind /var/lib/lab-data /srv/hand; ip route add default dev eth0",
        root=True,
    )


def told(outcome: Outcome, level: FindingLevel) -> str:
    return "\n".join(each.message for each in outcome.findings if (each.check, each.level) == ("services", level))


@pytest.mark.parametrize("flavour", ["apt", "dnf", "zypper"])
def test_a_mount_that_failed_at_the_boot_and_the_service_behind_it_are_told(
    hosts: BootHosts, tmp_path: Path, flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(next_boot, "BOOT_SECONDS", 0.0)
    (host,) = hosts(1, flavour)
    fleet = Fleet([host], tmp_path)
    add_units(host)
    # it would not come up: as on a machine of its own, whose devices systemd waits for
    host.sh("mount -o remount,rw /sys; echo UUID=no-such /data ext4 defaults 0 2 >> /etc/fstab", root=True)
    boot = host.boot_id()
    outcome = outcome_of(fleet.patch("lab-dep-a", "lab-dep-b", reboot="Always", settle_seconds=5), host)
    assert host.boot_id() == boot
    (refused,) = [step.message for step in outcome.steps if step.step is Step.REBOOT]
    assert "names a device that does not exist, and the boot waits for it: UUID=no-such" in refused
    host.sh("sed -i /no-such/d /etc/fstab", root=True)
    # all that vanishes here has a reason, except for what somebody had started by hand
    outcome = outcome_of(fleet.patch("lab-plain", reboot="Always", come_back_seconds=5), host)
    assert host.sh("cat /proc/sys/kernel/random/boot_id") == HOST_ID.read_text()
    assert outcome.reboot is RebootState.COMPLETED, outcome.reason
    assert outcome.facts is not None
    assert [finding.level for finding in outcome.facts.findings if finding.check == "boot proof"] == [
        FindingLevel.REMARK
    ]
    routes = [finding.message for finding in outcome.findings if finding.check == "network"]
    assert routes == ["it has no default route any more (IPv4), and had one before: it reaches only its own networks"]
    ended = [finding.message for finding in outcome.findings if finding.check == REBOOT_LOSS_CHECK]
    assert [message.split(": ")[1].split()[0] for message in ended] == ["/srv/hand", "lab-transient.service"]
    assert host.sh("systemctl is-active lab-app.service srv-data.mount lab-tick.timer") == "active\n" * 3
    assert told(outcome, FindingLevel.BLOCK) == ""
    assert told(outcome, FindingLevel.WARN) == (
        "active before patching, and not started since: nothing starts it at the boot: lab-hand.service"
    )
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS, outcome.reason

    host.sh("systemctl disable -q lab-short; rmdir /var/lib/lab-data; touch /var/lib/lab-data", root=True)
    outcome = outcome_of(fleet.patch("lab-sec", reboot="Always", come_back_seconds=5), host)
    assert host.sh("systemctl is-active lab-app.service srv-data.mount || true") == "inactive\nfailed\n"
    assert outcome.state is OperationState.FAILED
    blocked = told(outcome, FindingLevel.BLOCK)
    assert "failed since patching: srv-data.mount (" in blocked
    assert "mount: /srv/data: " in blocked, blocked  # its own words
    assert "not started at the boot: lab-app.service (Dependency failed for lab-app.service" in blocked


MASK = (
    "mv /etc/systemd/system/lab-hand.service /usr/lib/systemd/system; systemctl daemon-reload;"
    "systemctl mask -q --now lab-hand.service"
)


def test_a_unit_that_somebody_stops_or_masks_while_the_run_patches_is_told(host: LabHost, tmp_path: Path) -> None:
    fleet = Fleet([host], tmp_path)
    add_units(host)
    watch = Telling(on_install=lambda: host.sh(f"systemctl stop lab-app.service lab-tick.timer; {MASK}", root=True))
    outcome = outcome_of(fleet.patch("lab-plain", watch=watch, reboot="Never", come_back_seconds=2), host)
    stopped, masked = told(outcome, FindingLevel.BLOCK).splitlines()
    assert stopped.startswith("stopped since patching, and not started again: lab-app.service")
    assert "lab-tick.timer" in stopped
    assert masked.startswith("active before patching, and masked since: lab-hand.service")
    assert outcome.state is OperationState.FAILED
