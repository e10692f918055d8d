"""What others do to what `deploy` made: fields changed by hand, runs that wait, other fleets, other people's things."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.objects import State as AnyState
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingConcurrencySlot, Late, Pending, Running

from deployments.refresh_schedules import refresh_schedules
from deployments.sync.change_applier import cancel_waiting_run
from deployments.sync.model import Change, ChangeAction, WaitingFlowRun
from deployments.sync.plan import SyncPlan, build_plan
from flows.prefect_api import api_client
from tasks.domain.errors import RequestError
from tests.contract.offered_fields import POOL, WINDOWS, Offered, Row, Seen, harmless, seen_together, undecided
from tests.support.fake_clock import FakeClock
from tests.support.prefect_server import prefect_server

pytestmark = pytest.mark.slow

FLEET = "machines: [{name: web-1, address: 192.0.2.11, environment: prod}]\n"
WEB = "window: {start: 2026-12-05 22:00, length: 2h, zone: Europe/Berlin, recurrence: Month Second Tuesday}"


@dataclass
class Place:
    """A server, and a folder of configurations; everything is asked and done in this process."""

    offered: Offered
    folder: Path

    def write(self, text: str, name: str = "web") -> None:
        place = self.folder / "configurations" / f"{name}.yaml"
        place.write_text(f"name: {name}\nscope: env=prod\ninventory: {self.folder / 'fleet.yaml'}\n{text}\n")

    def put_windows(self, *names: str) -> None:
        """Let these configurations be there, and no others."""
        there = {path.stem: path for path in (self.folder / "configurations").iterdir()}
        for name in there.keys() - set(names):
            there[name].unlink()
        for name in set(names) - there.keys():
            self.write(WEB, name)
        if there.keys() != set(names):
            self.deploy()

    def examined(self, fleet: str = "fields", *, prune: bool = True, ago: timedelta = timedelta()) -> SyncPlan:
        path, clock = self.folder / "configurations", FakeClock(datetime.now(UTC) - ago)
        options: dict[str, Any] = {"fleet": fleet, "pool": POOL, "prune": prune, "clock": clock}
        return build_plan(self.offered.client, path, None, refresh_flow=refresh_schedules, **options)

    def deploy(self, fleet: str = "fields", *, prune: bool = True, ago: timedelta = timedelta()) -> list[Change]:
        done: list[Change] = []
        self.examined(fleet, prune=prune, ago=ago).apply(self.offered.client, done.append)
        return done

    def differences(self, fleet: str = "fields") -> list[str]:
        """Return what --check finds."""
        return differences_of(self.examined(fleet))

    def deploy_until_settled(self, plan: SyncPlan) -> None:
        """Deploy; again if Prefect's scheduler just then made runs by what stood there before: those are seen too."""
        plan.apply(self.offered.client, lambda change: None)
        for _ in range(3):
            if self.differences() == []:
                return
            assert {each.kind for each in self.deploy()} == {"flow run"}
        pytest.fail("\n".join(self.differences()))


def differences_of(plan: SyncPlan) -> list[str]:
    changes = [each for each in plan.changes if each.action is not ChangeAction.KEEP]
    return [f"{each.action} {each.kind} {each.name}: {'; '.join(each.differences)}" for each in changes]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("fields")
    (folder / "configurations").mkdir()
    (folder / "fleet.yaml").write_text(FLEET)
    with prefect_server(folder / "prefect") as server, server.client() as client:
        place = Place(Offered(client), folder)
        place.put_windows(*WINDOWS)
        assert place.differences() == []
        yield place


@pytest.fixture
def windows(deployed: Place) -> Place:
    """The same, with a deployment of each window."""
    deployed.put_windows(*WINDOWS)
    return deployed


@pytest.fixture
def place(deployed: Place) -> Place:
    """The same, with one window: what a test before has written is gone, here and there."""
    deployed.put_windows("web")
    return deployed


