"""What comes after a deployment: the next window of each configuration, and those that Prefect starts no run for."""

import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prefect.client.schemas.objects import StateType

from deployments.configuration.loader import load_configurations
from deployments.configuration.model import Configurations
from deployments.sync.model import Change, ChangeAction, DeploymentSet
from deployments.sync.next_windows import NextWindows, WindowRunStatus, find_next_windows, find_run_statuses
from deployments.sync.plan import SyncPlan
from fleetpatch.cli.runtime.output import get_stdout_console
from fleetpatch.cli.views.config import print_configuration_finding
from fleetpatch.cli.views.deploy import (
    print_next_windows,
    print_run_location,
    report_changes,
)
from flows.request.patch_request import PatchRequest
from inventory.machine import Inventory, Machine
from tasks.domain.errors import RequestError

NOW = datetime(2026, 11, 20, 13, tzinfo=UTC)
FLEET = Inventory(
    (
        Machine("web-1", "10.0.0.1", environment="prod", zone="Europe/Berlin"),
        Machine("tok-1", "10.0.0.2", environment="prod", zone="Asia/Tokyo"),
    )
)
ASKED = {"scope": "env=prod", "configuration": "web", "window": {"minutes": 120, "zone": "UTC"}}


def read(folder: Path, window: str, more: str = "") -> Configurations:
    path = folder / "web.yaml"
    path.write_text(f"name: web\nscope: env=prod\nwindow: {{{window}}}\n{more}\n")
    return load_configurations(path, NOW.date())


def looked(configurations: Configurations, now: datetime = NOW) -> tuple[NextWindows, ...]:
    inventories = {each.name: FLEET for each in configurations.all_configurations}
    return find_next_windows(configurations, inventories, {"patch-fleet/web": ASKED}, now)


def starts(found: NextWindows) -> list[str | None]:
    return [f"{window.start:%d %H:%M}" if window else None for window in (found.due_window, found.next_window)]


DAILY = "length: 2h, zone: UTC, recurrence: Day"


@pytest.mark.parametrize(
    ("window", "more", "told"),
    [
        (f"start: 2026-11-20 14:00, {DAILY}", "", [None, "20 14:00"]),
        (f"start: 2026-11-20 12:30, {DAILY}", "", ["20 12:30", "21 12:30"]),  # open, and its run was due
        (f"start: 2026-11-20 14:00, {DAILY}", "lead: 2h", ["20 14:00", "21 14:00"]),  # not open yet, and its run too
        ("start: 2026-11-20 12:30, length: 2h, zone: UTC", "", ["20 12:30", None]),
        ("start: 2026-11-20 11:10, length: 2h, zone: UTC", "", [None, None]),  # what is left is kept for a reboot
        ("start: 2026-11-20 11:10, length: 2h, zone: UTC", "reboot: Never", ["20 11:10", None]),
        ("start: 2026-11-20 09:00, length: 2h, zone: UTC", "", [None, None]),  # over
        (f"start: 2026-11-20 12:30, {DAILY}", "freezes: [{date: 2026-11-20, reason: sales}]", [None, "21 12:30"]),
        (f"start: 2026-11-20 12:30, {DAILY}", "enabled: false", None),
    ],
)
def test_the_window_whose_run_was_due_is_told_from_the_next(
    tmp_path: Path, window: str, more: str, told: list[str | None] | None
) -> None:
    assert [starts(each) for each in looked(read(tmp_path, window, more))] == ([] if told is None else [told])


def test_each_zone_has_its_own_next_window_the_earliest_first(tmp_path: Path) -> None:
    found = looked(read(tmp_path, "start: 2026-11-21 02:00, length: 2h, zone: machine, recurrence: Day"))

    assert [(each.zone, each.machine_count) for each in found] == [("Asia/Tokyo", 1), ("Europe/Berlin", 1)]
    assert [each.deployment for each in found] == ["patch-fleet/web@asia-tokyo", "patch-fleet/web@europe-berlin"]


def test_the_command_starts_that_run_in_its_own_window(tmp_path: Path) -> None:
    (found,) = looked(read(tmp_path, f"start: 2026-11-20 12:30, {DAILY}"))

    *words, parameters = shlex.split(found.start_command)

    assert words == ["prefect", "deployment", "run", "patch-fleet/web", "--params"]
    request = PatchRequest.model_validate(json.loads(parameters)["request"])
    assert request.window.start == datetime(2026, 11, 20, 12, 30, tzinfo=UTC)  # and not from now on
    assert (request.scope, request.configuration, request.window.minutes) == ("env=prod", "web", 120)


