"""How the machines of a run are divided into shards, and its waves built without asking for roles."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.machine import Machine, MachineSet, RoleSource
from tasks.domain.errors import RequestError
from tasks.rules.runs.shards import (
    Shard,
    build_shard_run_id,
    build_shard_waves,
    divide_into_shards,
    find_whole_run_id,
    share_at_once,
)
from tasks.rules.runs.waves import WavePolicy

NAMES = tuple(f"m{number}" for number in range(12))


def build_machine(name: str, site: str = "default") -> Machine:
    return Machine(name, "192.0.2.1", site=site)


@given(
    sites=st.lists(st.sampled_from(["default", "hamburg", "rome"]), min_size=1, max_size=len(NAMES)),
    size=st.integers(1, 13),
    members=st.lists(st.sets(st.sampled_from(NAMES), min_size=1, max_size=4), max_size=3),
)
def test_each_machine_is_in_one_shard_of_its_site_and_sets_stay_together(
    sites: list[str], size: int, members: list[set[str]]
) -> None:
    machines = [build_machine(name, site) for name, site in zip(NAMES, sites, strict=False)]
    sets = [MachineSet(f"s{number}", "*", tuple(sorted(names))) for number, names in enumerate(members)]
    site_of = {machine.name: machine.site for machine in machines}

    shards = divide_into_shards(machines, size, sets)

    assert Counter(name for shard in shards for name in shard.machines) == Counter(site_of.keys())
    place = {name: number for number, shard in enumerate(shards) for name in shard.machines}
    for number, shard in enumerate(shards):
        assert {site_of[name] for name in shard.machines} == {shard.site}
        largest_group = max((len(names) for names in members), default=1)
        assert len(shard.machines) <= max(size, sum(len(names) for names in members), largest_group), number
    for machine_set in sets:
        by_site: dict[str, set[int]] = {}
        for name in machine_set.members:
            if name in place:
                by_site.setdefault(site_of[name], set()).add(place[name])
        assert all(len(numbers) == 1 for numbers in by_site.values())


@given(count=st.integers(1, 12), size=st.integers(1, 5))
def test_without_sets_a_shard_is_never_larger_than_its_size(count: int, size: int) -> None:
    shards = divide_into_shards([build_machine(name) for name in NAMES[:count]], size)

    assert [name for shard in shards for name in shard.machines] == list(NAMES[:count])
    assert all(len(shard.machines) == size for shard in shards[:-1])
    assert 1 <= len(shards[-1].machines) <= size


def test_members_whose_roles_are_asked_for_are_in_one_wave() -> None:
    machines = [build_machine(name) for name in NAMES[:6]]
    asked = MachineSet("db", "*", ("m0", "m3"), role=RoleSource(command="role"), order=("standby", "primary"))

    waves = build_shard_waves(machines, WavePolicy(size=2), [asked])

    (wave,) = [wave for wave in waves if "m0" in wave.machines]
    assert "m3" in wave.machines
    assert sorted(name for wave in waves for name in wave.machines) == sorted(NAMES[:6])
    assert all(wave.machines for wave in waves)


def test_such_members_are_no_canaries_unless_none_would_be_left() -> None:
    machines = [build_machine(name) for name in NAMES[:4]]
    asked = MachineSet("db", "*", ("m0", "m1"), role=RoleSource(command="role"), order=("standby", "primary"))

    waves = build_shard_waves(machines, WavePolicy(size=4, canary_count=1), [asked])

    assert [(wave.number, wave.canary, wave.machines) for wave in waves] == [
        (1, True, ("m2",)),
        (2, False, ("m0", "m1", "m3")),
    ]


def test_a_jump_host_never_joins_the_wave_of_the_machines_behind_it() -> None:
    machines = [
        Machine("db1", "192.0.2.1", jump=("jump",)),
        Machine("db2", "192.0.2.1"),
        Machine("jump", "192.0.2.1"),
        Machine("db3", "192.0.2.1"),
        Machine("web1", "192.0.2.1", jump=("db3",)),
    ]
    asked = MachineSet("db", "*", ("db1", "db2", "db3"), role=RoleSource(command="role"), order=("standby", "primary"))

    with pytest.raises(RequestError, match="jump would be patched in the wave of db1, which is reached through it"):
        build_shard_waves(machines, WavePolicy(size=9), [asked])


@given(sizes=st.lists(st.integers(1, 500), min_size=1, max_size=8), more=st.integers(0, 500))
def test_shards_share_the_machines_at_once(sizes: list[int], more: int) -> None:
    shards = [Shard("s", tuple(map(str, range(size)))) for size in sizes]

    shares = share_at_once(shards, len(shards) + more)

    assert min(shares) >= 1
    assert sum(shares) <= len(shards) + more


def test_the_id_of_a_shard_names_its_run() -> None:
    assert find_whole_run_id(build_shard_run_id("20261208-220000-3f2a1c", 12)) == "20261208-220000-3f2a1c"
