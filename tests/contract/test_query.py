"""Azure's sample queries in SQL, and all others that the documents show, on records of a run."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from inventory.machine import Inventory
from tasks.domain.scheduled_events import EventType, ScheduledEvent
from tasks.domain.states import Classification, OperationState, UpdateState
from tasks.records.maintenance import GroupRecord, PackageUpdate, SqlMaintenance
from tasks.records.queries.tables import QueryTables
from tasks.records.scheduled_events import SqlScheduledEvents
from tasks.records.snapshots import SqlSnapshots
from tasks.records.sql_records import SqlRecords
from tasks.reports.query.engine import open_query
from tasks.rules.maintenance.model import GroupState, HeldPackage
from tests.ci import tree
from tests.contract.records_subjects import BOTH, opened
from tests.contract.test_snapshots import make_row
from tests.support.builders import (
    make_assessment,
    make_facts,
    make_failed_outcome,
    make_machine,
    make_outcome,
    make_package_state,
    make_run,
    make_update,
    make_update_result,
)

NOW = datetime.now(UTC).replace(microsecond=0)
PAGE = (tree.TOP / "docs/reference/query.md").read_text()
EXAMPLES = re.findall(r"^```sql\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
COUNTS = "updateRollup featurePack servicePack definition security critical updates tools other"
INSTALLATIONS = "installedPatchCount failedPatchCount pendingPatchCount excludedPatchCount notSelectedPatchCount"
STATE = "classifications installationState"
AZURE_COLUMNS = [  # as Azure's sample queries project them, in the order of the page
    ["lastTime", "id", "OS", *(f"{name}Count" for name in COUNTS.split())],
    f"lTime RunID machineName rgName resourceType OS {INSTALLATIONS}".split(),
    f"lTime RunID machineName rgName resourceType patchName kbId {STATE}".split(),
    f"lTime RunID machineName rgName resourceType patchName version {STATE}".split(),
]


@pytest.fixture(params=BOTH)
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlRecords]:
    with opened(request.param, tmp_path) as found:
        _fill(found)
        yield found


def _fill(found: SqlRecords) -> None:
    kb = make_update(name="KB5034441", id="8f2e", kb="KB5034441", classification=Classification.CRITICAL)
    results = (make_update_result(update=kb), make_update_result(update=make_update(), state=UpdateState.FAILED))
    start = NOW - timedelta(days=2)
    found.save(make_run(id="run-1", started_at=start, request={"configuration": "web"}))
    found.save(make_assessment(at=NOW))
    windows = make_package_state(manager="windows-update", updates=(kb,))
    found.save(make_assessment(machine="win-1", at=NOW, packages=windows, facts=make_facts(os_id="windows")))
    found.save(make_outcome(run_id="run-1", started_at=start, ended_at=start + timedelta(minutes=9)))
    found.save(
        make_outcome(
            run_id="run-1",
            machine="win-1",
            state=OperationState.COMPLETED_WITH_WARNINGS,
            updates=results,
            started_at=start,
            ended_at=start + timedelta(minutes=9),
            window_exceeded_seconds=30.0,
        )
    )
    found.save(make_failed_outcome(run_id="run-1", started_at=start, ended_at=start))
    found.save(make_run(id="old", started_at=NOW - timedelta(days=90)))
    found.save(make_outcome(run_id="old", started_at=NOW - timedelta(days=90), ended_at=NOW - timedelta(days=90)))


def _frame(records: SqlRecords, sql: str) -> pd.DataFrame:
    machines = (make_machine(environment="prod", tags={"role": "web"}), make_machine(name="new-1"))

    tables = QueryTables(records, NOW - timedelta(days=30), Inventory(machines), [("web-1", "web")], now=NOW)
    with open_query(tables) as query:
        return query.read_frame(sql)


@pytest.mark.parametrize(("sql", "columns"), list(zip(EXAMPLES, AZURE_COLUMNS, strict=False)))
def test_azures_sample_queries_give_azures_columns(records: SqlRecords, sql: str, columns: list[str]) -> None:
    frame = _frame(records, sql)
    assert list(frame.columns) == columns
    assert len(frame)


def test_a_machine_is_as_on_the_pages_also_if_its_answer_is_old(records: SqlRecords) -> None:
    named = Inventory((make_machine(),))
    said = []
    for days in (7, 7.1):
        with open_query(QueryTables(records, None, named, now=NOW + timedelta(days=days))) as query:
            sql = "SELECT compliance, reboot, security FROM machines WHERE name = 'web-1'"
            said += query.ask(sql).list_rows()
    assert said == [("NonCompliant", "no", 2), ("NotAssessed", "unknown", 2)]


def test_every_documented_query_has_an_answer(records: SqlRecords) -> None:
    assert len(EXAMPLES) == 9
    assert [bool(len(_frame(records, sql))) for sql in EXAMPLES] == [True] * 9


def test_available_updates_are_counted_by_category(records: SqlRecords) -> None:
    frame = _frame(records, EXAMPLES[0]).set_index("id")
    prefix = "/subscriptions/fleetpatch/resourceGroups/{}/providers/Microsoft.Compute/virtualMachines/{}"
    linux: Any = frame.loc[prefix.format("prod", "web-1") + "/patchAssessmentResults/latest"]
    assert (linux.securityCount, linux.otherCount, linux.criticalCount, linux.OS) == (2, 1, 0, "Linux")
    win: Any = frame.loc[prefix.format("none", "win-1") + "/patchAssessmentResults/latest"]
    assert (win.securityCount, win.criticalCount, win.OS) == (0, 1, "Windows")


def test_installations_have_the_figures_of_their_outcomes(records: SqlRecords) -> None:
    frame = _frame(records, EXAMPLES[1]).set_index("machineName")
    assert list(frame.loc["web-1", ["RunID", "rgName", "installedPatchCount"]]) == ["run-1", "prod", 2]
    assert list(frame.loc["win-1", ["installedPatchCount", "failedPatchCount"]]) == [1, 1]
    assert set(frame.index) == {"web-1", "web-2", "win-1"}  # and nothing of the old run


def test_updates_of_windows_and_linux_are_apart(records: SqlRecords) -> None:
    windows, linux = _frame(records, EXAMPLES[2]), _frame(records, EXAMPLES[3])
    assert windows["kbId"].tolist() == ["KB5034441"]
    assert [list(each) for each in windows["classifications"]] == [["Critical"]]
    assert set(linux["machineName"]) == {"web-1", "win-1"}
    assert set(linux["installationState"]) == {"Installed", "NotSelected", "Failed"}


def test_status_window_and_reboot_have_azures_words(records: SqlRecords) -> None:
    frame = _frame(
        records,
        "SELECT split_part(id, '/', 9) AS machine, properties.status AS status, properties.rebootStatus AS reboot, "
        "properties.maintenanceWindowExceeded AS exceeded FROM patchinstallationresources "
        "WHERE type NOT LIKE '%softwarepatches' ORDER BY ALL",
    )
    assert frame.to_numpy().tolist() == [
        ["web-1", "Succeeded", "Completed", False],
        ["web-2", "Failed", "Unknown", False],
        ["win-1", "CompletedWithWarnings", "Completed", True],
    ]


def test_maintenance_has_runs_and_assignments(records: SqlRecords) -> None:
    frame = _frame(records, "SELECT type, properties.maintenanceConfigurationId AS c FROM maintenanceresources")
    types = frame["type"].value_counts().to_dict()
    assert types == {"microsoft.maintenance/applyupdates": 3, "microsoft.maintenance/configurationassignments": 1}
    assert set(frame["c"]) == {
        "/subscriptions/fleetpatch/resourceGroups/none/providers/Microsoft.Maintenance/maintenanceConfigurations/web"
    }


def test_what_is_held_is_one_entry_in_azures_words(records: SqlRecords) -> None:
    state = GroupState("web", 2, HeldPackage(2, NOW - timedelta(days=3), NOW + timedelta(days=4)), NOW)
    update = PackageUpdate("openssl", "3", "Security", 2, NOW - timedelta(days=3))
    group = GroupRecord(state, "web", 35 * 86_400.0, ("web-1", "web-2"), 0, (update,), impact="Restart")
    SqlMaintenance(records.database).save_look(group)
    columns = "name, properties.status AS s, properties.impactType AS i"
    sql = f"SELECT {columns} FROM maintenanceresources WHERE type LIKE '%/updates'"
    assert _frame(records, sql).to_numpy().tolist() == [["web", "Pending", "Restart"]]
    held = _frame(records, "SELECT name, status, machines, updates, urgent, is_overdue FROM held_packages")
    assert held.to_numpy().tolist() == [["web", "Pending", 2, 1, 1, False]]


def test_snapshots_of_runs_are_a_table(records: SqlRecords) -> None:
    row = make_row(used_bytes=None)
    SqlSnapshots(records.database, records.seals).save(row)
    found = _frame(records, "SELECT snapshot, machine, state, used_bytes IS NULL AS unknown FROM snapshots")
    assert found.to_numpy().tolist() == [[row.snapshot, row.machine, "Taken", True]]


def test_machines_of_inventory_and_records_are_joined(records: SqlRecords) -> None:
    frame = _frame(records, "SELECT name, in_inventory, compliance, tags['role'] AS role FROM machines ORDER BY name")
    rows = json.loads(frame.to_json(orient="values"))
    assert rows == [
        ["new-1", True, "NotAssessed", None],
        ["web-1", True, "NonCompliant", "web"],
        ["win-1", False, "NonCompliant", None],
    ]


def test_events_that_machines_were_told_are_a_table(records: SqlRecords) -> None:
    sql = "SELECT event_type, status, resources, approved_by, duration_seconds, started_at FROM scheduled_events"
    assert _frame(records, sql).empty
    records.save(make_run(id="run-2", started_at=NOW, state=OperationState.IN_PROGRESS))
    events = SqlScheduledEvents(records.database)
    event = events.announce(
        ScheduledEvent(
            id="",
            run_id="run-2",
            act="reboot/0",
            event_type=EventType.REBOOT,
            resources=("web-1",),
            audience=("web-1", "web-2"),
            not_before=NOW,
            expires_at=NOW + timedelta(hours=1),
            announced_at=NOW,
            description="",
        )
    )
    events.approve("web-1", [event.id])

    (row,) = json.loads(_frame(records, sql).to_json(orient="values", date_format="iso"))
    assert row == ["Reboot", "Scheduled", ["web-1"], ["web-1"], None, None]