@dataclass
class Server:
    """Prefect, as far as it is asked: runs of one deployment, by the moments they were due."""

    runs: list[datetime] = field(default_factory=list)
    now: datetime = NOW
    slept: float = 0.0
    makes: datetime | None = None  # a run, when it has been waited for
    state: StateType = StateType.SCHEDULED
    run_count: int = 0

    def clock(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.slept += seconds
        if self.makes is not None and self.slept > 4:
            self.runs = [self.makes]

    def read_deployment_by_name(self, name: str) -> Any:
        assert name == "patch-fleet/web"
        return SimpleNamespace(id="01a1f928-be79-7744-8285-3c084ab63817")

    def read_flow_runs(self, *, deployment_filter: Any, flow_run_filter: Any, limit: int, offset: int) -> list[Any]:
        assert deployment_filter.id.any_
        span = flow_run_filter.expected_start_time
        made = SimpleNamespace(state_type=self.state, run_count=self.run_count)
        return [made for run in self.runs if span.after_ <= run <= span.before_][offset : offset + limit]

    def standing(self, found: tuple[NextWindows, ...]) -> WindowRunStatus:
        (known,) = find_run_statuses(cast("Any", self), found, self.clock, self.sleep).values()
        return known

    def without_run(self, found: tuple[NextWindows, ...]) -> tuple[NextWindows, ...]:
        return found if self.standing(found) is WindowRunStatus.NONE else ()


def test_a_window_without_a_run_is_named_and_one_that_has_it_is_not(tmp_path: Path) -> None:
    found = looked(read(tmp_path, f"start: 2026-11-20 12:30, {DAILY}", "lead: 10"))
    due = NOW - timedelta(minutes=40)

    assert Server().without_run(found) == found
    assert Server([due]).without_run(found) == ()
    assert Server([NOW - timedelta(minutes=1)]).without_run(found) == ()  # somebody started it by hand
    assert Server([due - timedelta(days=1), due + timedelta(days=1)]).without_run(found) == found


@pytest.mark.parametrize(
    ("state", "run_count", "standing"),
    [
        (StateType.SCHEDULED, 0, WindowRunStatus.WAITING),  # Late, or in a queue
        (StateType.PENDING, 0, WindowRunStatus.WAITING),
        (StateType.CANCELLED, 0, WindowRunStatus.NONE),
        (StateType.CANCELLED, 1, WindowRunStatus.STARTED),
        (StateType.RUNNING, 1, WindowRunStatus.STARTED),
        (StateType.SCHEDULED, 1, WindowRunStatus.STARTED),  # started again
        (StateType.CRASHED, 0, WindowRunStatus.STARTED),
    ],
)
def test_a_run_that_no_worker_has_taken_has_not_begun(
    tmp_path: Path, state: StateType, run_count: int, standing: WindowRunStatus
) -> None:
    configurations = read(tmp_path, f"start: 2026-11-20 12:30, {DAILY}", "lead: 10")
    found = looked(configurations)
    server = Server([NOW - timedelta(minutes=40)], state=state, run_count=run_count)

    assert server.standing(found) is standing

    with screen() as said:
        print_next_windows(examined(configurations), found, {found[0].deployment: standing}, NOW)
    words = " ".join(said.get().split())
    assert ("its run waits for a worker" in words) is (standing is WindowRunStatus.WAITING)
    assert ("its run has started" in words) is (standing is WindowRunStatus.STARTED)


def test_a_run_that_is_due_within_seconds_is_waited_for(tmp_path: Path) -> None:
    found = looked(read(tmp_path, f"start: 2026-11-20 12:30, {DAILY}"), NOW - timedelta(minutes=30, seconds=10))
    assert starts(found[0]) == ["20 12:30", "21 12:30"]
    soon = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)

    late, good = Server(now=soon - timedelta(seconds=10)), Server(now=soon - timedelta(seconds=10), makes=soon)

    assert late.without_run(found) == found
    assert 10 <= late.slept <= 30
    assert good.without_run(found) == ()
    assert good.slept < 10


def test_nothing_is_waited_for_when_a_window_is_long_open(tmp_path: Path) -> None:
    server = Server()
    assert server.without_run(looked(read(tmp_path, f"start: 2026-11-20 12:30, {DAILY}")))
    assert server.slept == 0


@contextmanager
def screen() -> Iterator[Any]:
    with get_stdout_console().capture() as said:
        yield said


def examined(configurations: Configurations, wanted: DeploymentSet | None = None) -> SyncPlan:
    inventories: Mapping[str, Inventory] = {each.name: FLEET for each in configurations.all_configurations}
    return SyncPlan(
        configurations, inventories, Path("/fleet.yaml"), wanted or DeploymentSet(), DeploymentSet(), (), NOW
    )


def told(configurations: Configurations, *, started: bool) -> str:
    found = looked(configurations)
    with screen() as said:
        standing = WindowRunStatus.STARTED if started else WindowRunStatus.NONE
        print_next_windows(examined(configurations), found, {each.deployment: standing for each in found}, NOW)
    return " ".join(said.get().split())


def test_people_are_told_when_the_next_window_opens(tmp_path: Path) -> None:
    said = told(read(tmp_path, "start: 2026-11-21 02:00, length: 2h, zone: UTC", "lead: 90"), started=True)

    assert said == (
        "web, 2 machines: next window Sat 2026-11-21 02:00 to 04:00 UTC, in 13 h, its run starts 1 h 30 min before"
    )


