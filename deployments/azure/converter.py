"""Converts Azure's maintenance configurations into fleetpatch configurations. Notes list what can't be imported.

Source of the names and their meaning: the REST reference of Microsoft.Maintenance/maintenanceConfigurations
(api-version 2023-10-01-preview) and "How to programmatically manage updates for Azure VMs". The input is a resource, a
list of resources, ``{"value": […]}`` from the REST API, an ARM template, or the output of
``az maintenance configuration show``.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from datetime import datetime, timedelta
from pathlib import Path

from pydantic_core import PydanticCustomError

from deployments.configuration.model import narrow_scope
from deployments.configuration.prefect_names import RESERVED_NAMES
from flows.freezes.time_values import CALENDAR_END, MACHINE_ZONE, parse_local_time, parse_time_zone
from inventory.data_class import dataclass
from inventory.errors import InventoryError
from inventory.schema.value_types import build_validation_error
from tasks.rules.calendar.local_time import get_time_zone as zone_info

AzureObject = Mapping[str, object]
ConfigurationData = dict[str, object]


@dataclass(slots=True)
class AzureImport:
    """The converted configurations and the notes of an import."""

    configurations: list[ConfigurationData] = field(default_factory=list)
    # Values that were not converted, and decisions of the import; each note names its configuration.
    notes: list[str] = field(default_factory=list)
    # The source file of each configuration, if the import read files.
    source_files: list[Path] = field(default_factory=list)

    def note(self, azure_name: str, text: str) -> None:
        """Add a note about a configuration of Azure."""
        self.notes.append(f"{azure_name}: {text}")


_MAX_SHOWN_CHARACTERS = 120
_TAG_PATTERN = re.compile(r"[\w.:/=@+-]{1,80}")
_TIME_PATTERN = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[ T](\d{2}:\d{2})(?::(\d{2})(?:\.\d+)?)?\s*(Z|z|[+-]\d{2}:?\d{2})?)?", re.ASCII
)


def _read_kb_numbers(parameters: AzureObject, key: str) -> list[str]:
    """Return the KB numbers of a key, each with the prefix ``KB``."""
    return [f"KB{number.strip().upper().removeprefix('KB')}" for number in _read_list(parameters, key)]


def _convert_tags(azure_name: str, tags: AzureObject, result: AzureImport) -> list[str]:
    """Return Azure's tags as ``key=value``. Add a note for tags that fleetpatch can't use."""
    values = []
    for key, value in tags.items():
        label = f"{key}={value}"
        if _TAG_PATTERN.fullmatch(label):
            values.append(label)
        else:
            result.note(azure_name, f"the tag {_format_value(label)} can't be imported: it holds a blank or a sign")
    return values


def _read_time_zone(azure_name: str, window: AzureObject) -> str:
    """Return the IANA name of a window's time zone; UTC if Azure gives none.

    Raises:
        InventoryError: there is no such zone.
    """
    name = _read_text_value(azure_name, window, "timeZone") or "UTC"
    try:
        zone = parse_time_zone(name)
    except PydanticCustomError as error:
        raise InventoryError(
            f"{azure_name}: {error.message()}", hint="Azure has names of Windows time zones."
        ) from error
    if zone == MACHINE_ZONE:
        raise InventoryError(f"{azure_name}: {name!r} is no time zone", hint="Azure has names of Windows time zones.")
    return zone


def _parse_wall_time(azure_name: str, key: str, text: str, zone: str, result: AzureImport) -> datetime:
    """Return a wall clock time in the window's zone, to the minute. A time with an offset is converted to the zone."""
    match = _TIME_PATTERN.fullmatch(text)
    try:
        if match is None:
            raise build_validation_error(
                f"{key}: {text[:80]!r} is no time of the calendar", "Azure writes YYYY-MM-DD hh:mm."
            )
        wall = parse_local_time(f"{match[1]} {match[2] or '00:00'}")
        has_seconds = int(match[3] or 0) > 0
        if has_seconds and key == "startDateTime":
            raise build_validation_error(
                f"{key}: {text[:80]!r} has seconds", "Windows begin with a minute: correct it."
            )
        if match[4]:
            moved = datetime.fromisoformat(f"{wall.isoformat()}{match[4].upper()}").astimezone(zone_info(zone))
            wall = moved.replace(tzinfo=None, fold=0)
            result.note(azure_name, f"{key} {text} has an offset; {wall:%Y-%m-%d %H:%M} in {zone} was written")
        return wall + timedelta(minutes=1) if has_seconds and wall < CALENDAR_END else wall
    except PydanticCustomError as error:
        hint = str((error.context or {}).get("hint", "")) or "Azure writes YYYY-MM-DD hh:mm."
        raise InventoryError(f"{azure_name}: {error.message()}", hint=hint) from error
    except (OverflowError, ValueError) as error:
        hint = "Correct the year, or the offset."
        raise InventoryError(f"{azure_name}: {key}: {text[:80]!r} lies outside of the calendar", hint=hint) from error


