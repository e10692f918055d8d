"""From checked settings to machines: layers are merged, ranges spread, and machines checked against each other."""

import graphlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inventory.addresses import Way, way_to
from inventory.checking import check
from inventory.credentials import parse_reference
from inventory.errors import InventoryError
from inventory.machine import Check, HostKeys, Inventory, Limits, Machine, TransportKind
from inventory.places import Located, Place, Problems, did_you_mean, with_home
from inventory.ranges import MAX_MACHINES, BadRange, expand, has_range
from inventory.schema import CheckEntry, HostKeysEntry, LimitsEntry, MachineEntry, Settings

Layer = Mapping[str, object]
"""Settings as they were written: only the keys that are there. None takes back what a wider layer said."""

_MOST_CIRCLES = 5
_CONVERTED = frozenset(
    {"address", "jump", "groups", "tags", "limits", "pre_checks", "probes", "credential", "privilege_password"}
)


@dataclass(frozen=True, slots=True)
class Draft:
    """A machine as one file has it, before it is held against the others."""

    machine: Machine
    source: Located

    def at(self, key: str) -> Place:
        """Return where a key of it stands, or the machine itself when the key comes from a group or default."""
        return self.source.at((key,)) if isinstance(self.source.data, dict) and key in self.source.data else self.place

    @property
    def place(self) -> Place:
        """Where the machine stands."""
        return self.source.at()


@dataclass(frozen=True, slots=True)
class Fragment:
    """What one file says."""

    drafts: tuple[Draft, ...] = ()
    host_keys: tuple[HostKeys, Place] | None = None


def layer_of(settings: Settings | None) -> Layer:
    """Return the keys that a checked map really holds."""
    return {key: getattr(settings, key) for key in settings.model_fields_set} if settings else {}


def merged(layers: Sequence[Layer]) -> Layer:
    """Merge layers, the last one strongest. Tags and limits are merged key by key; everything else is replaced."""
    result: dict[str, object] = {}
    for layer in layers:
        for key, value in layer.items():
            before = result.get(key)
            if isinstance(before, dict) and isinstance(value, dict):
                result[key] = {**before, **value}
            elif isinstance(before, LimitsEntry) and isinstance(value, LimitsEntry):
                result[key] = before.model_copy(update={name: getattr(value, name) for name in value.model_fields_set})
            else:
                result[key] = value
    return result


def spread_all(entries: Iterable[Located], problems: Problems) -> list[Located]:
    """Return one map for each machine that entries stand for; none when they are more than any fleet has."""
    found: list[Located] = []
    for entry in entries:
        found += spread(entry, problems)
        if len(found) > MAX_MACHINES:
            hint = "Correct the ranges, or split the inventory."
            problems.add(entry.at(), f"this inventory names more than {MAX_MACHINES:,} machines", hint)
            return []
    return found


def spread(located: Located, problems: Problems) -> Iterator[Located]:
    """Give one map for each machine that a name with ranges stands for; addresses with ranges go along."""
    data = located.data
    name = data.get("name") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(name, str) or not has_range(name):
        yield located
        return
    address = data.get("address")
    try:
        names = expand(name)
        addresses = expand(address) if isinstance(address, str) else ()
    except BadRange as error:
        problems.add(located.at(("name",)), str(error), "Write it as [first:last] or [first:last:step].")
        return
    if addresses and len(addresses) != len(names):
        message = f"{len(names)} names, but {len(addresses)} addresses"
        problems.add(located.at(("address",)), message, "Give the address a range of the same length, or leave it out.")
        return
    for index, single in enumerate(names):
        own = {"name": single, **({"address": addresses[index]} if addresses else {})}
        yield Located({**data, **own}, located.places, located.base)


def draft(located: Located, wider: Sequence[Layer], entry: MachineEntry) -> Draft:
    """Make a machine from its entry and the layers around it.

    Args:
        located: where the entry stands.
        wider: defaults and groups, the strongest last.
        entry: the machine's own, checked keys.
    """
    own = layer_of(entry)
    values = {key: value for key, value in merged([*wider, own]).items() if value is not None}
    base = located.at().file.parent
    given: dict[str, object] = {key: value for key, value in values.items() if key not in _CONVERTED}
    machine = Machine(
        **given,  # type: ignore[arg-type]  # the schema has the types of Machine's fields
        address=entry.address or entry.name,
        jump=_names(values.get("jump")),
        groups=_names(values.get("groups")),
        tags=dict(sorted(_tags(values.get("tags")).items())),
        limits=_limits(values.get("limits")),
        pre_checks=_checks(values.get("pre_checks")),
        probes=_checks(values.get("probes")),
        credential=_anchored(values.get("credential"), base) or "agent",
        privilege_password=_anchored(values.get("privilege_password"), base),
    )
    return Draft(machine, located)


