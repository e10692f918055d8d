"""What the windows of a configuration install whose updates are held, and which run applies a package."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployments.checks.policy_checks import check_policy
from deployments.configuration.loader import load_configurations
from deployments.configuration.model import load_inventories
from deployments.maintenance.run_starter import build_apply_request
from flows.admission import AdmittedRun, RefusedRun, admit_run
from flows.holding.application import applies_package, register_application
from flows.notify.messages import Message
from flows.ports.caller import Caller
from flows.prefect_runtime.flow_run_origin import FlowRunOrigin
from flows.request.patch_request import PatchRequest
from tasks.domain.errors import RequestError
from tasks.domain.model import Selection, Window
from tasks.domain.states import Classification, WindowStatus
from tasks.records.setup import open_records
from tasks.records.window_claims import SqlWindowClaims
from tasks.rules.maintenance.model import ApplyCause
from tasks.rules.updates.selection import select_updates
from tests.contract.records_subjects import new_database
from tests.contract.test_maintenance_tick import CURL, DAY, HOUR, START
from tests.support.builders import make_package_state, make_update
from tests.support.fake_clock import FakeClock
from tests.support.held_fleet import CONFIGURATION, HeldFleet

SUNDAY = datetime(2026, 3, 8, 22, tzinfo=UTC)
LAST_SUNDAY = datetime(2026, 4, 5, 22, tzinfo=UTC)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
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


def build_request(fleet: HeldFleet) -> PatchRequest:
    return fleet.load_groups().by_name["web"].scheduled.request


def admit(fleet: HeldFleet, due: datetime, request: PatchRequest | None = None) -> AdmittedRun | RefusedRun:
    """Ask at the time of a window, as its schedule does."""
    fleet.clock = FakeClock(due)
    caller = Caller(listener=fleet.listener, records_url=fleet.url)
    origin = FlowRunOrigin(f"flow {due:%m%d}", scheduled_for=due, deployment="web")
    return admit_run(request or build_request(fleet), caller, origin, fleet.clock)


def hold(fleet: HeldFleet) -> None:
    fleet.assess(CURL)
    fleet.tick()


def test_a_window_before_the_last_one_stays_closed_and_nobody_is_told_again(
    fleet: HeldFleet, sent: list[Message]
) -> None:
    hold(fleet)
    sent.clear()
    refused = admit(fleet, SUNDAY)
    assert isinstance(refused, RefusedRun)
    assert refused.refusal.status is WindowStatus.HELD
    assert refused.refusal.reason.startswith("held: it is applied in the window of 2026-04-05 22:00 UTC")
    (claim,) = SqlWindowClaims(fleet.records.database).find_claims_between(SUNDAY, SUNDAY + timedelta(days=1))
    assert claim.status is WindowStatus.HELD
    assert not sent


def test_the_last_window_installs_all(fleet: HeldFleet) -> None:
    hold(fleet)
    admitted = admit(fleet, LAST_SUNDAY)
    assert isinstance(admitted, AdmittedRun)
    assert admitted.request.updates == build_request(fleet).updates
    assert applies_package(admitted.request)


def test_without_a_look_nothing_is_installed(fleet: HeldFleet) -> None:
    refused = admit(fleet, SUNDAY)
    assert isinstance(refused, RefusedRun)
    assert "has not looked" in refused.refusal.reason


def test_what_does_not_wait_is_installed_in_each_window(fleet: HeldFleet) -> None:
    fleet.configuration = CONFIGURATION.replace("35 days}", "35 days, not_held: [Security], not_held_updates: [zl*]}")
    fleet.configuration = fleet.configuration.replace("Other]}", "Other], include: [vim*]}")
    hold(fleet)
    admitted = admit(fleet, SUNDAY)
    assert isinstance(admitted, AdmittedRun)
    assert not applies_package(admitted.request)
    names = ("openssl", "zlib", "vim", "curl")
    kinds = (Classification.SECURITY, Classification.OTHER, Classification.OTHER, Classification.OTHER)
    updates = [make_update(name=name, classification=kind) for name, kind in zip(names, kinds, strict=True)]
    chosen, skipped = select_updates(make_package_state(updates=tuple(updates)), select_of(admitted))
    assert [update.name for update in chosen] == ["openssl", "zlib"]
    assert {result.reason for result in skipped} == {"it is held until its package is applied"}


def select_of(admitted: AdmittedRun) -> Selection:
    return admitted.request.to_patch_options().selection


def test_a_window_installs_nothing_that_its_configuration_does_not_select(fleet: HeldFleet) -> None:
    fleet.configuration = CONFIGURATION.replace("Security, Other", "Security").replace(
        "35 days}", '35 days, not_held_updates: ["openssl*"]}'
    )
    hold(fleet)
    admitted = admit(fleet, SUNDAY)
    assert isinstance(admitted, AdmittedRun)
    other = make_update(name="openssl", classification=Classification.OTHER)
    state = make_package_state(updates=(other, make_update(name="openssl-libs"), make_update(name="bash")))
    chosen, _ = select_updates(state, select_of(admitted))
    assert [update.name for update in chosen] == ["openssl-libs"]
    assert not admitted.request.updates.include  # a rule that forbids updates by name refuses nothing here


def test_of_a_security_fix_that_does_not_wait_the_newer_version_waits(fleet: HeldFleet) -> None:
    fleet.configuration = CONFIGURATION.replace("35 days}", "35 days, not_held: [Security]}")
    hold(fleet)
    admitted = admit(fleet, SUNDAY)
    assert isinstance(admitted, AdmittedRun)
    state = make_package_state(updates=(make_update(available="3", security_version="2", older_versions=("2",)),))
    assert [update.available for update in select_updates(state, select_of(admitted))[0]] == ["2"]


def test_a_download_before_a_window_is_not_held(fleet: HeldFleet) -> None:
    hold(fleet)
    request = build_request(fleet).model_copy(update={"download_only": True})
    assert isinstance(admit(fleet, SUNDAY, request), AdmittedRun)


def test_a_person_applies_it_at_any_time(fleet: HeldFleet) -> None:
    hold(fleet)
    fleet.clock.advance(HOUR)
    request = build_apply_request(fleet.load_groups().by_name["web"], fleet.clock.now())
    admitted = admit_run(
        request, Caller(listener=fleet.listener, name="anne", records_url=fleet.url), FlowRunOrigin(), fleet.clock
    )
    assert isinstance(admitted, AdmittedRun)
    assert admitted.request.updates == request.updates
    assert admitted.request.outside_window


def register(fleet: HeldFleet, request: PatchRequest, run_id: str = "r1", *, is_scheduled: bool = False) -> None:
    now = fleet.clock.now()
    register_application(
        fleet.records.database,
        request,
        run_id,
        "anne",
        Window(now, now + timedelta(hours=2)),
        now,
        is_scheduled=is_scheduled,
        flow_run_id=f"flow of {request.maintenance.application}" if request.maintenance else "",
    )


def test_a_run_is_recorded_with_its_cause_before_it_begins(fleet: HeldFleet) -> None:
    hold(fleet)
    register(fleet, build_request(fleet))
    (application,) = fleet.applications
    assert (application.cause, application.who, application.run_id) == (ApplyCause.PERSON, "anne", "r1")
    register(fleet, build_request(fleet))  # its process was started again
    assert len(fleet.applications) == 1
    with pytest.raises(RequestError, match="is being applied already: run r1, by anne"):
        register(fleet, build_request(fleet), "r2")


def test_the_run_of_the_last_window_is_recorded_as_such(fleet: HeldFleet) -> None:
    hold(fleet)
    fleet.clock = FakeClock(LAST_SUNDAY)
    register(fleet, build_request(fleet), is_scheduled=True)
    assert fleet.applications[0].cause is ApplyCause.LAST_WINDOW


def test_a_window_is_closed_while_a_person_applies_it(fleet: HeldFleet) -> None:
    hold(fleet)
    register(fleet, build_request(fleet))
    refused = admit(fleet, LAST_SUNDAY)
    assert isinstance(refused, RefusedRun)
    assert "is being applied already" in refused.refusal.reason


def test_nothing_is_recorded_of_a_group_without_a_package(fleet: HeldFleet) -> None:
    register(fleet, build_request(fleet))
    assert fleet.store.read_waiting() == ()


def test_the_run_that_was_started_after_the_last_day_takes_its_place(fleet: HeldFleet) -> None:
    hold(fleet)
    fleet.clock.advance(36 * DAY)
    fleet.tick()
    ((_, request),) = fleet.starter.started.values()
    register(fleet, request)
    assert [each.run_id for each in fleet.applications] == ["r1"]


def test_nobody_else_begins_a_run_with_that_key(fleet: HeldFleet) -> None:
    hold(fleet)
    forged = build_apply_request(fleet.load_groups().by_name["web"], START, application="web/1/overdue/1")
    with pytest.raises(RequestError, match="maintenance control has not started it"):
        register(fleet, forged)


def test_a_run_that_was_given_up_does_not_begin_late(fleet: HeldFleet) -> None:
    hold(fleet)
    fleet.clock.advance(36 * DAY)
    fleet.tick()
    ((_, request),) = fleet.starter.started.values()
    fleet.clock.advance(3 * HOUR)
    fleet.tick()
    with pytest.raises(RequestError, match="no worker started it in its window"):
        register(fleet, request)


def test_plans_downloads_and_shards_apply_nothing(fleet: HeldFleet) -> None:
    request = build_request(fleet)
    for change in ({"dry_run": True}, {"download_only": True}, {"shard": "r1/a"}, {"maintenance": None}):
        assert not applies_package(request.model_copy(update=change))
    assert applies_package(request)


def test_a_run_after_the_last_day_that_nobody_could_approve_is_found_before(fleet: HeldFleet) -> None:
    fleet.load_groups()
    folder = fleet.folder / "configurations"
    rule = '{name: production, scope: env=prod, ask: anna, approval: {by: ["*"]}}'
    (folder / "policy.yaml").write_text(f"policy: {{inventories: [../fleet.yaml], rules: [{rule}]}}\n")
    configurations = load_configurations(folder, START.date())
    (finding,) = check_policy(configurations, load_inventories(configurations), START)
    assert (finding.configuration, finding.key) == ("web", "maintenance")
    assert "can't apply what is held after its last day: the starter may not approve the run" in finding.message
    (folder / "policy.yaml").unlink()
    assert not list(check_policy(configurations, load_inventories(configurations), START))