def test_every_field_that_prefect_offers_is_decided() -> None:
    assert list(undecided()) == []


@pytest.mark.parametrize("together", seen_together(), ids=lambda changes: f"{changes[0][1]}-{len(changes)}")
def test_what_was_changed_is_seen_and_mended(windows: Place, together: list[tuple[int, Row]]) -> None:
    for number, row in together:
        row.change(replace(windows.offered, number=number))

    plan = windows.examined()

    told = differences_of(plan)
    for number, row in together:
        assert isinstance(row.verdict, Seen)
        of_it = [each for each in told if each.split(" ", 1)[1].startswith(f"{row.kind} ")]
        if row.kind == "deployment":
            of_it = [each for each in of_it if f" {replace(windows.offered, number=number).name}: " in each]
        assert any(row.verdict.words in each for each in of_it), (str(row), told)
    windows.deploy_until_settled(plan)


def test_what_is_harmless_is_left_as_it_was_changed(deployed: Place) -> None:
    for row in harmless():
        row.change(deployed.offered)

    assert deployed.differences() == []


# -- runs that wait while something is deployed ------------------------------------------------------------------------

DAYS = 5


def nightly(due: datetime, more: str = "") -> str:
    window = f"{{start: {due - timedelta(days=DAYS):%Y-%m-%d %H:%M}, length: 2h, zone: UTC, recurrence: Day}}"
    return f"window: {window}\n{more}"


class Nights:
    """A configuration that was deployed days ago, with a run of each night that no worker has taken."""

    def __init__(self, place: Place, name: str) -> None:
        self.place, self.name, self.client = place, name, place.offered.client
        self.due = (datetime.now(UTC) - timedelta(minutes=10)).replace(second=0, microsecond=0)
        place.write(nightly(self.due), name)

    @functools.cached_property
    def deployment(self) -> UUID:
        return self.client.read_deployment_by_name(f"patch-fleet/{self.name}").id

    def put_two(self) -> list[FlowRun]:
        """Have it wait in two ways; return those runs."""
        return [self.made(0, Late(scheduled_time=self.due)), self.made(3, Pending())]

    def put_all(self) -> list[FlowRun]:
        """Have it wait in each way; return those runs."""
        return [*self.put_two(), self.made(1), self.made(2, AwaitingConcurrencySlot(scheduled_time=self.due))]

    def made(self, days_ago: int, state: AnyState[Any] | None = None) -> FlowRun:
        due = self.due - timedelta(days=days_ago)
        around = {"start_time": due.isoformat(), "end_time": (due + timedelta(minutes=1)).isoformat()}
        body = {"path_params": {"id": self.deployment}, "json": {**around, "max_runs": 1}}
        self.client.request("POST", "/deployments/{id}/schedule", **body)  # type: ignore[arg-type]
        mine = DeploymentFilter(id=DeploymentFilterId(any_=[self.deployment]))
        runs = self.client.read_flow_runs(deployment_filter=mine)
        (run,) = (each for each in runs if each.expected_start_time == due and each.auto_scheduled)
        return self.put(run, state)

    def by_hand(self, **asked: Any) -> FlowRun:
        request = {**self.client.read_deployment(self.deployment).parameters["request"], **asked}
        return self.client.create_flow_run_from_deployment(self.deployment, parameters={"request": request})

    def put(self, run: FlowRun, state: AnyState[Any] | None) -> FlowRun:
        if state is not None:
            self.client.set_flow_run_state(run.id, state, force=True)
        return run

    def state(self, run: FlowRun) -> tuple[str, str]:
        there = self.client.read_flow_run(run.id).state
        assert there is not None
        return there.type.value, there.message or ""


def deployed_nights(place: Place, *names: str) -> list[Nights]:
    made = [Nights(place, name) for name in names]
    place.deploy(ago=timedelta(days=DAYS))
    return made


