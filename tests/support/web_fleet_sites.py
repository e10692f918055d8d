"""Writes an assessment of several sites for the sample fleet: one site is over, one silent, one without a worker."""

from dataclasses import replace
from datetime import datetime, timedelta

from tasks.domain.model import Outcome, RunReport
from tasks.domain.protocols.records import SHARD_ACT, JournalEntry, JournalMark
from tasks.domain.states import OperationState, Step
from tasks.records.sql_records import SqlRecords
from tests.support.web_fleet_machines import XSS
from tests.support.web_fleet_runs import build_run

SITES = (
    ("default", ("web-01", "web-02"), OperationState.SUCCEEDED),
    ("hamburg", ("ham-1",), OperationState.UNKNOWN),
    ("rome-with-a-name-as-long-as-a-site-may-be", ("rom-1", XSS), OperationState.NOT_STARTED),
)


def save_run_of_sites(records: SqlRecords, now: datetime) -> dict[str, str]:
    """Save it, and return its id as "sites", and that of its silent part as "shard"."""
    run_id, at = "20261123-060000-51fe01", now - timedelta(minutes=150)
    reasons = {
        OperationState.SUCCEEDED: "pending updates: 2 critical or security, 4 other",
        OperationState.UNKNOWN: "the site hamburg has not read it: silent since 2026-11-23 06:00:45 UTC",
        OperationState.NOT_STARTED: f"the site rome has not read it: no worker has taken its run {XSS}",
    }
    outcomes = [Outcome(run_id, name, state, reasons[state]) for _, names, state in SITES for name in names]
    run = build_run("assess", run_id, OperationState.FAILED, at, minutes=11, scope="*")
    records.save(RunReport(run, tuple(outcomes)))
    for number, (site, names, state) in enumerate(SITES, start=1):
        shard = f"{run_id}-{number}"
        detail = {"kind": "assess", "wave": 0, "site": site, "request": {"only_machines": list(names)}}
        entry = JournalEntry(run_id, "", Step.ASSESS, JournalMark.BEFORE, SHARD_ACT, shard, at, detail)
        records.append_entry(entry)
        if state is not OperationState.NOT_STARTED:
            is_over = state is OperationState.SUCCEEDED
            own = OperationState.SUCCEEDED if is_over else OperationState.IN_PROGRESS
            made = build_run("assess", shard, own, at + timedelta(seconds=9), minutes=3 if is_over else None, scope="*")
            records.save(replace(made, request={"shard": shard}, site=site))
        if state is not OperationState.SUCCEEDED:
            closed = replace(
                entry, mark=JournalMark.AFTER, at=at + timedelta(minutes=11), detail={"reason": reasons[state]}
            )
            records.append_entry(closed)
    return {"sites": run_id, "shard": f"{run_id}-2"}
