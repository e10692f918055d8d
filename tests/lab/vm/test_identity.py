"""A wrong word in the inventory: the provider means another virtual machine than the address."""

from pathlib import Path

import pytest

from tests.lab.killing import Controllers
from tests.lab.vm.conftest import BootVms
from tests.lab.vm.machines import VmLab
from tests.lab.vm.provided import ProvidedFleet
from tests.lab.vm.test_snapshots import BACK, BAD


def test_a_wrong_word_in_the_inventory_touches_no_other_machine(
    vm_lab: VmLab, vms: BootVms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))  # the keys of the controllers
    mine, other = vms(2)
    fleet = ProvidedFleet(vm_lab, mine, tmp_path, provider=f"rack/{other.name}")
    controllers = Controllers(fleet)
    other.sh("echo precious >/root/file; sync", root=True)
    boots, disks = other.boot_id(), vm_lab.hypervisor.virsh("domblklist", other.name)

    asked = controllers.start("providers", mine.name, "--json").end(300)
    (answer,) = asked.json["machines"]
    assert (asked.code, answer["identity"]) == (1, "Different"), asked
    checked = controllers.start("inventory", "check", "--providers", "--json").end(300)
    (readiness,) = checked.json["providers"]
    assert (checked.code, readiness["ready"]) == (1, False), checked
    assert "it is another machine than" in readiness["findings"][0]["message"]
    told = controllers.patch(scope=mine.name, updates=BAD, snapshot=BACK).end(600)
    (machine,) = told.json["machines"]
    assert (told.code, machine["status"]) == (1, "Failed"), told
    assert f"it is another machine than rack/{other.name}" in machine["reason"], machine["reason"]

    assert other.boot_id() == boots
    assert vm_lab.hypervisor.virsh("domblklist", other.name) == disks
    assert other.sh("cat /root/file", root=True).strip() == "precious"
    assert mine.sh("dpkg-query -W -f='${Version}' lab-plain") == "1.0", "nothing was installed without a way back"

    inventory = fleet.inventory.read_text()
    fleet.inventory.write_text(inventory.replace(f"rack/{other.name}", f"rack/{mine.name}"))
    told = controllers.patch(scope=mine.name, updates=BAD, snapshot=BACK).end(600)
    (machine,) = told.json["machines"]
    assert "the machine is as it was before" in machine["reason"], machine["reason"]
    controllers.end()
