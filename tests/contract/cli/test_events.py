"""fleetpatch events: what machines are told, and what people decide about it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import fleetpatch.cli.commands.events  # noqa: F401 - it registers the command
from fleetpatch.access.machine_identity import TOKEN_PREFIX
from fleetpatch.access.token_secrets import digest_secret
from fleetpatch.cli.app import app
from tasks.domain.errors import RequestError
from tasks.domain.scheduled_events import EventStatus, EventType, ScheduledEvent
from tasks.domain.states import OperationState
from tasks.records.event_tokens import SqlEventTokens
from tasks.records.scheduled_events import SqlScheduledEvents
from tasks.records.setup import open_records
from tests.contract.records_subjects import new_database
from tests.support import builders as make


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with new_database("sqlite", tmp_path) as made:
        yield made


@pytest.fixture
def event(url: str) -> ScheduledEvent:
    now = datetime.now(UTC)
    with open_records(url) as records:
        records.save(make.make_run(id="run-1", state=OperationState.IN_PROGRESS))
        return SqlScheduledEvents(records.database).announce(
            ScheduledEvent(
                id="",
                run_id="run-1",
                act="reboot/0",
                event_type=EventType.REBOOT,
                resources=("web-1",),
                audience=("web-1",),
                not_before=now + timedelta(minutes=15),
                expires_at=now + timedelta(hours=4),
                announced_at=now,
                description="Updates need a reboot.",
            )
        )


def run(url: str, *words: str) -> Result:
    return CliRunner().invoke(app, ["events", *words, "--records", url])


def read(url: str) -> ScheduledEvent:
    with open_records(url) as records:
        (event,) = SqlScheduledEvents(records.database).find("run-1")
        return event


def test_open_events_are_listed(url: str, event: ScheduledEvent) -> None:
    (row,) = json.loads(run(url, "list", "--json").stdout)
    table = run(url, "list").stdout

    assert (row["eventId"], row["approvalsMissing"]) == (event.id, ["web-1"])
    assert event.id[:8] in table
    assert event.id not in table


def test_what_is_over_is_listed_only_when_asked_for(url: str, event: ScheduledEvent) -> None:
    with open_records(url) as records:
        SqlScheduledEvents(records.database).change(event.id, EventStatus.CANCELED, "stopped")

    assert json.loads(run(url, "list", "--json").stdout) == []
    assert json.loads(run(url, "list", "--all", "--json").stdout)[0]["reason"] == "stopped"
    assert "No machine is told anything" in run(url, "list").stdout


def test_a_person_approves_by_the_beginning_of_the_id(url: str, event: ScheduledEvent) -> None:
    answer = run(url, "approve", event.id[:8].upper())

    assert answer.exit_code == 0, answer.output
    assert read(url).approvals[0].by


def test_a_person_withdraws_with_a_reason(url: str, event: ScheduledEvent) -> None:
    answer = run(url, "withdraw", event.id, "--reason", "not today", "--json")

    assert json.loads(answer.stdout)["eventStatus"] == "Canceled"
    assert read(url).reason.endswith(": not today")


@pytest.mark.parametrize("words", [("approve", "zzz"), ("withdraw", ""), ("token", "remove", "web-9")])
def test_what_is_not_there_is_bad_input(url: str, event: ScheduledEvent, words: tuple[str, ...]) -> None:
    assert isinstance(run(url, *words).exception, RequestError)
    assert read(url) == event


def test_one_that_has_begun_can_be_neither_approved_nor_withdrawn(url: str, event: ScheduledEvent) -> None:
    with open_records(url) as records:
        SqlScheduledEvents(records.database).change(event.id, EventStatus.STARTED)

    assert isinstance(run(url, "approve", event.id).exception, RequestError)
    assert isinstance(run(url, "withdraw", event.id).exception, RequestError)
    assert read(url).status is EventStatus.STARTED


def test_a_token_is_shown_once_and_only_its_digest_is_kept(url: str, tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text("machines: [{name: web-1, address: 192.0.2.1}]\n")

    token = run(url, "token", "add", "web-1", "-i", str(fleet)).stdout.strip().splitlines()[-1]

    listed: list[dict[str, Any]] = json.loads(run(url, "token", "list", "--json").stdout)
    assert token.startswith(TOKEN_PREFIX)
    assert [row["machineName"] for row in listed] == ["web-1"]
    assert token not in json.dumps(listed)
    with open_records(url) as records:
        assert SqlEventTokens(records.database).find_machine(digest_secret(token)) == "web-1"
    assert run(url, "token", "remove", "web-1").exit_code == 0
    with open_records(url) as records:
        assert SqlEventTokens(records.database).list_tokens() == ()


def test_no_token_is_made_for_a_machine_that_is_not_in_the_inventory(url: str, tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text("machines: [{name: web-1, address: 192.0.2.1}]\n")

    assert run(url, "token", "add", "web-2", "-i", str(fleet)).exit_code != 0