def narrowed(nights: Nights) -> str:
    nights.place.write(nightly(nights.due, "scope: name=web-1").replace("scope: env=prod", ""), nights.name)
    text = nights.place.folder / "configurations" / f"{nights.name}.yaml"
    text.write_text(text.read_text().replace("scope: env=prod\n", ""))
    return "its deployment has other parameters now (scope)"


def never_rebooted(nights: Nights) -> str:
    nights.place.write(nightly(nights.due, "reboot: Never"), nights.name)
    return "(reboot)"


def switched_off(nights: Nights) -> str:
    nights.place.write(nightly(nights.due, "enabled: false"), nights.name)
    return "its deployment is switched off"


def frozen(nights: Nights) -> str:
    day = nights.due + timedelta(days=2)  # the day after may be the one in which the first night's window ends
    freeze = f"freezes: [{{date: {day:%Y-%m-%d}}}]"
    nights.place.write(nightly(nights.due, freeze), nights.name)
    return "(freezes)"


def moved(nights: Nights) -> str:
    nights.place.write(nightly(nights.due + timedelta(hours=3)), nights.name)
    return "no schedule starts a run at"


def removed(nights: Nights) -> str:
    (nights.place.folder / "configurations" / f"{nights.name}.yaml").unlink()
    return "its deployment is removed"


CHANGES = (narrowed, never_rebooted, switched_off, frozen, moved, removed)


@dataclass
class Waiting:
    """A configuration's runs when it is changed."""

    nights: Nights
    change: Callable[[Nights], str]

    def __post_init__(self) -> None:
        is_narrowed = self.change is narrowed
        self.waits = self.nights.put_all() if is_narrowed else self.nights.put_two()
        self.goes_on = self.nights.made(4, Running())
        self.by_hand = self.nights.by_hand()
        self.own = self.nights.by_hand(scope="name=web-1", reboot="Always") if is_narrowed else None

    def require_cancelled(self, why: str) -> None:
        for run in self.waits:
            try:
                kind, message = self.nights.state(run)
            except ObjectNotFound:  # Prefect itself forgets some as their deployment is removed
                assert self.change is removed
                continue
            assert kind == "CANCELLED"
            assert message.startswith("cancelled by fleetpatch deploy: ")
            assert why in message
        assert self.nights.state(self.goes_on)[0] == "RUNNING"
        if self.change is not moved:  # a run that a person starts has its own time
            assert self.nights.state(self.by_hand)[0] == "CANCELLED"
        if self.own is not None:
            assert self.nights.state(self.own)[0] == "SCHEDULED"


def test_runs_that_wait_with_what_was_asked_before_are_cancelled(place: Place) -> None:
    nights = deployed_nights(place, *(f"nights-{change.__name__.replace('_', '-')}" for change in CHANGES))
    waiting = [Waiting(each, change) for each, change in zip(nights, CHANGES, strict=True)]
    assert place.differences() == []  # that they wait is no fault of theirs

    reasons = [each.change(each.nights) for each in waiting]

    plan = place.examined()
    told = differences_of(plan)
    for each, why in zip(waiting, reasons, strict=True):
        of_it = [line for line in told if f"cancel flow run patch-fleet/{each.nights.name} of" in line]
        assert sum(why in line for line in of_it) >= min(3, len(each.waits)), told
    place.deploy_until_settled(plan)
    for each, why in zip(waiting, reasons, strict=True):
        each.require_cancelled(why)


def test_a_run_that_the_scheduler_made_meanwhile_is_seen_and_cancelled(place: Place) -> None:
    (nights,) = deployed_nights(place, "meanwhile")
    there = nights.client.read_deployment(nights.deployment).parameters
    place.offered.patch("/deployments/{id}", {"parameters": {"request": {"scope": "*"}}}, id=nights.deployment)
    run = nights.made(0)
    place.offered.patch("/deployments/{id}", {"parameters": there}, id=nights.deployment)

    seen = place.differences()

    # the server's own scheduler may have made some too
    assert seen
    assert all(each.startswith("cancel flow run patch-fleet/meanwhile of") for each in seen)
    place.deploy()
    assert nights.state(run)[0] == "CANCELLED"


