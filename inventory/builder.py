"""Builds machines from checked settings: merges layers, expands ranges, compares machines with each other."""

import graphlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inventory.addresses import Endpoint, build_endpoint
from inventory.credential_references import parse_reference
from inventory.errors import InventoryError
from inventory.files.paths import expand_home
from inventory.files.problems import LocatedData, ProblemCollector, SourceLocation, did_you_mean
from inventory.machine import (
    DEFAULT_CREDENTIAL,
    Check,
    HostKeySettings,
    Inventory,
    Limits,
    Machine,
    OsFamily,
    TransportKind,
    WakeSettings,
    WinrmSettings,
)
from inventory.machine_rules import check_wake_settings, check_winrm_machine
from inventory.name_lists import format_count
from inventory.name_ranges import MAX_MACHINES, InvalidRange, expand_ranges, has_range
from inventory.schema.entries import (
    CheckEntry,
    HostKeysEntry,
    MachineEntry,
    MachineSettings,
    StrictModel,
    WinrmEntry,
)
from inventory.schema.validation import validate_mapping
from inventory.set_builder import SetDraft, build_sets

SettingsLayer = Mapping[str, object]
"""Settings as written: only the keys that are in the file. None resets the value of a weaker layer."""

_MAX_REPORTED_CYCLES = 5
_CONVERTED_KEYS = frozenset(
    {"address", "jump", "groups", "tags", "limits", "pre_checks", "probes", "credential", "privilege_password", "winrm"}
    | {"wake"}
)


@dataclass(frozen=True, slots=True)
class MachineDraft:
    """A machine from one file. It is not yet compared with the other machines."""

    machine: Machine
    source: LocatedData

    def locate(self, key: str) -> SourceLocation:
        """Return the place of a key. Return the place of the machine if a group or a default sets the key."""
        return (
            self.source.locate((key,))
            if isinstance(self.source.data, dict) and key in self.source.data
            else self.location
        )

    @property
    def location(self) -> SourceLocation:
        """The place of the machine's entry."""
        return self.source.locate()


@dataclass(frozen=True, slots=True)
class InventoryFragment:
    """The content of one file."""

    drafts: tuple[MachineDraft, ...] = ()
    host_keys: tuple[HostKeySettings, SourceLocation] | None = None
    sets: tuple[SetDraft, ...] = ()


def collect_explicit_fields(settings: MachineSettings | None) -> SettingsLayer:
    """Return the keys that are in a checked map. Keys with default values are left out."""
    return {key: getattr(settings, key) for key in settings.model_fields_set} if settings else {}


def merge_layers(layers: Sequence[SettingsLayer]) -> SettingsLayer:
    """Merge layers; the last one is the strongest. Tags, limits, winrm and wake merge by key. Others are replaced."""
    result: dict[str, object] = {}
    for layer in layers:
        for key, value in layer.items():
            before = result.get(key)
            if isinstance(before, dict) and isinstance(value, dict):
                result[key] = {**before, **value}
            elif isinstance(before, StrictModel) and isinstance(value, StrictModel):  # limits, winrm, wake
                result[key] = before.model_copy(update={name: getattr(value, name) for name in value.model_fields_set})
            else:
                result[key] = value
    return result


def expand_machine_entries(entries: Iterable[LocatedData], problems: ProblemCollector) -> list[LocatedData]:
    """Return one map for each machine that the entries describe. Return none if there are more than MAX_MACHINES."""
    expanded: list[LocatedData] = []
    for entry in entries:
        expanded += expand_machine_entry(entry, problems)
        if len(expanded) > MAX_MACHINES:
            hint = "Correct the ranges, or split the inventory."
            problems.add(entry.locate(), f"this inventory names more than {MAX_MACHINES:,} machines", hint)
            return []
    return expanded


