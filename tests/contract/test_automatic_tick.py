"""Ticks of automatic patching on real records: repeated, killed, at the same time, without Prefect."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from flows.automatic.tick import TICK_LEASE
from flows.automatic.wording import Announcer
from flows.engine.run_lease import build_holder
from flows.notify.messages import Message
from tasks.domain.errors import PatchError, RequestError
from tasks.domain.model import UpdateResult
from tasks.domain.run_errors import LeaseHeld
from tasks.domain.states import OperationState, UpdateState
from tasks.records.automatic.announcements import SqlAnnouncements
from tasks.records.automatic.automatic_runs import SqlAutomaticRuns
from tasks.records.automatic.held_updates import SqlHeldUpdates
from tasks.records.automatic.opt_outs import OptOut, SqlOptOuts
from tasks.records.automatic.rollouts import SqlRollouts
from tasks.records.setup import open_records
from tasks.rules.automatic.model import CreateRollout, RolloutState, StartRun
from tests.contract.records_subjects import new_database
from tests.support.automatic_fleet import INVENTORY, AutomaticFleet, FakeStarter, Killed
from tests.support.builders import make_outcome, make_run, make_update
from tests.support.fake_clock import FakeClock

CURL = make_update(name="curl", available="8")
BASH = make_update(name="bash", available="5")
TARGET = {"to": "env:NOBODY", "on": ["failed"]}


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
def fleet(tmp_path: Path) -> Iterator[AutomaticFleet]:
    with new_database("sqlite", tmp_path) as url, open_records(url) as records:
        yield AutomaticFleet(url, records, tmp_path, FakeClock())


def finish_run(fleet: AutomaticFleet, request: Any, key: str, failing: str = "") -> None:
    """Let a run that was started install its updates; one of them may fail on every machine."""
    now = fleet.clock.now()
    run = make_run(
        id=f"run of {key}",
        flow_run_id=f"flow of {key}",
        kind="patch",
        started_at=now,
        ended_at=now,
        scope=request.scope,
        request=request.model_dump(mode="json"),
        state=OperationState.FAILED if failing else OperationState.SUCCEEDED,
    )
    fleet.records.save(run)
    for name in request.only_machines:
        results = tuple(
            UpdateResult(each, UpdateState.FAILED if each.name == failing else UpdateState.INSTALLED, "postinst")
            for each in (CURL, BASH)
        )
        state = OperationState.FAILED if failing else OperationState.SUCCEEDED
        fleet.records.save(
            make_outcome(
                run_id=run.id, machine=name, state=state, updates=results, started_at=now, ended_at=now, install=None
            )
        )


def test_a_tick_freezes_a_rollout_and_starts_its_canaries(fleet: AutomaticFleet) -> None:
    fleet.assess(CURL, BASH)
    result = fleet.begin(fleet.request(exclude=["zlib*"], waves_percent=50))
    (rollout,) = SqlRollouts(fleet.records.database).read_newest()
    assert rollout.updates == {("curl", "8"), ("bash", "5")}
    (request,) = fleet.started("patch-fleet/on-demand")
    assert request.only_machines == ["ber-1", "ber-2"]
    assert request.updates.as_in_run == f"rollout:{rollout.id}"
    assert (request.updates.exclude, request.waves.percent, request.configuration) == (["zlib*"], 50, "")
    assert (request.window.start, request.window.minutes) == (fleet.clock.now(), 235)
    assert {each.name for each in result.view.machines} == {"ber-1", "ber-2", "muc-1"}
    assert any(line.startswith(f"start: 2 machines (ber; phase 1 of {rollout.id})") for line in fleet.listener.lines)
    assert any("1 machine wait" in line and "muc-1" in line for line in fleet.listener.lines)


def test_a_second_tick_changes_nothing(fleet: AutomaticFleet) -> None:
    fleet.assess(CURL)
    fleet.begin()
    before = (dict(fleet.starter.started), SqlRollouts(fleet.records.database).read_newest())
    decision = fleet.tick().decision
    assert not [each for each in decision.actions if isinstance(each, StartRun | CreateRollout)]
    assert (fleet.starter.started, SqlRollouts(fleet.records.database).read_newest()) == before


@dataclass
class Executioner:
    """Kills the process at the nth of some calls, before it is done or after it."""

    countdown: int
    after: bool
    is_dead: bool = False

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            dies = self.countdown == 0
            self.countdown -= 1
            if dies and not self.after:
                self.is_dead = True
                raise Killed
            result = call(*args, **kwargs)
            if dies:
                self.is_dead = True
                raise Killed
            return result

        return called


POINTS = [
    (SqlRollouts, "save"),
    (SqlAutomaticRuns, "add"),
    (SqlAutomaticRuns, "set_flow_run"),
    (SqlHeldUpdates, "add"),
    (SqlAnnouncements, "add"),
    (FakeStarter, "start"),
    (Announcer, "tell"),
]


def read_everything(fleet: AutomaticFleet) -> tuple[object, ...]:
    database, now = fleet.records.database, fleet.clock.now()
    runs = [(each.run.key, each.run.flow_run_id) for each in SqlAutomaticRuns(database).read_open(now)]
    held = [(each.name, each.version, each.reason) for each in SqlHeldUpdates(database).read_held()]
    rollouts = SqlRollouts(database).read_newest()
    return fleet.starter.started, runs, held, rollouts, SqlAnnouncements(database).read_keys()


def play(folder: Path, executioner: Executioner | None, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    """Play a canary that fails for good: its tick holds, tells, faults the rollout, and starts assessments."""
    folder.mkdir()
    with new_database("sqlite", folder) as url, open_records(url) as records:
        fleet = AutomaticFleet(url, records, folder, FakeClock())
        # One folder, so that requests are equal in all plays.
        request = fleet.request(max_tries=1, notify=[TARGET]).model_copy(update={"inventory": Path("fleet.yaml")})
        monkeypatch.chdir(folder)
        fleet.assess(CURL, BASH)
        fleet.begin(request)
        ((key, (_, started)),) = fleet.starter.started.items()
        finish_run(fleet, started, key, failing="curl")
        fleet.clock.advance(900)
        if executioner is not None:
            with monkeypatch.context() as patch:
                for owner, name in POINTS:
                    patch.setattr(owner, name, executioner.wrap(getattr(owner, name)))
                with suppress(Killed):
                    fleet.tick(request)
        fleet.tick(request)
        return read_everything(fleet)


@pytest.mark.parametrize("after", [False, True])
def test_a_tick_that_is_killed_anywhere_is_completed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: list[Message], *, after: bool
) -> None:
    whole = play(tmp_path / "whole", None, monkeypatch)
    held, rollouts = whole[2], whole[3]
    assert [each[:2] for each in held] == [("curl", "8")]  # type: ignore[attr-defined]
    assert [each.state for each in rollouts] == [RolloutState.FAULTED]  # type: ignore[attr-defined]
    number = 0
    while True:
        executioner = Executioner(number, after)
        outcome = play(tmp_path / str(number), executioner, monkeypatch)
        if not executioner.is_dead:
            break
        assert outcome == whole, f"killed at call {number}"
        number += 1
    assert number >= 5


def test_of_two_ticks_at_the_same_time_one_starts_the_run(fleet: AutomaticFleet) -> None:
    fleet.assess(CURL)
    fleet.tick()
    request, both = fleet.request(), Barrier(2)
    starts: list[str] = []
    fleet.starter.start = lambda deployment, key, name, request: starts.append(key) or f"flow of {key}"  # type: ignore[method-assign,func-returns-value]

    def tick(_: int) -> bool:
        both.wait(60)
        try:
            fleet.tick(request)
        except LeaseHeld:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert any(pool.map(tick, range(2)))
    assert len(starts) == 1


def test_a_tick_waits_for_nobody_while_another_one_is_at_work(fleet: AutomaticFleet) -> None:
    fleet.assess(CURL)
    fleet.records.leases.acquire(TICK_LEASE, build_holder("bert"), 60)
    with pytest.raises(LeaseHeld):
        fleet.tick()
    assert not fleet.starter.started


def test_without_prefect_nothing_is_lost(fleet: AutomaticFleet) -> None:
    fleet.assess(CURL)
    fleet.tick()
    fleet.starter.is_down = True
    with pytest.raises(PatchError, match="does not answer"):
        fleet.tick()
    fleet.starter.is_down = False
    fleet.clock.advance(900)
    fleet.tick()
    (request,) = fleet.started("patch-fleet/on-demand")
    assert request.only_machines == ["ber-1", "ber-2"]
    (run,) = SqlAutomaticRuns(fleet.records.database).read_open(fleet.clock.now())
    assert run.run.flow_run_id == f"flow of {run.run.key}"


def test_a_run_that_prefect_refuses_keeps_no_other_from_starting(fleet: AutomaticFleet) -> None:
    text = INVENTORY + "  - {name: new-1, address: 192.0.2.9, location: muc}\n"
    fleet.assess(CURL)
    fleet.tick()
    fleet.clock.advance(2 * 3600)
    request = fleet.request()
    fleet.write_inventory(text)
    fleet.starter.refused = "rollout-"
    for _ in range(2):
        with pytest.raises(RequestError, match="refuses"):
            fleet.tick(request)
    assert [each.only_machines for each in fleet.started("assess-fleet/on-demand")] == [["new-1"]]
    fleet.starter.refused = "nothing"
    fleet.tick(request)
    assert len(fleet.started("patch-fleet/on-demand")) == 1


@pytest.mark.parametrize("is_known", [False, True])
def test_a_run_that_was_decided_before_a_pause_is_not_started_after_it(
    fleet: AutomaticFleet, *, is_known: bool
) -> None:
    fleet.assess(CURL)
    fleet.tick()
    fleet.starter.is_down = True
    with pytest.raises(PatchError):
        fleet.tick()
    fleet.starter.is_down = False
    (left,) = SqlAutomaticRuns(fleet.records.database).read_open(fleet.clock.now())
    if is_known:  # the process died after Prefect had it
        fleet.starter.started[left.run.key] = ("patch-fleet/on-demand", fleet.request())
    SqlOptOuts(fleet.records.database).add(OptOut("ber-2", "bert", "audit", fleet.clock.now()))
    fleet.tick()
    every = SqlAutomaticRuns(fleet.records.database).read_since(left.run.at)
    first = next(each.run for each in every if each.run.key == left.run.key)
    if is_known:
        assert (first.flow_run_id, first.never_began) == (f"flow of {first.key}", "")
    else:
        assert (first.flow_run_id, first.never_began) == ("", "paused meanwhile: ber-2")


def test_a_run_without_a_worker_blocks_nobody_for_ever_and_people_are_told(
    fleet: AutomaticFleet, sent: list[Message]
) -> None:
    request = fleet.request(notify=[TARGET])
    fleet.assess(CURL)
    fleet.begin(request)
    assert not sent
    fleet.clock.advance(23 * 3600)
    fleet.assess(CURL)
    fleet.tick(request)
    assert "a run never began, because no worker started it in its window: 2 machines (ber;" in sent[0].body
    assert len(fleet.started("patch-fleet/on-demand")) == 2
    told = len(sent)
    fleet.tick(request)
    assert len(sent) == told


def test_a_run_that_a_person_cancelled_in_prefect_is_not_started_again_that_night(fleet: AutomaticFleet) -> None:
    fleet.assess(CURL)
    fleet.begin()
    (key,) = fleet.starter.started
    fleet.starter.ends[f"flow of {key}"] = "its flow run ended Cancelled"
    fleet.clock.advance(900)
    fleet.tick()
    assert list(fleet.starter.started) == [key]
    assert SqlAutomaticRuns(fleet.records.database).read_open(fleet.clock.now()) == ()


def test_switched_off_it_shows_and_stores_nothing(fleet: AutomaticFleet) -> None:
    fleet.assess(CURL)
    decision = fleet.tick(fleet.request(enabled=False)).decision
    assert any(isinstance(each, CreateRollout) for each in decision.actions)
    assert "automatic patching is switched off; it would:" in fleet.listener.lines
    assert not fleet.starter.started
    assert SqlRollouts(fleet.records.database).read_newest() == ()
    assert SqlAnnouncements(fleet.records.database).read_keys() == frozenset()


def test_machines_are_asked_once_while_their_assessment_waits_for_a_worker(fleet: AutomaticFleet) -> None:
    fleet.tick()
    (asked,) = fleet.started("assess-fleet/on-demand")
    assert sorted(asked.only_machines) == ["ber-1", "ber-2", "muc-1"]
    fleet.clock.advance(2 * 3600)
    fleet.tick()
    assert len(fleet.starter.started) == 1


def test_assessments_are_bounded_and_one_whose_process_was_killed_is_made_again(
    fleet: AutomaticFleet, sent: list[Message]
) -> None:
    """The records know its begin, and nothing else ends it: its machines were never assessed again."""
    request = fleet.request(max_assessments=2, notify=[TARGET])
    fleet.tick(request)
    (first,) = fleet.starter.started
    (asked,) = fleet.started("assess-fleet/on-demand")
    assert asked.only_machines == ["ber-1", "ber-2"]
    assert "1 machine will be assessed after these" in fleet.listener.lines
    fleet.records.save(
        make_run(id="killed", kind="assess", flow_run_id=f"flow of {first}", state=OperationState.IN_PROGRESS)
    )
    fleet.clock.advance(900)
    fleet.tick(request)
    assert len(fleet.starter.started) == 1
    fleet.starter.ends[f"flow of {first}"] = "its flow run ended Crashed"
    fleet.assess(names=("ber-1",))
    fleet.clock.advance(3600)
    fleet.tick(request)
    assert fleet.started("assess-fleet/on-demand")[1].only_machines == ["ber-2", "muc-1"]
    assert not any("never began" in each.body for each in sent)


def test_a_machine_in_another_run_is_left_alone(fleet: AutomaticFleet) -> None:
    fleet.assess(CURL)
    other = make_run(
        id="by-hand",
        kind="patch",
        state=OperationState.IN_PROGRESS,
        scope="location=ber",
        request={"only_machines": []},
    )
    fleet.records.save(other)
    result = fleet.begin()
    assert not fleet.started("patch-fleet/on-demand")
    assert {each.machine: each.reason for each in result.decision.waiting}["ber-1"] == "run by-hand has it"


def test_nobody_reached_means_that_it_is_told_again(fleet: AutomaticFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.notify.notifier.send_with_apprise", lambda _url, _message: False)
    old = replace(CURL, published=fleet.clock.now() - timedelta(days=40))
    fleet.assess(old)
    request = fleet.request(notify=[TARGET])
    fleet.tick(request)
    assert SqlAnnouncements(fleet.records.database).read_keys() == frozenset()
    assert "nobody could be told; the next tick tries it again" in fleet.listener.lines
    monkeypatch.setattr("flows.notify.notifier.send_with_apprise", lambda _url, _message: True)
    fleet.tick(request)
    assert len(SqlAnnouncements(fleet.records.database).read_keys()) == 3


def test_a_feed_that_can_not_be_used_is_told(fleet: AutomaticFleet, tmp_path: Path) -> None:
    fleet.assess(CURL)
    (tmp_path / "feeds").mkdir()
    (tmp_path / "feeds" / "known_exploited_vulnerabilities.json").write_text("no json")
    result = fleet.tick(fleet.request(feeds=tmp_path / "feeds"))
    assert any("risk feed:" in getattr(each, "message", "") for each in result.decision.actions)
    assert any(key.startswith("feed/") for key in SqlAnnouncements(fleet.records.database).read_keys())


def test_runs_and_assessments_start_at_the_site_of_their_machines(fleet: AutomaticFleet) -> None:
    text = INVENTORY.replace("location: muc}", "location: muc, site: munich}")
    request = fleet.request(phases={"canary_locations": ["muc"]})
    fleet.write_inventory(f"{text}  - {{name: new-1, address: 192.0.2.9, location: muc, site: munich}}\n")
    fleet.assess(CURL)

    fleet.begin(request)

    assert [set(each.only_machines) for each in fleet.started("patch-fleet/on-demand-munich")] == [{"muc-1"}]
    assert fleet.started("patch-fleet/on-demand") == []
    assert [each.only_machines for each in fleet.started("assess-fleet/on-demand-munich")] == [["new-1"]]
