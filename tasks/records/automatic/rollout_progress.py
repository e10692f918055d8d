"""Reads how far the rollout is that a run belongs to, for the report of the run."""

from datetime import datetime

from tasks.domain.model import RunReport
from tasks.domain.states import OperationState
from tasks.records.automatic.automatic_runs import SqlAutomaticRuns
from tasks.records.automatic.rollouts import SqlRollouts
from tasks.records.automatic.tries import build_try, find_rollout_id, read_rollout_results
from tasks.records.storage.database import Database
from tasks.rules.automatic.progress import RolloutProgress, measure_recorded_rollout


def read_rollout_progress(database: Database, report: RunReport, now: datetime) -> RolloutProgress | None:
    """Return how far the rollout is; None: the run belongs to none, or these records do not know it.

    Only machines that were in a run of the rollout are counted: the records know no inventory.

    Args:
        database: the database of the records.
        report: the report of the run. Its outcomes count even if its end is not in the records yet.
        now: the present time.

    Raises:
        RecordsError: the records can't be read.
    """
    rollout_id = find_rollout_id(report.run)
    rollout = SqlRollouts(database).find(rollout_id) if rollout_id else None
    if rollout is None:
        return None
    statuses = SqlAutomaticRuns(database).read_of_rollouts([rollout_id])
    plans = {name: status.run.plan for status in statuses if status.run.plan for name in status.run.plan.machines}
    recorded = (
        phase_try for phase_try in read_rollout_results(database, [rollout]).tries if phase_try.run_id != report.run.id
    )
    ended = [outcome for outcome in report.outcomes if outcome.state is not OperationState.IN_PROGRESS]
    own = (build_try(rollout, report.run, outcome) for outcome in ended)
    running = {name for status in statuses if status.is_open(now) for name in status.run.machines}
    running -= {outcome.machine for outcome in ended}
    return measure_recorded_rollout(rollout, (*recorded, *own), plans, running, now)
