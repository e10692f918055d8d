"""What release 0.1.0 wrote is read by this release, with the figures of then (tests/data/release_0_1_0)."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from deployments.configuration.loader import load_configurations
from fleetpatch.cli.request_parsing import load_request_file
from flows.engine.resume_state import read_resume_state
from flows.request.patch_request import PatchRequest
from inventory.loader import load_inventory
from tasks.domain.states import OperationState, UpdateState
from tasks.records import page_schema, schema
from tasks.records.approvals import ApprovalDecision, SqlApprovals
from tasks.records.audit.log import SqlAuditLog
from tasks.records.queries.history import History
from tasks.records.queries.machines import read_machine_states
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.records.storage.online_indexes import build_missing_indexes
from tests.ci import tree

DATA = tree.TOP / "tests" / "data" / "release_0_1_0"
RUN = "20260310-010000-aaaaaa"
INTERRUPTED = "20261127-024154-b0171e"


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlRecords]:
    """The records of 0.1.0, opened with its keys: migrated, if this release has other tables."""
    shutil.copytree(DATA / "keys", tmp_path / "keys")
    for key in (tmp_path / "keys", *(tmp_path / "keys").iterdir()):
        key.chmod(0o700 if key.is_dir() else 0o600)
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "keys"))
    file = tmp_path / "records.db"
    file.touch(0o600)
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript((DATA / "records.sql").read_text())
    with open_records(f"sqlite:///{file}") as opened:
        yield opened


def test_the_tables_are_exactly_those_of_the_code_after_migrations(records: SqlRecords) -> None:
    assert build_missing_indexes(records.database, schema.metadata) == ("ix_update_results_name_machine_number_run_id",)
    with records.database.engine.connect() as connection:
        options = {"version_table": schema.schema_version.name, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert page_schema.machine_states.metadata is schema.metadata  # the import has added its tables
        assert compare_metadata(context, schema.metadata) == []


def test_an_approved_run_has_its_figures(records: SqlRecords) -> None:
    history = History(records, require_seals=True)

    report = history.read_report(RUN)

    assert report.run.state is OperationState.FAILED
    assert [wave.machines for wave in report.waves] == [("web-1",), ("web-2",)]
    assert {outcome.machine: outcome.state for outcome in report.outcomes} == {
        "web-1": OperationState.SUCCEEDED,
        "web-2": OperationState.FAILED,
    }
    assert {
        (outcome.machine, each.update.name, each.state) for outcome in report.outcomes for each in outcome.updates
    } == {
        ("web-1", "openssl", UpdateState.INSTALLED),
        ("web-1", "curl", UpdateState.INSTALLED),
        ("web-2", "openssl", UpdateState.INSTALLED),
        ("web-2", "broken", UpdateState.FAILED),
        ("web-2", "held", UpdateState.EXCLUDED),
    }
    assert history.read_summary(RUN).results["web-2"].count_in(UpdateState.FAILED) == 1
    assert len(history.read_journal(RUN)) == 19
    approval = SqlApprovals(records.database).find_approval(RUN)
    assert approval is not None
    assert (approval.decision, approval.who, approval.remark) == (ApprovalDecision.APPROVED, "anna", "tested on web-0")


def test_machines_and_the_audit_log_are_read(records: SqlRecords) -> None:
    states = read_machine_states(records.database)
    entries = SqlAuditLog(records.database).read(10)

    assert {
        name: (state.compliance, state.critical + state.security, state.other) for name, state in states.items()
    } == {
        "web-1": ("Compliant", 0, 0),
        "web-2": ("NonCompliant", 0, 1),
        "db-1": ("NonCompliant", 1, 0),
        "db-2": ("NonCompliant", 1, 0),
    }
    assert [(entry.number, entry.act, entry.result) for entry in entries] == [
        (2, "patch", "failed"),
        (1, "patch", "begun"),
    ]


def test_an_interrupted_run_can_be_resumed(records: SqlRecords) -> None:
    state = read_resume_state(History(records, require_seals=True), INTERRUPTED)

    assert [wave.machines for wave in state.waves] == [("db-1",), ("db-2",)]
    assert set(state.plans) == {"db-1", "db-2"}
    assert len(state.journal["db-1"]) > 0


def test_configurations_load_without_faults() -> None:
    configurations = load_configurations(DATA / "configurations", date(2026, 11, 27)).all_configurations

    assert {each.name for each in configurations if not each.is_enabled} == {"every-3-days"}
    assert {each.name for each in configurations if each.is_enabled} == {
        *("canaries", "web", "shops", "by.rule", "by_cron"),
        *("month-days", "tonight", "waiting", "closed"),
    }


def test_the_inventory_loads_without_faults() -> None:
    machines = {each.name: each for each in load_inventory(DATA / "fleet.yaml").machines}

    assert len(machines) == 12
    assert machines["web-02"].jump == ("bastion",)
    assert machines["old-box"].legacy_crypto
    assert machines["win-1"].transport == "winrm"


def test_the_request_file_loads_without_faults() -> None:
    request = PatchRequest.model_validate(load_request_file(DATA / "request.yaml"))

    assert (request.scope, request.configuration, request.waves.canary_count) == ("ring=canary", "canaries", 1)
    assert [each.name for each in request.hooks.before_machine] == ["drain"]
