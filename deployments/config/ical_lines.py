"""iCalendar's outer form (RFC 5545, section 3.1): lines that may be folded, with parameters, in nested components."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from inventory.errors import InventoryError

_NAME = re.compile(r"[A-Za-z0-9-]+")
_PARAMETER = re.compile(r';([A-Za-z0-9-]+)=((?:"[^"]*"|[^";:,]*)(?:,(?:"[^"]*"|[^";:,]*))*)')
_ESCAPED = re.compile(r"\\(.)")
_CALENDAR = "VCALENDAR"
_ANEW = "Export it anew as .ics."


def refused(number: int, message: str, hint: str) -> InventoryError:
    """Return the error for a line of a calendar."""
    return InventoryError(f"line {number}: {message}", hint=hint)


def cut(text: str, most: int = 80) -> str:
    """Return a value as a message may show it."""
    return repr(text if len(text) <= most else f"{text[:most]}…")


@dataclass(frozen=True, slots=True)
class Line:
    """One property.

    Attributes:
        number: of its first line in the file.
        name: in capital letters.
        parameters: by their names in capital letters, without quotes.
        value: as it stands.
    """

    number: int
    name: str
    parameters: dict[str, str]
    value: str

    def text(self) -> str:
        """Return a value of type TEXT, as people read it."""
        plain = _ESCAPED.sub(lambda match: " " if match[1] in "nN" else match[1], self.value)
        return " ".join("".join(sign if sign.isprintable() else " " for sign in plain).split())


@dataclass(frozen=True, slots=True)
class Component:
    """A part of a calendar between BEGIN and END.

    Attributes:
        number: of the line that it begins in.
        name: in capital letters.
        lines: its properties.
        parts: the components in it.
    """

    number: int
    name: str
    lines: list[Line] = field(default_factory=list)
    parts: list["Component"] = field(default_factory=list)

    def every(self, name: str) -> list[Line]:
        """Return the properties of a name."""
        return [line for line in self.lines if line.name == name]

    def one(self, name: str) -> Line | None:
        """Return the property of a name that may stand there once, or None.

        Raises:
            InventoryError: it stands there twice.
        """
        found = self.every(name)
        if len(found) > 1:
            hint = "Keep the one that is meant, or export the calendar anew."
            raise refused(found[1].number, f"{name} stands here again, first in line {found[0].number}", hint)
        return found[0] if found else None


def read_calendars(text: str) -> list[Component]:
    """Return the calendars of a file.

    Raises:
        InventoryError: it is none, or it is cut off; with the line.
    """
    calendars: list[Component] = []
    opened: list[Component] = []
    for number, raw in _unfolded(text):
        line = _line(number, raw)
        if line.name == "BEGIN":
            made = Component(number, line.value.strip().upper())
            if not opened and made.name != _CALENDAR:
                raise refused(number, "this is no iCalendar file", "It begins with BEGIN:VCALENDAR.")
            (opened[-1].parts if opened else calendars).append(made)
            opened.append(made)
        elif not opened:
            raise refused(number, "this is no iCalendar file", "It begins with BEGIN:VCALENDAR.")
        elif line.name == "END":
            if line.value.strip().upper() != opened[-1].name:
                begun = f"{opened[-1].name[:40]} of line {opened[-1].number}"
                message = f"END:{line.value.strip()[:40]} where {begun} is to end"
                raise refused(number, message, _ANEW)
            opened.pop()
        else:
            opened[-1].lines.append(line)
    if opened:
        message = f"{opened[-1].name[:40]} has no end: the file is cut off"
        raise refused(opened[-1].number, message, "Export or download it anew.")
    if not calendars:
        raise InventoryError("this is no iCalendar file: it is empty", hint="It begins with BEGIN:VCALENDAR.")
    return calendars


def _unfolded(text: str) -> Iterator[tuple[int, str]]:
    """Give each line with the number of its first one. Only CR and LF end lines, whatever else Unicode knows."""
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


def _line(number: int, raw: str) -> Line:
    name = _NAME.match(raw)
    place = name.end() if name else 0
    parameters = {}
    while name and (match := _PARAMETER.match(raw, place)):
        parameters[match[1].upper()] = match[2].replace('"', "")
        place = match.end()
    if name is None or raw[place : place + 1] != ":":
        raise refused(number, "this is no line of an iCalendar file: NAME:VALUE is wanted", _ANEW)
    return Line(number, name[0].upper(), parameters, raw[place + 1 :])
