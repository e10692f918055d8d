"""Builds machines from checked settings: merges layers, expands ranges, compares machines with each other."""

import graphlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from inventory.addresses import Endpoint, build_endpoint
from inventory.credential_references import KEY_REFERENCES, ReferenceKind, parse_reference
from inventory.data_class import dataclass
from inventory.errors import PASSWORD_FORMS, InventoryError
from inventory.files.paths import expand_home
from inventory.files.problems import LocatedData, ProblemCollector, SourceLocation, did_you_mean
from inventory.guests import GuestSettings
from inventory.limit_builder import LimitsDraft, build_limits
from inventory.machine import (
    Check,
    HostKeySettings,
    Inventory,
    Limits,
    Machine,
    OsFamily,
    TransportKind,
    WakeSettings,
    WinrmAuthentication,
    WinrmScheme,
    WinrmSettings,
)
from inventory.machine_providers import find_provider_machine_id, find_provider_name
from inventory.name_lists import format_count
from inventory.name_ranges import MAX_MACHINES, InvalidRange, expand_ranges, has_range
from inventory.schema.entries import CheckEntry, HostKeysEntry, MachineEntry, MachineSettings, WinrmEntry
from inventory.schema.validation import StrictModel, validate_mapping
from inventory.set_builder import Rule, SetDraft, build_sets

_CREDENTIAL_HINT = f"Give `credential` as {PASSWORD_FORMS}."


def check_winrm_machine(machine: Machine, locate: Callable[[str], SourceLocation], problems: ProblemCollector) -> None:
    """Report settings of a machine with the transport winrm that contradict each other, or that are missing."""
    if machine.transport is not TransportKind.WINRM:
        return
    for key, message, hint in (*_find_winrm_faults(machine), *_find_winrm_login_faults(machine)):
        problems.add(locate(key), f"{machine.name!r}: {message}", hint)


def _find_winrm_faults(machine: Machine) -> Iterator[Rule]:
    if machine.os is not OsFamily.WINDOWS:
        yield "os", "only Windows is reached over winrm", "Remove `os`, or set the transport to ssh."
    if machine.jump:
        hint = "Remove `jump`; let the worker that patches it run in its network."
        yield "jump", "winrm goes through no jump host", hint
    settings = machine.winrm
    if settings.scheme is WinrmScheme.HTTP and not settings.authentication.encrypts_messages:
        message = f"with authentication {settings.authentication}, WinRM can't encrypt its messages over http"
        yield "winrm", message, "Set `scheme: https`, or authenticate with ntlm, kerberos or credssp."
    if settings.scheme is WinrmScheme.HTTP and (settings.ca_file or settings.certificate_thumbprint):
        message = "over http, the machine shows no certificate that could be checked"
        yield "winrm", message, "Set `scheme: https`, or remove ca_file and certificate_thumbprint."


def _find_winrm_login_faults(machine: Machine) -> Iterator[Rule]:
    authentication = machine.winrm.authentication
    kind = parse_reference(machine.credential).kind
    if authentication.needs_password:
        if machine.user is None:
            hint = "Give `user`: NAME for an account of the machine, DOMAIN\\NAME or NAME@DOMAIN for one of a domain."
            yield "user", f"authentication {authentication.value} needs a user", hint
        if kind in KEY_REFERENCES:
            yield "credential", f"authentication {authentication.value} needs a password", _CREDENTIAL_HINT
    elif authentication is WinrmAuthentication.KERBEROS:
        if kind not in {ReferenceKind.DEFAULT, ReferenceKind.AGENT}:
            hint = (
                "Remove `credential`; get tickets with kinit, or a keytab (KRB5_CLIENT_KTNAME), where fleetpatch runs."
            )
            yield "credential", "authentication kerberos uses tickets, no password", hint
        if "\\" in (machine.user or ""):
            hint = "Write NAME@REALM; or remove `user`, and the owner of the tickets logs in."
            yield "user", "authentication kerberos takes no user in the form DOMAIN\\NAME", hint
    else:
        if machine.winrm.client_certificate is None:
            hint = "Give `client_certificate`, and its key as `credential: key:PATH`."
            yield "winrm", "authentication certificate needs a certificate", hint
        if kind is not ReferenceKind.KEY:
            yield "credential", "authentication certificate needs a private key", "Give `credential` as key:PATH."


