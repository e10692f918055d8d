"""Looks of maintenance control on real records: repeated, killed, at the same time, without Prefect."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from deployments.maintenance.tick import TICK_LEASE, build_announcement
from flows.engine.run_lease import build_holder
from flows.notify.messages import Message
from tasks.domain.errors import PatchError
from tasks.domain.run_errors import LeaseHeld
from tasks.domain.states import Classification, OperationState
from tasks.records.maintenance_schema import held_packages
from tasks.records.retention import prune_history
from tasks.records.setup import open_records
from tasks.rules.automatic.model import Tell
from tasks.rules.maintenance.model import ApplyCause, PackageEnd
from tests.contract.records_subjects import new_database
from tests.support.builders import make_update
from tests.support.fake_clock import FakeClock
from tests.support.held_fleet import CONFIGURATION, HeldFleet

CURL = make_update(name="curl", available="8", classification=Classification.OTHER)
BASH = make_update(name="bash", available="5", classification=Classification.CRITICAL)
START = datetime(2026, 3, 3, 12, tzinfo=UTC)
DAY, HOUR = 86400.0, 3600.0


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """What was sent to people."""
    found: list[Message] = []

    def send(_url: str, message: Message) -> bool:
        found.append(message)
        return True

    monkeypatch.setattr("flows.notify.notifier.send_with_apprise", send)
    return found


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: list[Message]) -> Iterator[HeldFleet]:
    monkeypatch.setenv("FLEETPATCH_CONFIGURATIONS", str(tmp_path / "configurations"))
    with new_database("sqlite", tmp_path) as url, open_records(url) as records:
        yield HeldFleet(url, records, tmp_path, FakeClock(START))


def test_a_package_is_what_two_machines_lack_and_its_time_counts_once(fleet: HeldFleet, sent: list[Message]) -> None:
    fleet.assess()
    fleet.tick()
    fleet.clock.advance(2 * HOUR)
    fleet.assess(CURL, names=("web-1",))
    seen = fleet.clock.now()
    fleet.clock.advance(HOUR)
    fleet.tick()
    fleet.clock.advance(20 * DAY)
    fleet.assess(CURL, BASH)
    fleet.tick()
    package = fleet.group.state.package
    assert package is not None
    assert (package.number, package.first_seen) == (1, seen)
    assert package.applies_at == datetime(2026, 4, 5, 22, tzinfo=UTC)  # the last Sunday before April 7, 14:00
    assert [(each.name, each.machines) for each in fleet.group.updates] == [("bash", 2), ("curl", 2)]
    assert [message.body.splitlines()[0] for message in sent] == [
        "web: 1 update on 1 machine held until 2026-04-07 14:00 UTC: "
        "applied by itself in the window of 2026-04-05 22:00 UTC"
    ]


def test_what_does_not_wait_is_not_in_the_package(fleet: HeldFleet) -> None:
    fleet.configuration = CONFIGURATION.replace("35 days}", "35 days, not_held: [Critical], not_held_updates: [zl*]}")
    fleet.assess(CURL, BASH, make_update(name="zlib", classification=Classification.OTHER))
    fleet.tick()
    assert [each.name for each in fleet.group.updates] == ["curl"]


def test_a_machine_that_somebody_else_patches_is_not_in_the_group(fleet: HeldFleet) -> None:
    fleet.assess(CURL, names=("os-1",))
    fleet.tick()
    assert fleet.group.machines == ("web-1", "web-2")
    assert fleet.group.unread == 2
    assert fleet.group.state.package is None


def test_on_the_last_day_it_is_applied_once(fleet: HeldFleet, sent: list[Message]) -> None:
    fleet.assess(CURL)
    fleet.tick()
    fleet.clock.advance(35 * DAY - 60)
    fleet.tick()
    assert not fleet.starter.started
    fleet.clock.advance(60)
    fleet.tick()
    fleet.tick()
    ((key, (group, request)),) = fleet.starter.started.items()
    assert (key, group) == ("web/1/overdue/1", "web")
    assert request.window.start == fleet.clock.now()
    assert request.outside_window
    assert request.configuration == "web"
    assert request.maintenance is not None
    assert request.maintenance.application == key
    (application,) = fleet.applications
    assert application.cause is ApplyCause.OVERDUE
    fleet.clock.advance(HOUR)
    fleet.finish_run("r1", f"flow of {key}")
    fleet.clock.advance(HOUR)
    fleet.tick()
    assert fleet.group.state.package is None
    assert fleet.group.last_ended is not None
    assert fleet.group.last_ended.end is PackageEnd.APPLIED
    assert len(fleet.starter.started) == 1


def test_a_process_that_dies_when_the_run_is_started_starts_no_second_one(fleet: HeldFleet) -> None:
    fleet.assess(CURL)
    fleet.tick()
    fleet.clock.advance(36 * DAY)
    fleet.starter.dies = True
    with suppress(KeyboardInterrupt):
        fleet.tick()
    assert fleet.store.read_waiting()[0].flow_run_id == ""
    fleet.starter.dies = False
    fleet.tick()
    assert len(fleet.starter.started) == 1
    assert fleet.store.read_waiting()[0].flow_run_id == "flow of web/1/overdue/1"


def test_without_prefect_the_next_look_does_the_rest(fleet: HeldFleet) -> None:
    fleet.assess(CURL)
    fleet.tick()
    fleet.clock.advance(36 * DAY)
    fleet.starter.is_down = True
    with pytest.raises(PatchError):
        fleet.tick()
    fleet.starter.is_down = False
    fleet.tick()
    assert list(fleet.starter.started) == ["web/1/overdue/1"]


def test_a_run_that_no_worker_takes_is_told_and_tried_again_after_a_day(fleet: HeldFleet, sent: list[Message]) -> None:
    fleet.assess(CURL)
    fleet.tick()
    fleet.clock.advance(36 * DAY)
    fleet.tick()
    fleet.clock.advance(3 * HOUR)
    fleet.tick()
    assert fleet.applications[0].refusal == "no worker started it in its window"
    assert any("no worker started it in its window" in message.body for message in sent)
    fleet.clock.advance(23 * HOUR)
    fleet.tick()
    assert len(fleet.starter.started) == 1
    fleet.clock.advance(HOUR)
    fleet.tick()
    assert list(fleet.starter.started) == ["web/1/overdue/1", "web/1/overdue/2"]


def test_a_run_that_the_policy_refuses_is_overdue_and_told(fleet: HeldFleet, sent: list[Message]) -> None:
    fleet.assess(CURL)
    fleet.tick()
    fleet.clock.advance(36 * DAY)
    fleet.tick()
    fleet.finish_run("r1", "flow of web/1/overdue/1", state=OperationState.NOT_STARTED)
    fleet.clock.advance(HOUR)
    fleet.tick()
    assert fleet.applications[0].refusal
    assert any("overdue since" in message.body for message in sent)
    assert len(fleet.starter.started) == 1


def test_what_failed_stays_and_nothing_is_retried(fleet: HeldFleet, sent: list[Message]) -> None:
    fleet.assess(CURL)
    fleet.tick()
    fleet.clock.advance(36 * DAY)
    fleet.tick()
    fleet.finish_run("r1", "flow of web/1/overdue/1", "web-2")
    for _ in range(3):
        fleet.clock.advance(DAY)
        fleet.tick()
    package = fleet.group.state.package
    assert package is not None
    assert package.number == 1
    assert len(fleet.starter.started) == 1
    assert any("something is left" in message.body for message in sent)


def test_retention_lets_no_package_be_applied_again(fleet: HeldFleet) -> None:
    fleet.assess(CURL)
    fleet.tick()
    fleet.clock.advance(36 * DAY)
    fleet.tick()
    fleet.finish_run("r1", "flow of web/1/overdue/1", "web-2")
    for _ in range(3):
        fleet.clock.advance(2 * DAY)
        assert prune_history(fleet.records, fleet.clock.now() - timedelta(days=1)).runs == 0
        fleet.tick()
    assert list(fleet.starter.started) == ["web/1/overdue/1"]
    fleet.assess()
    fleet.tick()
    assert fleet.group.state.package is None
    fleet.clock.advance(2 * DAY)
    assert prune_history(fleet.records, fleet.clock.now() - timedelta(days=1)).runs == 1


def test_bad_news_is_sent_as_a_failure_and_nothing_of_it_is_left_out(fleet: HeldFleet, sent: list[Message]) -> None:
    fleet.assess(CURL)
    fleet.tick()
    assert [message.is_failure for message in sent] == [False]
    sent.clear()
    fleet.configuration = CONFIGURATION.replace("env=prod", "env=none")
    fleet.tick()
    assert [message.is_failure for message in sent] == [True]
    tells = [Tell(f"key {number}", f"line {number}") for number in range(40)]
    assert all(tell.message in build_announcement(tells, is_failure=True).body.splitlines() for tell in tells)


def test_a_freeze_holds_what_is_overdue(fleet: HeldFleet, sent: list[Message]) -> None:
    fleet.configuration = (
        f"{CONFIGURATION}freezes: [{{start: 2026-04-01 00:00, end: 2026-04-20 00:00, reason: audit}}]\n"
    )
    fleet.assess(CURL)
    fleet.tick()
    package = fleet.group.state.package
    assert package is not None
    assert package.applies_at == datetime(2026, 3, 29, 22, tzinfo=UTC)
    fleet.clock.advance(36 * DAY)
    fleet.tick()
    assert not fleet.starter.started
    assert any("frozen: audit" in message.body for message in sent)
    fleet.clock.advance(12 * DAY)
    fleet.tick()
    assert len(fleet.starter.started) == 1


def test_a_configuration_with_another_name_keeps_the_last_day(fleet: HeldFleet) -> None:
    fleet.assess(CURL)
    fleet.tick()
    first_seen = fleet.group.state.package.first_seen  # type: ignore[union-attr]
    fleet.clock.advance(30 * DAY)
    fleet.configuration = CONFIGURATION.replace("name: web", "name: web-new")
    fleet.tick()
    groups = fleet.store.read_groups()
    assert groups["web"].removed_at == fleet.clock.now()
    package = groups["web-new"].state.package
    assert package is not None
    assert package.first_seen == first_seen


def test_a_configuration_that_was_switched_off_for_a_day_keeps_the_last_day(fleet: HeldFleet) -> None:
    fleet.assess(CURL)
    fleet.tick()
    first_seen = fleet.group.state.package.first_seen  # type: ignore[union-attr]
    fleet.configuration = f"{CONFIGURATION}enabled: false\n"
    fleet.tick()
    assert fleet.store.read_state("web") is None
    fleet.clock.advance(DAY)
    fleet.configuration = CONFIGURATION
    fleet.tick()
    package = fleet.group.state.package
    assert package is not None
    assert (package.number, package.first_seen) == (2, first_seen)


def test_an_inventory_that_cant_be_read_removes_nothing(fleet: HeldFleet, sent: list[Message]) -> None:
    fleet.assess(CURL)
    fleet.tick()
    before = fleet.group
    fleet.inventory = "machines: 3"
    lines = fleet.tick()
    assert fleet.group == before
    assert any("what is held is not known" in line for line in lines)


def test_a_scope_without_machines_ends_nothing(fleet: HeldFleet) -> None:
    fleet.assess(CURL)
    fleet.tick()
    before = fleet.group.state
    fleet.configuration = CONFIGURATION.replace("scope: env=prod", "scope: env=production")
    fleet.tick()
    assert fleet.group.state == before


def test_a_renamed_machine_does_not_end_the_package(fleet: HeldFleet) -> None:
    fleet.assess(CURL)
    fleet.tick()
    first_seen = fleet.group.state.package.first_seen  # type: ignore[union-attr]
    fleet.inventory = fleet.inventory.replace("web-", "www-")
    fleet.clock.advance(HOUR)
    fleet.tick()
    assert fleet.group.unread == 2
    fleet.clock.advance(HOUR)
    fleet.assess(CURL, names=("www-1", "www-2"))
    fleet.tick()
    package = fleet.group.state.package
    assert package is not None
    assert (package.number, package.first_seen) == (1, first_seen)


def test_answers_of_the_future_do_not_count(fleet: HeldFleet) -> None:
    fleet.assess(CURL, at=START + timedelta(days=900))
    fleet.tick()
    assert fleet.group.unread == 2
    assert fleet.group.state.package is None


def test_of_two_looks_at_once_one_works(fleet: HeldFleet) -> None:
    fleet.records.leases.acquire(TICK_LEASE, build_holder("somebody"), 60)
    with pytest.raises(LeaseHeld):
        fleet.tick()


def test_what_nobody_could_be_told_is_told_by_the_next_look(
    fleet: HeldFleet, sent: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.assess(CURL)
    with monkeypatch.context() as patch:
        patch.setattr("flows.notify.notifier.send_with_apprise", lambda _url, _message: False)
        fleet.tick()
    assert not sent
    fleet.tick()
    fleet.tick()
    assert len(sent) == 1


def test_a_package_that_was_changed_by_sql_is_left_alone_and_told_until_it_is_forgotten(
    fleet: HeldFleet, sent: list[Message]
) -> None:
    fleet.assess(CURL)
    fleet.tick()
    with fleet.records.database.begin_write("tamper") as connection:
        connection.execute(update(held_packages).values(first_seen=START - timedelta(days=90)))
    fleet.tick()
    assert not fleet.starter.started
    assert any("doesn't fit its seal" in message.body for message in sent)
    assert fleet.store.forget_packages("web")
    fleet.tick()
    package = fleet.group.state.package
    assert package is not None
    assert package.first_seen == START
