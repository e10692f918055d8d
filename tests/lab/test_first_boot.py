"""First boots of real machines, and a reboot that a broken perl must not prevent."""

from pathlib import Path

from tasks.domain.states import OperationState, RebootState, UpdateState
from tests.lab.engine import Fleet, outcome_of
from tests.lab.fleet import LabHost

SETUP = """[Unit]
Description=stands for cloud-init's last service: its first boot takes a while
ConditionPathExists=!/var/lib/lab-set-up
[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutSec=0
ExecStart=/bin/sh -c 'sleep {seconds}; touch /var/lib/lab-set-up'
[Install]
WantedBy=multi-user.target
"""


def begin_first_boot(host: LabHost, unit: str, seconds: int) -> None:
    """Reboot the host into a boot that sets it up."""
    host.sh(f"cat > /etc/systemd/system/{unit} <<'END'\n{SETUP.format(seconds=seconds)}END", root=True)
    host.sh(f"systemctl enable -q {unit}", root=True)
    boot = host.boot_id()
    host.sh("systemd-run -q --on-active=1 systemctl reboot", root=True)
    host.wait_reboot(boot)
    assert host.sh(f"systemctl is-active {unit} || true").strip() == "activating"


def test_a_first_boot_is_not_cut_and_a_perl_that_does_not_work_prevents_no_reboot(
    host: LabHost, tmp_path: Path
) -> None:
    host.sh("printf '#!/bin/sh\\nexit 2\\n' > /usr/local/bin/perl; chmod 755 /usr/local/bin/perl", root=True)
    begin_first_boot(host, "cloud-final.service", 45)
    boot = host.boot_id()
    outcome = outcome_of(Fleet([host], tmp_path).patch("lab-plain", reboot="Always"), host)
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert outcome.reboot is RebootState.COMPLETED, outcome.reason
    assert host.boot_id() != boot
    assert host.sh("test -e /var/lib/lab-set-up && echo done").strip() == "done"
    precheck = next(each for each in outcome.steps if each.step.value == "precheck")
    assert (precheck.ended_at - precheck.started_at).total_seconds() > 20


def test_a_first_boot_that_does_not_end_in_the_window_leaves_the_machine_alone(host: LabHost, tmp_path: Path) -> None:
    begin_first_boot(host, "lab-first-boot.service", 900)
    boot = host.boot_id()
    fleet = Fleet([host], tmp_path)
    outcome = outcome_of(fleet.patch("lab-plain", minutes=3, reboot="Always", reboot_reserve_minutes=1), host)
    assert outcome.state is OperationState.NOT_STARTED
    assert outcome.reason.startswith("its boot has not ended: systemd still starts lab-first-boot.service")
    assert {each.state for each in outcome.updates if each.update.name == "lab-plain"} == {UpdateState.NOT_ATTEMPTED}
    assert host.boot_id() == boot
    assert host.package_versions("lab-plain") == {"lab-plain": "1.0"}
