"""Windows that have passed without a run, on a real server: found, recorded and told once."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions, FlowRun, State
from prefect.states import Cancelled, Completed, Crashed, Pending, Running

from fleetpatch.web.prefect_watcher import PrefectWatcher
from flows.admission import RefusedRun, admit_run
from flows.ports.caller import Caller
from flows.ports.ports import Notifier
from flows.prefect_api.tags import MANAGED_TAG, build_fleet_tag
from flows.prefect_runtime.flow_run_origin import FlowRunOrigin
from flows.reconcile import reconcile_fleet
from flows.recovery.missed_windows import record_missed_windows
from flows.request.patch_request import PatchRequest, WindowRequest
from flows.request.request_parts import NotifyRequest
from tasks.domain.states import NotificationOccasion, OperationState, WindowStatus
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.window_claims import SqlWindowClaims
from tasks.rules.timing.admission import WindowClaim
from tasks.steps.context.run_control import LoggingListener
from tests.flows.served import Served
from tests.support.fake_clock import FakeClock

AnyState = State[Any]
LIMIT: AnyState = Cancelled(message="Deployment concurrency limit reached.")
Told = list[tuple[NotificationOccasion, str]]


class Watch(LoggingListener):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_message(self, words: str) -> None:
        self.heard.append(words)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    heard: Told = []

    @contextmanager
    def telling(request: PatchRequest, who: Caller) -> Iterator[Notifier]:
        yield lambda occasion, report: heard.append((occasion, report.run.message))

    monkeypatch.setattr("flows.recovery.missed_windows.open_run_notifier", telling)
    monkeypatch.setattr("flows.admission.open_run_notifier", telling)
    return heard


@pytest.fixture
def fleet_name() -> str:
    return build_fleet_tag(str(uuid4()))


def asked(**fields: Any) -> PatchRequest:
    return PatchRequest(scope="*", configuration="web", window=WindowRequest(minutes=120, lead_minutes=40), **fields)


def missed(who: Caller) -> tuple[WindowClaim, ...]:
    with open_records(who.records_url) as records:
        found = SqlWindowClaims(records.database).find_claims_between(
            datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
        )
    return tuple(each for each in found if each.status is WindowStatus.MISSED)


def put(run: FlowRun, state: AnyState) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, state, force=True)


def look(who: Caller, fleet_name: str, late: timedelta = timedelta()) -> list[str]:
    clock = FakeClock(datetime.now(UTC) + late)
    return [report.run.message for report in record_missed_windows(who, fleets=frozenset({fleet_name}), clock=clock)]


@pytest.fixture
def due() -> datetime:
    return (datetime.now(UTC) - timedelta(minutes=20)).replace(microsecond=0)


def test_what_prefect_s_limit_cancelled_is_recorded_and_told_once(
    served: Served, who: Caller, told: Told, fleet_name: str, due: datetime
) -> None:
    (run,) = served.made(asked(), due, tags=[MANAGED_TAG, fleet_name])
    put(run, LIMIT)

    (said,) = look(who, fleet_name)
    assert look(who, fleet_name) == []

    assert f"Prefect cancelled flow run {run.name}" in said
    assert told == [(NotificationOccasion.MISSED, said)]
    (kept,) = missed(who)
    assert (kept.configuration, kept.starts_at, kept.reason) == ("web", due + timedelta(minutes=40), said)
    with open_records(who.records_url) as records:
        recorded = History(records).find_run(kept.run_id)
    assert (recorded.state, recorded.flow_run_id, recorded.kind) == (OperationState.NOT_STARTED, str(run.id), "patch")
    assert recorded.started_by == "the schedule of web"
    assert recorded.window is not None
    assert recorded.window.start == kept.starts_at


def test_what_prefect_itself_does_to_a_run_beside_another_is_understood(
    served: Served, who: Caller, told: Told, fleet_name: str, due: datetime
) -> None:
    """The server's own rules decide, and nothing is forced: the words that it says are those that are looked for."""
    options = ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    limit = {"concurrency_limit": 1, "concurrency_options": options}
    earlier, later = served.made_of(asked().model_dump(mode="json"), due, 2, [MANAGED_TAG, fleet_name], **limit)
    with get_client(sync_client=True) as client:
        for run in (earlier, later):
            client.set_flow_run_state(run.id, Pending())
        state = client.read_flow_run(later.id).state
        client.delete_flow_run(earlier.id)  # as if it were of an earlier window
    assert state is not None
    assert state.type.value == "CANCELLED"

    (said,) = look(who, fleet_name)

    assert f"Prefect cancelled flow run {later.name} while an earlier run" in said
    assert len(told) == 1


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (None, "was never started"),
        (Cancelled(message="by anne"), "was cancelled in Prefect before it began: by anne"),
        (Crashed(message="no module"), "failed before it used the window: no module"),
    ],
)
def test_others_are_missed_when_their_window_is_over(
    served: Served, who: Caller, told: Told, fleet_name: str, due: datetime, state: AnyState | None, words: str
) -> None:
    (run,) = served.made(asked(), due, tags=[MANAGED_TAG, fleet_name])
    if state is not None:
        put(run, state)

    assert look(who, fleet_name) == []
    (said,) = look(who, fleet_name, timedelta(hours=3))

    assert words in said
    assert told == [(NotificationOccasion.MISSED, said)]


