"""A program of Azure's samples, unchanged, on real machines: its run and its endpoint die after the announcement."""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from tasks.domain.scheduled_events import EventStatus, ScheduledEvent
from tasks.records.queries.history import History
from tasks.records.scheduled_events import SqlScheduledEvents
from tasks.records.setup import open_records
from tests.contract.events.namespaced_program import CLIENTS, needs_namespace, read_output, running, wait_for
from tests.lab.engine import Fleet
from tests.lab.fleet import LabHost
from tests.lab.killing import Controllers, boots, its_lease_is_over

NOTICE_MINUTES = 20  # longer than the test: only the approval lets the reboot begin
REBOOT = {"classifications": [], "include": ["lab-reboot"]}


@needs_namespace
def test_an_approval_counts_that_comes_while_no_run_waits(
    hosts: Callable[[int], list[LabHost]], tmp_path: Path
) -> None:
    (host,) = hosts(1)
    controllers = Controllers(Fleet([host], tmp_path))
    file = tmp_path / "records.db"
    listener = (sys.executable, str(shutil.copy(CLIENTS / "Listener.py.txt", tmp_path / "Listener.py")))
    announce = {"enabled": True, "notice_minutes": NOTICE_MINUTES}
    before = boots(host)

    with open_records(controllers.fleet.records_url) as records:
        events = SqlScheduledEvents(records.database)

        def read() -> tuple[ScheduledEvent, ...]:
            runs = History(records).read_runs(1)
            return events.find(runs[0].id) if runs else ()

        try:
            with running(file, "127.0.0.1", *listener, machine=host.name):  # sees no event, and asks its user then
                wait_for(lambda: "Press 1" in read_output(file), file)
                first = controllers.patch(announce=announce, updates=REBOOT)
                wait_for(lambda: bool(read()), file)
            first.kill()
            (event,) = read()
            incarnation = events.read_document(host.name).incarnation
            assert event.status is EventStatus.SCHEDULED

            with running(file, "127.0.0.1", *listener, words="1\n" * 5, machine=host.name):
                wait_for(lambda: bool(read()[0].approvals), file)
                assert f"Processed events from document: {incarnation}\n" in read_output(file)
                its_lease_is_over(controllers)
                (row,) = controllers.resume().json["machines"]
                last = events.read_document(host.name).incarnation
                wait_for(lambda: f"Processed events from document: {last}\n" in read_output(file), file)
        finally:
            controllers.end()

        (over,) = read()
    assert (over.id, over.status) == (event.id, EventStatus.COMPLETED)
    assert over.started_at is not None
    assert over.started_at < over.not_before
    assert row["status"] == "Succeeded", row
    assert boots(host) == before + 1
    told = re.findall(r"'EventId': '([^']+)', 'EventStatus': '(\w+)'", read_output(file))
    assert told == [(event.id, "Scheduled"), (event.id, "Started")]
