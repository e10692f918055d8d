"""Filters, counts and sorts the machines of a list. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Final

from fleetpatch.machines.snapshot import FleetSnapshot
from inventory.data_class import dataclass
from inventory.errors import InventoryError
from inventory.scope import Scope
from tasks.domain.rows.machines import MachineRow
from tasks.domain.states import Compliance, MachineKind, YesNoUnknown


@dataclass(frozen=True, slots=True)
class MachineFilters:
    """What the list is limited to; "" for anything."""

    q: str = ""  # a part of the name or the address, in any case
    compliance: str = ""
    environment: str = ""
    os: str = ""  # an operating system as the list shows it, the id of a distribution, or a family
    location: str = ""
    owner: str = ""
    reboot: str = ""
    readiness: str = ""
    kind: str = ""  # a kind of machine, or what it also is: one of KINDS
    hotpatch: str = ""  # a status of the enrolment for hotpatches
    show: str = ""  # one of SHOWN
    scope: str = ""  # a fleetpatch scope

    @property
    def given(self) -> dict[str, str]:
        """The filters that limit the list."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name).strip())}


NO_VALUE: Final = "(none)"
"""Stands for an empty environment or location in filters: "" would be no filter."""

SHOWN: Final[Mapping[str, tuple[str, Callable[[MachineRow], bool]]]] = {
    "urgent": ("lack critical or security updates", lambda machine: machine.is_current and bool(machine.urgent)),
    "critical": ("lack critical updates", lambda machine: machine.is_current and bool(machine.critical)),
    "security": ("lack security updates", lambda machine: machine.is_current and bool(machine.security)),
    "services": (
        "need a restart of services",
        lambda machine: machine.is_current and bool(machine.services_to_restart),
    ),
    "waiting": ("have fixes that are not in effect", lambda machine: machine.in_effect is YesNoUnknown.NO),
    "unreachable": ("could not be reached at the last try", lambda machine: machine.is_unreachable),
    "drift": ("update themselves otherwise than their owner says", lambda machine: bool(machine.updater_drift)),
    "windowless": ("have no window", lambda machine: machine.next_window is None),
}
"""Other choices of machines: what they have in common, and how to tell."""


CONTAINER_HOST: Final = "ContainerHost"
ARC: Final = "Arc"
KINDS: Final[Mapping[str, str]] = {
    MachineKind.PHYSICAL.value: "physical",
    MachineKind.VIRTUAL.value: "virtual machine",
    MachineKind.CONTAINER.value: "container",
    MachineKind.UNKNOWN.value: "not known",
    CONTAINER_HOST: "container host",
    ARC: "Azure Arc",
}
"""The words of the filter ``kind`` with their titles: what a machine is, and what it also may be."""


def list_kinds(machine: MachineRow) -> tuple[str, ...]:
    """Return what a machine is: one word of MachineKind, and CONTAINER_HOST and ARC where it said so."""
    also = ((CONTAINER_HOST, machine.container_engines), (ARC, machine.is_arc))
    return (machine.machine_kind.value, *(word for word, is_so in also if is_so))


FACETS: Final[Mapping[str, Callable[[MachineRow], str]]] = {
    "compliance": lambda machine: machine.compliance.value,
    "environment": lambda machine: machine.environment or NO_VALUE,
    "os": lambda machine: machine.system_or_family,
    "location": lambda machine: machine.location or NO_VALUE,
    "owner": lambda machine: machine.owner.value if machine.owner is not None else NO_VALUE,
    "reboot": lambda machine: machine.reboot.value,
    "readiness": lambda machine: machine.readiness.value,
    "hotpatch": lambda machine: machine.hotpatch_status.value if machine.hotpatch_status is not None else NO_VALUE,
}
"""What a machine has exactly one word of."""


def _matches_os(machine: MachineRow, system: str) -> bool:
    return system in {machine.system_or_family, machine.os_family, machine.os_id}


def filter_machines(snapshot: FleetSnapshot, filters: MachineFilters, without: str = "") -> list[MachineRow]:
    """Return the machines that match all filters.

    ``without``: a filter that does not count.

    Raises:
        InventoryError: the scope is not valid, or no machine is in it.
    """
    tests = _build_tests(filters, without)
    scope = filters.given.get("scope")
    names = select_names(snapshot, scope) if scope else None
    return [
        machine
        for machine in snapshot.machines.values()
        if (names is None or machine.name in names) and all(test(machine) for test in tests)
    ]


