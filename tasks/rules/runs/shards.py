"""Divides the machines of a run into shards: parts that one process at their site carries out. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from inventory.data_class import dataclass
from inventory.machine import Machine, MachineSet
from tasks.domain.errors import RequestError
from tasks.domain.model import RunInfo, Wave
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


def find_whole_run_of(run: RunInfo) -> str:
    """Return the id of the whole run of which a run is a shard; "" if it is none."""
    return find_whole_run_id(str(run.request.get("shard") or ""))


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
        first = min(connected, default="")
        leaders = {name: first if leader in connected else leader for name, leader in leaders.items()}
        leaders |= dict.fromkeys(machine_set.members, first)
    return leaders


def needs_shards(machines: Collection[Machine], site: str, size: int) -> bool:
    """Return whether a process at a site can't carry out all these machines itself."""
    return len(machines) > size or any(machine.site != site for machine in machines)


def share_at_once(shards: Sequence[Shard], at_once: int) -> tuple[int, ...]:
    """Return how many machines each of these shards may patch at once: together not more than ``at_once``.

    Each gets at least one, so there must not be more shards than that.
    """
    total = sum(len(shard.machines) for shard in shards)
    return tuple(1 + max(0, at_once - len(shards)) * len(shard.machines) // total for shard in shards)


def build_shard_waves(
    machines: Sequence[Machine], policy: WavePolicy, sets: Sequence[MachineSet], *, idle: Collection[str] = frozenset()
) -> tuple[Wave, ...]:
    """Return the waves of a run that asks no machine for its role.

    The members of a set whose roles must be asked for are in one wave, the last one of any of them: so the process that
    carries them out knows them all, and gives them their turns in the order of their roles. They are no canaries.

    Raises:
        RequestError: the waves can't be built, or such a set leaves no canary, or breaks the order of a jump host.
    """
    asked = [machine_set for machine_set in sets if machine_set.order and machine_set.role and machine_set.role.command]
    waves = build_waves(machines, policy, sets, no_canaries={name for one in asked for name in one.members}, idle=idle)
    wave_of = {name: wave.number for wave in waves for name in wave.machines}
    for machine_set in asked:
        members = [name for name in machine_set.members if name in wave_of]
        wave_of |= dict.fromkeys(members, max((wave_of[name] for name in members), default=0))
    _require_order(machines, wave_of, asked)
    kept = [wave for wave in waves if wave.number in wave_of.values()]
    if any(wave.canary for wave in waves) and not any(wave.canary for wave in kept):
        raise RequestError("no machine is left for a canary wave: all are members of sets whose roles are asked for")
    names = [name for wave in waves for name in wave.machines]
    return tuple(
        replace(wave, number=number, machines=tuple(name for name in names if wave_of[name] == wave.number))
        for number, wave in enumerate(kept, start=1)
    )


def _require_order(machines: Sequence[Machine], wave_of: Mapping[str, int], asked: Sequence[MachineSet]) -> None:
    """Require that each jump host is in a later wave than the machines behind it."""
    for machine in machines:
        for jump in machine.jump:
            if jump in wave_of and wave_of[jump] <= wave_of[machine.name]:
                names = ", ".join(machine_set.name for machine_set in asked)
                raise RequestError(
                    f"{jump} would be patched in the wave of {machine.name}, which is reached through it",
                    hint=f"A set whose roles are asked for is in one wave ({names}). Patch it in a run of its own.",
                )
