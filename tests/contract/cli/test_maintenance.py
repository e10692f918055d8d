"""maintenance list, show and apply, over a simulated fleet and real records."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from textwrap import indent

import pytest

import fleetpatch.cli.command  # noqa: F401 - it adds these verbs
from deployments.configuration.loader import load_configurations
from deployments.configuration.model import load_inventories
from deployments.maintenance.groups import build_groups
from deployments.maintenance.tick import run_tick
from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.run_session import RunResult
from flows.composition import read_credential
from flows.ports.caller import Caller
from tasks.records.maintenance import SqlMaintenance
from tasks.records.setup import open_records
from tasks.rules.maintenance.model import ApplyCause, PackageEnd
from tests.contract.cli.conftest import Said, Stage, security
from tests.contract.cli.test_automatic import fails
from tests.support.builders import make_report
from tests.support.fake_packages import FakePackage
from tests.support.held_fleet import FakeApplyStarter

CONFIGURATION = """
name: web
scope: "*"
updates: {classifications: [Critical, Security, Other]}
window: {start: 2026-03-01 22:00, length: 2h, zone: UTC, recurrence: Week Sunday}
maintenance: {hold: 35 days}
"""
DAY = 86400.0


@pytest.fixture
def fleet(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Two assessed machines whose updates are held."""
    monkeypatch.delenv("FLEETPATCH_CONFIGURATIONS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(stage.folder / "own"))
    monkeypatch.setattr("tasks.domain.protocols.clock.SystemClock.now", lambda _self: stage.fleet.clock.now())
    stage.add("web", security("openssl"), FakePackage("vim"))
    stage.add("db", security("openssl"))
    (stage.folder / "configurations.yaml").write_text(f"{CONFIGURATION}inventory: {stage.inventory}\n")
    assert stage.run("assess").code == 0
    return stage


Looking = Callable[[], FakeApplyStarter]


@pytest.fixture
def look(fleet: Stage) -> Looking:
    """Let maintenance control look once, and return what it starts."""

    def look_once() -> FakeApplyStarter:
        starter, clock = FakeApplyStarter(), fleet.fleet.clock
        configurations = load_configurations(fleet.folder / "configurations.yaml", clock.now().date())
        groups = build_groups(configurations, load_inventories(configurations))
        run_tick(groups, Caller(records_url=fleet.url), starter, clock, read_credential)
        return starter

    return look_once


def read_group(fleet: Stage) -> dict[str, object]:
    (group,) = fleet.run("maintenance", "list", "--json").json["groups"]
    return group  # type: ignore[no-any-return]


def test_nothing_is_claimed_before_the_first_look(fleet: Stage) -> None:
    said = fleet.run("maintenance", "list")
    assert said.code == 3
    assert "nobody has looked at its machines yet, so its windows stay closed" in said.out + said.err
    assert read_group(fleet)["status"] is None


def test_a_package_is_shown_as_one(fleet: Stage, look: Looking) -> None:
    look()
    group = read_group(fleet)
    assert group["status"] == "Pending"
    assert group["patchCount"] == 2
    assert group["criticalAndSecurityPatchCount"] == 1
    assert group["machineCount"] == 2
    assert group["impactType"] in {"None", "Restart"}
    assert group["reason"] == "held: its window opens at 2026-04-12 22:00 UTC"
    assert group["maintenanceScope"] == "InGuestPatch"
    (shown,) = fleet.run("maintenance", "show", "web", "--json").json["groups"]
    assert [(each["patchName"], each["machineCount"]) for each in shown["patches"]] == [("openssl", 2), ("vim", 1)]
    said = fleet.run("maintenance", "list")
    assert "fleetpatch maintenance apply web" in said.out
    assert "openssl" in fleet.run("maintenance", "show", "web").out


def test_a_person_applies_it_before_its_time(fleet: Stage, look: Looking) -> None:
    look()
    fleet.fleet.clock.advance(DAY)
    assert "openssl" in fleet.run("maintenance", "apply", "web", "--dry-run").out
    assert read_group(fleet)["status"] == "Pending"
    said = apply(fleet)
    assert said.code == 0, said.err
    group = read_group(fleet)
    assert (group["status"], group["patchCount"]) == ("Completed", 0)  # before the next look, which finds the same
    fails(apply(fleet), 2, "nothing is held for web")
    fleet.fleet.clock.advance(60)
    look()
    assert read_group(fleet)["status"] == "Completed"
    with open_records(fleet.url) as records:
        record = SqlMaintenance(records.database).read_groups()["web"]
    assert record.state.package is None
    assert record.last_ended is not None
    assert record.last_ended.end is PackageEnd.APPLIED


def apply(fleet: Stage) -> Said:
    return fleet.run("maintenance", "apply", "web", "--yes", "--no-prefect")


def test_on_day_35_of_a_clock_it_is_applied(fleet: Stage, look: Looking) -> None:
    look()
    fleet.fleet.clock.advance(34.9 * DAY)
    assert not look().started
    fleet.fleet.clock.advance(0.2 * DAY)
    assert read_group(fleet)["isOverdue"]
    assert fleet.run("maintenance", "list").code == 3
    ((group, request),) = look().started.values()
    assert group == "web"
    with open_records(fleet.url) as records:  # this process is the worker, and has no flow run
        SqlMaintenance(records.database).set_flow_run("web/1/overdue/1", "")
    (fleet.folder / "asked.yaml").write_text(request.model_dump_json(exclude_defaults=True))
    said = fleet.run("patch", "--request", str(fleet.folder / "asked.yaml"), "--yes", "--no-prefect")
    assert said.code == 0, said.err
    with open_records(fleet.url) as records:
        (application,) = SqlMaintenance(records.database).read_groups()["web"].state.applications
    assert application.cause is ApplyCause.OVERDUE
    assert application.done == {"web", "db"}
    fleet.fleet.clock.advance(900)
    assert not look().started
    assert read_group(fleet)["status"] == "Completed"


def test_the_worst_end_of_several_runs_is_the_exit_code(fleet: Stage, look: Looking, runs: list[RunResult]) -> None:
    add_second_group(fleet, look)
    result = runs.pop()
    runs += [replace(result, exit_code=ExitCode.MACHINE_FAILED), replace(result, exit_code=ExitCode.NOTHING_ATTEMPTED)]
    assert fleet.run("maintenance", "apply", "web", "shop", "--yes", "--no-prefect").code == ExitCode.MACHINE_FAILED
    assert not runs


def test_after_an_interrupted_run_the_next_group_is_left_alone(
    fleet: Stage, look: Looking, runs: list[RunResult]
) -> None:
    add_second_group(fleet, look)
    result = runs.pop()
    runs += [replace(result, exit_code=ExitCode.INTERRUPTED, was_interrupted=True), result]
    assert fleet.run("maintenance", "apply", "web", "shop", "--yes", "--no-prefect").code == ExitCode.INTERRUPTED
    assert runs == [result]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[RunResult]:
    """The ends of the runs that a command starts, in their order; first a successful one."""
    ends = [RunResult(make_report(), ExitCode.SUCCESS)]
    monkeypatch.setattr("fleetpatch.cli.runtime.run_session.run_request_in_session", lambda *_, **__: ends.pop(0))
    return ends


def add_second_group(fleet: Stage, look: Looking) -> None:
    path = fleet.folder / "configurations.yaml"
    web = indent(f"{CONFIGURATION}inventory: {fleet.inventory}\n", "    ")
    path.write_text(f"configurations:\n  -{web}  -{web.replace('name: web', 'name: shop')}")
    look()


def test_nothing_to_apply_is_said(fleet: Stage, look: Looking) -> None:
    fails(apply(fleet), 2, "nothing is held for web")
    look()
    fails(fleet.run("maintenance", "apply", "wbe", "--yes"), 2, "no configuration 'wbe' holds updates", "web")


def test_a_freeze_is_said_before_anything_begins(fleet: Stage, look: Looking) -> None:
    look()
    now = fleet.fleet.clock.now()
    day = datetime(now.year, now.month, now.day, tzinfo=UTC)
    path = fleet.folder / "configurations.yaml"
    path.write_text(f"{path.read_text()}freezes: [{{date: {day:%Y-%m-%d}, reason: audit}}]\n")
    fails(apply(fleet), 2, "web is frozen until")


def test_an_inventory_that_cant_be_read_is_said(fleet: Stage, look: Looking) -> None:
    look()
    path = fleet.folder / "configurations.yaml"
    path.write_text(path.read_text().replace("fleet.yaml", "gone.yaml"))
    said = fleet.run("maintenance", "list")
    assert said.code == 3
    assert "what is held is not known" in said.out + said.err
    fails(apply(fleet), 2, "web: what is held is not known")


def test_a_package_is_forgotten_and_counts_anew(fleet: Stage, look: Looking) -> None:
    look()
    fleet.fleet.clock.advance(DAY)
    assert fleet.run("maintenance", "forget", "web", "--yes").out == "web: forgotten\n"
    assert fleet.run("maintenance", "forget", "web", "--yes").out == "web: nothing was held\n"
    look()
    assert read_group(fleet)["number"] == 2
    fleet.fleet.clock.advance(DAY)
    said = fleet.run("maintenance", "list")
    assert "nobody has looked at it for" in said.out + said.err


def test_a_scope_without_machines_is_no_empty_package(fleet: Stage, look: Looking) -> None:
    look()
    path = fleet.folder / "configurations.yaml"
    path.write_text(path.read_text().replace('scope: "*"', "scope: env=none"))
    said = fleet.run("maintenance", "list")
    assert said.code == 3
    assert "web: what is held is not known: " in said.out + said.err
