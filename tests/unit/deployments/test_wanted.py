"""What Prefect is told of windows, and what of it is written anew when time goes on."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse

from deployments.configuration.loader import load_configurations
from deployments.configuration.model import Configuration, Configurations
from deployments.refresh_schedules import refresh_schedules
from deployments.sync.actual_state import to_deployment
from deployments.sync.change_applier import _to_prefect_schedule
from deployments.sync.desired_state import DATE_LIST_REACH, build_desired_state, build_window_schedule
from deployments.sync.diff import find_changes, is_up_to_date
from deployments.sync.model import Change, ChangeAction, Deployment, DeploymentSet, ScheduleSpec
from deployments.sync.plan import SyncPlan
from flows.request.patch_request import PatchRequest
from inventory.machine import Inventory, Machine
from tasks.domain.errors import RequestError

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
FLEET = Inventory((Machine("web-1", "10.0.0.1", environment="prod", zone="Europe/Berlin"),))
PLACE = Path("/srv/fleet.yaml")
SPRING = "start: 2026-12-05 02:30, length: 2h, zone: Europe/Berlin, recurrence: Day"
"""A rule can't say it: Prefect would start an hour early in the night that the clocks jump over it."""
EVENING = "start: 2026-12-05 22:00, length: 2h, zone: Europe/Berlin, recurrence: Day"
HOURS = "start: 2026-11-19 02:30, length: 2h, zone: UTC, recurrence: 6Hours"
OVER = "start: 2026-11-19 22:00, length: 2h, zone: UTC"


def read(folder: Path, window: str, more: str = "") -> Configurations:
    path = folder / "web.yaml"
    path.write_text(f"name: web\nscope: env=prod\nwindow: {{{window}}}\n{more}\n")
    return load_configurations(path, NOW.date())


def told(
    configuration: Configuration, now: datetime = NOW, before: ScheduleSpec | None = None, lead: float = 0
) -> ScheduleSpec | None:
    (opening,) = configuration.build_scheduled_requests(FLEET)
    return build_window_schedule(configuration, opening, now, before, slug="web", lead=timedelta(minutes=lead))


def one(folder: Path, window: str, more: str = "") -> Configuration:
    (configuration,) = read(folder, window, more).all_configurations
    return configuration


def sure(made: ScheduleSpec | None) -> ScheduleSpec:
    assert made is not None
    return made


def as_found(made: ScheduleSpec) -> ScheduleSpec:
    """Return a line as a server tells of it: how far it reaches is not kept there."""
    return replace(made, until=None)


def test_each_window_is_told_in_the_simplest_way_that_is_right(tmp_path: Path) -> None:
    evening, spring, hours = (sure(told(one(tmp_path, window))) for window in (EVENING, SPRING, HOURS))

    assert "RRULE:FREQ=DAILY" in evening.rule
    assert (evening.is_date_list, evening.zone) == (False, "Europe/Berlin")
    assert (spring.is_date_list, spring.zone) == (True, "UTC")
    assert spring.until is not None
    assert spring.until > NOW + DATE_LIST_REACH
    assert (hours.rule, hours.every) == ("", 6 * 3600)


def test_a_window_that_is_over_has_no_schedule(tmp_path: Path) -> None:
    assert told(one(tmp_path, OVER)) is None


def test_runs_start_so_much_before_their_windows(tmp_path: Path) -> None:
    assert "DTSTART:20261205T212000" in sure(told(one(tmp_path, EVENING), lead=40)).rule


@pytest.mark.parametrize("window", [SPRING, EVENING, HOURS])
def test_what_still_says_what_is_meant_stays_as_it_is(tmp_path: Path, window: str) -> None:
    configuration = one(tmp_path, window)
    before = as_found(sure(told(configuration)))

    for days in (1, 30, 100):
        assert told(configuration, NOW + timedelta(days=days), before) == before


def as_found_by_a_server(schedule: Any) -> tuple[ScheduleSpec, ...]:
    """Return a schedule as it comes back in a server's answer."""
    line = DeploymentSchedule(schedule=schedule, slug="web", active=True)
    deployment = DeploymentResponse(name="web", flow_id=uuid4(), labels={}, schedules=[line])
    return to_deployment(deployment.model_dump(mode="json"), "patch-fleet", ()).schedules


def test_an_hourly_window_that_prefect_was_told_of_stays_as_it_is(tmp_path: Path) -> None:
    configuration = one(tmp_path, HOURS)
    made = sure(told(configuration))
    (before,) = as_found_by_a_server(_to_prefect_schedule(made))

    assert before == made
    assert told(configuration, NOW + timedelta(days=3), before) == made


def test_dates_are_written_anew_before_they_run_out(tmp_path: Path) -> None:
    configuration = one(tmp_path, SPRING)
    made = sure(told(configuration))
    before, until = as_found(made), made.until
    assert until is not None

    assert told(configuration, until - DATE_LIST_REACH - timedelta(days=1), before) == before
    later = sure(told(configuration, until - DATE_LIST_REACH + timedelta(days=1), before))

    assert later != before
    assert later.until is not None
    assert later.until > until