def test_a_run_that_comes_late_after_all_tells_people_nothing_new(
    served: Served, who: Caller, told: Told, fleet_name: str, due: datetime
) -> None:
    (run,) = served.made(asked(), due, tags=[MANAGED_TAG, fleet_name])
    look(who, fleet_name, timedelta(hours=3))

    clock = FakeClock(due + timedelta(hours=4))
    answer = admit_run(asked(), who, FlowRunOrigin(str(run.id), due, "web"), clock)

    assert isinstance(answer, RefusedRun)
    assert answer.refusal.status is WindowStatus.MISSED
    assert len(told) == 1


@pytest.mark.parametrize("state", [Running(), Completed()])
def test_a_run_that_has_begun_is_not_missed(
    served: Served, who: Caller, told: Told, fleet_name: str, due: datetime, state: AnyState
) -> None:
    (run,) = served.made(asked(), due, tags=[MANAGED_TAG, fleet_name])
    put(run, Running())
    put(run, state)
    assert look(who, fleet_name, timedelta(hours=3)) == []
    assert told == []


def test_a_window_that_a_run_has_or_that_was_frozen_is_not_missed(
    served: Served, who: Caller, told: Told, fleet_name: str, due: datetime
) -> None:
    served.made(asked(), due, tags=[MANAGED_TAG, fleet_name])
    opens = due + timedelta(minutes=40)
    with open_records(who.records_url) as records:
        SqlWindowClaims(records.database).record_window_without_run(
            WindowClaim("web", opens, WindowStatus.FROZEN, "run-1", "year end", opens)
        )
    freeze = {"start": due, "end": due + timedelta(days=1)}
    served.made(asked(freezes=[freeze]), due, tags=[MANAGED_TAG, fleet_name])
    assert look(who, fleet_name, timedelta(hours=3)) == []
    assert told == []


def test_a_claim_of_a_run_that_never_was_is_missed(
    served: Served, who: Caller, told: Told, fleet_name: str, due: datetime
) -> None:
    (run,) = served.made(asked(), due, tags=[MANAGED_TAG, fleet_name])
    assert not isinstance(admit_run(asked(), who, FlowRunOrigin(str(run.id), due, "web"), FakeClock(due)), RefusedRun)
    put(run, Crashed(message="the inventory is gone"))

    (said,) = look(who, fleet_name, timedelta(hours=3))

    assert "the inventory is gone" in said
    assert [each.status for each in missed(who)] == [WindowStatus.MISSED]
    assert look(who, fleet_name, timedelta(hours=4)) == []


def test_a_window_for_which_prefect_made_no_run_is_missed(
    served: Served, who: Caller, told: Told, fleet_name: str
) -> None:
    soon = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    asyncio.run(served.deployed(asked(), served.daily(soon), tags=[MANAGED_TAG, fleet_name]))

    clock = FakeClock(soon + timedelta(hours=3))
    found = record_missed_windows(who, fleets=frozenset({fleet_name}), clock=clock)

    (report,) = found
    assert report.run.window is not None
    assert report.run.window.start == soon + timedelta(minutes=40)
    assert "no run used the window" in report.run.message
    assert told == [(NotificationOccasion.MISSED, report.run.message)]


def test_other_fleets_and_what_changes_nothing_are_left_alone(
    served: Served, who: Caller, told: Told, fleet_name: str, due: datetime
) -> None:
    served.made(asked(), due, tags=[MANAGED_TAG, build_fleet_tag("others")])
    served.made(asked(), due, tags=[fleet_name])
    served.made(asked(dry_run=True), due, tags=[MANAGED_TAG, fleet_name])
    assert look(who, fleet_name, timedelta(hours=3)) == []