def test_a_run_that_begins_while_it_is_cancelled_goes_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (nights,) = deployed_nights(place, "begins")
    run, client = nights.made(0, Pending()), nights.client
    waited = WaitingFlowRun(str(run.id), run.name, "patch-fleet/begins", "Pending", nights.due, {}, is_scheduled=True)
    read = client.read_flow_run

    def read_and_begun(known: UUID) -> FlowRun:
        there = read(known)
        client.set_flow_run_state(known, Running())
        return there

    monkeypatch.setattr(client, "read_flow_run", read_and_begun)
    assert not cancel_waiting_run(client, waited, "why")
    monkeypatch.setattr(client, "read_flow_run", read)

    assert nights.state(run)[0] == "RUNNING"
    assert not cancel_waiting_run(client, waited, "why")  # asked again, it is left alone
    assert nights.state(run)[0] == "RUNNING"


# -- others on the same server -----------------------------------------------------------------------------------------


def standing_names(place: Place, fleet: str) -> set[str]:
    return {each.full_name for each in place.examined(fleet).actual.deployments}


def test_two_fleets_on_one_server_leave_each_other_alone(place: Place, tmp_path: Path) -> None:
    north = replace(place, folder=tmp_path)
    (tmp_path / "configurations").mkdir()
    (tmp_path / "fleet.yaml").write_text(FLEET)
    north.write(WEB, "north-web")
    try:
        north.deploy("north")

        assert north.differences("north") == []
        assert place.differences() == []
        assert "reconcile-fleet/scheduled@north" in standing_names(north, "north")
        assert not standing_names(north, "north") & standing_names(place, "fields")
        north.write(WEB, "web")
        with pytest.raises(RequestError, match="patch-fleet/web belongs to the fleet 'fields'"):
            north.examined("north")
    finally:
        for each in north.offered.client.read_deployments():
            if "fleetpatch:fleet=north" in each.tags:
                north.offered.client.delete_deployment(each.id)


def test_a_persons_own_deployment_of_the_same_name_is_refused(place: Place) -> None:
    client = place.offered.client
    known = client.create_deployment(client.create_flow_from_name("patch-fleet"), "mine", tags=["fleetpatch"])
    place.write(WEB, "mine")
    try:
        with pytest.raises(RequestError, match="patch-fleet/mine exists in Prefect, and fleetpatch did not create it"):
            place.examined()
        assert client.read_deployment(known).tags == ["fleetpatch"]
    finally:
        client.delete_deployment(known)


def test_everything_is_found_however_many_pages_it_takes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (nights,) = deployed_nights(place, "pages")
    for days_ago in range(4):
        nights.made(days_ago)
    core = AutomationCore.model_validate(place.offered.automation.model_dump())
    for number in range(4):
        place.offered.client.create_automation(core.model_copy(update={"name": f"theirs {number}"}))
    whole = place.examined().actual
    monkeypatch.setattr(api_client, "PAGE_SIZE", 2)

    paged = place.examined()

    assert paged.is_up_to_date
    assert sorted(each.full_name for each in paged.actual.deployments) == sorted(
        each.full_name for each in whole.deployments
    )
    late = [
        {each.id for each in setup.waiting_runs if each.expected_start <= nights.due} for setup in (paged.actual, whole)
    ]
    assert late[0] == late[1]  # of later ones the scheduler makes more and more
    assert len(late[0]) >= 4


def test_copies_of_an_automation_are_removed(place: Place) -> None:
    there = place.offered.automation
    place.offered.client.create_automation(AutomationCore.model_validate(there.model_dump()))

    assert place.differences() == [f"remove automation {there.name}: 1 copies of it"]
    place.deploy()

    assert place.differences() == []
    assert [each.name for each in place.offered.client.read_automations()].count(there.name) == 1
