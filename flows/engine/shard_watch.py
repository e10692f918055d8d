"""Watches the runs of shards: starts them, hands on what they report, and asks them to stop.

A shard that was not begun can be closed: the whole run writes that into its journal, and then looks once more. A
shard's run saves itself, and then looks into that journal. So at least one of the two sees the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from flows.engine.failure_counter import FailureCounter
from flows.engine.retrying_records import retry_while_unavailable
from flows.engine.shard_entries import PLAN_WAVE, ShardEntry, dump_shard_request
from flows.ports.ports import Ports
from flows.ports.shards import ShardRuns, ShardView
from tasks.domain.errors import FleetpatchError, RecordsError, RequestError
from tasks.domain.model import Outcome, RunReport, Window
from tasks.domain.protocols.records import SHARD_ACT, JournalEntry, JournalMark, ProgressRow
from tasks.domain.states import UNFINISHED_RUN_STATES, Step
from tasks.reports.formatting import format_count

POLL_SECONDS: Final = 2.0
WORKER_PATIENCE: Final = timedelta(minutes=2)
"""How long the run of a shard may wait for a worker before people are told."""
PLAN_PATIENCE: Final = timedelta(minutes=10)
"""How long a run whose window is open waits for a site of which nothing is heard, before its first wave."""


@dataclass(slots=True)
class ActiveShard:
    """A shard whose run is started, or about to be.

    Attributes:
        missing: the machines without an outcome.
        flow_run_id: "" while Prefect has not answered.
        has_begun: whether its run is in the records.
        is_told: whether its run learns that it may begin nothing more.
        was_asked: whether it was asked to stop.
        remark: what people were told last of it.
        progress: what was shown last of each machine.
    """

    entry: ShardEntry
    missing: set[str]
    flow_run_id: str = ""
    has_begun: bool = False
    is_told: bool = False
    was_asked: bool = False
    remark: str = ""
    progress: dict[str, object] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """What it is, for messages: "the plan at site hamburg"."""
        part = "the plan" if self.entry.wave == PLAN_WAVE else f"wave {self.entry.wave}"
        return f"{part} at site {self.entry.shard.site}"


OutcomeHandler = Callable[[ActiveShard, Sequence[Outcome]], None]
EndHandler = Callable[[ActiveShard, str], None]
"""Gets a shard that is over, and why machines of it are missing; "" if none is."""


class ShardWatch:
    """Starts the runs of shards and looks at them until they are over."""

    def __init__(
        self, ports: Ports, runs: ShardRuns, run_id: str, window: Window, failure_counter: FailureCounter
    ) -> None:
        self._ports, self._runs, self._run_id, self._failure_counter = ports, runs, run_id, failure_counter
        self._opens, self._ends = window.start, window.end

    def watch(
        self, shards: Sequence[ActiveShard], take_outcomes: OutcomeHandler, take_end: EndHandler, until: datetime
    ) -> None:
        """Look at the runs of shards until all are over, or the time is up. Hand on what they report as it comes."""
        active = list(shards)
        while active and not self._ports.stop_token.is_lease_lost:
            active = [shard for shard in active if not self._look(shard, take_outcomes, take_end)]
            self._forward_stop(active)
            if active and self._ports.clock.now() >= until:
                for shard in active:
                    if not shard.has_begun and not self._close(shard, "its time is up"):
                        shard.has_begun = True  # or it may have: then its machines are not called unstarted
                    take_end(shard, shard.remark or f"{shard.description} was not reported in time")
                return
            if active:
                self._ports.clock.sleep(POLL_SECONDS)

    def _look(self, active: ActiveShard, take_outcomes: OutcomeHandler, take_end: EndHandler) -> bool:
        """Hand on what a shard's run has reported since the last look. Return whether it is over.

        What the records say comes first: Prefect may be silent, or may have forgotten it.
        """
        entry = active.entry
        try:
            view = self._runs.look(entry.run_id, active.flow_run_id, set(entry.shard.machines) - active.missing)
        except FleetpatchError as error:
            self.tell(active, error.message)
            return False
        active.has_begun = view.run is not None
        self._show_progress(active, view.progress)
        if entry.wave != PLAN_WAVE:
            new = [outcome for outcome in view.outcomes if outcome.machine in active.missing]
            active.missing -= {outcome.machine for outcome in new}
            take_outcomes(active, new)
        if view.run is not None and view.run.state not in UNFINISHED_RUN_STATES:
            reason = f"run {entry.run_id} has no outcome of it: {view.run.message or view.run.state}"
            take_end(active, reason if active.missing else "")
            return True
        is_lost = view.run is None or entry.wave == PLAN_WAVE  # nothing resumes such a run
        if reason := self._explain_no_wait(active, view, view.end if is_lost else ""):
            if reason := self._close(active, reason):
                take_end(active, reason)
                return True
            return False
        if view.run is None and not active.flow_run_id:
            try:
                self._start(active)
            except RequestError as error:
                if reason := self._close(active, error.message):
                    take_end(active, reason)
                    return True
            except FleetpatchError as error:
                self.tell(active, error.message)
        else:
            self._tell_of_trouble(active, view)
        return False

    def _show_progress(self, active: ActiveShard, progress: Sequence[ProgressRow]) -> None:
        for row in progress:
            news = (row.step, row.fraction, row.message)
            if row.step and active.progress.get(row.machine) != news:
                active.progress[row.machine] = news
                self._ports.listener.on_progress(row.machine, Step(row.step), row.fraction, row.message)

    def _start(self, active: ActiveShard) -> None:
        """Start the run of a shard, or find it.

        Raises:
            RequestError: Prefect refuses it.
            PatchError: Prefect does not answer.
        """
        entry, count = active.entry, format_count(len(active.entry.shard.machines), "machine")
        verb = "plan" if entry.wave == PLAN_WAVE else f"wave {entry.wave} of"
        name = f"{verb} {self._run_id} at {entry.shard.site}"
        active.flow_run_id = self._runs.start(entry.run_id, entry.shard.site, name, dump_shard_request(entry.request))
        self._ports.listener.on_message(f"{active.description}: {count}, run {entry.run_id}")

    def _explain_no_wait(self, active: ActiveShard, view: ShardView, end: str) -> str:
        """Return why the run of a shard is not waited for any more; "" if it is.

        One that has begun on machines is always waited for. One that only plans changes nothing, so nobody waits for it
        when the run stops, nor for long once the window is open.
        """
        is_plan = active.entry.wave == PLAN_WAVE
        if end or (active.has_begun and not is_plan):
            return end
        if reason := self.explain_stop():
            return reason
        patience_ends = max(self._opens, active.entry.at) + PLAN_PATIENCE
        is_quiet = view.run is None or view.silent_since is not None
        if is_plan and is_quiet and self._ports.clock.now() >= patience_ends:
            return active.remark or "nothing was heard of it"
        return ""

    def _close(self, active: ActiveShard, reason: str) -> str:
        """Close a shard, so that it can't begin later. Return the reason; "" if it has begun, or may have.

        Raises:
            RecordsError: the entry can't be stored.
        """
        if not active.is_told:
            self.append(JournalMark.AFTER, active.entry.run_id, {"reason": reason})
            active.is_told = True
        try:
            view = self._runs.look(active.entry.run_id, "", ())
        except FleetpatchError as error:
            self.tell(active, error.message)
            return ""
        active.has_begun = view.run is not None
        return "" if active.has_begun and active.entry.wave != PLAN_WAVE else reason

    def has_begun(self, run_id: str) -> bool:
        """Return whether the run of a shard is in the records. It waits for records that are unavailable.

        Raises:
            RecordsError: they can't be read.
        """
        clock, tell = self._ports.clock, self._ports.listener.on_message
        view = retry_while_unavailable(lambda: self._runs.look(run_id, "", ()), clock, self._ends, tell)
        return view.run is not None

    def find_touched(self, active: ActiveShard) -> frozenset[str]:
        """Return the machines of a shard for which hooks have run. Those that can't be looked up count too."""
        try:
            return self._runs.find_touched(active.entry.run_id)
        except FleetpatchError as error:
            self.tell(active, error.message)
            return frozenset(active.entry.shard.machines)

    def _forward_stop(self, active: Sequence[ActiveShard]) -> None:
        """Ask the runs of shards to begin nothing more, once the whole run begins nothing more."""
        reason = self.explain_stop()
        token = self._ports.stop_token
        if token.is_lease_lost or (reason and not token.still_holds_lease()):
            return  # the process that has the run now decides
        for shard in active if reason else ():
            if shard.has_begun and not shard.was_asked and shard.entry.wave != PLAN_WAVE:
                try:
                    self._runs.request_stop(shard.entry.run_id, reason)
                    shard.is_told = shard.was_asked = True
                except RequestError:
                    continue  # it is over: the next look tells how
                except FleetpatchError as error:
                    self.tell(shard, f"it could not be asked to stop yet: {error.message}")

    def _tell_of_trouble(self, active: ActiveShard, view: ShardView) -> None:
        since = active.entry.at
        if view.silent_since is not None:
            self.tell(active, f"silent since {view.silent_since:%Y-%m-%d %H:%M:%S} UTC; its machines go on")
        elif view.run is None and self._ports.clock.now() - since > WORKER_PATIENCE:
            self.tell(active, f"no worker has taken its run since {since:%Y-%m-%d %H:%M:%S} UTC")

    def tell(self, active: ActiveShard, message: str) -> None:
        """Tell people something of a shard, once."""
        if message != active.remark:
            active.remark = message
            self._ports.listener.on_message(f"{active.description}: {message}")

    def append(self, mark: JournalMark, key: str, detail: dict[str, object]) -> None:
        """Write about the run of a shard into the journal.

        Raises:
            RecordsError: the entry can't be stored.
        """
        now = self._ports.clock.now()
        self._ports.records.append_entry(JournalEntry(self._run_id, "", Step.ASSESS, mark, SHARD_ACT, key, now, detail))

    def read_report(self, active: ActiveShard) -> RunReport | None:
        """Return the report of a shard; None if it has none, or if it can't be read."""
        if not active.has_begun:
            return None
        try:
            return self._runs.read_report(active.entry.run_id)
        except RecordsError as error:
            self.tell(active, f"its report can't be read: {error.message}")
            return None

    def explain_stop(self) -> str:
        """Return why nothing more may begin; ""."""
        if self._ports.stop_token.is_stopping:
            return f"the run was asked to stop: {self._ports.stop_token.reason}"
        return self._failure_counter.stop_reason
