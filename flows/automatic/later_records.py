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
        name: outcome
        for name, outcome in results.last_outcomes.items()
        if outcome.ended_at is None or outcome.ended_at <= limit
    }
    return RolloutResults(tuple(outcome for outcome in results.tries if outcome.ended_at <= limit), outcomes)


def drop_later_sightings(sightings: Mapping[UpdateKey, Sighting], limit: datetime) -> dict[UpdateKey, Sighting]:
    """Return the sightings until a time. Of one that is later, a publication before that time is kept."""
    earlier_sightings: dict[UpdateKey, Sighting] = {}
    for key, sighting in sightings.items():
        published = sighting.published if sighting.published is not None and sighting.published <= limit else None
        if published is not None or sighting.first_seen <= limit:
            earlier_sightings[key] = (
                sighting if published == sighting.published else Sighting(sighting.first_seen, published)
            )
    return earlier_sightings


def find_later_records(
    assessments: Mapping[str, datetime], tries: Iterable[Try], limit: datetime
) -> dict[str, datetime]:
    """Return the machines with assessments or tries after a time, with the latest time of each."""
    later_assessments = {name: at for name, at in assessments.items() if at > limit}
    for phase_try in tries:
        if phase_try.ended_at > limit:
            later_assessments[phase_try.machine] = max(
                phase_try.ended_at, later_assessments.get(phase_try.machine, phase_try.ended_at)
            )
    return later_assessments