def select_names(snapshot: FleetSnapshot, scope: str) -> frozenset[str]:
    """Return the names of the machines in a scope.

    Raises:
        InventoryError: the scope is not valid, or no machine is in it; or there is no inventory.
    """
    if snapshot.inventory is None:
        raise InventoryError("there is no inventory to which the scope could apply")
    return frozenset(machine.name for machine in Scope.parse(scope).select_machines(snapshot.inventory))


def _build_tests(filters: MachineFilters, without: str) -> list[Callable[[MachineRow], bool]]:
    tests: list[Callable[[MachineRow], bool]] = []
    other_filters = {name: value for name, value in filters.given.items() if name != without}
    for name, value in other_filters.items():
        if name == "os":
            tests.append(lambda machine, value=value: _matches_os(machine, value))  # type: ignore[misc]
        elif name == "kind":
            tests.append(lambda machine, value=value: value in list_kinds(machine))  # type: ignore[misc]
        elif name in FACETS:
            tests.append(lambda machine, read=FACETS[name], value=value: read(machine) == value)  # type: ignore[misc]
    if "q" in other_filters:
        part = other_filters["q"].casefold()
        tests.append(lambda machine: part in machine.name.casefold() or part in (machine.address or "").casefold())
    if "show" in other_filters:
        tests.append(SHOWN[other_filters["show"]][1] if other_filters["show"] in SHOWN else lambda _: False)
    return tests


def count_facets(snapshot: FleetSnapshot, filters: MachineFilters) -> dict[str, list[tuple[str, int]]]:
    """Return how many machines each value of each facet would show, with the other filters as they are.

    Raises:
        InventoryError: the scope is not valid, or no machine is in it.
    """
    matching = filter_machines(snapshot, filters)
    facets = {}
    for name, read in FACETS.items():
        machines = filter_machines(snapshot, filters, name) if getattr(filters, name) else matching
        counts = Counter(map(read, machines))
        if name == "os":  # a system whose version is not known: its filter is also that for all versions
            values = {*counts, filters.os} - {""}
            counts.update({value: sum(_matches_os(one, value) for one in machines) - counts[value] for value in values})
        elif getattr(filters, name):
            counts.setdefault(getattr(filters, name), 0)
        facets[name] = sorted(counts.items())
    machines = filter_machines(snapshot, filters, "kind") if filters.kind else matching
    kinds = Counter(kind for machine in machines for kind in list_kinds(machine))
    if filters.kind:
        kinds.setdefault(filters.kind, 0)
    facets["kind"] = sorted(kinds.items())
    return facets


_LAST = datetime.max.replace(tzinfo=UTC)
_FIRST = datetime.min.replace(tzinfo=UTC)
_COMPLIANCE_ORDER = {Compliance.NON_COMPLIANT: 0, Compliance.NOT_ASSESSED: 1, Compliance.COMPLIANT: 2}

SORT_KEYS: Final[Mapping[str, Callable[[MachineRow], object]]] = {
    "name": lambda machine: machine.name.casefold(),
    "compliance": lambda machine: _COMPLIANCE_ORDER[machine.compliance],
    "environment": lambda machine: (machine.environment or "").casefold(),
    "os": lambda machine: machine.system_or_family,
    "urgent": lambda machine: machine.urgent or 0,
    "other": lambda machine: machine.other or 0,
    "readiness": lambda machine: machine.readiness.value,
    "mode": lambda machine: machine.patch_mode or "",
    "hotpatch": lambda machine: machine.hotpatch_status.value if machine.hotpatch_status is not None else "",
    "run": lambda machine: machine.last_run.at if machine.last_run is not None else _FIRST,
    "window": lambda machine: machine.next_window.start if machine.next_window is not None else _LAST,
}


def sort_machines(machines: Iterable[MachineRow], sort: str) -> Sequence[MachineRow]:
    """Return machines in an order; machines that are equal in it by their names.

    ``sort``: a key of SORT_KEYS, with "-" before it for the opposite order. Any other text: by name.
    """
    by_name = sorted(machines, key=SORT_KEYS["name"])  # type: ignore[arg-type]
    key = SORT_KEYS.get(sort.removeprefix("-"))
    if key is None:
        return by_name
    return sorted(by_name, key=key, reverse=sort.startswith("-"))  # type: ignore[arg-type]