@pytest.mark.parametrize(
    "changed",
    [
        {"zone": "UTC"},
        {"rule": "DTSTART:20261205T220000\nRRULE:FREQ=WEEKLY"},
        {"rule": "what Prefect can't read either"},
        {"rule": "cron 0 22 * * *"},
    ],
)
def test_what_was_told_otherwise_is_told_anew(tmp_path: Path, changed: dict[str, str]) -> None:
    configuration = one(tmp_path, EVENING)
    made = sure(told(configuration))

    assert told(configuration, NOW, replace(as_found(made), **cast("dict[str, Any]", changed))) == made


def test_what_was_switched_off_by_hand_is_wanted_on(tmp_path: Path) -> None:
    configuration = one(tmp_path, EVENING)
    made = sure(told(configuration))

    assert sure(told(configuration, NOW, replace(as_found(made), active=False))).active
    assert not sure(told(one(tmp_path, EVENING, "enabled: false"), NOW, made)).active


# -- the whole of it ---------------------------------------------------------------------------------------------------


def aim(configurations: Configurations, now: datetime, found: DeploymentSet) -> DeploymentSet:
    names: Mapping[str, Inventory] = {each.name: FLEET for each in configurations.all_configurations}
    places = dict.fromkeys(names, PLACE)
    lines = {(each.full_name, line.slug): line for each in found.deployments for line in each.schedules}
    return build_desired_state(
        configurations,
        names,
        now,
        inventory_paths=places,
        fleet="f",
        pool="p",
        inventory=PLACE,
        sites=["default"],
        current_schedules=lines,
        refresh_flow=refresh_schedules,
    )


