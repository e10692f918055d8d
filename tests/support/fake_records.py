"""Records in memory, with faults on demand. Held to the same contract as the real ones."""

import threading
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from datetime import datetime

from tasks.domain.errors import RecordsError, RecordsUnavailable, RunNotFound
from tasks.domain.model import Assessment, JobOutput, Outcome, RunInfo, RunReport, UpdateKey
from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.protocols.records import JournalEntry, build_lease_lost_error
from tasks.records.measures import MAX_SAMPLES, compute_measures, compute_weighted_mean
from tasks.records.queries.run_summary import find_machines_without_outcome, rebuild_waves


@dataclass(slots=True)
class FakeRecords:
    """Remembers everything in plain attributes that tests may read.

    Attributes:
        fail_append_at: 1-based number of the append that raises RecordsError, storing nothing; None for never.
        lose_answer_at: 1-based number of the append that stores its entry and raises RecordsUnavailable all the same.
        fail_saves: whether every save raises RecordsError.
        away: how many of the next calls raise RecordsUnavailable and do nothing; infinity for all.
        appends: how many appends were asked for, failed ones included.
        failed_act: the act of the append that raised RecordsError, or "".
        holds: whether a run's lease is that holder's; FakeLeases of these records answer it.
    """

    fail_append_at: int | None = None
    lose_answer_at: int | None = None
    fail_saves: bool = False
    away: float = 0
    appends: int = 0
    failed_act: str = ""
    journal: list[JournalEntry] = field(default_factory=list)
    runs: dict[str, RunInfo] = field(default_factory=dict)
    reports: dict[str, RunReport] = field(default_factory=dict)
    assessments: dict[tuple[str, datetime, str], Assessment] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    outputs: dict[tuple[str, str, str], JobOutput] = field(default_factory=dict)
    samples: dict[tuple[str, str, str], tuple[datetime, float]] = field(default_factory=dict)
    holds: Callable[[str, LeaseHolder], bool] = lambda run_id, holder: True
    _turn: threading.RLock = field(default_factory=threading.RLock)

    def append_entry(self, entry: JournalEntry) -> None:
        with self._turn:
            self.appends += 1
            if self.appends == self.fail_append_at:
                self.failed_act = entry.act
                raise RecordsError("can't write the journal: told to fail", hint="A test asked for this.")
            self._be_there()
            if entry not in self.journal:
                self.journal.append(entry)
            if self.appends == self.lose_answer_at:
                raise RecordsUnavailable("can't write the journal: answer lost", hint="A test asked for this.")

    def read_entries(self, run_id: str, machine: str | None = None) -> tuple[JournalEntry, ...]:
        with self._turn:
            self._be_there()
            return tuple(e for e in self.journal if e.run_id == run_id and machine in (None, e.machine))

    def save(self, item: RunInfo | Assessment | Outcome | JobOutput | RunReport) -> None:
        with self._turn:
            if self.fail_saves:
                raise RecordsError("can't save: told to fail", hint="A test asked for this.")
            self._be_there()
            self._save(item)

    def _save(self, item: RunInfo | Assessment | Outcome | JobOutput | RunReport) -> None:
        match item:
            case RunInfo():
                self.runs[item.id] = item
            case Assessment():
                self.assessments[item.machine, item.at, item.run_id] = item
            case Outcome():
                self.outcomes[item.run_id, item.machine] = item
                self._learn(item)
            case JobOutput():
                self.outputs[item.run_id, item.machine, item.job_id] = item
            case RunReport():
                for assessment in item.assessments:
                    self._save(assessment)
                for outcome in item.outcomes:
                    self._save(outcome)
                self._save(item.run)
                self.reports[item.run.id] = item

    def read_measure(self, machine: str, measure: str) -> float | None:
        with self._turn:
            self._be_there()
            found = [
                (at, run_id, value)
                for (run_id, name, kind), (at, value) in self.samples.items()
                if (name, kind) == (machine, measure)
            ]
        return compute_weighted_mean([value for _, _, value in sorted(found)][-MAX_SAMPLES:])

    def read_last_assessment(self, machine: str) -> Assessment | None:
        with self._turn:
            self._be_there()
            known = [each for each in self.assessments.values() if each.machine == machine and each.packages]
        return max(known, key=lambda each: each.at, default=None)

    def read_first_seen(self, updates: Set[UpdateKey]) -> dict[UpdateKey, datetime]:
        with self._turn:
            self._be_there()
            seen = [
                (key, each.at) for each in self.assessments.values() if each.packages for key in each.packages.versions
            ]
        return {key: min(at for of, at in seen if of == key) for key, _ in seen if key in updates}

    def with_lease(self, run_id: str, holder: LeaseHolder) -> "HeldRecords":
        return HeldRecords(self, run_id, holder)

    def teach(self, machine: str, measure: str, value: float, at: datetime, run_id: str = "before") -> None:
        """Pretend that a past run measured this."""
        self.samples[run_id, machine, measure] = (at, value)

    def _be_there(self) -> None:
        if self.away > 0:
            self.away -= 1
            raise RecordsUnavailable("can't reach the records: told to be away", hint="A test asked for this.")

    def _learn(self, outcome: Outcome) -> None:
        moment = outcome.ended_at or outcome.started_at
        if moment is not None:
            for measure, value in compute_measures(outcome).items():
                self.samples[outcome.run_id, outcome.machine, measure] = (moment, value)