def check_wake_settings(machine: Machine, locate: Callable[[str], SourceLocation], problems: ProblemCollector) -> None:
    """Report wake settings that can't start a machine. Defaults, groups and the machine may each have a part."""
    if machine.wake is None or machine.wake.mac or machine.wake.command:
        return
    hint = "Give `mac` or `command`; or an empty `wake:` for a machine that fleetpatch does not start."
    problems.add(locate("wake"), f"{machine.name!r}: `wake` has neither `mac` nor `command`", hint)


SettingsLayer = Mapping[str, object]
"""Settings as written: only the keys that are in the file. None resets the value of a weaker layer."""

_MAX_REPORTED_CYCLES = 5


@dataclass(frozen=True, slots=True)
class MachineDraft:
    """A machine from one file. It is not yet compared with the other machines."""

    machine: Machine
    source: LocatedData

    def locate(self, key: str) -> SourceLocation:
        """Return the place of a key. Return the place of the machine if a group or a default sets the key."""
        is_own = isinstance(self.source.data, dict) and key in self.source.data
        return self.source.locate((key,)) if is_own else self.location

    @property
    def location(self) -> SourceLocation:
        """The place of the machine's entry."""
        return self.source.locate()


@dataclass(frozen=True, slots=True)
class InventoryFragment:
    """The content of one file, or of all files of an Ansible inventory."""

    drafts: tuple[MachineDraft, ...] = ()
    host_keys: tuple[HostKeySettings, SourceLocation] | None = None
    sets: tuple[SetDraft, ...] = ()
    limits: LimitsDraft | None = None
    ansible_folder: Path | None = None  # the folder that may have ``host_vars``; None: it is no Ansible inventory


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
    merged = merge_layers([*inherited_layers, own_values])  # each layer was validated before
    values: dict[str, Any] = {key: value for key, value in merged.items() if value is not None}
    if values.get("transport") is TransportKind.WINRM:
        values.setdefault("os", OsFamily.WINDOWS)
    converted_values: dict[str, object] = {
        "address": entry.address or entry.name,
        "jump": tuple(dict.fromkeys(values.get("jump", ()))),
        "groups": tuple(dict.fromkeys(values.get("groups", ()))),
        "tags": dict(sorted(values.get("tags", {}).items())),
    }
    for key in values.keys() & _CONVERTED:
        converted_values[key] = _CONVERTED[key](values[key], located.locate().file.parent.absolute())
    # the schema has the types of Machine's fields
    return MachineDraft(Machine(**{**values, **converted_values}), located)


def build_host_key_settings(
    located: LocatedData, problems: ProblemCollector
) -> tuple[HostKeySettings, SourceLocation] | None:
    """Check the map `host_keys`. A relative path starts at the folder of the file."""
    entry = validate_mapping(HostKeysEntry, located, problems)
    if entry is None:
        return None
    path: Path | None = None
    if entry.known_hosts:
        try:
            path = located.locate().file.parent.absolute() / expand_home(Path(entry.known_hosts))
        except InventoryError as error:
            problems.add(located.locate(("known_hosts",)), error.message, error.hint)
            return None
    return HostKeySettings(entry.policy, path), located.locate()


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
    _check_provided_twice(drafts, problems)
    _check_jump_cycles(by_name, problems)
    settings = [fragment.host_keys for fragment in fragments if fragment.host_keys]
    limits = [fragment.limits for fragment in fragments if fragment.limits]
    for key, places in (("host_keys", [at for _, at in settings]), ("limits", [it.source.locate() for it in limits])):
        for source_location in places[1:]:
            message = f"`{key}` stands here again, first in {places[0].short}"
            problems.add(source_location, message, "Keep it in one file of the directory.")
    if not drafts and not problems:
        problems.add(source, "this inventory describes no machine", "Add one under `machines:`.")
    host_keys = settings[0][0] if settings else HostKeySettings()
    inventory = Inventory(tuple(draft.machine for draft in drafts), host_keys, source)
    if not problems:  # a machine with a problem is missing here, so a scope might match nothing
        set_drafts = [machine_set for fragment in fragments for machine_set in fragment.sets]
        inventory = replace(
            inventory,
            sets=build_sets(set_drafts, inventory, problems),
            limits=build_limits(limits[0], inventory, problems) if limits else inventory.limits,
        )
    problems.raise_if_any()
    return inventory