def _read_text_value(azure_name: str, values: AzureObject, key: str) -> str:
    """Return the text of a key; empty if the key is missing.

    Raises:
        InventoryError: the value is an expression of an ARM template.
    """
    value = values.get(key)
    text = "" if value is None else str(value).strip()
    if text.startswith("[") and text.endswith("]"):
        raise InventoryError(
            f"{azure_name}: {key} is an expression of an ARM template: {_shorten_text(text)}",
            hint="Give what was deployed: az maintenance configuration show -o json.",
        )
    return text


def _shorten_text(text: str) -> str:
    """Return a text, shortened for a note."""
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else f"{text[:_MAX_SHOWN_CHARACTERS]}…"


def _format_value(value: object) -> str:
    """Return a value as text for a note."""
    return _shorten_text(repr(value))


def _read_list(values: AzureObject, key: str) -> list[str]:
    """Return the texts of a key. Azure writes one text or a list."""
    value = values.get(key) or []
    return [str(element).strip() for element in value] if isinstance(value, list) else [str(value).strip()]


def _to_object(value: object) -> AzureObject:
    """Return the value if it is an object, otherwise an empty object."""
    return value if isinstance(value, dict) else {}


AZURE_RESOURCE_TYPE = "microsoft.maintenance/maintenanceconfigurations"
IN_GUEST_SCOPE, HOST_SCOPE = "InGuestPatch", "Host"
HOST_HOLD = "35 days"

_REBOOT_POLICIES = {
    "ifrequired": "IfRequired",
    "rebootifrequired": "IfRequired",
    "never": "Never",
    "neverreboot": "Never",
    "always": "Always",
    "alwaysreboot": "Always",
}
_CONVERTED_PROPERTIES = frozenset({"maintenanceScope", "maintenanceWindow", "installPatches", "extensionProperties"})
_IGNORED_PROPERTIES = frozenset({"namespace", "visibility", "provisioningState"})
_WINDOW_PROPERTIES = ("startDateTime", "expirationDateTime", "duration", "timeZone", "recurEvery")
_SYSTEMS_BY_PARAMETERS_KEY = {"linuxParameters": "linux", "windowsParameters": "windows"}
_PATCH_PARAMETERS = frozenset(
    {
        "classificationsToInclude",
        "kbNumbersToInclude",
        "kbNumbersToExclude",
        "excludeKbsRequiringReboot",
        "packageNameMasksToInclude",
        "packageNameMasksToExclude",
    }
)
_DEFAULT_WINDOW_LENGTH = "03:55"


def convert_azure_document(
    document: object, default_name: str, scope: str | None = None, result: AzureImport | None = None
) -> AzureImport:
    """Convert the configurations in a JSON document.

    Args:
        document: decoded JSON.
        default_name: the name for a configuration without a name, as in the body of a request.
        scope: the scope of the machines; Azure keeps it in configuration assignments. None: the new configurations are
            disabled.
        result: the result of other files; new configurations are added, and their names do not repeat.

    Raises:
        InventoryError: the document has no configuration, or an invalid one. The error has a hint.
    """
    result = AzureImport() if result is None else result
    resources = list(_iterate_resources(document))
    if not resources:
        raise InventoryError(
            "there is no maintenance configuration in it",
            hint="Give what `az maintenance configuration show -o json`, the REST API or an ARM template has.",
        )
    for resource in resources:
        _convert_resource(resource, default_name, scope, result)
    return result


