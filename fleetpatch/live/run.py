"""One run in progress, for its page."""

import time
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b
from typing import Final

from fleetpatch.live.fragments import render_fragment
from fleetpatch.live.overview import without_times
from fleetpatch.runs.open_approval import APPROVED_KINDS, describe_open_approval
from fleetpatch.runs.run_state import MachineLine, RunState, read_run_state
from fleetpatch.web.context import WebContext
from fleetpatch.web.live_hub import TopicPart
from tasks.domain.errors import RecordsError
from tasks.records.queries.fleet.live_runs import RunProcess
from tasks.records.queries.fleet.run_machines import RunParts
from tasks.records.queries.fleet.runs import find_run_row

MAX_WORKING: Final = 40
PARTS_SECONDS: Final = 5.0
"""How long waves and hooks are kept: they change seldom, and those of a large run take long to read."""
LIST_SECONDS: Final = 4.0
"""How often browsers are told, at most, that the list of machines has changed. They load it then."""
MACHINES_PER_SECOND: Final = 250
"""For each so many machines of the run, they wait a second more: each browser loads a page that costs more then."""
REFRESH_SECONDS: Final = 30
"""While machines are worked on, the list changes at least so often: its times and its timeline go on."""


@dataclass(frozen=True, slots=True)
class RunNow:
    """What a run does now.

    Attributes:
        states: how many machines have each state.
        approval: that its plan waits for approval, and until when; "" if nobody can decide now.
    """

    phase: str
    message: str
    process: RunProcess | None
    machines: int
    done: int
    states: tuple[tuple[str, int], ...]
    working: tuple[MachineLine, ...]
    more: int
    approval: str = ""


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
        shown = summarize_now(state, describe_open_approval(database, line) if line.kind in APPROVED_KINDS else "")
        version = self._choose_version(state, now)

        def render() -> dict[str, str]:
            html = render_fragment(self._context, "run_now.html.j2", run_now=shown, line=state.line)
            return {"now": html, "machines": version}

        process = without_times(shown.process) if shown.process is not None else None
        return TopicPart((replace(shown, process=process), version), render, is_last=state.process is None)

    def _choose_version(self, state: RunState, now: datetime) -> str:
        """Return the version of the list of machines, but not another one again within some seconds."""
        if time.monotonic() - self._list_at >= LIST_SECONDS + len(state.machines) / MACHINES_PER_SECOND:
            version = compute_list_version(state, now)
            if version != self._version:
                self._version, self._list_at = version, time.monotonic()
        return self._version


def summarize_now(state: RunState, approval: str = "") -> RunNow:
    """Return what a run does now. Pure."""
    working = state.working
    return RunNow(
        phase=state.phase,
        message=state.message,
        process=state.process,
        machines=len(state.machines),
        done=state.done,
        states=tuple(state.states.items()),
        working=working[:MAX_WORKING],
        more=max(0, len(working) - MAX_WORKING),
        approval=approval,
    )


def compute_list_version(state: RunState, now: datetime) -> str:
    """Return a text that differs if the list of machines on the run's page does. Pure."""
    listed = [(machine.name, machine.wave, machine.state, machine.step) for machine in state.machines]
    turn = now.timestamp() // REFRESH_SECONDS if state.working else 0
    return blake2b(repr((state.parts is None, listed, turn)).encode("utf-8", "replace"), digest_size=8).hexdigest()
