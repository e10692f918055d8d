"""What processes do that share a database: each function is one of them, and opens the records itself."""

import os
import signal
import time
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

from sqlalchemy import Connection as Database

from tasks.domain.protocols.leases import LeaseHolder, SetSlot, SlotRule
from tasks.domain.rows.audit import AuditEntry, AuditResult
from tasks.domain.run_errors import LeaseHeld
from tasks.domain.states import OperationState
from tasks.records import setup
from tasks.records.audit.log import SqlAuditLog
from tasks.records.queries.history import History
from tasks.records.set_slots import SqlSetSlots
from tasks.records.setup import open_records
from tests.contract.next_release import become_next_release
from tests.support import builders as make

TOGETHER_SECONDS = 120.0
MACHINES = tuple(f"m{number}" for number in range(60))
REPORTS = 5


def race_for_leases(answers: Connection, url: str, number: int, runs: int, together: Barrier) -> None:
    """Ask for each lease at the same moment as others do, and say which ones were won."""
    me = LeaseHolder(f"token-{number}", "ctl", os.getpid(), "racer")
    won = []
    with open_records(url) as records:
        for run in range(runs):
            together.wait(TOGETHER_SECONDS)
            try:
                records.leases.acquire(f"run-{run}", me, 600)
                won.append(f"run-{run}")
            except LeaseHeld as error:
                if error.holder.id == me.id:
                    raise
    answers.send(won)


def append_to_audit_log(answers: Connection, url: str, number: int, entries: int, together: Barrier) -> None:
    """Add entries to the audit log at the same moment as others do, and say how long the slowest took, in seconds."""
    slowest = 0.0
    with open_records(url) as records:
        log = SqlAuditLog(records.database)
        for turn in range(entries):
            together.wait(TOGETHER_SECONDS)
            began = time.monotonic()
            log.append(
                AuditEntry(
                    at=datetime.now(UTC),
                    who=f"p{number}",
                    address="",
                    act="patch",
                    subject=f"{turn}",
                    detail="",
                    result=AuditResult.DONE,
                )
            )
            slowest = max(slowest, time.monotonic() - began)
    answers.send(slowest)


def race_for_slots(answers: Connection, url: str, number: int, rounds: int, together: Barrier) -> None:
    """Ask for the one place of each set at the same moment as others do, each for another member; say what was won."""
    won = []
    with open_records(url) as records:
        slots = SqlSetSlots(records.database)
        for turn in range(rounds):
            name = f"set-{turn}"
            wanted = SetSlot(name, f"m{number}", f"run-{number}", datetime.now(UTC))
            together.wait(TOGETHER_SECONDS)
            if not slots.take([wanted], _refuse_second):
                won.append(name)
    answers.send(won)


def _refuse_second(name: str) -> SlotRule:
    return lambda present: "it is full" if any(each.set_name == name for each in present) else ""


def hold_lease(answers: Connection, url: str) -> None:
    """Take a lease of two seconds, and renew it by a minute for as long as this lives."""
    records = open_records(url)
    me = LeaseHolder("token-killed", "ctl-9", os.getpid(), "victim")
    records.leases.acquire(make.RUN_ID, me, 2.0)
    records.save(make.make_run(state=OperationState.IN_PROGRESS))
    for number in range(600):
        time.sleep(0.1)
        assert records.leases.renew(make.RUN_ID, me, 60.0).is_kept
        if not number:
            answers.send("held")


def read_run_ids(answers: Connection, url: str) -> None:
    """Say which runs there are."""
    with open_records(url) as records:
        answers.send({run.id for run in History(records).read_runs(9)})


def append_and_stay(answers: Connection, url: str) -> None:
    """Append three entries, say so, and close nothing."""
    records = open_records(url)
    for number in range(3):
        records.append_entry(make.make_journal_entry(key=str(number)))
    answers.send("appended")
    time.sleep(600)


def open_and_append(answers: Connection, url: str, machine: str, together: Barrier, migrations: Path) -> None:
    """Open the records at the same moment as others do, with these migrations, and append entries of a machine."""
    become_next_release(migrations)
    together.wait(TOGETHER_SECONDS)
    with open_records(url) as records:
        for number in range(20):
            records.append_entry(make.make_journal_entry(machine=machine, key=str(number)))
    answers.send("appended")


def store_one_by_one(answers: Connection, url: str, number: int, together: Barrier) -> None:
    """Store an assessment of each machine, at the same moment as the other process."""
    with open_records(url) as records:
        for turn, machine in enumerate(MACHINES):
            together.wait(TOGETHER_SECONDS)
            records.save(_make_assessment(machine, number, (turn + number) % 2))
    answers.send("stored")


def store_in_reports(answers: Connection, url: str, number: int, together: Barrier) -> None:
    """Store reports of all machines, each at the same moment as the other process, which has them the other way."""
    with open_records(url) as records:
        for turn in range(REPORTS):
            machines = MACHINES[:: 1 - 2 * number]
            assessments = tuple(_make_assessment(machine, number, 2 * turn + number) for machine in machines)
            run = make.make_run(id=f"run-{number}")
            together.wait(TOGETHER_SECONDS)
            records.save(make.make_report(run=run, assessments=assessments, outcomes=(), plans=()))
    answers.send("stored")


def _make_assessment(machine: str, number: int, at: int):
    updates = tuple(make.make_update(id=f"{number}-{each}") for each in range(3))
    packages = make.make_package_state(updates=updates)
    return make.make_assessment(machine=machine, at=make.at(at), run_id=f"run-{number}", packages=packages)


def migrate_and_die(answers: Connection, url: str, migrations: Path) -> None:
    """Migrate an older database by these migrations, and be killed before that is committed."""
    become_next_release(migrations)
    inner = setup.run_migrations

    def killed(connection: Database, revision: str = "head") -> None:
        inner(connection, revision)
        answers.send("migrated")
        os.kill(os.getpid(), signal.SIGKILL)

    setup.run_migrations = killed
    open_records(url)


def write_for_ever(answers: Connection, url: str, number: int) -> None:
    """Save reports, journal entries and entries of the audit log, and name each run that is stored completely."""
    with open_records(url) as records:
        log = SqlAuditLog(records.database)
        for turn in range(100_000):
            run_id = f"20260310-{number * 100_000 + turn:06d}-aaaaaa"
            outcomes = (make.make_outcome(run_id=run_id),)
            report = make.make_report(run=make.make_run(id=run_id), outcomes=outcomes, assessments=())
            records.append_entry(make.make_journal_entry(run_id=run_id))
            records.save(report)
            log.append(
                AuditEntry(
                    at=datetime.now(UTC),
                    who=f"p{number}",
                    address="",
                    act="patch",
                    subject=run_id,
                    detail="",
                    result=AuditResult.DONE,
                )
            )
            answers.send(run_id)


def hold_open(answers: Connection, url: str) -> None:
    """Read the records, and keep them open."""
    with open_records(url) as records:
        History(records).read_runs(limit=1)
        answers.send(os.getpid())
        signal.pause()
