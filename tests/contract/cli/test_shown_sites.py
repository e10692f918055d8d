"""show, for a run of several sites."""

from datetime import UTC, datetime

from tasks.domain.states import OperationState
from tasks.records.setup import open_records
from tests.contract.cli.conftest import Stage
from tests.support.web_fleet_sites import SITES, save_run_of_sites


def test_show_lists_the_parts_of_a_run_of_several_sites_and_a_part_names_its_run(stage: Stage) -> None:
    with open_records(stage.url) as records:
        runs = save_run_of_sites(records, datetime(2026, 11, 23, 8, 30, tzinfo=UTC))

    shown = stage.run("show", runs["sites"]).out
    parts = stage.run("show", runs["sites"], "--json").json["shards"]

    assert [(part["site"], part["machineCount"], part["status"]) for part in parts] == [
        (site, len(names), "InProgress" if state is OperationState.UNKNOWN else state.value)
        for site, names, state in SITES
    ]
    assert [part["silentSinceDateTime"] for part in parts] == [None, "2026-11-23T06:00:09Z", None]
    assert all(f"{runs['sites']}-{number}" in shown for number in (1, 2, 3))
    assert "silent since" in shown
    assert f"It is a part of run {runs['sites']}" in stage.run("show", runs["shard"]).out
    assert stage.run("show", runs["shard"], "--json").json["shards"] == []