def _iterate_resources(document: object) -> Iterator[AzureObject]:
    if isinstance(document, list):
        for document_part in document:
            yield from _iterate_resources(document_part)
    elif isinstance(document, dict):
        for key in ("value", "resources"):
            if isinstance(document.get(key), list):
                yield from _iterate_resources(document[key])
                return
        kind = str(document.get("type", AZURE_RESOURCE_TYPE)).lower()
        if kind == AZURE_RESOURCE_TYPE and ("properties" in document or "maintenanceScope" in document):
            yield document


def _convert_resource(resource: AzureObject, default_name: str, scope: str | None, result: AzureImport) -> None:
    # `az` prints the properties flat, together with those of the window.
    properties = _to_object(resource.get("properties")) or {
        k: v for k, v in resource.items() if k not in {"id", "systemData"}
    }
    azure_name = _shorten_text(_read_text_value(default_name, resource, "name") or default_name)
    slug = re.sub(r"[^a-z0-9]+", "-", azure_name.lower()).strip("-")[:50].strip("-") or "imported"
    taken_names = {*RESERVED_NAMES, *(str(configuration["name"]) for configuration in result.configurations)}
    number = 2
    unique = slug
    while unique in taken_names or {f"{unique}-linux", f"{unique}-windows"} & taken_names:
        unique, number = f"{slug}-{number}", number + 1
    if unique != azure_name:
        result.note(azure_name, f"its name here is {unique!r}")
    name = unique
    kind = str(properties.get("maintenanceScope", IN_GUEST_SCOPE))
    is_about_hosts = kind.lower() == HOST_SCOPE.lower()
    if not is_about_hosts and kind.lower() != IN_GUEST_SCOPE.lower():
        result.note(
            azure_name, f"left out: {_shorten_text(kind)} is not about updates inside of machines ({IN_GUEST_SCOPE})"
        )
        return
    window = _convert_window(azure_name, _to_object(properties.get("maintenanceWindow")) or properties, result)
    patches = _to_object(properties.get("installPatches"))
    base: ConfigurationData = {"name": name, "description": f"Imported from Azure's {azure_name}"}
    if tags := _convert_tags(azure_name, _to_object(resource.get("tags")), result):
        base["tags"] = tags
    if scope is None:
        base["enabled"] = False
        result.note(
            azure_name,
            "disabled, because Azure's configuration assignments name its machines; correct `scope`, "
            "and remove `enabled: false`",
        )
    _note_unsupported_properties(azure_name, properties, patches, result)
    setting = str(patches.get("rebootSetting") or "IfRequired")
    if setting.lower() not in _REBOOT_POLICIES:
        raise InventoryError(
            f"{azure_name}: rebootSetting {_format_value(setting)} is not known",
            hint="It is one of IfRequired, Never, Always.",
        )
    policies: ConfigurationData = {"window": window, "reboot": _REBOOT_POLICIES[setting.lower()]}
    if is_about_hosts:
        policies |= {"reboot": "Never", "maintenance": {"hold": HOST_HOLD}}
        result.note(
            azure_name,
            "it is about Azure's hosts: here it holds updates of the machines in `scope` for "
            f"{HOST_HOLD}, without reboots",
        )
    for suffix, system_term, updates in _convert_updates(azure_name, patches, result):
        full_name = f"{name}-{suffix}" if suffix else name
        result.configurations.append(
            {**base, "name": full_name, "scope": _build_scope(scope, system_term), "updates": updates, **policies}
        )


def _convert_window(azure_name: str, window: AzureObject, result: AzureImport) -> ConfigurationData:
    start = _read_text_value(azure_name, window, "startDateTime")
    if not start:
        raise InventoryError(
            f"{azure_name}: the window has no startDateTime", hint="Give it one in Azure, or in the JSON."
        )
    zone = _read_time_zone(azure_name, window)
    converted: ConfigurationData = {
        "start": f"{_parse_wall_time(azure_name, 'startDateTime', start, zone, result):%Y-%m-%d %H:%M}"
    }
    converted["length"] = _read_text_value(azure_name, window, "duration") or _DEFAULT_WINDOW_LENGTH
    if "duration" not in window:
        result.note(azure_name, f"it has no duration; {_DEFAULT_WINDOW_LENGTH}, Azure's longest, was written")
    converted["zone"] = zone
    expires = _read_text_value(azure_name, window, "expirationDateTime")
    if (
        expires
        and (end := _parse_wall_time(azure_name, "expirationDateTime", expires, zone, result)).year < CALENDAR_END.year
    ):
        converted["expires"] = f"{end:%Y-%m-%d %H:%M}"
    if recurrence := _read_text_value(azure_name, window, "recurEvery"):
        converted["recurrence"] = recurrence
    return converted


