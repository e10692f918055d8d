"""Azure's maintenance configurations as ours. What can't be carried over is said; nothing is dropped in silence.

Source of the names and their meaning: the REST reference of Microsoft.Maintenance/maintenanceConfigurations
(api-version 2023-10-01-preview) and "How to programmatically manage updates for Azure VMs". Read are a resource, a list
of them, ``{"value": […]}`` as the REST API answers, an ARM template, and what ``az maintenance configuration show``
prints.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from pydantic_core import PydanticCustomError

from deployments.config.names import RESERVED
from deployments.config.scopes import narrowed
from deployments.config.times import LAST_MINUTE, local_time
from deployments.config.zones import MACHINE, zone_of
from inventory.errors import InventoryError
from inventory.schema import fault
from tasks.rules.window import zone_of as zone_info

Map = Mapping[str, object]
Plain = dict[str, object]

TYPE = "microsoft.maintenance/maintenanceconfigurations"
GUEST = "InGuestPatch"

_REBOOTS = {
    "ifrequired": "IfRequired",
    "rebootifrequired": "IfRequired",
    "never": "Never",
    "neverreboot": "Never",
    "always": "Always",
    "alwaysreboot": "Always",
}
_CARRIED = frozenset({"maintenanceScope", "maintenanceWindow", "installPatches", "extensionProperties"})
_MEANINGLESS = frozenset({"namespace", "visibility", "provisioningState"})
_WINDOW = ("startDateTime", "expirationDateTime", "duration", "timeZone", "recurEvery")
_SYSTEMS = {"linuxParameters": "linux", "windowsParameters": "windows"}
_PARAMETERS = frozenset(
    {
        "classificationsToInclude",
        "kbNumbersToInclude",
        "kbNumbersToExclude",
        "excludeKbsRequiringReboot",
        "packageNameMasksToInclude",
        "packageNameMasksToExclude",
    }
)
_SHOWN = 120
_DEFAULT_LENGTH = "03:55"
_TAG = re.compile(r"[\w.:/=@+-]{1,80}")
_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[ T](\d{2}:\d{2})(?::(\d{2})(?:\.\d+)?)?\s*(Z|z|[+-]\d{2}:?\d{2})?)?", re.ASCII
)


@dataclass(slots=True)
class Imported:
    """What became of Azure's configurations.

    Attributes:
        configurations: ours, as they are written to a file.
        notes: what could not be carried over, or was decided here; each names its configuration.
        origins: the file of each configuration, when they were read from files.
    """

    configurations: list[Plain] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    origins: list[Path] = field(default_factory=list)


def import_azure(document: object, stem: str, scope: str | None = None, imported: Imported | None = None) -> Imported:
    """Return our configurations for those in a JSON document.

    Args:
        document: decoded JSON.
        stem: the name of a configuration that has none of its own, as in the body of a request.
        scope: the machines; Azure keeps them elsewhere (configuration assignments). None: what comes out is switched
            off.
        imported: takes them beside those of other files, whose names are then avoided.

    Raises:
        InventoryError: there is no configuration in it, or one that makes no sense; with a hint.
    """
    imported = Imported() if imported is None else imported
    found = list(_resources(document))
    if not found:
        raise InventoryError(
            "there is no maintenance configuration in it",
            hint="Give what `az maintenance configuration show -o json`, the REST API or an ARM template has.",
        )
    for resource in found:
        _import(resource, stem, scope, imported)
    return imported


def _resources(document: object) -> Iterator[Map]:
    if isinstance(document, list):
        for each in document:
            yield from _resources(each)
    elif isinstance(document, dict):
        for key in ("value", "resources"):
            if isinstance(document.get(key), list):
                yield from _resources(document[key])
                return
        kind = str(document.get("type", TYPE)).lower()
        if kind == TYPE and ("properties" in document or "maintenanceScope" in document):
            yield document


def _import(resource: Map, stem: str, scope: str | None, imported: Imported) -> None:
    # `az` prints the properties flat, with those of the window among them.
    properties = _map(resource.get("properties")) or {
        k: v for k, v in resource.items() if k not in {"id", "systemData"}
    }
    written = _short(_text(stem, resource, "name") or stem)
    name = _slug(written, imported)
    if (kind := str(properties.get("maintenanceScope", GUEST))).lower() != GUEST.lower():
        imported.notes.append(f"{written}: left out: {_short(kind)} is not about updates inside of machines ({GUEST})")
        return
    window = _window(written, _map(properties.get("maintenanceWindow")) or properties, imported)
    patches = _map(properties.get("installPatches"))
    base: Plain = {"name": name, "description": f"Taken over from Azure's {written}"}
    if tags := _tags(written, _map(resource.get("tags")), imported):
        base["tags"] = tags
    if scope is None:
        base["enabled"] = False
        imported.notes.append(
            f"{written}: switched off: which machines it is for stands in Azure's configuration assignments; "
            f"correct `scope`, and remove `enabled: false`"
        )
    _say_left_out(written, properties, patches, imported)
    after: Plain = {"window": window, "reboot": _reboot(written, patches)}
    for suffix, wanted, updates in _updates(written, patches, imported):
        named = f"{name}-{suffix}" if suffix else name
        imported.configurations.append(
            {**base, "name": named, "scope": _scoped(scope, wanted), "updates": updates, **after}
        )


def _window(written: str, window: Map, imported: Imported) -> Plain:
    start = _text(written, window, "startDateTime")
    if not start:
        raise InventoryError(
            f"{written}: the window has no startDateTime", hint="Give it one in Azure, or in the JSON."
        )
    zone = _zone(written, window)
    made: Plain = {"start": f"{_time(written, 'startDateTime', start, zone, imported):%Y-%m-%d %H:%M}"}
    made["length"] = _text(written, window, "duration") or _DEFAULT_LENGTH
    if "duration" not in window:
        imported.notes.append(f"{written}: it has no duration; {_DEFAULT_LENGTH}, Azure's longest, was written")
    made["zone"] = zone
    expires = _text(written, window, "expirationDateTime")
    if expires and (end := _time(written, "expirationDateTime", expires, zone, imported)).year < LAST_MINUTE.year:
        made["expires"] = f"{end:%Y-%m-%d %H:%M}"
    if recurrence := _text(written, window, "recurEvery"):
        made["recurrence"] = recurrence
    return made


def _updates(written: str, patches: Map, imported: Imported) -> Iterator[tuple[str, str, Plain]]:
    """Give for each system what is chosen: a suffix for the name, the system's term of a scope, and the updates."""
    given = {system: _map(patches.get(key)) for key, system in _SYSTEMS.items() if patches.get(key) is not None}
    chosen = {system: _chosen(written, parameters, imported) for system, parameters in given.items()}
    if not chosen:
        imported.notes.append(f"{written}: it says no updates; Critical and Security were written")
        yield "", "", {"classifications": ["Critical", "Security"]}
    elif len(chosen) == 2 and chosen["linux"] == chosen["windows"]:
        yield "", "", chosen["linux"]
    else:
        for system, updates in chosen.items():
            yield system if len(chosen) > 1 else "", f"os={system}", updates
        if len(chosen) > 1:
            imported.notes.append(f"{written}: became two, as it wants other updates on Linux than on Windows")


