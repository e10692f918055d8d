"""Divides the machines of a run into shards: parts that one process at their site carries out. Pure."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from inventory.machine import Machine, MachineSet
from tasks.domain.model import Wave
from tasks.rules.runs.waves import WavePolicy, build_waves


@dataclass(frozen=True, slots=True)
class Shard:
    """Machines of one site that one process carries out, in the order of the run."""

    site: str
    machines: tuple[str, ...]


def build_shard_run_id(run_id: str, number: int) -> str:
    """Return the id of the run of a shard: that of the whole run, and a number."""
    return f"{run_id}-{number}"


def find_whole_run_id(shard: str) -> str:
    """Return the id of the whole run from that of a shard's run."""
    return shard.rpartition("-")[0]


def divide_into_shards(machines: Iterable[Machine], size: int, sets: Iterable[MachineSet] = ()) -> tuple[Shard, ...]:
    """Return shards of at most ``size`` machines, each of one site. Sites are in the order of their first machine.

    The members of a set, and of sets that share a member, are in one shard of their site, also if it is larger then.
    """
    leaders = _find_leaders(sets)
    groups: dict[str, dict[str, list[str]]] = {}  # site -> leader -> machines
    for machine in machines:
        leader = leaders.get(machine.name, machine.name)
        groups.setdefault(machine.site, {}).setdefault(leader, []).append(machine.name)
    shards: list[Shard] = []
    for site, site_groups in groups.items():
        names: list[str] = []
        for group in site_groups.values():
            if names and len(names) + len(group) > size:
                shards.append(Shard(site, tuple(names)))
                names = []
            names += group
        shards.append(Shard(site, tuple(names)))
    return tuple(shards)


def _find_leaders(sets: Iterable[MachineSet]) -> dict[str, str]:
    """Return one member for all members that are connected by sets."""
    leaders: dict[str, str] = {}
    for machine_set in sets:
        connected = {leaders.get(name, name) for name in machine_set.members}
        for leader in connected:
            leaders.setdefault(leader, leader)
        leaders.update(dict.fromkeys(machine_set.members, min(connected, default="")))
        leaders = {name: min(connected) if leader in connected else leader for name, leader in leaders.items()}
    return leaders


def needs_shards(machines: Collection[Machine], site: str, size: int) -> bool:
    """Return whether a process at a site can't carry out all these machines itself."""
    return len(machines) > size or any(machine.site != site for machine in machines)


def build_shard_waves(machines: Sequence[Machine], policy: WavePolicy, sets: Sequence[MachineSet]) -> tuple[Wave, ...]:
    """Return the waves of a run that asks no machine for its role.

    The members of a set whose roles must be asked for are in one wave, the last one of any of them: so the process that
    carries them out knows them all, and gives them their turns in the order of their roles.

    Raises:
        RequestError: the waves can't be built.
    """
    waves = build_waves(machines, policy, sets)
    for machine_set in sets:
        if machine_set.order and machine_set.role and machine_set.role.command:
            members = [name for wave in waves for name in wave.machines if name in machine_set.members]
            last = max((wave.number for wave in waves if set(wave.machines) & set(members)), default=0)
            waves = tuple(
                replace(
                    wave,
                    machines=(
                        *(name for name in wave.machines if name not in members),
                        *(members if wave.number == last else ()),
                    ),
                )
                for wave in waves
            )
    return tuple(wave for wave in waves if wave.machines)
