"""The limits of what machines share, in every format, and their faults."""

from pathlib import Path

import pytest

from inventory.errors import InvalidInventory
from inventory.loader import load_inventory
from inventory.machine import Inventory
from inventory.resource_limits import Resource, ResourceKind
from inventory.scope import Scope

MACHINES = """
machines:
  - {name: bastion-1, site: hamburg}
  - {name: "web-[1:3]", jump: bastion-1, hypervisor: esx-1, mirror: hh, site: hamburg}
"""


def load(tmp_path: Path, text: str, name: str = "fleet.yaml") -> Inventory:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return load_inventory(path)


def test_one_number_or_numbers_by_name(tmp_path: Path) -> None:
    text = "limits: {site: 50, jump_host: {bastion-1: 2, others: 20}, hypervisor: {esx-1: 1}}\n"
    limits = load(tmp_path, text + MACHINES).limits
    assert [limits.find(Resource(ResourceKind.SITE, name)) for name in ("hamburg", "default")] == [50, 50]
    assert [limits.find(Resource(ResourceKind.JUMP_HOST, name)) for name in ("bastion-1", "bastion-2")] == [2, 20]
    assert [limits.find(Resource(ResourceKind.HYPERVISOR, name)) for name in ("esx-1", "esx-2")] == [1, None]
    assert limits.find(Resource(ResourceKind.MIRROR, "hh")) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("limits: {jump_host: {bastion-2: 5}}", "no machine has the jump host 'bastion-2'"),
        ("limits: {hypervisor: {esx-2: 5}}", "no machine has the hypervisor 'esx-2'"),
        ("limits: {site: 0}", "'0' is out of range"),
        ("limits: {site: many}", "'many' is not a whole number"),
        ("limits: {rack: 4}", "unknown key 'rack'"),
        ("limits: 4", "a map is wanted here"),
    ],
)
def test_faults(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInventory, match=message) as caught:
        load(tmp_path, text + MACHINES)
    assert "fleet.yaml:1" in str(caught.value)


def test_limits_stand_in_one_file_of_a_folder_also_without_machines(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("limits: {jump_host: {bastion-1: 2}}\n")
    (tmp_path / "b.yaml").write_text(MACHINES)
    assert load_inventory(tmp_path).limits.find(Resource(ResourceKind.JUMP_HOST, "bastion-1")) == 2
    (tmp_path / "b.yaml").write_text("limits: {site: 4}\n" + MACHINES)
    with pytest.raises(InvalidInventory, match=r"`limits` stands here again, first in a\.yaml:1"):
        load_inventory(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fleet.yaml", "machines: [{name: a, hypervisor: esx 1, mirror: hh}]\n"),
        ("fleet.csv", "name,hypervisor,mirror\na,esx 1,hh\n"),
        ("hosts.ini", "a fleetpatch_hypervisor='esx 1' fleetpatch_mirror=hh\n"),
    ],
)
def test_where_a_machine_stands_in_every_format(tmp_path: Path, name: str, text: str) -> None:
    inventory = load(tmp_path, text, name)
    (machine,) = inventory.machines
    assert (machine.hypervisor, machine.mirror) == ("esx 1", "hh")
    assert Scope.parse("hypervisor=esx*,mirror=hh").select_machines(inventory) == (machine,)
