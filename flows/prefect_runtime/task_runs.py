"""How many task runs a run has in Prefect: as many as people look at, and as its server can take.

Each state of a task run is an event, and each task run has three. Prefect's server keeps 10,000 events in memory, and
drops what comes when that is full (``flows/prefect_api/server_settings.py``). With these limits one run sends fewer.
"""

import os
from enum import StrEnum
from typing import Final

from tasks.domain.errors import CannotRun

TASK_RUNS_VARIABLE: Final = "FLEETPATCH_TASK_RUNS"
MAX_MACHINES_WITH_STEPS: Final = 200
"""Up to so many machines of a run, each step of each machine is a task run, and a line in the log of its flow run."""
MAX_MACHINES_ALONE: Final = 2_000
"""Up to so many machines, each machine is a task run. With more, each wave is one."""


class TaskRuns(StrEnum):
    """What is a task run of its own."""

    STEPS = "steps"
    MACHINES = "machines"
    WAVES = "waves"


def choose_task_runs(machine_count: int) -> TaskRuns:
    """Return what FLEETPATCH_TASK_RUNS says, or else what fits the number of machines of a run.

    Raises:
        CannotRun: the variable has an unknown value.
    """
    value = os.environ.get(TASK_RUNS_VARIABLE, "").strip()
    if value:
        try:
            return TaskRuns(value)
        except ValueError:
            hint = f"Use {', '.join(TaskRuns)}, or leave it out: then the number of machines decides."
            raise CannotRun(f"{TASK_RUNS_VARIABLE}={value!r} is not known", hint=hint) from None
    if machine_count <= MAX_MACHINES_WITH_STEPS:
        return TaskRuns.STEPS
    return TaskRuns.MACHINES if machine_count <= MAX_MACHINES_ALONE else TaskRuns.WAVES
