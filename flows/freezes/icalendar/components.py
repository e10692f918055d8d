"""Parser for iCalendar's syntax (RFC 5545, section 3.1): folded lines with parameters, in nested components."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from inventory.errors import InventoryError

_NAME_PATTERN = re.compile(r"[A-Za-z0-9-]+")
_PARAMETER_PATTERN = re.compile(r';([A-Za-z0-9-]+)=((?:"[^"]*"|[^";:,]*)(?:,(?:"[^"]*"|[^";:,]*))*)')
_ESCAPE_PATTERN = re.compile(r"\\(.)")
_ROOT_COMPONENT = "VCALENDAR"
_EXPORT_HINT = "Export it anew as .ics."


def build_line_error(number: int, message: str, hint: str) -> InventoryError:
    """Return an error for a line of a calendar."""
    return InventoryError(f"line {number}: {message}", hint=hint)


def shorten_value(text: str, max_characters: int = 80) -> str:
    """Return a value, shortened for a message."""
    return repr(text if len(text) <= max_characters else f"{text[:max_characters]}…")


@dataclass(frozen=True, slots=True)
class CalendarProperty:
    """A property of a component.

    Attributes:
        line_number: number of its first line in the file.
        name: in upper case.
        parameters: values without quotes, by names in upper case.
        value: as written.
    """

    line_number: int
    name: str
    parameters: dict[str, str]
    value: str

    def decode_text(self) -> str:
        """Return a value of type TEXT without its escapes."""
        plain = _ESCAPE_PATTERN.sub(lambda match: " " if match[1] in "nN" else match[1], self.value)
        return " ".join("".join(sign if sign.isprintable() else " " for sign in plain).split())


@dataclass(frozen=True, slots=True)
class CalendarComponent:
    """A part of a calendar between BEGIN and END.

    Attributes:
        line_number: number of its BEGIN line.
        name: in upper case.
        properties: its properties.
        components: the components in it.
    """

    line_number: int
    name: str
    properties: list[CalendarProperty] = field(default_factory=list)
    components: list["CalendarComponent"] = field(default_factory=list)

    def find_properties(self, name: str) -> list[CalendarProperty]:
        """Return all properties with this name."""
        return [line for line in self.properties if line.name == name]

    def find_property(self, name: str) -> CalendarProperty | None:
        """Return the property with this name, or None. It may occur only once.

        Raises:
            InventoryError: it occurs more than once.
        """
        properties = self.find_properties(name)
        if len(properties) > 1:
            hint = "Keep the one that is meant, or export the calendar anew."
            raise build_line_error(
                properties[1].line_number,
                f"{name} is here a second time, first in line {properties[0].line_number}",
                hint,
            )
        return properties[0] if properties else None


def parse_calendars(text: str) -> list[CalendarComponent]:
    """Return the calendars of a file.

    Raises:
        InventoryError: the text is not a calendar, or it is incomplete. The error has the line.
    """
    calendars: list[CalendarComponent] = []
    open_components: list[CalendarComponent] = []
    for number, raw in _unfold_lines(text):
        calendar_property = _parse_property(number, raw)
        if calendar_property.name == "BEGIN":
            component = CalendarComponent(number, calendar_property.value.strip().upper())
            if not open_components and component.name != _ROOT_COMPONENT:
                raise build_line_error(number, "this is no iCalendar file", "It begins with BEGIN:VCALENDAR.")
            (open_components[-1].components if open_components else calendars).append(component)
            open_components.append(component)
        elif not open_components:
            raise build_line_error(number, "this is no iCalendar file", "It begins with BEGIN:VCALENDAR.")
        elif calendar_property.name == "END":
            if calendar_property.value.strip().upper() != open_components[-1].name:
                begun = f"{open_components[-1].name[:40]} of line {open_components[-1].line_number}"
                message = f"END:{calendar_property.value.strip()[:40]} where {begun} is to end"
                raise build_line_error(number, message, _EXPORT_HINT)
            open_components.pop()
        else:
            open_components[-1].properties.append(calendar_property)
    if open_components:
        message = f"{open_components[-1].name[:40]} has no end: the file is cut off"
        raise build_line_error(open_components[-1].line_number, message, "Export or download it anew.")
    if not calendars:
        raise InventoryError("this is no iCalendar file: it is empty", hint="It begins with BEGIN:VCALENDAR.")
    return calendars


def _unfold_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each unfolded line with the number of its first line. Only CR and LF end a line, not Unicode separators."""
    first, parts = 0, [""]
    for number, raw in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        if raw[:1] in {" ", "\t"} and first:
            parts.append(raw[1:])
            continue
        if "".join(parts).strip():
            yield first, "".join(parts)
        first, parts = number, [raw]
    if "".join(parts).strip():
        yield first, "".join(parts)


def _parse_property(number: int, raw: str) -> CalendarProperty:
    name = _NAME_PATTERN.match(raw)
    position = name.end() if name else 0
    parameters = {}
    while name and (match := _PARAMETER_PATTERN.match(raw, position)):
        parameters[match[1].upper()] = match[2].replace('"', "")
        position = match.end()
    if name is None or raw[position : position + 1] != ":":
        raise build_line_error(number, "this is no line of an iCalendar file: NAME:VALUE is wanted", _EXPORT_HINT)
    return CalendarProperty(number, name[0].upper(), parameters, raw[position + 1 :])