def _chosen(written: str, parameters: Map, imported: Imported) -> Plain:
    for key in sorted(set(parameters) - _PARAMETERS):
        if parameters[key]:
            imported.notes.append(
                f"{written}: installPatches.{_short(key)} can't be carried over: {_shown(parameters[key])}"
            )
    chosen: Plain = {"classifications": _list(parameters, "classificationsToInclude")}
    include = _list(parameters, "packageNameMasksToInclude") + _kbs(parameters, "kbNumbersToInclude")
    # Azure's agent looks at the name alone when it excludes.
    exclude = [mask.partition("=")[0].strip() for mask in _list(parameters, "packageNameMasksToExclude")]
    exclude += _kbs(parameters, "kbNumbersToExclude")
    for key, masks in (("include", include), ("exclude", exclude)):
        if masks:
            chosen[key] = masks
    if str(parameters.get("excludeKbsRequiringReboot", False)).lower() == "true":
        chosen["exclude_requiring_reboot"] = True
    return chosen


def _kbs(parameters: Map, key: str) -> list[str]:
    return [f"KB{number.strip().upper().removeprefix('KB')}" for number in _list(parameters, key)]


def _reboot(written: str, patches: Map) -> str:
    setting = str(patches.get("rebootSetting") or "IfRequired")
    if setting.lower() not in _REBOOTS:
        raise InventoryError(
            f"{written}: rebootSetting {_shown(setting)} is not known", hint="It is one of IfRequired, Never, Always."
        )
    return _REBOOTS[setting.lower()]


