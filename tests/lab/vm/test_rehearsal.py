"""Rehearsals on copies of real virtual machines: what they find, what they can reach, and what is left of them."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.domain.model import RunReport
from tasks.domain.states import OperationState, Step
from tasks.machines.providers.libvirt.overlay import choose_card_name
from tasks.rules.rehearsal import measure_phases
from tests.lab.engine import Telling, outcome_of
from tests.lab.killing import Controllers, its_lease_is_over, wait_for
from tests.lab.vm.conftest import BootVms
from tests.lab.vm.machines import Vm, VmLab
from tests.lab.vm.provided import ProvidedFleet

STATE = "cat /proc/sys/kernel/random/boot_id; sha256sum /var/lib/dpkg/status; find /etc /usr/bin /boot -newer /mark"


class CopyWatch(Telling):
    """Looks at the copy when its assessment has ended, while it runs."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self._look = look

    def on_message(self, message: str) -> None:
        """Look, once."""
        super().on_message(message)
        if ": assess: Succeeded" in message:
            self._look()


class Rehearsed(ProvidedFleet):
    """A machine that can be rehearsed on."""

    def rehearse(self, *masks: str, **fields: Any) -> RunReport:
        return self.patch(*masks, rehearse=True, only_machines=[self.vm.name], **fields)

    def ask_copy(self, command: str) -> str:
        """Run a command on the copy, by its way in."""
        port = (self.vm.folder / f"{self.vm.name}.rehearsal/port").read_text().strip()
        words = ["ssh", "-i", str(self.vm.key), "-p", port, "-o", "StrictHostKeyChecking=no"]
        words += ["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "patch@127.0.0.1", command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        return done.stdout


def assert_nothing_left(lab: VmLab, vm: Vm) -> None:
    assert lab.hypervisor.virsh("list", "--all", "--name").split() == [name.name for name in lab.machines()]
    assert list(vm.folder.glob("*.rehearsal")) == []
    card = choose_card_name(lab.hypervisor.uri, vm.name)
    assert not Path(f"/run/fleetpatch-{card}").exists()
    for question in (["ip", "netns"], ["ip", "-o", "link"], ["ps", "-eo", "args"], ["mount"]):
        assert card not in subprocess.run(question, capture_output=True, text=True, check=True).stdout, question
    assert "Operation" not in lab.hypervisor.virsh("domjobinfo", vm.name)


def test_a_bad_update_is_found_on_a_copy_that_reaches_nobody(vm_lab: VmLab, vms: BootVms, tmp_path: Path) -> None:
    vm, peer = vms(2)
    fleet = Rehearsed(vm_lab, vm, tmp_path)
    vm.sh("touch /mark; sleep 1", root=True)
    before = vm.sh(STATE, root=True)
    seen: dict[str, str] = {}

    def look() -> None:
        places = [f"{peer.address}/22", f"{fleet.net}.1/22", f"{fleet.net}.1/8099", f"{vm.address}/22"]
        tries = "".join(f"(timeout 20 bash -c 'echo >/dev/tcp/{place}') 2>&1; echo $?;" for place in places)
        seen["tries"] = fleet.ask_copy(f"for each in 1; do {tries} done")
        seen["identity"] = fleet.ask_copy("hostname; cat /proc/sys/kernel/random/boot_id; sudo touch /etc/of-the-copy")

    watch = CopyWatch(look)
    report = fleet.rehearse("lab-failing", "lab-plain", watch=watch)
    outcome = outcome_of(report, vm)
    assert (outcome.state, "a copy of vm-1 failed: " in outcome.reason) == (OperationState.NOT_STARTED, True), report
    lines = seen["tries"].splitlines()
    assert "No route to host" in lines[0], lines
    codes = [line for line in lines if line.isdigit()]
    assert codes == ["1", "1", "0", "0"], "it reaches the repository, and itself at its own address"
    assert seen["identity"].splitlines()[0] == vm.name
    assert seen["identity"].splitlines()[1] not in before
    assert vm.sh(STATE, root=True) == before, "the machine was not touched"
    assert vm.sh("ls /etc/of-the-copy 2>&1 || true").startswith("ls: cannot access")
    assert peer.sh(f"journalctl -t sshd --no-pager | grep -c 'from {vm.address}' || true", root=True).strip() == "0"
    assert_nothing_left(vm_lab, vm)


@pytest.mark.slow
def test_a_rehearsal_predicts_the_minutes_of_the_machine(vm_lab: VmLab, vms: BootVms, tmp_path: Path) -> None:
    (vm,) = vms(1)
    vm.crash()  # it boots by GRUB, as its copy does
    vm.wait_login()
    fleet = Rehearsed(vm_lab, vm, tmp_path)
    report = fleet.rehearse("lab-reboot", "lab-plain", "lab-slow")
    outcome = outcome_of(report, vm)
    assert outcome.state is OperationState.SUCCEEDED, report
    assert outcome.prediction is not None
    assert outcome.prediction.basis == "rehearsed"
    assert outcome.reboot_result is not None
    assert outcome.reboot_result.count == 1
    real = measure_phases(outcome)
    assert outcome.prediction.total_seconds == pytest.approx(real.total_seconds, rel=0.3), (outcome.prediction, real)
    assert any(f"rehearsal on a copy of {vm.name}: passed; 3 updates in " in note for note in report.notes)
    assert Step.REBOOT in {record.step for record in outcome.steps}
    assert_nothing_left(vm_lab, vm)


def test_a_copy_that_a_killed_controller_and_an_absent_provider_have_left_is_deleted(
    vm_lab: VmLab, vms: BootVms, tmp_path: Path
) -> None:
    (vm,) = vms(1)
    controllers = Controllers(Rehearsed(vm_lab, vm, tmp_path))
    try:
        run = controllers.patch(rehearse=True, scope=vm.name, updates={"classifications": [], "include": ["lab-plain"]})
        copy = f"{vm.name}.rehearsal"
        wait_for(lambda: copy in vm_lab.hypervisor.virsh("list", "--name").split(), "the copy")
        run.kill()
        its_lease_is_over(controllers)
        run_id = controllers.newest().run.id
        told = controllers.start("providers", vm.name).end()
        assert (told.code, f"copy of a rehearsal: rehearsal-{run_id}-1" in told.out) == (0, True), told

        vm_lab.hypervisor.stop_daemon()
        ended = controllers.resume("--finalize")
        assert ended.states == {vm.name: "NotStarted"}
        assert f"the copy rehearsal-{run_id}-1 of {vm.name} may still be there" in ended.out
        doctor = controllers.start("doctor", "--here", "--json").end()
        assert f"rehearsal-{run_id}-1 of {vm.name}" in doctor.out
        assert controllers.start("reconcile", "--no-prefect").end().code == 3, "the provider is away still"

        vm_lab.hypervisor.start()
        assert copy in vm_lab.hypervisor.virsh("list", "--name").split(), "it ran on"
        done = controllers.start("reconcile", "--no-prefect").end()
        assert (done.code, f"{vm.name}: copy rehearsal-{run_id}-1: Deleted" in done.err) == (0, True), done
        assert "rehearsal-" not in controllers.start("doctor", "--here", "--json").end().out
        assert_nothing_left(vm_lab, vm)
    finally:
        controllers.end()
        vm_lab.hypervisor.start()
