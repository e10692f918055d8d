"""Filters, counts and sorts the machines of a list. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from fleetpatch.machines.snapshot import FleetSnapshot, MachineRow
from fleetpatch.machines.standing import (
    Readiness,
    assess_readiness,
    describe_patch_mode,
    find_compliance,
    find_last_known,
    get_answer,
    is_unreachable,
)
from inventory.errors import InventoryError
from inventory.scope import Scope
from tasks.domain.states import Compliance, YesNoUnknown
from tasks.records.queries.fleet.machine_states import MachineState


@dataclass(frozen=True, slots=True)
class MachineEntry:
    """A machine in the list.

    Attributes:
        answer: its state, if its answer is new enough to count.
        compliance: by that answer, if the newest try got one; a machine that lacks something needs no newer answer.
        last_known: what it was by its last answer, of any age, if that is not its compliance now; else None.
        os: the distribution and its version if they are known, else the family and that it is not seen yet.
        reboot: whether it needs a reboot, by that answer.
        mode: who patches it, and when.
    """

    row: MachineRow
    answer: MachineState | None
    compliance: Compliance
    last_known: Compliance | None
    os: str
    reboot: YesNoUnknown
    readiness: Readiness
    mode: str

    @property
    def name(self) -> str:
        """The machine's name."""
        return self.row.machine.name

    @property
    def urgent(self) -> int:
        """The number of critical and security updates by the newest answer, of any age."""
        state = self.row.state
        return state.critical + state.security if state is not None else 0


@dataclass(frozen=True, slots=True)
class MachineFilters:
    """What the list is limited to; "" for anything.

    Attributes:
        q: a part of the name or the address, in any case.
        os: an operating system as the list shows it, the id of a distribution, or a family.
        scope: a fleetpatch scope.
        show: one of SHOWN.
    """

    q: str = ""
    compliance: str = ""
    environment: str = ""
    os: str = ""
    location: str = ""
    owner: str = ""
    reboot: str = ""
    readiness: str = ""
    show: str = ""
    scope: str = ""

    @property
    def given(self) -> dict[str, str]:
        """The filters that limit the list."""
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name))}


NO_VALUE: Final = "(none)"
"""Stands for an empty environment or location in filters: "" would be no filter."""

SHOWN: Final[Mapping[str, tuple[str, Callable[[MachineEntry], bool]]]] = {
    "urgent": (
        "lack critical or security updates",
        lambda one: bool(_count(one, "critical") + _count(one, "security")),
    ),
    "critical": ("lack critical updates", lambda one: bool(_count(one, "critical"))),
    "security": ("lack security updates", lambda one: bool(_count(one, "security"))),
    "services": ("need a restart of services", lambda one: bool(_count(one, "services_to_restart"))),
    "unreachable": ("could not be reached at the last try", lambda one: is_unreachable(one.row.state)),
    "windowless": ("have no window", lambda one: one.row.next_window is None),
}
"""Other choices of machines: what they have in common, and how to tell."""


def _count(entry: MachineEntry, column: str) -> int:
    return getattr(entry.answer, column) if entry.answer is not None else 0


@lru_cache(maxsize=2)
def list_entries(snapshot: FleetSnapshot) -> tuple[MachineEntry, ...]:
    """Return all machines in the order of the inventory."""
    return tuple(build_entry(row, snapshot.at) for row in snapshot.rows.values())


def build_entry(row: MachineRow, now: datetime) -> MachineEntry:
    """Return a machine as the list shows it."""
    answer = get_answer(row, now)
    return MachineEntry(
        row=row,
        answer=answer,
        compliance=find_compliance(row, now),
        last_known=find_last_known(row, now),
        os=describe_os(row),
        reboot=YesNoUnknown(answer.reboot) if answer is not None else YesNoUnknown.UNKNOWN,
        readiness=assess_readiness(row),
        mode=describe_patch_mode(row),
    )


def describe_os(row: MachineRow) -> str:
    """Return the distribution and its version; the family of the inventory, marked as such, if they are not known."""
    state = row.state
    known = f"{state.os_id} {state.os_version}".strip() if state is not None else ""
    return known or f"{row.machine.os}, not seen yet"


FACETS: Final[Mapping[str, Callable[[MachineEntry], str]]] = {
    "compliance": lambda one: one.compliance.value,
    "environment": lambda one: one.row.machine.environment or NO_VALUE,
    "os": lambda one: one.os,
    "location": lambda one: one.row.machine.location or NO_VALUE,
    "owner": lambda one: one.row.machine.owner.value,
    "reboot": lambda one: one.reboot.value,
    "readiness": lambda one: one.readiness.word,
}


