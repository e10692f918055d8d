"""assess, plan and show, for machines of several sites."""

from datetime import UTC, datetime
from typing import Any

import pytest

from fleetpatch.cli.runtime import run_session
from tasks.domain.errors import RequestError
from tasks.domain.states import OperationState
from tasks.records.setup import open_records
from tests.contract.cli.conftest import Stage, security
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


SERVER = "http://prefect.example/api"


def send_to_prefect(*_arguments: object, as_flow: bool, **_options: object) -> Any:
    assert as_flow
    raise RequestError("sent to Prefect")


@pytest.mark.parametrize("verb", ["assess", "plan"])
@pytest.mark.parametrize(
    ("url", "fault", "said"),
    [
        ("", "", "a Prefect server is not configured (PREFECT_API_URL)"),
        (SERVER, "does not answer", f"the Prefect server at {SERVER} does not answer"),
    ],
)
def test_without_prefect_only_the_own_site_is_read_and_that_is_said(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, verb: str, url: str, fault: str, said: str
) -> None:
    monkeypatch.setattr("fleetpatch.cli.runtime.prefect_server._read_server_url", lambda: url)
    monkeypatch.setattr("fleetpatch.cli.runtime.prefect_server.find_server_fault", lambda _url: fault)
    stage.add("here", security("openssl"))
    there = stage.add("there", security("openssl"), site="hamburg")

    answer = stage.run(verb, "*")

    assert f"Only machines of the site default are read: {said}." in " ".join(answer.err.split())
    assert "reached from the site hamburg only" in " ".join(answer.out.split())
    assert there.calls == []
    assert answer.code == 3
    assert stage.run(verb, "there").code == 4


@pytest.mark.parametrize("words", [("assess",), ("plan", "*")])
def test_machines_of_other_sites_are_read_by_prefect_where_it_answers(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr("fleetpatch.cli.runtime.prefect_server._read_server_url", lambda: SERVER)
    monkeypatch.setattr("fleetpatch.cli.runtime.prefect_server.find_server_fault", lambda _url: "")
    stage.add("here", security("openssl"))
    assert stage.run(*words).code == 0  # of the own site: without Prefect, as ever
    stage.add("there", security("openssl"), site="hamburg")

    monkeypatch.setattr(run_session, "run_request_in_session", send_to_prefect)
    assert "sent to Prefect" in stage.run(*words).err