def test_people_are_told_what_was_deployed_too_late_and_what_to_do(tmp_path: Path) -> None:
    configurations = read(tmp_path, "start: 2026-11-20 12:30, length: 2h, zone: UTC")

    late = told(configurations, started=False)

    assert "Prefect starts no run for the window Fri 2026-11-20 12:30 to 14:30 UTC: the run was due at 12:30" in late
    assert "prefect deployment run patch-fleet/web --params" in late
    assert "its run has started" in told(configurations, started=True)
    assert "prefect deployment run" not in told(configurations, started=True)


def test_people_are_told_of_what_is_over_or_switched_off(tmp_path: Path) -> None:
    over = "start: 2026-11-20 09:00, length: 2h, zone: UTC"
    assert told(read(tmp_path, over), started=True) == (
        "web, 2 machines: over, its last window has ended: it patches nothing any more "
        "! All windows are over: nothing here will ever be patched by a schedule. Give one a later window."
    )
    assert told(read(tmp_path, over, "enabled: false"), started=True) == "web: disabled, its windows do not open"


def test_people_are_told_of_what_config_check_calls_a_fault(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text("machines: [{name: web-1, address: 192.0.2.1, environment: prod}]\n")
    hourly = "start: 2026-11-21 02:00, length: 2h, zone: UTC, recurrence: 3Hours"
    configurations = read(tmp_path, hourly, f"lead: 120\ninventory: {tmp_path / 'fleet.yaml'}")

    faults = examined(configurations).find_blocking_findings()

    assert [(each.configuration, each.key) for each in faults] == [("web", "lead")]
    with screen() as said:
        for fault in faults:
            print_configuration_finding(fault)
    assert "Prefect cancels the run of the window" in " ".join(said.get().split())
    assert examined(read(tmp_path, hourly)).find_blocking_findings() == ()


def test_nothing_is_changed_while_a_configuration_has_a_fault(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text("machines: [{name: web-1, address: 192.0.2.1, environment: prod}]\n")
    hourly, where = "start: 2026-11-21 02:00, length: 2h, zone: UTC, recurrence: 3Hours", tmp_path / "fleet.yaml"
    due = (Change(ChangeAction.CREATE, "deployment", "patch-fleet/web"),)

    def refuse(more: str, todo: tuple[Change, ...] = due) -> None:
        each = replace(examined(read(tmp_path, hourly, f"lead: 120\ninventory: {where}\n{more}")), changes=todo)
        each.require_no_blocking_findings(each.find_blocking_findings())

    with pytest.raises(RequestError, match="nothing was changed: web can't work as written"):
        refuse("updates: {classifications: []}")
    refuse("", ())  # it stands there as it is: whoever serves it goes on
    refuse("enabled: false\nupdates: {classifications: []}")


def test_what_is_over_keeps_nothing_from_being_deployed(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text("machines: [{name: web-1, address: 192.0.2.1, environment: prod}]\n")
    over = f"enabled: true\nupdates: {{classifications: []}}\ninventory: {tmp_path / 'fleet.yaml'}"
    plan = examined(read(tmp_path, "start: 2026-11-20 09:00, length: 2h, zone: UTC", over))
    due = replace(plan, changes=(Change(ChangeAction.UPDATE, "deployment", "patch-fleet/web"),))

    due.require_no_blocking_findings(due.find_blocking_findings())

    assert due.find_blocking_findings() == ()
    assert due.is_over


def test_what_is_over_may_have_lost_its_machines(tmp_path: Path) -> None:
    configurations = read(tmp_path, "start: 2026-11-18 09:00, length: 2h, zone: machine")
    gone = find_next_windows(configurations, {"web": Inventory((Machine("db-1", "10.0.0.9"),))}, {}, NOW)
    assert gone == ()
    elsewhere = read(tmp_path, "start: 2026-11-20 09:00, length: 2h, zone: UTC")
    (one,) = find_next_windows(elsewhere, {"web": Inventory((Machine("db-1", "10.0.0.9"),))}, {}, NOW)
    assert (one.machine_count, one.is_over) == (0, True)


def test_how_far_it_came_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    change = Change(ChangeAction.CREATE, "deployment", "patch-fleet/web")
    with report_changes(2) as tell:
        tell(change)
        tell(change)
    assert capsys.readouterr().err.strip() == "2 changes made."

    def away() -> None:
        with report_changes(3) as tell:
            tell(change)
            tell(change)
            raise OSError("away")

    with pytest.raises(OSError, match="away"):
        away()
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("1 of 3 changes made; this one failed: create deployment patch-fleet/web.")


@pytest.mark.parametrize("serve", [True, False])
def test_people_are_told_who_carries_runs_out_and_where_they_are_seen(*, serve: bool) -> None:
    with screen() as said:
        print_run_location(["fleetpatch", "fleetpatch-hamburg"], "http://127.0.0.1:4200", serve=serve)
    text = " ".join(said.get().split())
    assert "of other sites wait for workers of their own work pools: fleetpatch-hamburg. See" in text
    assert ("here until Ctrl-C" in text) is serve
    assert ("deploy --serve" in text) is not serve
    assert text.endswith("See them at http://127.0.0.1:4200")
