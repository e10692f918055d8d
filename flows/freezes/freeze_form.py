"""The form of a freeze in a file: a day, a span, or the events of an iCalendar file."""

from datetime import datetime
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from flows.freezes.time_values import FREEZE_OFFSET_HINT, FreezeEndTime, FreezeTime, parse_end_time
from flows.request.base import CheckedPath, StrictModel
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


class FreezeForm(StrictModel):
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
