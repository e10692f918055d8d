"""The runs in progress, for the overview."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from fleetpatch.live.fragments import render_fragment
from fleetpatch.runs.run_state import MachineLine, RunState, read_run_state
from fleetpatch.web.context import WebContext
from fleetpatch.web.live_hub import TopicPart
from tasks.domain.rows.runs import RunRow
from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.records.queries.fleet.live_runs import RunProcess, read_run_processes
from tasks.records.queries.fleet.runs import RunFilter, read_run_rows

MAX_RUNS: Final = 12
MAX_MACHINES: Final = 8


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A run in progress.

    Attributes:
        states: how many machines have each state.
        working: the machines that are worked on longest; ``more`` others are worked on too.
        failed: the names of the first machines that failed.
    """

    line: RunRow
    process: RunProcess
    phase: str
    message: str
    machines: int
    done: int
    states: Mapping[str, int]
    working: tuple[MachineLine, ...]
    more: int
    failed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LiveRuns:
    """The runs that are not over, those that a process executes first; ``more`` others are not shown."""

    runs: tuple[LiveRun, ...]
    more: int = 0


def read_live_runs(context: WebContext) -> LiveRuns:
    """Return the runs that are not over.

    Raises:
        RecordsError: the records can't be read.
    """
    database, now = context.records.database, context.clock.now()
    processes = read_run_processes(database, now)
    if not processes:
        return LiveRuns(())
    run_filter = RunFilter(states=tuple(state.value for state in UNFINISHED_RUN_STATES))
    lines = [
        run_line for run_line in read_run_rows(database, run_filter, 0, len(processes)) if run_line.run_id in processes
    ]
    lines.sort(key=lambda line: not processes[line.run_id].is_alive)  # only the first ones are shown
    states = [read_run_state(database, line, now, processes[line.run_id]) for line in lines[:MAX_RUNS]]
    summaries = tuple(map(summarize_run, states))
    return LiveRuns(summaries, max(0, len(processes) - len(summaries)))


def summarize_run(state: RunState) -> LiveRun:
    """Return a run in progress as the overview shows it. Pure."""
    assert state.process is not None  # noqa: S101 - for the type checker; the run is not over
    working = state.working
    return LiveRun(
        line=state.line,
        process=state.process,
        phase=state.phase,
        message=state.message,
        machines=len(state.machines),
        done=state.done,
        states=state.states,
        working=working[:MAX_MACHINES],
        more=max(0, len(working) - MAX_MACHINES),
        failed=tuple(machine.name for machine in state.machines if machine.state == "Failed")[:MAX_MACHINES],
    )


def read_part(context: WebContext) -> TopicPart:
    """Return what the streams of the overview send."""
    live = read_live_runs(context)
    same = LiveRuns(tuple(replace(run, process=without_times(run.process)) for run in live.runs), live.more)
    return TopicPart(same, lambda: {"runs": render_fragment(context, "live_runs_list.html.j2", live=live)})


def without_times(process: RunProcess) -> RunProcess:
    """Return it without the times of news and leases, which change all the time."""
    return replace(process, until=None, heard_at=None)