def test_a_deployment_without_a_schedule_has_no_windows_and_is_not_read(
    served: Served, who: Caller, told: Told, fleet_name: str, due: datetime
) -> None:
    """The form's own deployment asks for nothing by itself: what it holds is no request."""
    asyncio.run(served.deployed({}, tags=[MANAGED_TAG, fleet_name]))
    asyncio.run(served.deployed({}, served.daily(due), tags=[MANAGED_TAG, fleet_name]))
    watch = Watch()
    assert record_missed_windows(replace(who, listener=watch), fleets=frozenset({fleet_name})) == ()
    (said,) = watch.heard
    assert said.startswith("could not read what web-")


def test_a_deployment_of_the_version_before_is_understood(
    served: Served, who: Caller, told: Told, fleet_name: str, due: datetime
) -> None:
    old = {"scope": "*", "inventory": "/srv/fleet.yaml", "window": {"minutes": 60.0, "zone": "Europe/Berlin"}}
    (run,) = served.made_of(old | {"configuration": "web"}, due, tags=[MANAGED_TAG, fleet_name])
    put(run, LIMIT)
    (said,) = look(who, fleet_name)
    assert run.name in said


def test_reconciliation_looks_for_those_of_its_own_fleet(
    served: Served, who: Caller, told: Told, fleet_name: str, due: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = served.made(asked(), due, tags=[MANAGED_TAG, fleet_name])
    put(run, LIMIT)
    reconcile_fleet()  # of no deployment: it knows no fleet
    assert told == []
    served.run_reconcile(reconcile_fleet, tags=[MANAGED_TAG, fleet_name])
    assert [occasion for occasion, _ in told] == [NotificationOccasion.MISSED]


def test_a_server_that_is_away_is_said_and_nothing_fails(
    who: Caller, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    def away(**_: object) -> object:
        raise OSError("connection refused")

    monkeypatch.setattr("flows.recovery.missed_windows.get_client", away)
    watch = Watch()
    assert record_missed_windows(replace(who, listener=watch), fleets=frozenset({"x"})) == ()
    assert watch.heard == ["could not look for missed windows: OSError: connection refused"]


def watched(who: Caller, fleet_name: str, late: timedelta = timedelta()) -> tuple[str, ...]:
    """What the pages say after a look, with no worker anywhere."""
    with open_records(who.records_url) as records:
        watcher = PrefectWatcher(
            records, fleet_name.removeprefix(build_fleet_tag("")), FakeClock(datetime.now(UTC) + late)
        )
        watcher.look()
    return watcher.problems


def test_the_pages_tell_of_a_missed_window_once_and_the_flow_adds_its_run(
    served: Served, who: Caller, told: Told, fleet_name: str, due: datetime
) -> None:
    (run,) = served.made(asked(), due, tags=[MANAGED_TAG, fleet_name])
    put(run, Pending())
    (waits,) = watched(who, fleet_name)
    assert "waits: its process does not begin; the server starts it again" in waits
    assert told == []

    for _ in range(2):
        watched(who, fleet_name, timedelta(hours=4))
    ((occasion, said),) = told
    assert (occasion, f"flow run {run.name} is stuck as Pending" in said) == (NotificationOccasion.MISSED, True)
    (kept,) = missed(who)
    with open_records(who.records_url) as records:
        assert [each.id for each in History(records).read_runs()] == []  # the pages may not write it

    assert look(who, fleet_name, timedelta(hours=4)) == []  # reconcile-fleet notifies nobody again
    with open_records(who.records_url) as records:
        assert History(records).find_run(kept.run_id).message == kept.reason
    assert len(told) == 1


def test_pages_that_cannot_notify_leave_the_window_to_the_flow_and_say_so(
    served: Served, who: Caller, told: Told, fleet_name: str, due: datetime
) -> None:
    target = NotifyRequest(to="env:NO_SUCH_PAGER")
    served.made(asked(notify=[target]), due, tags=[MANAGED_TAG, fleet_name])

    problems = watched(who, fleet_name, timedelta(hours=4))

    assert any("Nobody was notified from here" in each and "NO_SUCH_PAGER" in each for each in problems)
    assert (missed(who), told) == ((), [])
    assert len(look(who, fleet_name, timedelta(hours=4))) == 1
    assert len(told) == 1


def test_the_pages_say_that_reconcile_fleet_does_not_come(
    served: Served, who: Caller, fleet_name: str, client: SyncPrefectClient
) -> None:
    flow = client.create_flow(reconcile_fleet)
    client.create_deployment(flow_id=flow, name=f"scheduled-{uuid4()}", tags=[MANAGED_TAG, fleet_name])
    assert watched(who, fleet_name) == ()  # it was made just now
    (said,) = watched(who, fleet_name, timedelta(hours=1))
    assert "reconcile-fleet has not completed yet: nobody resumes interrupted runs" in said