def _matches_os(entry: MachineEntry, wanted: str) -> bool:
    state = entry.row.state
    return wanted in {entry.os, entry.row.machine.os.value, state.os_id if state is not None else ""}


def filter_entries(snapshot: FleetSnapshot, filters: MachineFilters, without: str = "") -> list[MachineEntry]:
    """Return the machines that match all filters.

    Args:
        snapshot: the fleet.
        filters: the filters.
        without: a filter that does not count.

    Raises:
        InventoryError: the scope is not valid, or no machine is in it.
    """
    tests = _build_tests(filters, without)
    names = select_names(snapshot, filters.scope) if filters.scope else None
    return [
        one
        for one in list_entries(snapshot)
        if (names is None or one.name in names) and all(test(one) for test in tests)
    ]


def select_names(snapshot: FleetSnapshot, scope: str) -> frozenset[str]:
    """Return the names of the machines in a scope.

    Raises:
        InventoryError: the scope is not valid, or no machine is in it; or there is no inventory.
    """
    if snapshot.inventory is None:
        raise InventoryError("there is no inventory to which the scope could apply")
    return frozenset(machine.name for machine in Scope.parse(scope).select_machines(snapshot.inventory))


def _build_tests(filters: MachineFilters, without: str) -> list[Callable[[MachineEntry], bool]]:
    found: list[Callable[[MachineEntry], bool]] = []
    given = {name: value for name, value in filters.given.items() if name != without}
    for name, value in given.items():
        if name == "os":
            found.append(lambda one, value=value: _matches_os(one, value))  # type: ignore[misc]
        elif name in FACETS:
            found.append(lambda one, read=FACETS[name], value=value: read(one) == value)  # type: ignore[misc]
    if "q" in given:
        found.append(_build_search(given["q"]))
    if "show" in given:
        found.append(SHOWN[given["show"]][1] if given["show"] in SHOWN else lambda _: False)
    return found


def _build_search(text: str) -> Callable[[MachineEntry], bool]:
    part = text.strip().casefold()
    return lambda one: part in one.name.casefold() or part in one.row.machine.address.casefold()


def count_facets(snapshot: FleetSnapshot, filters: MachineFilters) -> dict[str, list[tuple[str, int]]]:
    """Return how many machines each value of each facet would show, with the other filters as they are.

    Raises:
        InventoryError: the scope is not valid, or no machine is in it.
    """
    matching = filter_entries(snapshot, filters)
    found = {}
    for name, read in FACETS.items():
        entries = filter_entries(snapshot, filters, name) if getattr(filters, name) else matching
        counts = Counter(map(read, entries))
        if name == "os":  # a system whose version is not known: its filter is also that for all versions
            values = {*counts, filters.os} - {""}
            counts.update({value: sum(_matches_os(one, value) for one in entries) - counts[value] for value in values})
        elif getattr(filters, name):
            counts.setdefault(getattr(filters, name), 0)
        found[name] = sorted(counts.items())
    return found


_LAST = datetime.max.replace(tzinfo=UTC)
_FIRST = datetime.min.replace(tzinfo=UTC)
_COMPLIANCE_ORDER = {Compliance.NON_COMPLIANT: 0, Compliance.NOT_ASSESSED: 1, Compliance.COMPLIANT: 2}

SORT_KEYS: Final[Mapping[str, Callable[[MachineEntry], object]]] = {
    "name": lambda one: one.name.casefold(),
    "compliance": lambda one: _COMPLIANCE_ORDER[one.compliance],
    "environment": lambda one: one.row.machine.environment.casefold(),
    "os": lambda one: one.os,
    "urgent": lambda one: one.urgent,
    "other": lambda one: one.row.state.other if one.row.state is not None else 0,
    "readiness": lambda one: one.readiness.word,
    "mode": lambda one: one.mode,
    "run": lambda one: one.row.last_run.at if one.row.last_run is not None else _FIRST,
    "window": lambda one: one.row.next_window.start if one.row.next_window is not None else _LAST,
}


def sort_entries(entries: Iterable[MachineEntry], sort: str) -> Sequence[MachineEntry]:
    """Return machines in an order; machines that are equal in it by their names.

    Args:
        entries: the machines.
        sort: a key of SORT_KEYS, with "-" before it for the opposite order. Any other text: by name.
    """
    by_name = sorted(entries, key=SORT_KEYS["name"])  # type: ignore[arg-type]
    key = SORT_KEYS.get(sort.removeprefix("-"))
    if key is None:
        return by_name
    return sorted(by_name, key=key, reverse=sort.startswith("-"))  # type: ignore[arg-type]