def _dump_values(entry: StrictModel) -> dict[str, Any]:
    return {key: value for key, value in entry.model_dump().items() if value is not None}


def _to_winrm_settings(entry: WinrmEntry, directory: Path) -> WinrmSettings:
    given_values = _dump_values(entry)
    for key in given_values.keys() & {"ca_file", "client_certificate"}:
        path = Path(given_values[key])
        given_values[key] = path if given_values[key].startswith("~") else directory / path  # a home is resolved later
    return WinrmSettings(**given_values)


def _to_checks(entries: Sequence[CheckEntry], _directory: Path) -> tuple[Check, ...]:
    return tuple(Check(**entry.model_dump()) for entry in entries)


def _to_absolute_reference(value: object, directory: Path) -> str:
    return str(parse_reference(str(value)).to_absolute(directory))


_CONVERTED: Final[Mapping[str, Callable[[Any, Path], object]]] = {
    "limits": lambda entry, _: Limits(**_dump_values(entry)),
    "winrm": _to_winrm_settings,
    "pre_checks": _to_checks,
    "probes": _to_checks,
    "wake": lambda entry, _: WakeSettings(**_dump_values(entry)),
    "guests": lambda entry, _: GuestSettings(**_dump_values(entry)),
    "credential": _to_absolute_reference,
    "privilege_password": _to_absolute_reference,
}
"""How the value of a key becomes that of a machine, given the folder of the file. Most machines have none of these."""


def _check_provided_twice(drafts: Sequence[MachineDraft], problems: ProblemCollector) -> None:
    """Report two machines that are one for their provider: the snapshot of one would be put back on the other."""
    first: dict[tuple[str, str], str] = {}
    for draft in drafts:
        machine = draft.machine
        name = find_provider_name(machine)
        if not name:
            continue
        provided = (name, find_provider_machine_id(machine))
        twin = first.setdefault(provided, machine.name)
        if twin != machine.name:
            message = f"{machine.name!r} is the same machine of the provider {name!r} as {twin!r}: {provided[1]!r}"
            problems.add(draft.locate("provider"), message, "Give each its own, as `provider: NAME/ID`.")


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
    machine = draft.machine
    if not machine.jump:
        return
    location = draft.locate("jump")
    if machine.transport is TransportKind.LOCAL:
        hint = "Remove `jump`, or correct `transport`."
        problems.add(location, f"{machine.name!r} is local and needs no jump host", hint)
    for name in machine.jump:
        if name == machine.name:
            is_inherited = location == draft.location
            hint = "Give the jump host itself an empty `jump:`." if is_inherited else "Remove it from `jump`."
            problems.add(location, f"{name!r} can't be its own jump host", hint)
        elif name not in by_name:
            hint = "Jump hosts are machines of this inventory; `owner: manual` keeps one from being patched."
            message = f"there is no machine {name!r} to jump through"
            problems.add(location, message, f"{did_you_mean(name, by_name)}{hint}")
        elif by_name[name].machine.transport is not TransportKind.SSH:
            kind = by_name[name].machine.transport.value
            problems.add(location, f"the jump host {name!r} is reached by {kind}", "Jump hosts speak ssh.")
        elif (site := by_name[name].machine.site) != machine.site:
            message = f"the jump host {name!r} is of the site {site}, and {machine.name!r} of the site {machine.site}"
            problems.add(location, message, "A machine and the hosts it is reached through are of one site.")


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
