"""Freezes of a configuration: what its file says becomes what a run is asked, one time after the other."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

from deployments.config.form import FreezeForm
from deployments.config.ical import read_events
from flows.policy_forms import FreezeRequest
from inventory.errors import InvalidInventory, InventoryError
from inventory.places import Located, Problems, read_text, with_home

YEARS_AHEAD = 2


def horizon(today: date) -> tuple[date, date]:
    """Return from when until when events that recur are spelt out: this calendar year and the next two.

    It moves once a year. Were it counted from today, what is deployed would differ from its file every day.
    """
    return date(today.year, 1, 1), date(today.year + YEARS_AHEAD + 1, 1, 1)


def freezes_of(form: FreezeForm, located: Located, today: date, problems: Problems) -> Iterator[FreezeRequest]:
    """Give what one entry means.

    Args:
        form: the checked entry.
        located: where it stands.
        today: for the horizon.
        problems: takes what is wrong with an iCalendar file.
    """
    if form.date is not None:
        yield FreezeRequest(start=form.date - timedelta(days=1), end=form.date, reason=form.reason)
    elif form.start is not None and form.end is not None:
        yield FreezeRequest(start=form.start, end=form.end, reason=form.reason)
    elif form.file is not None:
        yield from _events(form, form.file, located, today, problems)


def _events(form: FreezeForm, file: Path, located: Located, today: date, problems: Problems) -> Iterator[FreezeRequest]:
    place = located.at(("file",))
    try:
        path = place.file.parent.absolute() / with_home(file)
        noted = Problems()
        text = read_text(path, noted)
        noted.raise_any()
        for event in read_events(text or "", *horizon(today)):
            yield FreezeRequest(start=event.start, end=event.end, reason=form.reason or event.summary)
    except InvalidInventory as error:  # names the file itself
        problems.add(place, error.message, error.hint)
    except InventoryError as error:
        problems.add(place, f"{file}: {error.message}", error.hint)


def distinct(freezes: Iterator[FreezeRequest]) -> tuple[FreezeRequest, ...]:
    """Return freezes in order of their beginning, each once."""
    unique = {(freeze.start.isoformat(), freeze.end.isoformat(), freeze.reason): freeze for freeze in freezes}
    return tuple(sorted(unique.values(), key=_order))


def _order(freeze: FreezeRequest) -> tuple[datetime, str]:
    return freeze.start.replace(tzinfo=None), freeze.reason