def expand_machine_entry(located: LocatedData, problems: ProblemCollector) -> Iterator[LocatedData]:
    """Yield one map for each machine of a name with ranges. An address with ranges is expanded in parallel."""
    data = located.data
    name = data.get("name") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(name, str) or not has_range(name):
        yield located
        return
    address = data.get("address")
    try:
        names = expand_ranges(name)
        addresses = expand_ranges(address) if isinstance(address, str) else ()
    except InvalidRange as error:
        problems.add(located.locate(("name",)), str(error), "Write it as [first:last] or [first:last:step].")
        return
    if addresses and len(addresses) != len(names):
        message = f"{format_count(len(names), 'name')}, but {format_count(len(addresses), 'address')}"
        problems.add(
            located.locate(("address",)), message, "Give the address a range of the same length, or leave it out."
        )
        return
    for index, single in enumerate(names):
        own_values = {"name": single, **({"address": addresses[index]} if addresses else {})}
        yield LocatedData({**data, **own_values}, located.locations, located.base_path)


def build_machine_draft(
    located: LocatedData, inherited_layers: Sequence[SettingsLayer], entry: MachineEntry
) -> MachineDraft:
    """Build a machine from its entry and the layers around it: defaults and groups, the strongest last."""
    own_values = collect_explicit_fields(entry)
    values = {key: value for key, value in merge_layers([*inherited_layers, own_values]).items() if value is not None}
    if values.get("transport") is TransportKind.WINRM:
        values.setdefault("os", OsFamily.WINDOWS)
    merged = MachineEntry.model_construct(set(values), **values)  # types the values; each layer was validated before
    base = located.locate().file.parent
    given_values: dict[str, object] = {key: value for key, value in values.items() if key not in _CONVERTED_KEYS}
    machine = Machine(
        **given_values,  # type: ignore[arg-type]  # the schema has the types of Machine's fields
        address=entry.address or entry.name,
        jump=tuple(dict.fromkeys(merged.jump or ())),
        groups=tuple(dict.fromkeys(merged.groups or ())),
        tags=dict(sorted((merged.tags or {}).items())),
        limits=Limits(**merged.limits.model_dump()) if merged.limits else Limits(),
        winrm=_to_winrm_settings(merged.winrm, base) if merged.winrm else WinrmSettings(),
        pre_checks=_to_checks(merged.pre_checks),
        probes=_to_checks(merged.probes),
        wake=WakeSettings(**{key: value for key, value in merged.wake.model_dump().items() if value is not None})
        if merged.wake
        else None,
        credential=_to_absolute_reference(merged.credential, base) or DEFAULT_CREDENTIAL,
        privilege_password=_to_absolute_reference(merged.privilege_password, base),
    )
    return MachineDraft(machine, located)


def build_host_key_settings(
    located: LocatedData, problems: ProblemCollector
) -> tuple[HostKeySettings, SourceLocation] | None:
    """Check the map `host_keys`. A relative path starts at the folder of the file."""
    entry = validate_mapping(HostKeysEntry, located, problems)
    if entry is None:
        return None
    source_location = located.locate()
    try:
        path = (
            source_location.file.parent.absolute() / expand_home(Path(entry.known_hosts)) if entry.known_hosts else None
        )
    except InventoryError as error:
        problems.add(located.locate(("known_hosts",)), error.message, error.hint)
        return None
    return HostKeySettings(entry.policy, path), source_location


def build_inventory(fragments: Sequence[InventoryFragment], source: Path, problems: ProblemCollector) -> Inventory:
    """Join all files and check the machines against each other.

    Raises:
        InvalidInventory: there are problems, found here or before. The error lists all of them.
    """
    drafts = [draft for fragment in fragments for draft in fragment.drafts]
    by_name = _check_duplicates(drafts, problems)
    for draft in drafts:
        _check_jump_hosts(draft, by_name, problems)
        check_winrm_machine(draft.machine, draft.locate, problems)
        check_wake_settings(draft.machine, draft.locate, problems)
    _check_jump_cycles(by_name, problems)
    keys = _find_host_key_settings(fragments, problems)
    if not drafts and not problems:
        problems.add(SourceLocation(source), "this inventory describes no machine", "Add one under `machines:`.")
    inventory = Inventory(tuple(draft.machine for draft in drafts), keys, source)
    if not problems:  # a machine with a problem is missing here, so a scope might match nothing
        set_drafts = [machine_set for fragment in fragments for machine_set in fragment.sets]
        inventory = replace(inventory, sets=build_sets(set_drafts, inventory, problems))
    problems.raise_if_any()
    return inventory


def _to_checks(entries: Sequence[CheckEntry] | None) -> tuple[Check, ...]:
    return tuple(Check(**entry.model_dump()) for entry in entries or ())


