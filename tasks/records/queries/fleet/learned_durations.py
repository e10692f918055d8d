"""Reads what past runs tell of the speed of all machines, with two questions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby

from sqlalchemy import func, select

from tasks.records import schema
from tasks.records.measures import compute_weighted_mean
from tasks.records.storage.database import Database

SAMPLES = 5
"""So many newest samples make a mean: older ones have a sixth of the weight together."""

_MEASURES, _OUTCOMES = schema.measures, schema.outcomes


@dataclass(frozen=True, slots=True)
class LearnedDurations:
    """What past runs tell of machines.

    Attributes:
        measures: the mean of each measure (see ``compute_measures``), by machine.
        updates: how many updates a machine got on average in the runs that installed any, by machine.
    """

    measures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    updates: Mapping[str, float] = field(default_factory=dict)


def read_learned_durations(database: Database) -> LearnedDurations:
    """Return what past runs tell of all machines.

    Args:
        database: the database of the records.

    Raises:
        RecordsError: the records can't be read.
    """
    table = _MEASURES
    row_number = func.row_number().over(
        partition_by=(table.c.machine, table.c.measure), order_by=(table.c.at.desc(), table.c.run_id.desc())
    )
    ranked = select(table.c.machine, table.c.measure, table.c.value, row_number.label("place")).subquery()
    samples = select(ranked.c.machine, ranked.c.measure, ranked.c.value).where(ranked.c.place <= SAMPLES)
    samples = samples.order_by(ranked.c.machine, ranked.c.measure, ranked.c.place.desc())
    counts = select(_OUTCOMES.c.machine, func.avg(_OUTCOMES.c.updates_installed)).group_by(_OUTCOMES.c.machine)
    with database.begin_read("read what was learned of all machines") as connection:
        rows = connection.execute(samples).tuples().all()
        updates = connection.execute(counts.where(_OUTCOMES.c.updates_installed > 0)).tuples().all()
    measures: dict[str, dict[str, float]] = {}
    for (machine, measure), group in groupby(rows, key=lambda row: (row[0], row[1])):
        mean = compute_weighted_mean([value for _, _, value in group])
        if mean is not None:
            measures.setdefault(machine, {})[measure] = mean
    return LearnedDurations(measures, {machine: float(mean) for machine, mean in updates})
