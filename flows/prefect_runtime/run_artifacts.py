"""The artifacts of a run in progress: its plan before anything begins, and how far it is after each wave.

They are for people. A background thread writes them; without an answer of Prefect they are missing, and the report at
the end has everything. The texts are always of the newest state: an older one never replaces it.
"""

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from uuid import UUID

from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

from flows.approval.plan_rendering import render_plan_markdown
from flows.ports.web_links import build_run_url
from flows.prefect_api.api_client import NO_ANSWER_ERRORS, open_fail_fast_client
from inventory.name_lists import join_first_names
from tasks.domain.model import Outcome, RunInfo, RunReport, Wave
from tasks.domain.states import OperationState
from tasks.reports.export.markdown import limit_markdown
from tasks.reports.formatting import format_count
from tasks.reports.sanitizing import escape_markdown
from tasks.rules.runs.approval import compute_report_digest

logger = logging.getLogger(__name__)

PLAN_KEY = "fleetpatch-patch-plan"
PROGRESS_KEY = "fleetpatch-patch-progress"
"""Stable keys: Prefect shows the history of all runs under each."""
_MAX_NAMES = 12


def render_plan(planned: RunReport, web_url: str) -> str:
    """Return the plan as Markdown, with the link to the run's page first. Pure."""
    digest = compute_report_digest(planned)
    return render_link(planned.run.id, web_url) + render_plan_markdown(planned, digest, "")


def render_link(run_id: str, web_url: str) -> str:
    """Return the line with the link to a run's page; "" without an address of the pages. Pure."""
    return f"[Open run {escape_markdown(run_id)}]({build_run_url(run_id, web_url)})\n\n" if web_url else ""


