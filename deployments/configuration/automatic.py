"""Loads the key `automatic` of configuration files: how managed machines are patched automatically."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from deployments.configuration.file_format import AutomaticForm
from deployments.configuration.paths import resolve_notifications, resolve_paths
from flows.freezes.freeze_files import build_freezes, deduplicate_freezes
from flows.request.automatic_request import AutomaticRequest
from flows.request.policies import FreezeRequest
from inventory.files.problems import LocatedData, ProblemCollector, SourceLocation
from inventory.schema.validation import validate_mapping


@dataclass(frozen=True, slots=True)
class AutomaticConfiguration:
    """How managed machines are patched automatically.

    Attributes:
        request: the request of each tick, with absolute paths and all freezes.
        source_location: the place of the key.
    """

    request: AutomaticRequest
    source_location: SourceLocation


def build_automatic(located: LocatedData, today: date, problems: ProblemCollector) -> AutomaticConfiguration | None:
    """Return what the key `automatic` of a file says.

    Args:
        located: the value of the key, with its places.
        today: today's date, for the events of iCalendar files.
        problems: collects all problems.
    """
    form = validate_mapping(AutomaticForm, located, problems, "`scope:`, `off_peak:`")
    freezes = build_freezes(located, today, problems)
    if form is None:
        return None
    values = {name: getattr(form, name) for name in AutomaticRequest.model_fields if name in form.model_fields_set}
    values |= resolve_paths(form, ("inventory", "feeds"), located, problems)
    values |= {"notify": resolve_notifications(form.notify, located, problems), "freezes": list(freezes)}
    return AutomaticConfiguration(AutomaticRequest(**values), located.locate())


def select_automatic(
    found: Sequence[AutomaticConfiguration | None], freezes: Sequence[FreezeRequest], problems: ProblemCollector
) -> AutomaticConfiguration | None:
    """Return the one that counts, with the freezes of all files. A second one is a problem."""
    drafts = [draft for draft in found if draft is not None]
    for draft in drafts[1:]:
        first_location = drafts[0].source_location
        spot = f"{first_location.file.name}:{first_location.line}" if first_location.line else first_location.file.name
        problems.add(
            draft.source_location,
            f"`automatic` is here a second time, first in {spot}",
            "Only one policy can decide for the managed machines: remove one of the two.",
        )
    if not drafts:
        return None
    first = drafts[0]
    every = list(deduplicate_freezes((*first.request.freezes, *freezes)))
    return replace(first, request=first.request.model_copy(update={"freezes": every}))
