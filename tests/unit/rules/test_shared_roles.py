"""Machines of one role without a machine set: what a plan says, and that its proposal is a set that is enough."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from inventory.loader import load_inventory
from inventory.machine import MachineSet
from tasks.domain.model import Wave
from tasks.rules.runs.shared_roles import describe_shared_roles

DC, NODE, SQL = "domain controller of corp.example.org", "node of the cluster HV1", "SQL Server"


def in_waves(*waves: str) -> tuple[Wave, ...]:
    return tuple(Wave(number, tuple(names.split())) for number, names in enumerate(waves, start=1))


def in_set(*members: str) -> MachineSet:
    return MachineSet("-".join(members), "*", members)


def test_machines_of_one_domain_are_told_with_a_set_that_is_enough(tmp_path: Path) -> None:
    roles, waves = {"dc-1": [DC], "dc-2": [DC, SQL], "db-1": [SQL]}, in_waves("dc-1", "dc-2", "db-1")
    (note,) = describe_shared_roles(roles, waves, ())
    about, _, proposal = note.partition(". Add to the inventory: ")
    begin = f"warning: dc-1, dc-2 ({DC}) may be out of service together"
    assert about == f"{begin}: no machine set keeps them apart"
    machines = [{"name": name, "address": f"192.0.2.{number}"} for number, name in enumerate(roles, start=1)]
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump({"machines": machines, **yaml.safe_load(proposal)}))
    (proposed,) = load_inventory(tmp_path / "fleet.yaml").sets
    assert (proposed.name, proposed.members) == ("domain-controller-of-corp-example-org", ("dc-1", "dc-2"))
    assert proposed.allowed_unavailable == 1
    assert describe_shared_roles(roles, waves, (proposed,)) == ()
    (again,) = describe_shared_roles(roles, waves, (replace(proposed, max_unavailable=2),))
    assert "name: domain-controller-of-corp-example-org-apart, " in again


@pytest.mark.parametrize(
    ("waves", "sets", "told"),
    [
        (("a b",), (), ["a, b (SQL Server)"]),
        (("a", "b"), (), []),
        (("a b",), (in_set("a", "c"),), ["a, b (SQL Server)"]),
        (("a b",), (in_set("a", "b"),), []),
    ],
)
def test_servers_that_need_not_belong_together_are_told_where_they_share_a_wave(
    waves: tuple[str, ...], sets: tuple[MachineSet, ...], told: list[str]
) -> None:
    notes = describe_shared_roles({"a": [SQL], "b": [SQL]}, in_waves(*waves), sets)
    assert [note.removeprefix("warning: ").partition(" may be")[0] for note in notes] == told


def test_one_alone_is_told_only_of_a_role_with_partners_and_sets_of_sites_are_enough() -> None:
    assert describe_shared_roles({"a": [NODE]}, in_waves("a b"), ()) == (
        f"a ({NODE}): no machine set keeps it from a partner in another run",
    )
    assert describe_shared_roles({"a": [SQL], "b": []}, in_waves("a b"), ()) == ()
    assert describe_shared_roles({"a": [NODE]}, in_waves("a"), (in_set("a", "c"),)) == ()
    four = {name: [DC] for name in "abcd"}
    assert describe_shared_roles(four, in_waves("a b c d"), (in_set("a", "b"), in_set("c", "d"))) == ()
    (note,) = describe_shared_roles(four, in_waves("a b c d"), (in_set("a", "b"), in_set("c", "x")))
    assert note.startswith("warning: a, b, c, d (")


def test_roles_that_could_not_be_read_are_no_absence_of_roles() -> None:
    roles = {"a": None, "b": [DC], "c": None, "d": ["domain controller of "], "e": ["node of the cluster "]}
    unread, alone = describe_shared_roles(roles, in_waves("a b c d e"), (in_set("c", "x"),))
    about = "could not be read (domain controller or cluster node, and of which), and no machine set keeps them apart"
    assert unread == f"warning: the roles of a, d, e {about}"
    assert alone.startswith(f"b ({DC}): no machine set keeps it")


def test_machines_that_do_not_know_the_name_of_their_cluster_are_of_no_common_one() -> None:
    nodes = {"a": ["node of the cluster "], "b": ["node of the cluster "]}
    (note,) = describe_shared_roles(nodes, in_waves("a b"), ())
    assert note.startswith("warning: the roles of a, b could not be read (domain controller or cluster node, and of")
    assert describe_shared_roles(nodes, in_waves("a b"), (in_set("a", "x"), in_set("b", "y"))) == ()


@pytest.mark.parametrize(
    ("limits", "is_told"),
    [
        ({"max_unavailable": 1}, False),
        ({"max_unavailable": 2}, True),
        ({"max_unavailable_percent": 100.0}, True),
        ({"max_unavailable": 2, "quorum": 1}, False),
        ({"max_unavailable": 2, "update_domain": "room"}, False),
    ],
)
def test_a_set_that_lets_all_be_out_of_service_together_keeps_nothing_apart(
    limits: dict[str, Any], *, is_told: bool
) -> None:
    machine_set = MachineSet("dcs", "dc-*", ("dc-1", "dc-2"), **limits)
    both, one = {"dc-1": [DC], "dc-2": [DC]}, {"dc-1": [DC]}
    for roles in (both, one, {"dc-1": None}):
        notes = describe_shared_roles(roles, in_waves("dc-1 dc-2"), (machine_set,))
        assert ["machine set" in note for note in notes] == [True] * is_told
    beside = MachineSet("all", "*", ("dc-1", "dc-2", "web-1"), max_unavailable=2)
    assert len(describe_shared_roles(both, in_waves("dc-1 dc-2"), (beside, machine_set))) == is_told


@given(
    roles=st.dictionaries(
        st.sampled_from("abcdef"), st.none() | st.lists(st.sampled_from([DC, NODE, SQL]), unique=True)
    ),
    waves=st.lists(st.sampled_from("abcdef"), unique=True).map(lambda names: in_waves(*names, "x")),
)
def test_one_set_of_all_machines_silences_each_note(
    roles: dict[str, list[str] | None], waves: tuple[Wave, ...]
) -> None:
    assert describe_shared_roles(roles, waves, (in_set(*"abcdef"),)) == ()
    notes = describe_shared_roles(roles, waves, ())
    assert any("could not be read" in note for note in notes) is (None in roles.values())
    for note in notes:
        assert note.count("warning: ") == note.count("Add to the inventory: ") + note.count("could not be read") <= 1