def _say_left_out(written: str, properties: Map, patches: Map, imported: Imported) -> None:
    flat = {*_WINDOW, "id", "name", "type", "location", "tags", "systemData", "resourceGroup"}
    for key in sorted(set(properties) - _CARRIED - _MEANINGLESS - flat):
        if properties[key]:
            imported.notes.append(f"{written}: {_short(key)} can't be carried over: {_shown(properties[key])}")
    for key in sorted(set(patches) - {"rebootSetting", *_SYSTEMS}):
        if patches[key]:
            hint = "; write hooks in its place" if key == "tasks" else ""
            imported.notes.append(
                f"{written}: installPatches.{_short(key)} can't be carried over{hint}: {_shown(patches[key])}"
            )
    for key, value in _map(properties.get("extensionProperties")).items():
        if (key.lower(), str(value).lower()) != ("inguestpatchmode", "user"):
            imported.notes.append(
                f"{written}: extensionProperties.{_short(key)} can't be carried over: {_shown(value)}"
            )


def _tags(written: str, tags: Map, imported: Imported) -> list[str]:
    kept = []
    for key, value in tags.items():
        label = f"{key}={value}"
        if _TAG.fullmatch(label):
            kept.append(label)
        else:
            imported.notes.append(
                f"{written}: the tag {_shown(label)} can't be carried over: it holds a blank or a sign"
            )
    return kept


def _scoped(scope: str | None, wanted: str) -> str:
    if scope is None or scope.strip() in {"*", "all"}:
        return wanted or "*"
    return narrowed(scope, wanted) if wanted else scope


def _slug(written: str, imported: Imported) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", written.lower()).strip("-")[:50].strip("-") or "imported"
    taken = {*RESERVED, *(str(each["name"]) for each in imported.configurations)}
    number = 2
    unique = slug
    while unique in taken or {f"{unique}-linux", f"{unique}-windows"} & taken:
        unique, number = f"{slug}-{number}", number + 1
    if unique != written:
        imported.notes.append(f"{written}: is called {unique!r} here")
    return unique


def _zone(written: str, window: Map) -> str:
    name = _text(written, window, "timeZone") or "UTC"
    try:
        zone = zone_of(name)
    except PydanticCustomError as error:
        raise InventoryError(f"{written}: {error.message()}", hint="Azure has names of Windows time zones.") from error
    if zone == MACHINE:
        raise InventoryError(f"{written}: {name!r} is no time zone", hint="Azure has names of Windows time zones.")
    return zone


def _time(written: str, key: str, text: str, zone: str, imported: Imported) -> datetime:
    """Return a wall clock time in the window's zone, to the minute. A time with an offset is moved into that zone."""
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise fault(f"{key}: {text[:80]!r} is no time of the calendar", "Azure writes YYYY-MM-DD hh:mm.")
        wall = local_time(f"{match[1]} {match[2] or '00:00'}")
        late = int(match[3] or 0) > 0
        if late and key == "startDateTime":
            raise fault(f"{key}: {text[:80]!r} has seconds", "Windows begin with a minute: correct it.")
        if match[4]:
            moved = datetime.fromisoformat(f"{wall.isoformat()}{match[4].upper()}").astimezone(zone_info(zone))
            wall = moved.replace(tzinfo=None, fold=0)
            imported.notes.append(f"{written}: {key} {text} has an offset; {wall:%Y-%m-%d %H:%M} in {zone} was written")
        return wall + timedelta(minutes=1) if late and wall < LAST_MINUTE else wall
    except PydanticCustomError as error:
        hint = str((error.context or {}).get("hint", "")) or "Azure writes YYYY-MM-DD hh:mm."
        raise InventoryError(f"{written}: {error.message()}", hint=hint) from error
    except (OverflowError, ValueError) as error:
        hint = "Correct the year, or the offset."
        raise InventoryError(f"{written}: {key}: {text[:80]!r} lies outside of the calendar", hint=hint) from error


def _text(written: str, values: Map, key: str) -> str:
    value = values.get(key)
    text = "" if value is None else str(value).strip()
    if text.startswith("[") and text.endswith("]"):
        raise InventoryError(
            f"{written}: {key} is an expression of an ARM template: {_short(text)}",
            hint="Give what was deployed: az maintenance configuration show -o json.",
        )
    return text


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _shown(value: object) -> str:
    """Return a value as a note shows it."""
    return _short(repr(value))


def _list(values: Map, key: str) -> list[str]:
    value = values.get(key) or []
    return [str(each).strip() for each in value] if isinstance(value, list) else [str(value).strip()]


def _map(value: object) -> Map:
    return value if isinstance(value, dict) else {}
