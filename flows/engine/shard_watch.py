"""Watches the runs of shards: starts them, hands on what they report, and asks them to stop.

A shard that was not begun can be closed: the whole run writes that into its journal, and then looks once more. A
shard's run saves itself, and then looks into that journal. So at least one of the two sees the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import field
from datetime import datetime, timedelta
from typing import Final

from flows.engine.failure_counter import RunCounter
from flows.engine.retrying_records import retry_while_unavailable
from flows.engine.shard_entries import ShardEntry, dump_shard_request
from flows.ports.ports import Ports
from flows.ports.shards import ShardRuns, ShardView
from inventory.data_class import dataclass
from tasks.domain.errors import FleetpatchError, RecordsError, RequestError
from tasks.domain.model import Outcome, RunReport, Window
from tasks.domain.protocols.records import SHARD_ACT, JournalEntry, JournalMark, ProgressRow
from tasks.domain.states import UNFINISHED_RUN_STATES, OperationState, Step
from tasks.reports.formatting import format_count

POLL_SECONDS: Final = 2.0
WORKER_PATIENCE: Final = timedelta(minutes=2)
"""How long the run of a shard may wait for a worker before people are told."""
PLAN_PATIENCE: Final = timedelta(minutes=10)
"""How long a run waits for a site of which nothing is heard, before its first wave or while it is assessed."""


@dataclass(slots=True)
class ActiveShard:
    """A shard whose run is started, or about to be."""

    entry: ShardEntry
    missing: set[str]  # the machines without an outcome
    flow_run_id: str = ""  # "" while Prefect has not answered
    has_begun: bool = False  # whether its run is in the records
    is_told: bool = False  # whether its run learns that it may begin nothing more
    was_asked: bool = False  # whether it was asked to stop
    remark: str = ""  # what people were told last of it
    progress: dict[str, object] = field(default_factory=dict)  # what was shown last of each machine


OutcomeHandler = Callable[[ActiveShard, Sequence[Outcome]], None]
EndHandler = Callable[[ActiveShard, str], None]
"""Gets a shard that is over, and why machines of it are missing; "" if none is."""


class ShardWatch:
    """Starts the runs of shards and looks at them until they are over.

    Args:
        window: of the whole run; None: it only assesses machines.
    """

    def __init__(
        self, ports: Ports, runs: ShardRuns, run_id: str, window: Window | None, failure_counter: RunCounter
    ) -> None:
        self._ports, self._runs, self._run_id, self._failure_counter = ports, runs, run_id, failure_counter
        self._window = window

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
                    may_close = shard.entry.is_read_only or not shard.has_begun
                    if may_close and not self._close(shard, "its time is up"):
                        shard.has_begun = True  # or it may have: then its machines are not called unstarted
                    take_end(shard, shard.remark or f"{shard.entry.description} was not reported in time")
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
        if not entry.is_read_only:
            new = [outcome for outcome in view.outcomes if outcome.machine in active.missing]
            active.missing -= {outcome.machine for outcome in new}
            take_outcomes(active, new)
        if view.run is not None and view.run.state not in UNFINISHED_RUN_STATES:
            reason = f"run {entry.run_id} has no outcome of it: {view.run.message or view.run.state}"
            take_end(active, reason if active.missing else "")
            return True
        is_lost = view.run is None or entry.is_read_only  # nothing resumes such a run
        if reason := self._explain_no_wait(active, view, view.end if is_lost else ""):
            if reason := self._close(active, reason):
                take_end(active, reason)
                return True
            return False
        if view.run is None and not active.flow_run_id:
            count, name = format_count(len(entry.shard.machines), "machine"), f"{entry.description} for {self._run_id}"
            request = dump_shard_request(entry.request)
            try:
                active.flow_run_id = self._runs.start(entry.run_id, entry.shard.site, name, request)
                self._ports.listener.on_message(f"{entry.description}: {count}, run {entry.run_id}")
            except RequestError as error:  # Prefect refuses it
                if reason := self._close(active, error.message):
                    take_end(active, reason)
                    return True
            except FleetpatchError as error:  # Prefect does not answer
                self.tell(active, error.message)
        else:
            self._tell_of_trouble(active, view)
        return False

    def _show_progress(self, active: ActiveShard, progress: Sequence[ProgressRow]) -> None:
        for row in progress:
            news = (row.step, row.state, row.fraction, row.message)
            if active.progress.get(row.machine) == news:
                continue
            active.progress[row.machine] = news
            if row.state == OperationState.IN_PROGRESS:
                self._ports.listener.on_progress(row.machine, Step(row.step), row.fraction, row.message)
            elif active.entry.is_read_only:  # others are over with their outcome
                self._ports.listener.on_step_finished(row.machine, Step(row.step), row.state, row.message)

    def _explain_no_wait(self, active: ActiveShard, view: ShardView, end: str) -> str:
        """Return why the run of a shard is not waited for any more; "" if it is.

        One that has begun on machines is always waited for. One that only reads changes nothing, so nobody waits for it
        when the run stops, nor for long once nothing is heard of it: from the time at which the window is open.
        """
        entry = active.entry
        if end or (active.has_begun and not entry.is_read_only):
            return end
        if reason := self.explain_stop():
            return reason
        quiet_since = view.silent_since or entry.at
        if self._window is not None:
            quiet_since = max(self._window.start, entry.at)
        is_quiet = view.run is None or view.silent_since is not None
        if entry.is_read_only and is_quiet and self._ports.clock.now() >= quiet_since + PLAN_PATIENCE:
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
        if active.entry.is_read_only:
            self._cancel(active, reason)
        try:
            active.has_begun = self._runs.has_begun(active.entry.run_id)
        except FleetpatchError as error:
            self.tell(active, error.message)
            return ""
        return "" if active.has_begun and not active.entry.is_read_only else reason

    def _cancel(self, active: ActiveShard, reason: str) -> None:
        """Cancel the flow run of a shard whose run changes nothing, as far as Prefect answers."""
        if active.flow_run_id and not active.was_asked:
            active.was_asked = True
            try:
                self._runs.cancel(active.flow_run_id, f"run {self._run_id} does not want it any more: {reason}")
            except FleetpatchError as error:
                self._ports.listener.on_message(f"{active.entry.description}: {error.message}")

    def has_begun(self, run_id: str) -> bool:
        """Return whether the run of a shard is in the records. It waits for records that are unavailable.

        Raises:
            RecordsError: they can't be read.
        """
        clock, tell = self._ports.clock, self._ports.listener.on_message
        until = self._window.end if self._window is not None else None
        return retry_while_unavailable(lambda: self._runs.has_begun(run_id), clock, until, tell)

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
            if shard.has_begun and not shard.was_asked and not shard.entry.is_read_only:
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
            self._ports.listener.on_message(f"{active.entry.description}: {message}")

    def append(self, mark: JournalMark, key: str, detail: dict[str, object]) -> None:
        """Write about the run of a shard into the journal. Raise RecordsError if the entry can't be stored."""
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
