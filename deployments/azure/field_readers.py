"""Readers for single fields of Azure's maintenance configurations."""

import re
from datetime import datetime, timedelta

from pydantic_core import PydanticCustomError

from deployments.azure.import_result import AzureImport, AzureObject
from flows.freezes.time_values import CALENDAR_END, MACHINE_ZONE, parse_local_time, parse_time_zone
from inventory.errors import InventoryError
from inventory.schema.value_types import build_validation_error
from tasks.rules.calendar.local_time import get_time_zone as zone_info

_MAX_SHOWN_CHARACTERS = 120


_TAG_PATTERN = re.compile(r"[\w.:/=@+-]{1,80}")


_TIME_PATTERN = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[ T](\d{2}:\d{2})(?::(\d{2})(?:\.\d+)?)?\s*(Z|z|[+-]\d{2}:?\d{2})?)?", re.ASCII
)


def read_kb_numbers(parameters: AzureObject, key: str) -> list[str]:
    """Return the KB numbers of a key, each with the prefix ``KB``."""
    return [f"KB{number.strip().upper().removeprefix('KB')}" for number in read_list(parameters, key)]


def convert_tags(azure_name: str, tags: AzureObject, result: AzureImport) -> list[str]:
    """Return Azure's tags as ``key=value``. Add a note for tags that fleetpatch can't use."""
    values = []
    for key, value in tags.items():
        label = f"{key}={value}"
        if _TAG_PATTERN.fullmatch(label):
            values.append(label)
        else:
            result.notes.append(
                f"{azure_name}: the tag {format_value(label)} can't be imported: it holds a blank or a sign"
            )
    return values


def read_time_zone(azure_name: str, window: AzureObject) -> str:
    """Return the IANA name of a window's time zone; UTC if Azure gives none.

    Raises:
        InventoryError: there is no such zone.
    """
    name = read_text_value(azure_name, window, "timeZone") or "UTC"
    try:
        zone = parse_time_zone(name)
    except PydanticCustomError as error:
        raise InventoryError(
            f"{azure_name}: {error.message()}", hint="Azure has names of Windows time zones."
        ) from error
    if zone == MACHINE_ZONE:
        raise InventoryError(f"{azure_name}: {name!r} is no time zone", hint="Azure has names of Windows time zones.")
    return zone


def parse_wall_time(azure_name: str, key: str, text: str, zone: str, result: AzureImport) -> datetime:
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
            result.notes.append(
                f"{azure_name}: {key} {text} has an offset; {wall:%Y-%m-%d %H:%M} in {zone} was written"
            )
        return wall + timedelta(minutes=1) if has_seconds and wall < CALENDAR_END else wall
    except PydanticCustomError as error:
        hint = str((error.context or {}).get("hint", "")) or "Azure writes YYYY-MM-DD hh:mm."
        raise InventoryError(f"{azure_name}: {error.message()}", hint=hint) from error
    except (OverflowError, ValueError) as error:
        hint = "Correct the year, or the offset."
        raise InventoryError(f"{azure_name}: {key}: {text[:80]!r} lies outside of the calendar", hint=hint) from error


def read_text_value(azure_name: str, values: AzureObject, key: str) -> str:
    """Return the text of a key; empty if the key is missing.

    Raises:
        InventoryError: the value is an expression of an ARM template.
    """
    value = values.get(key)
    text = "" if value is None else str(value).strip()
    if text.startswith("[") and text.endswith("]"):
        raise InventoryError(
            f"{azure_name}: {key} is an expression of an ARM template: {shorten_text(text)}",
            hint="Give what was deployed: az maintenance configuration show -o json.",
        )
    return text


def shorten_text(text: str) -> str:
    """Return a text, shortened for a note."""
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else f"{text[:_MAX_SHOWN_CHARACTERS]}…"


def format_value(value: object) -> str:
    """Return a value as text for a note."""
    return shorten_text(repr(value))


def read_list(values: AzureObject, key: str) -> list[str]:
    """Return the texts of a key. Azure writes one text or a list."""
    value = values.get(key) or []
    return [str(item).strip() for item in value] if isinstance(value, list) else [str(value).strip()]


def to_object(value: object) -> AzureObject:
    """Return the value if it is an object, otherwise an empty object."""
    return value if isinstance(value, dict) else {}