def _convert_updates(
    azure_name: str, patches: AzureObject, result: AzureImport
) -> Iterator[tuple[str, str, ConfigurationData]]:
    """Yield for each system: a suffix for the name, the scope term of the system, and the selected updates."""
    parameters_by_system = {
        system: _to_object(patches.get(key))
        for key, system in _SYSTEMS_BY_PARAMETERS_KEY.items()
        if patches.get(key) is not None
    }
    updates_by_system = {
        system: _convert_update_selection(azure_name, parameters, result)
        for system, parameters in parameters_by_system.items()
    }
    if not updates_by_system:
        result.note(azure_name, "it selects no updates; the import selects Critical and Security")
        yield "", "", {"classifications": ["Critical", "Security"]}
    elif len(updates_by_system) == 2 and updates_by_system["linux"] == updates_by_system["windows"]:
        yield "", "", updates_by_system["linux"]
    else:
        for system, updates in updates_by_system.items():
            yield system if len(updates_by_system) > 1 else "", f"os={system}", updates
        if len(updates_by_system) > 1:
            result.note(azure_name, "it becomes two configurations: it selects other updates on Linux than on Windows")


def _convert_update_selection(azure_name: str, parameters: AzureObject, result: AzureImport) -> ConfigurationData:
    for key in sorted(set(parameters) - _PATCH_PARAMETERS):
        if parameters[key]:
            value = _format_value(parameters[key])
            result.note(azure_name, f"installPatches.{_shorten_text(key)} can't be imported: {value}")
    selection: ConfigurationData = {"classifications": _read_list(parameters, "classificationsToInclude")}
    include = _read_list(parameters, "packageNameMasksToInclude") + _read_kb_numbers(parameters, "kbNumbersToInclude")
    # Azure's agent compares only the package name when it excludes.
    exclude = [mask.partition("=")[0].strip() for mask in _read_list(parameters, "packageNameMasksToExclude")]
    exclude += _read_kb_numbers(parameters, "kbNumbersToExclude")
    for key, masks in (("include", include), ("exclude", exclude)):
        if masks:
            selection[key] = masks
    if str(parameters.get("excludeKbsRequiringReboot", False)).lower() == "true":
        selection["exclude_requiring_reboot"] = True
    return selection


def _note_unsupported_properties(
    azure_name: str, properties: AzureObject, patches: AzureObject, result: AzureImport
) -> None:
    flat = {*_WINDOW_PROPERTIES, "id", "name", "type", "location", "tags", "systemData", "resourceGroup"}
    for key in sorted(set(properties) - _CONVERTED_PROPERTIES - _IGNORED_PROPERTIES - flat):
        if properties[key]:
            result.note(azure_name, f"{_shorten_text(key)} can't be imported: {_format_value(properties[key])}")
    for key in sorted(set(patches) - {"rebootSetting", *_SYSTEMS_BY_PARAMETERS_KEY}):
        if patches[key]:
            hint = "; write hooks in its place" if key == "tasks" else ""
            value_text = _format_value(patches[key])
            result.note(azure_name, f"installPatches.{_shorten_text(key)} can't be imported{hint}: {value_text}")
    for key, value in _to_object(properties.get("extensionProperties")).items():
        if (key.lower(), str(value).lower()) != ("inguestpatchmode", "user"):
            result.note(
                azure_name, f"extensionProperties.{_shorten_text(key)} can't be imported: {_format_value(value)}"
            )


def _build_scope(scope: str | None, system_term: str) -> str:
    if scope is None or scope.strip() in {"*", "all"}:
        return system_term or "*"
    return narrow_scope(scope, system_term) if system_term else scope
