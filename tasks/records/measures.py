"""Computes how fast a machine is from the outcomes of its runs, and reads that for all machines at once.

A measure of a machine is the exponentially weighted mean over its past runs. Recent runs have more weight, and one
unusual run does not change the mean much.

Each function raises RecordsError if the records can't be reached.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby

from sqlalchemy import Select, bindparam, func, select

from tasks.domain.model import Outcome, TransactionResult
from tasks.domain.states import RebootState
from tasks.records import schema
from tasks.records.storage.database import Database

NEWEST_SAMPLE_WEIGHT = 0.3
"""Weight of the newest sample. After five runs on new hardware, 5/6 of the mean come from the new hardware."""

MAX_SAMPLES = 25
"""Maximum number of samples in a mean. Older samples would have a weight of 0.7^25, about 0.01 percent."""

INSTALL_SECONDS_PER_UPDATE = "install_seconds_per_update"
TRANSACTION_SECONDS = "transaction_seconds"
DOWNLOAD_BYTES_PER_SECOND = "download_bytes_per_second"
REBOOT_SECONDS = "reboot_seconds"

MIN_MEASURED_DOWNLOAD_BYTES = 1_000_000
"""Smaller downloads are not measured: most of their time is overhead, so their rate is too low for a large download."""

_UNKNOWN_OVERHEAD_UPDATES = 7.5
"""The fixed time of a transaction, in updates, for outcomes of earlier versions, which do not say it: 15 s to 2 s."""


def compute_weighted_mean(values: Sequence[float]) -> float | None:
    """Return the exponentially weighted mean of samples (oldest first); None if there are none."""
    if not values:
        return None
    mean = values[0]
    for value in values[1:]:
        mean += NEWEST_SAMPLE_WEIGHT * (value - mean)
    return mean


def compute_measures(outcome: Outcome) -> dict[str, float]:
    """Return the measures of an outcome: name -> value.

    Only successful work counts: the duration of a failure says nothing about the speed.

    - ``transaction_seconds``: the fixed time of a transaction, before its first update.
    - ``install_seconds_per_update``: the additional time of each update.
    - ``download_bytes_per_second``: of staged updates, if at least MIN_MEASURED_DOWNLOAD_BYTES were downloaded.
    - ``reboot_seconds``: from the reboot command to the first login that works.

    The fixed time and the time of each update cannot be measured separately. Their ratio comes from the package
    manager's default rates; their sum is exactly the measured time.
    """
    measured: dict[str, float] = {}
    timed = [
        (seconds, t) for t in _find_successful_transactions(outcome) if (seconds := _compute_seconds(t)) is not None
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
    return {measure: value for measure, value in measured.items() if math.isfinite(value) and value > 0}


def _find_successful_transactions(outcome: Outcome) -> tuple[TransactionResult, ...]:
    """Return the successful transactions that installed updates. A repair has no updates, so it is not included."""
    done = outcome.install.transactions if outcome.install else ()
    return tuple(t for t in done if t.exit_code == 0 and t.updates)


def _compute_seconds(transaction: TransactionResult) -> float | None:
    if transaction.started_at is None or transaction.ended_at is None:
        return None
    seconds = (transaction.ended_at - transaction.started_at).total_seconds()
    return seconds if seconds >= 0 else None  # negative: the machine's clock was set back


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


@cache
def build_samples_query(limit: int) -> Select[tuple[float]]:
    """Return a query for the newest samples of ``of_measure`` of ``of_machine``, newest first."""
    table = schema.measures
    query = select(table.c.value).where(table.c.machine == bindparam("of_machine"))
    query = query.where(table.c.measure == bindparam("of_measure"))
    return query.order_by(table.c.at.desc(), table.c.run_id.desc()).limit(limit)
