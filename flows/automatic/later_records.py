"""Leaves out records that are later than now: the controller's clock was ahead when they were made.

Without this, a machine that was assessed in the far future would count as seen, and never be assessed again. Pure.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from tasks.records.automatic.tries import RolloutResults
from tasks.rules.automatic.deadlines import Sighting
from tasks.rules.automatic.model import Try, UpdateKey


def drop_later_results(results: RolloutResults, limit: datetime) -> RolloutResults:
    """Return the results until a time."""
    outcomes = {
        name: each for name, each in results.last_outcomes.items() if each.ended_at is None or each.ended_at <= limit
    }
    return RolloutResults(tuple(each for each in results.tries if each.ended_at <= limit), outcomes)


def drop_later_sightings(sightings: Mapping[UpdateKey, Sighting], limit: datetime) -> dict[UpdateKey, Sighting]:
    """Return the sightings until a time. Of one that is later, a publication before that time is kept."""
    found: dict[UpdateKey, Sighting] = {}
    for key, each in sightings.items():
        published = each.published if each.published is not None and each.published <= limit else None
        if published is not None or each.first_seen <= limit:
            found[key] = each if published == each.published else Sighting(each.first_seen, published)
    return found


def find_later_records(
    assessments: Mapping[str, datetime], tries: Iterable[Try], limit: datetime
) -> dict[str, datetime]:
    """Return the machines with assessments or tries after a time, with the latest time of each."""
    found = {name: at for name, at in assessments.items() if at > limit}
    for each in tries:
        if each.ended_at > limit:
            found[each.machine] = max(each.ended_at, found.get(each.machine, each.ended_at))
    return found
