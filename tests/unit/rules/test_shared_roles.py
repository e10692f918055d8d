"""Machines of one role without a machine set: what a plan says, and that its proposal is a set that is enough."""

from pathlib import Path

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
    assert about == f"{begin}, as no machine set has them"
    machines = [{"name": name, "address": f"192.0.2.{number}"} for number, name in enumerate(roles, start=1)]
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump({"machines": machines, **yaml.safe_load(proposal)}))
    (proposed,) = load_inventory(tmp_path / "fleet.yaml").sets
    assert (proposed.name, proposed.members) == ("domain-controller-of-corp-example-org", ("dc-1", "dc-2"))
    assert proposed.allowed_unavailable == 1
    assert describe_shared_roles(roles, waves, (proposed,)) == ()


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
        f"a ({NODE}) is in no machine set: another run may have its partner",
    )
    assert describe_shared_roles({"a": [SQL], "b": []}, in_waves("a b"), ()) == ()
    assert describe_shared_roles({"a": [NODE]}, in_waves("a"), (in_set("a", "c"),)) == ()
    four = {name: [DC] for name in "abcd"}
    assert describe_shared_roles(four, in_waves("a b c d"), (in_set("a", "b"), in_set("c", "d"))) == ()
    (note,) = describe_shared_roles(four, in_waves("a b c d"), (in_set("a", "b"), in_set("c", "x")))
    assert note.startswith("warning: a, b, c, d (")


def test_roles_that_could_not_be_read_are_no_absence_of_roles() -> None:
    roles = {"a": None, "b": [DC], "c": None, "d": None}
    unread, alone = describe_shared_roles(roles, in_waves("a b c d"), (in_set("c", "x"),))
    about = "could not be read (domain controller, cluster node), and no machine set has them"
    assert unread == f"warning: the roles of a, d {about}"
    assert alone.startswith(f"b ({DC}) is in no machine set")


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
