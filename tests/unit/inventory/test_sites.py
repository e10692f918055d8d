"""The site of a machine in every format, and the rules about sites in an inventory."""

from pathlib import Path

import pytest

from inventory.errors import InvalidInventory, InventoryError
from inventory.loader import load_inventory
from inventory.machine import DEFAULT_SITE, Inventory, Machine
from inventory.scope import Scope
from inventory.sites import SITE_VARIABLE, explain_other_site, find_site, use_site


def load(tmp_path: Path, text: str, name: str = "fleet.yaml") -> Inventory:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return load_inventory(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fleet.yaml", "groups: {north: {site: hamburg}}\nmachines: [a, {name: b, groups: [north]}]\n"),
        ("fleet.csv", "name,site\na,\nb,hamburg\n"),
        ("hosts.ini", "a\nb fleetpatch_site=hamburg\n"),
    ],
)
def test_a_site_in_every_format(tmp_path: Path, name: str, text: str) -> None:
    inventory = load(tmp_path, text, name)
    assert [machine.site for machine in inventory.machines] == [DEFAULT_SITE, "hamburg"]
    assert inventory.sites == (DEFAULT_SITE, "hamburg")
    assert [machine.name for machine in Scope.parse("site=hamburg").select_machines(inventory)] == ["b"]
    assert [machine.name for machine in Scope.parse("site=default").select_machines(inventory)] == ["a"]


@pytest.mark.parametrize("site", ["Hamburg", "ham burg", "-a", "a-", "a/b", "ü", "a" * 41, "a_b"])
def test_a_name_that_is_no_part_of_a_pool_is_refused(tmp_path: Path, site: str) -> None:
    with pytest.raises(InvalidInventory, match="no usable name for a site"):
        load(tmp_path, f"machines: [{{name: a, site: '{site}'}}]\n")


def test_two_sites_may_have_the_same_private_address(tmp_path: Path) -> None:
    text = "machines: [{name: a, address: 10.0.0.5}, {name: b, address: 10.0.0.5, site: hamburg}]\n"
    assert len(load(tmp_path, text).machines) == 2
    with pytest.raises(InvalidInventory, match="is reached just as"):
        load(tmp_path, text.replace("site: hamburg", "site: default"))


def test_a_jump_host_of_another_site_is_refused(tmp_path: Path) -> None:
    text = "machines: [{name: a, jump: [b], site: hamburg}, {name: b, site: berlin}]\n"
    with pytest.raises(InvalidInventory, match="'b' is of the site berlin, and 'a' of the site hamburg"):
        load(tmp_path, text)
    assert load(tmp_path, text.replace("berlin", "hamburg")).machines[0].jump == ("b",)


def test_the_site_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SITE_VARIABLE, raising=False)
    assert find_site() == DEFAULT_SITE
    monkeypatch.setenv(SITE_VARIABLE, "hamburg")
    assert find_site() == "hamburg"
    with use_site("berlin"):
        assert find_site() == "berlin"
    monkeypatch.setenv(SITE_VARIABLE, "Ham burg")
    with pytest.raises(InventoryError, match="FLEETPATCH_SITE='Ham burg' is no usable name for a site"):
        find_site()


def test_only_another_site_is_explained() -> None:
    machine = Machine("a", "10.0.0.5", site="hamburg")
    assert explain_other_site(machine, "hamburg") == ""
    assert "reached from the site hamburg only" in explain_other_site(machine, DEFAULT_SITE)


@pytest.mark.parametrize(
    ("limits", "site"),
    [
        ("", "default"),  # one of three may be out of service, and the one of the other site always counts
        ("max_unavailable: 2", "hamburg"),  # two are of the other site
        ("max_unavailable: 3", None),
        ("max_unavailable: 3, quorum: 1", "hamburg"),
        ("max_unavailable: 3, update_domain: rack", "hamburg"),  # the others are of two domains
    ],
)
def test_a_set_of_several_sites_leaves_room_for_the_members_that_a_run_can_not_ask(
    tmp_path: Path, limits: str, site: str | None
) -> None:
    text = (
        "machines: [{name: a, tags: {rack: x}}, {name: b, tags: {rack: y}}, {name: c, site: hamburg, tags: {rack: x}}]"
        f"\nsets: [{{name: web, scope: '*', {limits}}}]\n"
    )
    if site is None:
        assert load(tmp_path, text).sets[0].members == ("a", "b", "c")
        return
    with pytest.raises(InvalidInventory, match=f"so none of the site {site} could ever be patched"):
        load(tmp_path, text)
