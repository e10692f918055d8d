"""Converts the freezes of a configuration file into the freezes of a request: one start and end for each."""

import re
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from flows.freezes.calendar_events import parse_events
from flows.freezes.time_values import FREEZE_OFFSET_HINT, FreezeEndTime, FreezeTime, parse_end_time
from flows.request.base import CheckedPath, FormModel
from flows.request.request_parts import FreezeRequest
from inventory.errors import InvalidInventory, InventoryError
from inventory.files.located_yaml import iterate_entries
from inventory.files.paths import expand_home
from inventory.files.problems import LocatedData, ProblemCollector
from inventory.files.text_files import read_text_file
from inventory.schema.validation import validate_mapping
from inventory.schema.value_types import build_validation_error

_ALLOWED_YEARS = range(1970, 3000)
_DATE_SCHEMA = {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}


def _parse_whole_day(value: object) -> datetime:
    end = parse_end_time(value, FREEZE_OFFSET_HINT)
    if end.hour or end.minute or end.second:
        raise build_validation_error(
            f"{str(value)[:80]!r} is no date", "Write it as 2026-12-24; with times, give `start` and `end`."
        )
    return end


class FreezeForm(FormModel):
    """A time in which nothing may be changed: a day, a span, or the events of an iCalendar file."""

    date: Annotated[datetime, BeforeValidator(_parse_whole_day), WithJsonSchema(_DATE_SCHEMA)] | None = Field(
        default=None, description="One whole day."
    )
    start: FreezeTime | None = Field(default=None, description="From when; a date alone is from its first moment on.")
    end: FreezeEndTime | None = Field(default=None, description="Until when; a date alone is to its last moment.")
    file: CheckedPath | None = Field(
        default=None, description="An iCalendar file (.ics); each of its events is a freeze. Relative to this file."
    )
    reason: str = Field(
        default="", max_length=200, description="The reason that reports show. Default: the event's summary."
    )

    @model_validator(mode="after")
    def _require_one_kind(self) -> "FreezeForm":
        given_keys = {key for key in ("date", "start", "end", "file") if getattr(self, key) is not None}
        if given_keys not in ({"date"}, {"start", "end"}, {"file"}):
            raise build_validation_error(
                "this is no freeze",
                "Write {date: 2026-12-24}, {start: 2026-12-19, end: 2027-01-06}, or {file: closing.ics}.",
            )
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise build_validation_error("this freeze ends before it starts", "Correct `start` or `end`.")
        for moment in (self.date, self.start, self.end):
            if moment is not None and moment.year not in _ALLOWED_YEARS:  # time zone data does not cover other years
                raise build_validation_error(
                    f"the year {moment.year} is out of range",
                    f"Give {_ALLOWED_YEARS.start} to {_ALLOWED_YEARS.stop - 1}.",
                )
        return self


EXPANSION_YEARS = 2
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


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


def build_freeze_requests(
    form: FreezeForm, located: LocatedData, today: date, problems: ProblemCollector
) -> Iterator[FreezeRequest]:
    """Yield the freezes of one entry."""
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
        # The period in which recurring events are expanded: this calendar year and the next two. It changes once a
        # year. If it depended on today, the deployed freezes would differ from the file every day.
        expansion_period = date(today.year, 1, 1), date(today.year + EXPANSION_YEARS + 1, 1, 1)
        for event in parse_events(text or "", *expansion_period):
            yield FreezeRequest(start=event.start, end=event.end, reason=form.reason or event.summary)
    except InvalidInventory as error:  # this error names the file itself
        problems.add(location, error.message, error.hint)
    except InventoryError as error:
        problems.add(location, f"{file}: {error.message}", error.hint)


def deduplicate_freezes(freezes: Iterable[FreezeRequest]) -> tuple[FreezeRequest, ...]:
    """Return the freezes without duplicates, sorted by start."""
    unique = {(freeze.start.isoformat(), freeze.end.isoformat(), freeze.reason): freeze for freeze in freezes}
    return tuple(sorted(unique.values(), key=lambda freeze: (freeze.start.replace(tzinfo=None), freeze.reason)))