@dataclass(frozen=True, slots=True)
class HeldRecords:
    """The same records for the holder of one run's lease."""

    records: FakeRecords
    run_id: str
    holder: LeaseHolder

    def append_entry(self, entry: JournalEntry) -> None:
        self._must_hold()
        self.records.append_entry(entry)

    def read_entries(self, run_id: str, machine: str | None = None) -> tuple[JournalEntry, ...]:
        return self.records.read_entries(run_id, machine)

    def save(self, item: RunInfo | Assessment | Outcome | JobOutput | RunReport) -> None:
        self._must_hold()
        self.records.save(item)

    def read_measure(self, machine: str, measure: str) -> float | None:
        return self.records.read_measure(machine, measure)

    def read_last_assessment(self, machine: str) -> Assessment | None:
        return self.records.read_last_assessment(machine)

    def read_first_seen(self, updates: Set[UpdateKey]) -> dict[UpdateKey, datetime]:
        return self.records.read_first_seen(updates)

    def with_lease(self, run_id: str, holder: LeaseHolder) -> "HeldRecords":
        return HeldRecords(self.records, run_id, holder)

    def _must_hold(self) -> None:
        if not self.records.holds(self.run_id, self.holder):
            raise build_lease_lost_error()


@dataclass(frozen=True, slots=True)
class FakeHistory:
    """What the real History tells about one run, of FakeRecords: for whoever takes a run up again."""

    records: FakeRecords

    def find_run(self, run_id: str) -> RunInfo:
        if run_id not in self.records.runs:
            raise RunNotFound(f"there is no run {run_id!r}", hint="A test asked for it.")
        return self.records.runs[run_id]

    def read_report(self, run_id: str) -> RunReport:
        kept = self.records
        run, saved = self.find_run(run_id), kept.reports.get(run_id)
        outcomes = sorted((o for o in kept.outcomes.values() if o.run_id == run_id), key=lambda each: each.machine)
        assessments = sorted((a for a in kept.assessments.values() if a.run_id == run_id), key=lambda a: a.machine)
        waves = saved.waves if saved else rebuild_waves(outcomes)
        return RunReport(run, tuple(outcomes), waves, saved.plans if saved else (), tuple(assessments))

    def read_planned_assessment(self, run_id: str, machine: str, at: datetime | None = None) -> Assessment | None:
        mine = [each for each in self.read_report(run_id).assessments if each.machine == machine]
        return min(mine, key=lambda each: (at is not None and each.at != at, each.packages is None), default=None)

    def find_unfinished_machines(self, run_id: str) -> tuple[str, ...]:
        return find_machines_without_outcome(self.read_report(run_id))

    def read_journal(self, run_id: str, machine: str | None = None) -> tuple[JournalEntry, ...]:
        return self.records.read_entries(run_id, machine)
