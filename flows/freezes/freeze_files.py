"""Converts the freezes of a configuration file into the freezes of a request: one start and end for each."""

import re
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

from flows.freezes.freeze_form import FreezeForm
from flows.freezes.icalendar.events import parse_events
from flows.request.policies import FreezeRequest
from inventory.errors import InvalidInventory, InventoryError
from inventory.files.paths import expand_home
from inventory.files.problems import LocatedData, ProblemCollector
from inventory.files.text_files import read_text_file
from inventory.schema.validation import validate_mapping

EXPANSION_YEARS = 2
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def build_expansion_period(today: date) -> tuple[date, date]:
    """Return the period in which recurring events are expanded: this calendar year and the next two.

    It changes once a year. If it depended on today, the deployed freezes would differ from the file every day.
    """
    return date(today.year, 1, 1), date(today.year + EXPANSION_YEARS + 1, 1, 1)


def build_freezes(located: LocatedData, today: date, problems: ProblemCollector) -> tuple[FreezeRequest, ...]:
    """Return the freezes of the key `freezes`. It checks each entry, so that one problem hides no other."""
    freezes: list[FreezeRequest] = []
    for entry in iterate_entries(located, "freezes", problems):
        if not isinstance(entry.data, dict):
            written = str(entry.data)[:40] if isinstance(entry.data, str) else ""
            shown = written if _DATE.fullmatch(written) else "2026-12-24"
            hint = f"Write {{date: {shown}}}, {{start: 2026-12-19, end: 2027-01-06}}, or {{file: closing.ics}}."
            problems.add(entry.locate(), f"this is no freeze: {written or 'it has no keys'}", hint)
            continue
        form = validate_mapping(FreezeForm, entry, problems)
        if form is not None:
            freezes += build_freeze_requests(form, entry, today, problems)
    return tuple(freezes)


def iterate_entries(located: LocatedData, key: str, problems: ProblemCollector) -> Iterator[LocatedData]:
    """Yield the entries of a list in a file, with their places."""
    data = located.data.get(key) if isinstance(located.data, dict) else None
    if data is None:
        return
    part = located.get_child(key)
    if not isinstance(data, list):
        problems.add(part.locate(), f"`{key}` is a list", "Write each entry after a dash: `- name: ...`.")
        return
    yield from (part.get_child(index) for index in range(len(data)))


def build_freeze_requests(
    form: FreezeForm, located: LocatedData, today: date, problems: ProblemCollector
) -> Iterator[FreezeRequest]:
    """Yield the freezes of one entry.

    Args:
        form: the validated entry.
        located: the entry with its places.
        today: today's date, for the expansion period.
        problems: collects the problems of an iCalendar file.
    """
    if form.date is not None:
        yield FreezeRequest(start=form.date - timedelta(days=1), end=form.date, reason=form.reason)
    elif form.start is not None and form.end is not None:
        yield FreezeRequest(start=form.start, end=form.end, reason=form.reason)
    elif form.file is not None:
        yield from _load_calendar_freezes(form, form.file, located, today, problems)


def _load_calendar_freezes(
    form: FreezeForm, file: Path, located: LocatedData, today: date, problems: ProblemCollector
) -> Iterator[FreezeRequest]:
    location = located.locate(("file",))
    try:
        path = location.file.parent.absolute() / expand_home(file)
        file_problems = ProblemCollector()
        text = read_text_file(path, file_problems)
        file_problems.raise_if_any()
        for event in parse_events(text or "", *build_expansion_period(today)):
            yield FreezeRequest(start=event.start, end=event.end, reason=form.reason or event.summary)
    except InvalidInventory as error:  # this error names the file itself
        problems.add(location, error.message, error.hint)
    except InventoryError as error:
        problems.add(location, f"{file}: {error.message}", error.hint)


def deduplicate_freezes(freezes: Iterable[FreezeRequest]) -> tuple[FreezeRequest, ...]:
    """Return the freezes without duplicates, sorted by start."""
    unique = {(freeze.start.isoformat(), freeze.end.isoformat(), freeze.reason): freeze for freeze in freezes}
    return tuple(sorted(unique.values(), key=_build_sort_key))


def _build_sort_key(freeze: FreezeRequest) -> tuple[datetime, str]:
    return freeze.start.replace(tzinfo=None), freeze.reason
