"""Computes how fast a machine is from the outcomes of its runs, and reads that for all machines at once.

A measure of a machine is the exponentially weighted mean over its past runs. Recent runs have more weight, and one
unusual run does not change the mean much.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cache
from itertools import groupby

from sqlalchemy import Select, Subquery, bindparam, column, func, select, true, union, values

from inventory.data_class import dataclass
from tasks.domain.model import Outcome
from tasks.domain.states import RebootState
from tasks.records import page_schema, schema
from tasks.records.storage.column_types import KeyType
from tasks.records.storage.database import Database
from tasks.rules.runs.snapshots import REVERT_MEASURE, SNAPSHOT_MEASURE

NEWEST_SAMPLE_WEIGHT = 0.3
"""Weight of the newest sample. After five runs on new hardware, 5/6 of the mean come from the new hardware."""

MAX_SAMPLES = 25
"""Maximum number of samples in a mean. Older samples would have a weight of 0.7^25, about 0.01 percent."""

INSTALL_SECONDS_PER_UPDATE = "install_seconds_per_update"
TRANSACTION_SECONDS = "transaction_seconds"
DOWNLOAD_BYTES_PER_SECOND = "download_bytes_per_second"
REBOOT_SECONDS = "reboot_seconds"
MEASURES = (
    INSTALL_SECONDS_PER_UPDATE,
    TRANSACTION_SECONDS,
    DOWNLOAD_BYTES_PER_SECOND,
    REBOOT_SECONDS,
    SNAPSHOT_MEASURE,
    REVERT_MEASURE,
)

MIN_MEASURED_DOWNLOAD_BYTES = 1_000_000
"""Smaller downloads are not measured: most of their time is overhead, so their rate is too low for a large download."""

_UNKNOWN_OVERHEAD_UPDATES = 7.5
"""The fixed time of a transaction, in updates, for outcomes of earlier versions, which do not say it: 15 s to 2 s."""


def compute_weighted_mean(samples: Sequence[float]) -> float | None:
    """Return the exponentially weighted mean of samples (oldest first); None if there are none."""
    if not samples:
        return None
    mean = samples[0]
    for value in samples[1:]:
        mean += NEWEST_SAMPLE_WEIGHT * (value - mean)
    return mean


def compute_measures(outcome: Outcome) -> dict[str, float]:
    """Return the measures of an outcome: name -> value.

    Only successful work counts: the duration of a failure says nothing about the speed.

    - ``transaction_seconds``: the fixed time of a transaction, before its first update.
    - ``install_seconds_per_update``: the additional time of each update.
    - ``download_bytes_per_second``: of staged updates, if at least MIN_MEASURED_DOWNLOAD_BYTES were downloaded.
    - ``reboot_seconds``: from the reboot command to the first login that works.
    - ``snapshot_seconds``: from the order of the snapshot to its proof.
    - ``revert_seconds``: from the order of the revert to the first login that works.

    The fixed time and the time of each update cannot be measured separately. Their ratio comes from the package
    manager's default rates; their sum is exactly the measured time.
    """
    measured: dict[str, float] = {}
    timed = [  # a repair has no updates; an end before the start: the machine's clock was set back
        ((t.ended_at - t.started_at).total_seconds(), t)
        for t in (outcome.install.transactions if outcome.install else ())
        if t.exit_code == 0 and t.updates and t.started_at and t.ended_at and t.started_at <= t.ended_at
    ]
    if timed:
        fixed = _UNKNOWN_OVERHEAD_UPDATES
        if outcome.install is not None and outcome.install.overhead_updates is not None:
            fixed = outcome.install.overhead_updates
        mean_seconds = sum(seconds for seconds, _ in timed) / sum(fixed + len(t.updates) for _, t in timed)
        measured[TRANSACTION_SECONDS] = fixed * mean_seconds
        measured[INSTALL_SECONDS_PER_UPDATE] = mean_seconds
    staged = outcome.install
    if staged is not None and staged.staged_seconds and (staged.staged_bytes or 0) >= MIN_MEASURED_DOWNLOAD_BYTES:
        measured[DOWNLOAD_BYTES_PER_SECOND] = (staged.staged_bytes or 0) / staged.staged_seconds
    reboot = outcome.reboot_result
    if reboot is not None and reboot.state is RebootState.COMPLETED:
        phases = [seconds for seconds in (reboot.down_seconds, reboot.up_seconds) if seconds is not None]
        if len(phases) == 2:
            measured[REBOOT_SECONDS] = sum(phases)
    if outcome.snapshot is not None:
        measured[SNAPSHOT_MEASURE] = outcome.snapshot.seconds or 0.0
        measured[REVERT_MEASURE] = outcome.snapshot.revert_seconds or 0.0
    return {measure: value for measure, value in measured.items() if math.isfinite(value) and value > 0}


SAMPLES = 5
"""So many newest samples make a mean: older ones have a sixth of the weight together."""

_MEASURES, _OUTCOMES = schema.measures, schema.outcomes


@dataclass(frozen=True, slots=True)
class LearnedDurations:
    """What past runs tell of machines."""

    # The mean of each measure (see ``compute_measures``), by machine.
    measures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    # How many updates a machine got on average in the newest of the runs that installed any, by machine.
    updates: Mapping[str, float] = field(default_factory=dict)
    # The package manager that the last answer names, by machine.
    managers: Mapping[str, str] = field(default_factory=dict)


def read_learned_durations(database: Database) -> LearnedDurations:
    """Return what past runs tell of all machines."""
    dialect = database.engine.dialect.name
    samples, installed = (_select_newest_samples(dialect, of) for of in (MEASURES, (INSTALL_SECONDS_PER_UPDATE,)))
    ordered = select(samples.c.machine, samples.c.measure, samples.c.value)
    ordered = ordered.order_by(samples.c.machine, samples.c.measure, samples.c.at, samples.c.run_id)
    of_sample = (_OUTCOMES.c.run_id == installed.c.run_id) & (_OUTCOMES.c.machine == installed.c.machine)
    counts = select(_OUTCOMES.c.machine, func.avg(_OUTCOMES.c.updates_installed)).join(installed, of_sample)
    counts = counts.where(_OUTCOMES.c.updates_installed > 0).group_by(_OUTCOMES.c.machine)
    states = page_schema.machine_states
    with database.begin_read("read what was learned of all machines") as connection:
        rows = connection.execute(ordered).tuples().all()
        updates = connection.execute(counts).tuples().all()
        managers = (
            connection.execute(select(states.c.machine, states.c.manager).where(states.c.manager != "")).tuples().all()
        )
    measures: dict[str, dict[str, float]] = {}
    for (machine, measure), group in groupby(rows, key=lambda row: (row[0], row[1])):
        mean = compute_weighted_mean([value for _, _, value in group])
        if mean is not None:
            measures.setdefault(machine, {})[measure] = mean
    return LearnedDurations(measures, {machine: float(mean) for machine, mean in updates}, dict(managers))


def _select_newest_samples(dialect: str, measures: Sequence[str]) -> Subquery:
    """Return the newest SAMPLES rows of these measures of each machine."""
    table, states, last_runs = _MEASURES, page_schema.machine_states, page_schema.machine_last_runs
    newest_first = table.c.at.desc(), table.c.run_id.desc()
    if dialect == "postgresql":  # finds them by the index. SQLite has no LATERAL, and reads all rows
        machines = union(select(states.c.machine), select(last_runs.c.machine)).subquery()
        kinds = values(column("measure", KeyType), name="kinds").data([(measure,) for measure in measures])
        of_machine = (table.c.machine == machines.c.machine) & (table.c.measure == kinds.c.measure)
        newest = select(table).where(of_machine).order_by(*newest_first).limit(SAMPLES).lateral()
        return select(newest).select_from(machines.join(kinds, true()).join(newest, true())).subquery()
    place = func.row_number().over(partition_by=(table.c.machine, table.c.measure), order_by=newest_first)
    ranked = select(table, place.label("place")).where(table.c.measure.in_(measures)).subquery()
    return select(ranked).where(ranked.c.place <= SAMPLES).subquery()


@cache
def build_samples_query(limit: int) -> Select[tuple[float]]:
    """Return a query for the newest samples of ``of_measure`` of ``of_machine``, newest first."""
    table = schema.measures
    query = select(table.c.value).where(table.c.machine == bindparam("of_machine"))
    query = query.where(table.c.measure == bindparam("of_measure"))
    return query.order_by(table.c.at.desc(), table.c.run_id.desc()).limit(limit)