def host_keys(located: Located, problems: Problems) -> tuple[HostKeys, Place] | None:
    """Check the map `host_keys`, and take its path from where it stands."""
    entry = check(HostKeysEntry, located, problems)
    if entry is None:
        return None
    place = located.at()
    try:
        path = place.file.parent.absolute() / with_home(Path(entry.known_hosts)) if entry.known_hosts else None
    except InventoryError as error:
        problems.add(located.at(("known_hosts",)), error.message, error.hint)
        return None
    return HostKeys(entry.policy, path), place


def assemble(fragments: Sequence[Fragment], source: Path, problems: Problems) -> Inventory:
    """Put all files together and hold the machines against each other.

    Raises:
        InvalidInventory: with everything that is wrong, here and before.
    """
    drafts = [draft for fragment in fragments for draft in fragment.drafts]
    by_name = _unique(drafts, problems)
    for one in drafts:
        _check_jumps(one, by_name, problems)
    _check_cycles(by_name, problems)
    keys = _one_host_keys(fragments, problems)
    if not drafts and not problems:
        problems.add(Place(source), "this inventory describes no machine", "Add one under `machines:`.")
    problems.raise_any()
    return Inventory(tuple(one.machine for one in drafts), keys, source)


def _names(value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value)) if isinstance(value, list) else ()


def _tags(value: object) -> dict[str, str]:
    return value if isinstance(value, dict) else {}


def _limits(value: object) -> Limits:
    return Limits(**value.model_dump()) if isinstance(value, LimitsEntry) else Limits()


def _checks(value: object) -> tuple[Check, ...]:
    entries = value if isinstance(value, list) else []
    return tuple(Check(**entry.model_dump()) for entry in entries if isinstance(entry, CheckEntry))


def _anchored(value: object, directory: Path) -> str | None:
    return str(parse_reference(value).anchored(directory.absolute())) if isinstance(value, str) else None


def _unique(drafts: Sequence[Draft], problems: Problems) -> dict[str, Draft]:
    """Refuse what stands there twice: one machine under two names would be patched twice at once."""
    by_name: dict[str, Draft] = {}
    lower: dict[str, Draft] = {}
    reached: dict[Way, Draft] = {}
    for one in drafts:
        machine = one.machine
        way = way_to(machine)
        if (twin := lower.get(machine.name.lower())) is not None:
            what = "stands here twice" if twin.machine.name == machine.name else "differs from another only in case"
            message = f"the machine {machine.name!r} {what}, first in {_spot(twin.place)}"
            problems.add(one.at("name"), message, "Remove or rename one of the two.")
        elif (twin := reached.get(way)) is not None:
            message = f"{machine.name!r} is reached just as {twin.machine.name!r} in {_spot(twin.place)}"
            problems.add(one.place, message, "One machine has one name. Remove one, or correct address or port.")
        by_name.setdefault(machine.name, one)
        lower.setdefault(machine.name.lower(), one)
        reached.setdefault(way, one)
    return by_name


def _spot(place: Place) -> str:
    return f"{place.file.name}:{place.line}" if place.line else place.file.name


def _check_jumps(one: Draft, by_name: Mapping[str, Draft], problems: Problems) -> None:
    machine, place = one.machine, one.at("jump")
    if machine.jump and machine.transport is TransportKind.LOCAL:
        problems.add(
            place, f"{machine.name!r} is local and needs no jump host", "Remove `jump`, or correct `transport`."
        )
    for name in machine.jump:
        if name == machine.name:
            hint = "Give the jump host itself an empty `jump:`." if place == one.place else "Remove it from `jump`."
            problems.add(place, f"{name!r} can't be its own jump host", hint)
        elif name not in by_name:
            hint = f"{did_you_mean(name, by_name)}Jump hosts are machines of this inventory; `owner: manual` keeps "
            problems.add(place, f"there is no machine {name!r} to jump through", f"{hint}one from being patched.")
        elif by_name[name].machine.transport is not TransportKind.SSH:
            kind = by_name[name].machine.transport.value
            problems.add(place, f"the jump host {name!r} is reached by {kind}", "Jump hosts speak ssh.")


def _check_cycles(by_name: Mapping[str, Draft], problems: Problems) -> None:
    """Tell of each circle of jump hosts once, and not of many: one is found, told and taken out."""
    graph = {name: {jump for jump in one.machine.jump if jump != name} for name, one in by_name.items()}
    for _ in range(_MOST_CIRCLES):
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            circle: list[str] = error.args[1][::-1]
            place = by_name[circle[0]].at("jump")
            message = f"jump hosts go in a circle: {' -> '.join(circle)}"
            problems.add(place, message, "One of them must be reached directly.")
            graph.update((name, set()) for name in circle)
        else:
            return


def _one_host_keys(fragments: Sequence[Fragment], problems: Problems) -> HostKeys:
    found = [fragment.host_keys for fragment in fragments if fragment.host_keys]
    for _, place in found[1:]:
        message = f"`host_keys` stands here again, first in {_spot(found[0][1])}"
        problems.add(place, message, "Keep it in one file of the directory.")
    return found[0][0] if found else HostKeys()