def _to_winrm_settings(entry: WinrmEntry, directory: Path) -> WinrmSettings:
    given_values: dict[str, Any] = {key: value for key, value in entry.model_dump().items() if value is not None}
    for key in ("ca_file", "client_certificate"):
        if key in given_values and not given_values[key].startswith("~"):  # a home is resolved where the file is read
            given_values[key] = directory.absolute() / given_values[key]
        elif key in given_values:
            given_values[key] = Path(given_values[key])
    return WinrmSettings(**given_values)


def _to_absolute_reference(reference: str | None, directory: Path) -> str | None:
    return str(parse_reference(reference).to_absolute(directory.absolute())) if reference is not None else None


def _check_duplicates(drafts: Sequence[MachineDraft], problems: ProblemCollector) -> dict[str, MachineDraft]:
    """Report duplicate machines. One machine with two names would be patched twice at the same time."""
    by_name: dict[str, MachineDraft] = {}
    lower: dict[str, MachineDraft] = {}
    by_endpoint: dict[Endpoint, MachineDraft] = {}
    for draft in drafts:
        machine = draft.machine
        endpoint = build_endpoint(machine)
        if (twin := lower.get(machine.name.lower())) is not None:
            fault = "stands here twice" if twin.machine.name == machine.name else "differs from another only in case"
            message = f"the machine {machine.name!r} {fault}, first in {twin.location.short}"
            problems.add(draft.locate("name"), message, "Remove or rename one of the two.")
        elif (twin := by_endpoint.get(endpoint)) is not None:
            message = f"{machine.name!r} is reached just as {twin.machine.name!r} in {twin.location.short}"
            problems.add(draft.location, message, "One machine has one name. Remove one, or correct address or port.")
        by_name.setdefault(machine.name, draft)
        lower.setdefault(machine.name.lower(), draft)
        by_endpoint.setdefault(endpoint, draft)
    return by_name


def _check_jump_hosts(draft: MachineDraft, by_name: Mapping[str, MachineDraft], problems: ProblemCollector) -> None:
    machine, source_location = draft.machine, draft.locate("jump")
    if machine.jump and machine.transport is TransportKind.LOCAL:
        problems.add(
            source_location,
            f"{machine.name!r} is local and needs no jump host",
            "Remove `jump`, or correct `transport`.",
        )
    for name in machine.jump:
        if name == machine.name:
            hint = (
                "Give the jump host itself an empty `jump:`."
                if source_location == draft.location
                else "Remove it from `jump`."
            )
            problems.add(source_location, f"{name!r} can't be its own jump host", hint)
        elif name not in by_name:
            hint = f"{did_you_mean(name, by_name)}Jump hosts are machines of this inventory; `owner: manual` keeps "
            problems.add(
                source_location, f"there is no machine {name!r} to jump through", f"{hint}one from being patched."
            )
        elif by_name[name].machine.transport is not TransportKind.SSH:
            kind = by_name[name].machine.transport.value
            problems.add(source_location, f"the jump host {name!r} is reached by {kind}", "Jump hosts speak ssh.")


def _check_jump_cycles(by_name: Mapping[str, MachineDraft], problems: ProblemCollector) -> None:
    """Report each cycle of jump hosts once, up to a limit. After the report, the cycle leaves the graph."""
    graph = {name: {jump for jump in draft.machine.jump if jump != name} for name, draft in by_name.items()}
    for _ in range(_MAX_REPORTED_CYCLES):
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            circle: list[str] = error.args[1][::-1]
            source_location = by_name[circle[0]].locate("jump")
            message = f"jump hosts go in a circle: {' -> '.join(circle)}"
            problems.add(source_location, message, "One of them must be reached directly.")
            graph.update((name, set()) for name in circle)
        else:
            return


def _find_host_key_settings(fragments: Sequence[InventoryFragment], problems: ProblemCollector) -> HostKeySettings:
    settings_found = [fragment.host_keys for fragment in fragments if fragment.host_keys]
    for _, source_location in settings_found[1:]:
        message = f"`host_keys` stands here again, first in {settings_found[0][1].short}"
        problems.add(source_location, message, "Keep it in one file of the directory.")
    return settings_found[0][0] if settings_found else HostKeySettings()