def render_progress(report: RunReport, begun: Collection[int], current: Wave | None, web_url: str) -> str:
    """Return how far a run is as Markdown: what is done, what runs, and what comes next. Pure.

    The report has the outcomes so far, also those of an earlier process. ``begun`` has the numbers of the waves that
    this process has begun.
    """
    run, total = report.run, len(report.waves)
    wave_of = {name: wave.number for wave in report.waves for name in wave.machines}
    outcomes = [outcome for outcome in report.outcomes if outcome.machine in wave_of]
    done_count = sum(outcome.state is not OperationState.NOT_STARTED for outcome in outcomes)
    lines = [f"## Run {escape_markdown(run.id)}: {done_count} of {format_count(len(wave_of), 'machine')} done", ""]
    lines += [_count_states(outcomes), ""] if outcomes else []
    lines += (
        _render_end(run) if current is None else [f"**Now: wave {current.number} of {total}**: {_join(current)}", ""]
    )
    by_wave: dict[int, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_wave[wave_of[outcome.machine]].append(outcome)
    if run.ended_at is None:
        over = {*begun, *(wave.number for wave in report.waves if len(by_wave[wave.number]) == len(wave.machines))}
        following = next((wave for wave in report.waves if wave.number not in over), None)
        lines += [f"Next: wave {following.number} of {total}: {_join(following)}", ""] if following is not None else []
    now = current.number if current is not None else 0
    rows = [
        _render_wave(wave, by_wave[wave.number], is_running=wave.number == now)
        for wave in report.waves
        if by_wave[wave.number] or wave.number == now
    ]
    lines += ["| Wave | Machines | Failed | Result |", "|---|---|---|---|", *rows] if rows else []
    text = render_link(run.id, web_url) + "\n".join(lines) + "\n"
    return limit_markdown(text, f"There are more waves: fleetpatch show {run.id}")


def _render_end(run: RunInfo) -> list[str]:
    """Return the lines of a run that is over or suspended; none while it goes on."""
    if run.ended_at is not None:
        more = f": {escape_markdown(run.message, 400)}" if run.message else ""
        return [f"**The run is over: {run.state}**{more}", ""]
    return [escape_markdown(run.message, 400), ""] if run.message else []


def _render_wave(wave: Wave, outcomes: Sequence[Outcome], *, is_running: bool) -> str:
    failed = [outcome.machine for outcome in outcomes if outcome.state is OperationState.FAILED]
    failed_text = f"{len(failed)}: {escape_markdown(join_first_names(failed, _MAX_NAMES))}" if failed else "0"
    result = ", ".join(filter(None, (_count_states(outcomes), OperationState.IN_PROGRESS.value if is_running else "")))
    return f"| {wave.number} | {len(wave.machines)} | {failed_text} | {result} |"


def _count_states(outcomes: Sequence[Outcome]) -> str:
    states = Counter(outcome.state for outcome in outcomes)
    return ", ".join(f"{states[state]} {state}" for state in OperationState if states[state])


def _join(wave: Wave) -> str:
    return escape_markdown(join_first_names(wave.machines, _MAX_NAMES))


class LiveArtifact:
    """One artifact whose text is replaced while a run goes on."""

    def __init__(self, flow_run_id: UUID, key: str, description: str, may_show: Callable[[], bool]) -> None:
        self._flow_run_id, self._key, self._description = flow_run_id, key, description
        self._may_show = may_show
        self._id: UUID | None = None
        self._lock = threading.Lock()
        self._text = ""
        self._shown = ""

    def set_text(self, text: str) -> None:
        """Set the text that the next ``show`` writes."""
        self._text = text

    def show(self) -> None:
        """Write the newest text into Prefect. For a background thread. Without an answer it stays as it is."""
        with self._lock:
            text = self._text
            if text == self._shown or not self._may_show():
                return
            try:
                self._write(text)
            except NO_ANSWER_ERRORS as error:
                logger.info("Prefect does not show %s now: %s", self._key, error)
                return
            self._shown = text

    def _write(self, text: str) -> None:
        with open_fail_fast_client() as client:
            if self._id is None:
                artifact = ArtifactCreate(
                    key=self._key,
                    type="markdown",
                    data=text,
                    description=self._description,
                    flow_run_id=self._flow_run_id,
                )
                self._id = client.create_artifact(artifact).id
            else:
                client.update_artifact(self._id, ArtifactUpdate(data=text))


class RunArtifacts:
    """The plan and the progress of one run.

    ``start`` starts a call in a background thread; its arguments are a description and the call. ``may_show`` returns
    whether this process still has the run.
    """

    def __init__(
        self,
        flow_run_id: UUID,
        start: Callable[[str, Callable[[], object]], object],
        web_url: str,
        may_show: Callable[[], bool] = lambda: True,
    ) -> None:
        self._flow_run_id, self._start, self._web_url, self._may_show = flow_run_id, start, web_url, may_show
        self._report: RunReport | None = None
        self._plan: LiveArtifact | None = None
        self._progress: LiveArtifact | None = None
        self._begun: set[int] = set()

    def show_plan(self, planned: RunReport) -> None:
        """Show the plan of a run in the background."""
        self._report = planned
        self._plan = plan = LiveArtifact(self._flow_run_id, PLAN_KEY, f"Plan of run {planned.run.id}", self._may_show)
        self._progress = LiveArtifact(
            self._flow_run_id, PROGRESS_KEY, f"Progress of run {planned.run.id}", self._may_show
        )

        def write_plan() -> None:
            plan.set_text(render_plan(planned, self._web_url))  # rendered here: a large plan takes a while
            plan.show()

        self._start("the plan", write_plan)

    def show_wave_begin(self, wave: Wave) -> None:
        """Show that a wave begins."""
        self._begun.add(wave.number)
        self._update(wave)

    def show_wave_end(self, outcomes: Sequence[Outcome]) -> None:
        """Show the result of a wave."""
        if self._report is not None:
            self._report = replace(self._report, outcomes=(*self._report.outcomes, *outcomes))
        self._update(None)

    def finish(self, report: RunReport) -> None:
        """Show how the run ended, and what Prefect did not receive while it went on. For a background thread."""
        if self._plan is None or self._progress is None:
            return
        self._plan.show()
        self._progress.set_text(render_progress(report, self._begun, None, self._web_url))
        self._progress.show()

    def _update(self, current: Wave | None) -> None:
        if self._report is None or self._progress is None:
            return
        self._progress.set_text(render_progress(self._report, self._begun, current, self._web_url))
        self._start("the progress", self._progress.show)
