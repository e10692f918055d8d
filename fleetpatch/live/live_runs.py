"""The runs in progress: all of them for the overview, and one for its page."""

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from hashlib import blake2b
from typing import Final

from fleetpatch.runs.run_state import APPROVED_KINDS, MachineLine, RunState, describe_open_approval, read_run_state
from fleetpatch.web.context import WebContext
from fleetpatch.web.live_hub import TopicPart
from fleetpatch.web.rendering import build_environment
from inventory.data_class import dataclass
from tasks.domain.errors import RecordsError
from tasks.domain.rows.runs import RunRow
from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.records.queries.live_runs import RunProcess, read_run_processes
from tasks.records.queries.run_machines import RunParts
from tasks.records.queries.runs import RunFilter, find_run_row, read_run_rows


def render_fragment(context: WebContext, template: str, **values: object) -> str:
    """Return a part of a page. It is the same for everybody: no part may depend on who looks at it.

    ``template``: the name of the template, in fleetpatch/pages/templates.
    """
    loaded_template = build_environment().get_template(template)
    return loaded_template.render(settings=context.settings, now=context.clock.now(), **values)


MAX_RUNS: Final = 12
MAX_MACHINES: Final = 8


@dataclass(frozen=True, slots=True)
class LiveRun:
    """What a run does now."""

    line: RunRow
    process: RunProcess | None  # who works on it; None: it is over
    phase: str
    message: str
    machines: int
    done: int
    states: Mapping[str, int]  # how many machines have each state
    working: tuple[MachineLine, ...]  # the machines that are worked on longest; ``more`` others are worked on too
    more: int
    failed: tuple[str, ...]  # the names of the first machines that failed
    approval: str = ""  # says that the plan waits for approval, and until which time; "" if no decision is possible now

    @property
    def without_times(self) -> "LiveRun":
        """It without the times of news and leases, which change all the time."""
        process = replace(self.process, until=None, heard_at=None) if self.process is not None else None
        return replace(self, process=process)


@dataclass(frozen=True, slots=True)
class LiveRuns:
    """The runs that are not over, those that a process executes first; ``more`` others are not shown."""

    runs: tuple[LiveRun, ...]
    more: int = 0


def read_live_runs(context: WebContext) -> LiveRuns:
    """Return the runs that are not over. Raise RecordsError if the records can't be read."""
    database, now = context.records.database, context.clock.now()
    processes = read_run_processes(database, now)
    if not processes:
        return LiveRuns(())
    run_filter = RunFilter(states=tuple(state.value for state in UNFINISHED_RUN_STATES))
    lines = [line for line in read_run_rows(database, run_filter, 0, len(processes)) if line.run_id in processes]
    lines.sort(key=lambda line: not processes[line.run_id].is_alive)  # only the first ones are shown
    states = [read_run_state(database, line, now, processes[line.run_id]) for line in lines[:MAX_RUNS]]
    runs = tuple(summarize_run(state, MAX_MACHINES) for state in states)
    return LiveRuns(runs, max(0, len(processes) - len(runs)))


def summarize_run(state: RunState, most_working: int, approval: str = "") -> LiveRun:
    """Return what a run does now, with ``most_working`` machines at work. Pure."""
    working = state.working
    return LiveRun(
        line=state.line,
        process=state.process,
        phase=state.phase,
        message=state.message,
        machines=len(state.machines),
        done=state.done,
        states=state.states,
        working=working[:most_working],
        more=max(0, len(working) - most_working),
        failed=tuple(machine.name for machine in state.machines if machine.state == "Failed")[:MAX_MACHINES],
        approval=approval,
    )


def read_live_part(context: WebContext) -> TopicPart:
    """Return what the streams of the overview send."""
    live = read_live_runs(context)
    same = LiveRuns(tuple(run.without_times for run in live.runs), live.more)
    return TopicPart(same, lambda: {"runs": render_fragment(context, "live_runs_list.html.j2", live=live)})


MAX_WORKING: Final = 40
PARTS_SECONDS: Final = 5.0
"""How long waves and hooks are kept: they change seldom, and those of a large run take long to read."""
LIST_SECONDS: Final = 4.0
"""Least seconds between two messages to browsers that the list of machines has changed. They load it then."""
MACHINES_PER_SECOND: Final = 250
"""For each so many machines of the run, they wait a second more: each browser loads a page that costs more then."""
REFRESH_SECONDS: Final = 30
"""While machines are worked on, the list changes at least so often: its times and its timeline go on."""


class RunTopic:
    """Reads one run for all its streams."""

    def __init__(self, context: WebContext, run_id: str) -> None:
        self._context = context
        self._run_id = run_id
        self._parts: RunParts | None = None
        self._parts_at = float("-inf")
        self._version = ""
        self._list_at = float("-inf")

    def read(self) -> TopicPart:
        """Return what the streams of the run's page send.

        Raises:
            RecordsError: the records can't be read, or the run was deleted.
        """
        database, now = self._context.records.database, self._context.clock.now()
        line = find_run_row(database, self._run_id)
        if line is None:
            raise RecordsError(f"there is no run {self._run_id!r}")
        if time.monotonic() - self._parts_at > PARTS_SECONDS:
            self._parts = None
        state = read_run_state(database, line, now, parts=self._parts)
        if self._parts is None:
            self._parts, self._parts_at = state.parts, time.monotonic()
        approval = describe_open_approval(database, line) if line.kind in APPROVED_KINDS else ""
        live_run = summarize_run(state, MAX_WORKING, approval)
        version = self._choose_version(state, now)

        def render() -> dict[str, str]:
            html = render_fragment(self._context, "run_now.html.j2", run_now=live_run, line=state.line)
            return {"now": html, "machines": version}

        return TopicPart((live_run.without_times, version), render, is_last=state.process is None)

    def _choose_version(self, state: RunState, now: datetime) -> str:
        """Return the version of the list of machines, but not another one again within some seconds."""
        if time.monotonic() - self._list_at >= LIST_SECONDS + len(state.machines) / MACHINES_PER_SECOND:
            version = compute_list_version(state, now)
            if version != self._version:
                self._version, self._list_at = version, time.monotonic()
        return self._version


def compute_list_version(state: RunState, now: datetime) -> str:
    """Return a text that differs if the list of machines on the run's page does. Pure."""
    listed = [(machine.name, machine.wave, machine.state, machine.step) for machine in state.machines]
    turn = now.timestamp() // REFRESH_SECONDS if state.working else 0
    return blake2b(repr((state.parts is None, listed, turn)).encode("utf-8", "replace"), digest_size=8).hexdigest()
