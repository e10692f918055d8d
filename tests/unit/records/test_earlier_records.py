"""Records that an earlier version has stored are read, and a run that it began goes on. The texts are its own."""

import json
from dataclasses import replace
from pathlib import Path

from inventory.machine import Machine
from tasks.domain.model import Assessment, Outcome, Services
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.states import FindingLevel, Step
from tasks.records.encoding.codec import decode, encode
from tasks.reports.data.tables import build_tables
from tasks.rules.machine_checks.packages import check_concurrent_changes
from tasks.rules.machine_checks.service_restarts import check_outdated_services
from tasks.rules.machine_checks.services import check_services
from tasks.steps.checkpoint import CHECKPOINT_ACT, build_checkpoint, restore_checkpoint
from tasks.steps.context.machine_state import MachineState
from tests.support import builders as make

DATA = Path(__file__).parents[2] / "data/records"


def stored(kind: str) -> str:
    return (DATA / f"{kind}-of-0.1.json").read_text(encoding="utf-8")


def test_an_assessment_tells_what_it_did_and_nothing_more() -> None:
    assessment = decode(Assessment, stored("assessment"))
    assert assessment.facts is not None
    assert assessment.facts.services == Services(("apt-daily.service",), ("tcp/22", "tcp/443", "udp/45123"))
    assert assessment.packages is not None
    assert assessment.packages.at_work == ""
    assert check_concurrent_changes(assessment.packages) == ()
    (finding,) = check_outdated_services(assessment.packages)
    assert "nginx.service" in finding.message


def test_an_outcome_is_shown_in_reports() -> None:
    outcome = decode(Outcome, stored("outcome"))
    assert outcome.services_to_restart == ()
    (row,) = build_tables(replace(make.make_report(), outcomes=(outcome,), plans=(), waves=(), assessments=())).machines
    assert row.services_to_restart == ""


def test_fields_with_new_names_are_stored_under_their_earlier_names() -> None:
    outcome = decode(Outcome, stored("outcome"))
    assert outcome.facts is not None
    assert [disk.free_files for disk in outcome.facts.disks] == [1_200_000, 1_200_000]
    assert not any(result.update.changes_boot for result in outcome.updates)
    assert outcome.install is not None
    kept = replace(outcome, install=replace(outcome.install, kept_configuration_files=("/etc/x.conf",)))
    document = encode(kept)
    assert '"conffiles":["/etc/x.conf"]' in document
    assert '"free_inodes":1200000' in document
    assert decode(Outcome, document) == kept
    state = MachineState(Machine(name="web-1", address="192.0.2.1"), install=kept.install, baseline=kept.facts)
    entry = JournalEntry(
        "r", "web-1", Step.INSTALL, JournalMark.AFTER, CHECKPOINT_ACT, "install", make.START, build_checkpoint(state)
    )
    restored = restore_checkpoint(state, (entry,))
    assert (restored.install, restored.baseline) == (kept.install, kept.facts)


def test_a_run_that_it_began_goes_on_and_its_ephemeral_ports_fail_no_machine() -> None:
    detail = json.loads(stored("progress"))
    entry = JournalEntry("r", "web-1", Step.PRECHECK, JournalMark.AFTER, CHECKPOINT_ACT, "precheck", make.START, detail)
    run = restore_checkpoint(MachineState(Machine(name="web-1", address="192.0.2.1")), (entry,))
    assert run.baseline is not None
    assert run.restarts is None
    now = Services((), ("tcp/22", "tcp/443"), listeners=())
    assert all(each.level is FindingLevel.GOOD for each in check_services(run.baseline.services, now))
    gone = check_services(run.baseline.services, Services((), ("tcp/22",)))
    assert [each.message for each in gone] == ["nothing listens any more on tcp/443"]
