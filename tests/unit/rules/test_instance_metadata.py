"""The metadata of a machine: what programs that read scheduled events look for."""

import pytest

from inventory.machine import Machine, MachineSet
from tasks.rules.instance_metadata import build_instance, find_metadata

WEB = Machine(
    "web_0", "192.0.2.5", environment="prod", location="nuremberg", availability_zone="2", tags={"secret": "x"}
)
SET = MachineSet("web", "web*", ("web_0", "web_1"))


def test_it_has_what_programs_ask_for() -> None:
    compute = build_instance(WEB, [SET], "default")["compute"]

    asked = ("name", "resourceGroupName", "vmScaleSetName", "location", "zone", "osType")
    assert [compute[name] for name in asked] == ["web_0", "prod", "web", "nuremberg", "2", "Linux"]
    assert compute["subscriptionId"] in compute["resourceId"]


def test_ids_are_of_the_fleet_and_the_machine_and_stay() -> None:
    def read_ids(name: str, fleet: str) -> tuple[str, str]:
        compute = build_instance(Machine(name, "192.0.2.5"), (), fleet)["compute"]
        return compute["vmId"], compute["subscriptionId"]

    assert read_ids("a", "default") == read_ids("a", "default")
    assert len({read_ids("a", "default")[0], read_ids("b", "default")[0], read_ids("a", "other")[0]}) == 3
    assert len({read_ids("a", "default")[1], read_ids("a", "other")[1]}) == 2


def test_nothing_else_of_the_inventory_is_in_it() -> None:
    text = str(build_instance(WEB, [SET], "default"))

    assert "secret" not in text
    assert "192.0.2.5" not in text
    assert "web_1" not in text


def test_a_part_is_found_by_its_path() -> None:
    instance = build_instance(WEB, [SET], "default")

    assert find_metadata(instance, ["compute", "name"]) == "web_0"
    assert find_metadata(instance, []) == instance
    for path in (["compute", "no"], ["compute", "name", "more"], ["no"]):
        with pytest.raises(KeyError):
            find_metadata(instance, path)
