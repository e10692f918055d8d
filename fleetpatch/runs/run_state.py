"""What a run and each of its machines do now, or what became of them: from results, progress, leases, and approvals."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from flows.approval.answers import describe_approval
from inventory.data_class import dataclass
from tasks.domain.protocols.records import ProgressRow
from tasks.domain.rows.runs import MachineResultRow, RunRow, ShardRow
from tasks.domain.states import OperationState, RebootState, Step
from tasks.records.approvals import Approval, ApprovalDecision, SqlApprovals
from tasks.records.queries.live_runs import RunProcess, read_run_processes
from tasks.records.queries.run_machines import RunParts, read_assessed_machines, read_machine_results, read_run_parts
from tasks.records.queries.runs import RunFigures
from tasks.records.queries.shard_rows import read_shard_rows
from tasks.records.run_progress import read_run_progress
from tasks.records.storage.database import Database
from tasks.reports.formatting import format_count

PENDING: Final = "Pending"
"""The word for a machine whose turn has not come."""
STALE_AFTER: Final = timedelta(seconds=60)
"""A machine without news for so long is shown with the time of the last news."""
_BAD: Final = (OperationState.FAILED, OperationState.UNKNOWN)
_RANKS: Final[Mapping[str, int]] = {
    OperationState.FAILED: 0,
    OperationState.UNKNOWN: 1,
    OperationState.IN_PROGRESS: 2,
    OperationState.COMPLETED_WITH_WARNINGS: 3,
    OperationState.NOT_STARTED: 4,
    PENDING: 5,
    OperationState.SUCCEEDED: 6,
}


@dataclass(frozen=True, slots=True)
class MachineLine:
    """One machine of a run."""

    name: str
    wave: int | None
    is_canary: bool
    position: int  # its place in the order of the run, from 0
    # Its result's state; without a result "InProgress", "Pending" or, if no process works on the run, what is known of
    # it.
    state: str
    message: str  # the reason of its result, or what it does
    step: str = ""  # the step that it is at, or ""
    fraction: float | None = None  # of the step, from 0 to 1; None: not known
    since: datetime | None = None  # when the step began; None: it is at none
    news_at: datetime | None = None  # the time of the last news of an unfinished machine
    result: MachineResultRow | None = None  # None: it has none yet

    @property
    def rank(self) -> int:
        """Its place in a list with problems first."""
        return _RANKS.get(self.state, 4)

    @property
    def is_working(self) -> bool:
        """Whether a process works on it now."""
        return self.state == OperationState.IN_PROGRESS

    @property
    def is_done(self) -> bool:
        """Whether it has a result."""
        return self.result is not None

    def is_stale(self, now: datetime) -> bool:
        """Return whether there has been no news of it for long."""
        return self.is_working and self.news_at is not None and now - self.news_at > STALE_AFTER


@dataclass(frozen=True, slots=True)
class RunState:
    """A run with all its machines."""

    line: RunRow
    process: RunProcess | None  # who works on it; None: the run is over
    parts: RunParts | None  # waves, hooks and notes; None: not recorded yet
    machines: tuple[MachineLine, ...]  # in the order of the run
    # The runs that do parts of it at other sites, in the order in which they began.
    shards: tuple[ShardRow, ...]
    message: str  # what the run itself does, or its result's message

    @property
    def is_abandoned(self) -> bool:
        """Whether it is not over, and no process works on it."""
        return self.process is not None and not self.process.is_alive

    @property
    def states(self) -> dict[str, int]:
        """How many machines have each state, problems first."""
        counts: dict[str, int] = {}
        for machine_line in sorted(self.machines, key=lambda machine: machine.rank):
            counts[machine_line.state] = counts.get(machine_line.state, 0) + 1
        return counts

    @property
    def done(self) -> int:
        """How many machines have a result."""
        return sum(machine.is_done for machine in self.machines)

    @property
    def working(self) -> tuple[MachineLine, ...]:
        """The machines that are worked on now, longest first."""
        lines = [machine for machine in self.machines if machine.is_working]
        return tuple(sorted(lines, key=lambda machine: (machine.since is None, machine.since, machine.position)))

    @property
    def phase(self) -> str:
        """What the run does, in a few words."""
        total = len(self.machines)
        if self.is_abandoned:
            return "no process works on it"
        if self.process is None:
            return "over"
        if not total:
            return "selecting machines"
        if self.done or any(machine.is_working and machine.step != Step.ASSESS for machine in self.machines):
            return f"{self.done} of {format_count(total, 'machine')} done"
        if self.parts is not None and self.line.kind != "assess":
            return f"{format_count(total, 'machine')} planned"
        assessed = sum(machine.step == Step.ASSESS and not machine.is_working for machine in self.machines)
        return f"assessing: {assessed} of {total}" if assessed < total else f"{format_count(total, 'machine')} assessed"

    @property
    def figures(self) -> RunFigures:
        """The figures of the machines that have a result."""
        return count_results([machine.result for machine in self.machines if machine.result is not None])


def read_run_state(
    database: Database, line: RunRow, now: datetime, process: RunProcess | None = None, parts: RunParts | None = None
) -> RunState:
    """Return a run with all its machines.

    ``process``: who works on it, if that is known already.
    ``parts``: waves, hooks and notes, if they are known already.

    Raises:
        RecordsError: the records can't be read.
    """
    if process is None and not line.is_over:
        process = read_run_processes(database, now, [line.run_id]).get(line.run_id)
    results = read_machine_results(database, line.run_id)
    if line.is_over and line.kind == "assess" and not results:
        results = read_assessed_machines(database, line.run_id)
    progress = {} if line.is_over else read_run_progress(database, line.run_id)
    parts = parts or read_run_parts(database, line.run_id)
    is_alive = process is not None and process.is_alive
    machines = tuple(_iterate_lines(line, parts, results, progress, is_alive=is_alive))
    run_progress = progress.get("")
    message = run_progress.message if run_progress is not None and is_alive and run_progress.message else line.message
    shards = read_shard_rows(database, line.run_id, now)
    return RunState(line, process, parts, machines, shards, message)


def count_results(results: Sequence[MachineResultRow]) -> RunFigures:
    """Return the figures of results. Pure."""
    states = [result.state for result in results]
    reboots = [result.reboot for result in results]
    return RunFigures(
        machines=len(results),
        succeeded=states.count(OperationState.SUCCEEDED),
        warnings=states.count(OperationState.COMPLETED_WITH_WARNINGS),
        failed=states.count(OperationState.FAILED),
        not_started=states.count(OperationState.NOT_STARTED),
        unknown=states.count(OperationState.UNKNOWN) + states.count(OperationState.IN_PROGRESS),
        installed=sum(result.updates_installed for result in results),
        updates_failed=sum(result.updates_failed for result in results),
        reboots=reboots.count(RebootState.COMPLETED),
        reboots_required=reboots.count(RebootState.REQUIRED) + reboots.count(RebootState.FAILED),
    )


def _iterate_lines(
    line: RunRow,
    parts: RunParts | None,
    results: Mapping[str, MachineResultRow],
    progress: Mapping[str, ProgressRow],
    *,
    is_alive: bool,
) -> Iterator[MachineLine]:
    waves = parts.waves if parts is not None else ()
    places = {name: (wave.number, wave.canary) for wave in waves for name in wave.machines}
    names = dict.fromkeys((*places, *progress, *results))
    names.pop("", None)
    for position, name in enumerate(names):
        row, result = progress.get(name), results.get(name)
        wave, is_canary = places.get(name, (row.wave if row is not None else None, False))
        if result is not None:
            wave = wave if wave is not None else result.wave
            yield MachineLine(name, wave, is_canary, position, result.state, result.reason, result=result)
        elif line.is_over:
            reason = "planned: a plan changes nothing" if line.kind == "plan" else "it has no result"
            yield MachineLine(name, wave, is_canary, position, OperationState.NOT_STARTED, reason)
        else:
            state, message = _describe_unfinished(row, wave, is_alive=is_alive)
            at_step = row is not None and row.state == OperationState.IN_PROGRESS
            yield MachineLine(
                name,
                wave,
                is_canary,
                position,
                state,
                message,
                step=row.step if row is not None else "",
                fraction=row.fraction if row is not None and at_step else None,
                since=row.since if row is not None and at_step else None,
                news_at=row.at if row is not None else None,
            )


def _describe_unfinished(row: ProgressRow | None, wave: int | None, *, is_alive: bool) -> tuple[str, str]:
    """Return state and words for a machine without a result."""
    if row is None or row.state == OperationState.NOT_STARTED:
        reason = row.message if row is not None and not row.step else ""
        waits = reason or (f"waits for wave {wave}" if wave is not None else "waits")
        return (PENDING, waits) if is_alive else (OperationState.NOT_STARTED, "its turn had not come")
    if row.state == OperationState.IN_PROGRESS:
        if is_alive:
            return OperationState.IN_PROGRESS, row.message
        return OperationState.UNKNOWN, f"it was at {row.step}{': ' if row.message else ''}{row.message}"
    if row.step == Step.ASSESS:
        message = row.message or "assessed"
        if row.state in _BAD:
            message = f"not assessed: {message}"
        return (PENDING if is_alive else OperationState.NOT_STARTED), message
    ended = f"{row.step}: {row.state}{', ' if row.message else ''}{row.message}"
    return (OperationState.IN_PROGRESS if is_alive else OperationState.UNKNOWN), ended


APPROVED_KINDS: Final = ("patch", "stage")


def describe_open_approval(database: Database, line: RunRow) -> str:
    """Return a text: the plan of an unfinished run waits for approval until a time; "" if no decision is possible now.

    Raises:
        RecordsError: the records can't be read.
    """
    approvals = SqlApprovals(database)
    approval = None if line.is_over else approvals.find_approval(line.run_id)
    return describe_approval(approval, line.zone or "UTC") if approval and can_decide(approvals, approval) else ""


def can_decide(approvals: SqlApprovals, approval: Approval) -> bool:
    """Return whether a person can approve or reject now. Raise RecordsError if the records can't be read."""
    return approval.decision is ApprovalDecision.WAITING and approval.expires_at > approvals.read_current_time()