def test_no_two_deployments_have_one_name(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(f"name: standing\nscope: env=prod\nwindow: {{{EVENING}}}\n")
    (configuration,) = load_configurations(tmp_path / "web.yaml", NOW.date()).all_configurations
    # a name that no file may have, as it is one of ours
    form = configuration.form.model_copy(update={"name": "on-demand"})
    every = Configurations((replace(configuration, form=form),), tmp_path)
    names: Mapping[str, Inventory] = {"on-demand": FLEET}
    places = {"on-demand": PLACE}

    with pytest.raises(RequestError, match="two deployments would be named patch-fleet/on-demand") as caught:
        build_desired_state(
            every,
            names,
            NOW,
            inventory_paths=places,
            fleet="default",
            pool="p",
            inventory=PLACE,
            sites=["default"],
            current_schedules={},
            refresh_flow=refresh_schedules,
        )

    assert "'on-demand' another name" in (caught.value.hint or "")


def test_schedules_of_one_name_in_two_deployments_are_told_apart(tmp_path: Path) -> None:
    """A configuration may be called as another one's download is, or as a schedule that every fleet has."""
    (web,) = read(tmp_path, EVENING, "stage_ahead: 60").all_configurations
    # names that no file may have, as they are ours
    forms = [web.form.model_copy(update={"name": name, "stage_ahead": None}) for name in ("web-stage", "reconcile")]
    configurations = Configurations((web, *(replace(web, form=form) for form in forms)), tmp_path)
    made = aim(configurations, NOW, DeploymentSet())

    later = aim(configurations, NOW + timedelta(days=1), stored(made))

    assert is_up_to_date(find_changes(later, stored(made)))


def test_every_run_is_told_where_its_inventory_is(tmp_path: Path) -> None:
    setup = aim(read(tmp_path, EVENING, "stage_ahead: 60"), NOW, DeploymentSet())

    asked = {each.full_name: each.parameters.get("request") for each in setup.deployments if each.schedules}

    told_inventories = {name: request["inventory"] for name, request in asked.items() if isinstance(request, Mapping)}
    assert told_inventories == dict.fromkeys(
        ["patch-fleet/web", "stage-fleet/web", "assess-fleet/scheduled@f"], str(PLACE)
    )


@pytest.mark.parametrize(("length", "minutes"), [("2h", 60), ("45m", 45)])
def test_a_download_has_no_more_time_than_until_its_window_opens(tmp_path: Path, length: str, minutes: int) -> None:
    window = EVENING.replace("length: 2h", f"length: {length}")
    setup = aim(read(tmp_path, window, "stage_ahead: 60"), NOW, DeploymentSet())

    (stage,) = (each for each in setup.deployments if each.full_name == "stage-fleet/web")
    (patch,) = (each for each in setup.deployments if each.full_name == "patch-fleet/web")

    def asked(made: Deployment) -> PatchRequest:
        return PatchRequest.model_validate(made.parameters["request"])

    assert asked(stage).window.minutes == minutes
    assert asked(patch).window.minutes == (120 if length == "2h" else 45)
    assert asked(stage).updates == asked(patch).updates


def test_configurations_are_named_by_a_path_that_holds_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(tmp_path, EVENING)
    monkeypatch.chdir(tmp_path)

    setup = aim(load_configurations(Path("web.yaml"), NOW.date()), NOW, DeploymentSet())

    (refresh,) = (each for each in setup.deployments if each.flow == "refresh-schedules")
    assert refresh.parameters["configurations"] == str(tmp_path / "web.yaml")


class Server:
    """Prefect, as far as changing deployments goes: it remembers what it was given."""

    def __init__(self) -> None:
        self.schedules: dict[str, list[DeploymentScheduleCreate]] = {}

    def create_flow_from_name(self, name: str) -> Any:
        return uuid4()

    def create_deployment(self, *, name: str, schedules: list[DeploymentScheduleCreate], **_: object) -> Any:
        self.schedules[name] = schedules
        return uuid4()


def refreshed(
    configurations: Configurations, found: DeploymentSet, now: datetime
) -> tuple[dict[str, list[DeploymentScheduleCreate]], list[Change], tuple[Change, ...]]:
    """Return what was written, what people were told of it, and what was left to them."""
    setup = aim(configurations, now, found)
    examined = SyncPlan(configurations, {}, PLACE, setup, found, find_changes(setup, found), now)
    server, said = Server(), list[Change]()
    left = examined.extend_dates(cast("Any", server), said.append)
    return server.schedules, said, left


def stored(setup: DeploymentSet) -> DeploymentSet:
    """Return a setup as a server tells of it."""
    made = tuple(replace(each, schedules=tuple(map(as_found, each.schedules))) for each in setup.deployments)
    return replace(setup, deployments=made)


def by_hand(setup: DeploymentSet, **changed: object) -> DeploymentSet:
    """Return a setup whose window was changed by a person."""

    def touched(each: Deployment) -> Deployment:
        return replace(each, **cast("dict[str, Any]", changed)) if each.full_name == "patch-fleet/web" else each

    return replace(setup, deployments=tuple(map(touched, setup.deployments)))


@pytest.fixture(scope="module")
def spring(tmp_path_factory: pytest.TempPathFactory) -> tuple[Configurations, DeploymentSet]:
    """Return configurations with dates instead of a rule, and what was made of them; that takes a second."""
    configurations = read(tmp_path_factory.mktemp("spring"), SPRING)
    return configurations, aim(configurations, NOW, DeploymentSet())


def test_refreshing_writes_nothing_while_dates_last(spring: tuple[Configurations, DeploymentSet]) -> None:
    configurations, found = spring[0], stored(spring[1])

    assert refreshed(configurations, found, NOW + timedelta(days=1)) == ({}, [], ())


def test_refreshing_writes_later_dates_when_they_run_out(spring: tuple[Configurations, DeploymentSet]) -> None:
    configurations, first = spring
    (until,) = (each.until for made in first.deployments for each in made.schedules if each.until is not None)
    assert until is not None

    written, said, left = refreshed(configurations, stored(first), until - timedelta(days=10))

    assert left == ()
    assert [(change.action, change.name) for change in said] == [(ChangeAction.UPDATE, "patch-fleet/web")]
    (schedule,) = written["web"]
    assert f"{until:%Y%m%d}" in str(schedule.schedule)


@pytest.mark.parametrize(
    "changed",
    [{"paused": True}, {"parameters": {"request": {"scope": "*"}}}, {"schedules": ()}, {"at_once": None}],
)
def test_refreshing_leaves_what_people_did_to_people(tmp_path: Path, changed: dict[str, object]) -> None:
    configurations = read(tmp_path, EVENING)
    found = by_hand(stored(aim(configurations, NOW, DeploymentSet())), **changed)

    written, said, left = refreshed(configurations, found, NOW)

    assert (written, said) == ({}, [])
    assert [change.name for change in left] == ["patch-fleet/web"]


@pytest.mark.parametrize(
    "changed",
    [
        {"active": False},
        {"zone": "Europe/Berlin"},
        {"rule": "DTSTART:20261205T013000\nRDATE:20261205T013000,20261231T230000"},
        {"rule": "DTSTART:20261205T013000\nRDATE:20261206T013000"},  # one was taken away
        {"rule": "DTSTART:20261205T013000\nRDATE:some day"},
    ],
)
def test_refreshing_leaves_dates_that_people_changed_to_people(
    spring: tuple[Configurations, DeploymentSet], changed: dict[str, object]
) -> None:
    configurations, setup = spring[0], stored(spring[1])
    (dates,) = (each.schedules[0] for each in setup.deployments if each.full_name == "patch-fleet/web")
    found = by_hand(setup, schedules=(replace(dates, **cast("dict[str, Any]", changed)),))

    written, said, left = refreshed(configurations, found, NOW)

    assert (written, said) == ({}, [])
    assert [change.name for change in left] == ["patch-fleet/web"]


def test_dates_that_ran_out_on_what_people_changed_are_left_to_them(
    spring: tuple[Configurations, DeploymentSet],
) -> None:
    configurations = spring[0]
    found = by_hand(stored(spring[1]), paused=True)

    written, said, left = refreshed(configurations, found, NOW + timedelta(days=3000))

    assert (written, said) == ({}, [])
    assert [change.name for change in left] == ["patch-fleet/web"]
