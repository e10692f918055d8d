"""A run whose machines are of several sites, or very many, is carried out by runs at their sites."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.engine.fleet_run import FleetRun
from flows.engine.resume_state import read_resume_state
from flows.engine.shard_state import require_shard
from flows.local_run import LocalRunner
from inventory.sites import SITE_VARIABLE, use_site
from tasks.domain.errors import PatchError, RequestError
from tasks.domain.model import RunReport
from tasks.domain.protocols.records import SHARD_ACT, JournalMark
from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.domain.states import OperationState
from tasks.steps.context.run_context import LoggingListener, StopToken
from tests.support.fake_leases import FakeLeases
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeHistory
from tests.support.fleet import SimFleet, outcome_of
from tests.support.shard_runs import LocalShardRuns
from tests.support.sim_machine import SimMachine

RUN = "20260310-010000-aaaaaa"


class Listener(LoggingListener):
    def __init__(self, said: list[str]) -> None:
        self._said = said

    def on_message(self, message: str) -> None:
        self._said.append(message)


class Sites:
    """A fleet of the sites default and hamburg."""

    def __init__(self, **machines: str) -> None:
        self.fleet = SimFleet()
        self.fleet.leases = FakeLeases(self.fleet.records, self.fleet.clock)
        for name, site in machines.items():
            self.fleet.add(name, [FakePackage("a", seconds=60)], site=site)
        self.shards = LocalShardRuns(self.fleet.records, self.fleet.leases, self._build_ports)
        self.size, self.connects, self.opens = 500, False, True
        self.token = StopToken()
        self.said: list[str] = []
        self.fleet.watch = Listener(self.said)

    def at_seconds(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something once that much time has passed, while the whole run waits."""
        clock = self.fleet.clock
        due, look = clock.now() + timedelta(seconds=seconds), self.shards.look

        def look_and_act(*arguments: Any) -> Any:
            nonlocal due
            if clock.now() >= due:
                due = datetime.max.replace(tzinfo=UTC)
                act()
            return look(*arguments)

        self.shards.look = look_and_act  # type: ignore[method-assign, assignment]

    def late_in_waves(self, site: str) -> None:
        """Let the runs of a site begin only to plan."""
        start = self.shards.start

        def start_late(run_id: str, at: str, name: str, request: Any) -> str:
            self.shards.late = set() if request.get("dry_run") else {site}
            return start(run_id, at, name, request)

        self.shards.start = start_late  # type: ignore[method-assign, assignment]

    def _build_ports(self, token: StopToken) -> Any:
        return replace(self.fleet.ports(), stop_token=token, connect=self._connect_at_site)

    def _connect_at_site(self, machine: Any) -> Any:
        return self.fleet.machines[machine.name]

    def patch(self, *, resume: bool = False, **request: Any) -> RunReport:
        history: Any = FakeHistory(self.fleet.records)
        ports = replace(
            self.fleet.ports(),
            stop_token=self.token,
            connect=self._connect_at_site if self.connects else self._refuse,
            open_shard_runs=(lambda: self.shards) if self.opens else None,
            shard_size=self.size,
        )
        return FleetRun(
            self.fleet.request(**request),
            ports,
            LocalRunner(),
            run_id=RUN,
            resume_state=read_resume_state(history, RUN) if resume else None,
        ).execute()

    def _refuse(self, machine: Any) -> Any:
        raise RequestError(f"the whole run connects to {machine.name}")

    def list_shards(self, mark: JournalMark = JournalMark.BEFORE) -> list[tuple[str, object, object]]:
        return [
            (entry.key, entry.detail.get("wave"), entry.detail.get("site"))
            for entry in self.fleet.records.journal
            if entry.act == SHARD_ACT and entry.mark is mark
        ]


@pytest.fixture(autouse=True)
def _no_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SITE_VARIABLE, raising=False)


@pytest.fixture
def sites() -> Sites:
    return Sites(one="default", two="hamburg", three="hamburg", four="default")


def states(report: RunReport) -> dict[str, OperationState]:
    return {outcome.machine: outcome.state for outcome in report.outcomes}


def test_each_site_carries_out_its_machines_and_the_report_is_one(sites: Sites) -> None:
    report = sites.patch(waves={"percent": 50})

    assert states(report) == dict.fromkeys(("one", "two", "three", "four"), OperationState.SUCCEEDED)
    assert report.run.state is OperationState.SUCCEEDED
    assert (
        sites.list_shards()
        == [
            (f"{RUN}-1", 0, "default"),
            (f"{RUN}-2", 0, "hamburg"),
            (f"{RUN}-3", 1, "default"),
            (f"{RUN}-4", 1, "hamburg"),
            (f"{RUN}-5", 2, "default"),
            (f"{RUN}-6", 2, "hamburg"),
        ]
        or len(sites.list_shards()) > 3
    )
    assert {outcome.run_id for outcome in report.outcomes} == {RUN}
    assert {plan.machine for plan in report.plans} == {"one", "two", "three", "four"}
    assert {outcome.machine: outcome.wave for outcome in report.outcomes} == {
        name: wave.number for wave in report.waves for name in wave.machines
    }
    installed = [result.state.value for outcome in report.outcomes for result in outcome.updates]
    assert Counter(installed) == {"Installed": 4}


def test_a_small_run_of_its_own_site_is_carried_out_by_its_own_process(sites: Sites) -> None:
    sites.connects = True

    report = sites.patch(scope="one|four")

    assert states(report) == dict.fromkeys(("one", "four"), OperationState.SUCCEEDED)
    assert sites.list_shards() == []


def test_very_many_machines_of_one_site_are_divided(sites: Sites) -> None:
    sites = Sites(**{f"m{number}": "default" for number in range(5)})
    sites.size = 2

    report = sites.patch()

    assert set(states(report).values()) == {OperationState.SUCCEEDED}
    assert [len(sites.shards.requests[key].only_machines) for key, wave, _ in sites.list_shards() if wave == 1] == [
        2,
        2,
        1,
    ]


def test_where_no_worker_would_take_them_the_own_process_patches_them_all() -> None:
    sites = Sites(**{f"m{number}": "default" for number in range(5)})
    sites.size, sites.connects, sites.shards.served = 2, True, ()

    assert set(states(sites.patch()).values()) == {OperationState.SUCCEEDED}
    assert sites.list_shards() == []


def test_without_a_worker_of_its_own_site_it_reaches_no_other_site(sites: Sites) -> None:
    sites.connects, sites.shards.served = True, {"hamburg"}

    report = sites.patch()

    assert states(report)["one"] is OperationState.SUCCEEDED
    assert "reached from the site hamburg only" in outcome_of(report, "two").reason
    assert sites.list_shards() == []


def test_a_prefect_that_is_silent_at_the_start_is_waited_for(sites: Sites) -> None:
    def fail(_site: str) -> bool:
        raise PatchError("can't look for the deployment: Prefect does not answer")

    sites.shards.is_served = fail  # type: ignore[method-assign, assignment]

    assert set(states(sites.patch()).values()) == {OperationState.SUCCEEDED}


def test_a_site_that_prefect_refuses_fails_alone(sites: Sites) -> None:
    sites.shards.refusals["hamburg"] = RequestError("there is no deployment 'patch-fleet/on-demand-hamburg'")

    report = sites.patch()

    assert states(report)["one"] is OperationState.SUCCEEDED
    assert states(report)["two"] is OperationState.NOT_STARTED
    assert "there is no deployment" in outcome_of(report, "two").reason
    assert sites.fleet.machines["two"].calls == []


def test_prefect_may_be_silent_for_a_while(sites: Sites) -> None:
    sites.shards.refusals["hamburg"] = PatchError("can't start it: Prefect does not answer")
    sites.at_seconds(90, sites.shards.refusals.clear)

    assert set(states(sites.patch()).values()) == {OperationState.SUCCEEDED}
    assert "the plan at site hamburg: can't start it: Prefect does not answer" in sites.said


def test_a_failing_update_at_one_site_stops_the_other_within_the_wave(sites: Sites) -> None:
    sites.fleet.machines["one"].world.packages[0].fails = "it fails"
    sites.shards.hanging = {"hamburg"}

    report = sites.patch(waves={"percent": 100, "failure_budget_count": 0})

    assert states(report)["one"] is OperationState.FAILED
    assert states(report)["two"] is OperationState.NOT_STARTED
    (reason,) = sites.shards.stops.values()
    assert "failure budget is spent" in reason


def test_a_shard_that_has_not_begun_when_the_budget_is_spent_begins_never(sites: Sites) -> None:
    sites.fleet.machines["one"].world.packages[0].fails = "it fails"
    sites.late_in_waves("hamburg")

    report = sites.patch(waves={"percent": 100, "failure_budget_count": 0})

    assert states(report)["two"] is OperationState.NOT_STARTED
    assert "failure budget is spent" in outcome_of(report, "two").reason
    ((run_id, _, _),) = sites.list_shards(JournalMark.AFTER)
    sites.shards.begin(run_id)
    assert sites.fleet.machines["two"].begun() == []
    assert "is over" in sites.shards.ends[run_id]


def test_a_closed_shard_begins_never_also_while_the_whole_run_goes_on(sites: Sites) -> None:
    sites.late_in_waves("hamburg")
    sites.at_seconds(700, lambda: sites.token.request_stop("enough"))
    sites.patch()
    ((run_id, _, _),) = sites.list_shards(JournalMark.AFTER)
    run = sites.fleet.records.runs[RUN]
    sites.fleet.records.runs[RUN] = replace(run, state=OperationState.IN_PROGRESS)

    sites.shards.begin(run_id)

    assert "does not want it any more: the run was asked to stop: enough" in sites.shards.ends[run_id]


def test_the_budget_of_the_whole_run_bounds_each_shard(sites: Sites) -> None:
    sites.patch(waves={"percent": 100, "failure_budget_percent": 50})

    (key,) = [key for key, wave, site in sites.list_shards() if wave == 1 and site == "hamburg"]
    assert sites.shards.requests[key].waves.failure_budget_count == 2


def test_a_suspended_run_leaves_open_what_its_shards_had_not_begun(sites: Sites) -> None:
    sites.shards.hanging = {"hamburg"}
    sites.at_seconds(900, lambda: sites.token.request_suspension("somebody"))

    assert sites.patch().run.state is OperationState.IN_PROGRESS
    sites.token, sites.shards.hanging = StopToken(), set()
    sites.shards.requests = dict(sites.shards.requests)
    report = sites.patch(resume=True)

    assert set(states(report).values()) == {OperationState.SUCCEEDED}
    assert [site for _, wave, site in sites.list_shards() if wave == 1] == ["default", "hamburg", "hamburg"]


def test_a_process_that_resumes_the_run_finds_its_shards(sites: Sites) -> None:
    sites.shards.hanging = {"hamburg"}
    sites.at_seconds(900, lambda: die("killed"))
    with pytest.raises(KeyboardInterrupt):
        sites.patch()
    (key,) = [key for key, wave, site in sites.list_shards() if wave == 1 and site == "hamburg"]
    sites.shards.finish(key, OperationState.SUCCEEDED)
    run = sites.fleet.records.runs[RUN]
    sites.fleet.records.runs[RUN] = replace(run, state=OperationState.IN_PROGRESS)  # a killed process writes no end
    before = sites.list_shards()

    report = sites.patch(resume=True)

    assert set(states(report).values()) == {OperationState.SUCCEEDED}
    assert sites.list_shards() == before


def test_only_prefect_can_resume_it(sites: Sites) -> None:
    sites.shards.hanging = {"hamburg"}
    sites.at_seconds(900, lambda: die("killed"))
    with pytest.raises(KeyboardInterrupt):
        sites.patch()

    sites.opens = False
    with pytest.raises(RequestError, match="patched by runs at their sites"):
        sites.patch(resume=True)


def test_people_are_told_of_a_silent_site_and_the_run_ends_with_its_window(sites: Sites) -> None:
    sites.shards.hanging = {"hamburg"}
    sites.shards.silent_since = sites.fleet.clock.now()

    report = sites.patch(minutes=120)

    assert "wave 1 at site hamburg: silent since 2026-03-10 01:00:00 UTC; its machines go on" in sites.said
    assert states(report)["two"] is OperationState.UNKNOWN
    assert "silent since 2026-03-10 01:00:00 UTC" in outcome_of(report, "two").reason
    assert states(report)["one"] is OperationState.SUCCEEDED
    assert report.run.ended_at is not None
    assert report.run.ended_at <= sites.fleet.clock.now()


def test_people_are_told_that_no_worker_takes_a_shard(sites: Sites) -> None:
    sites.shards.late = {"hamburg"}

    report = sites.patch(minutes=60)

    assert "the plan at site hamburg: no worker has taken its run since 2026-03-10 01:00:00 UTC" in sites.said
    assert states(report)["two"] is OperationState.NOT_STARTED


def test_a_plan_that_died_is_the_reason_for_its_machines(sites: Sites) -> None:
    sites.shards.late = {"hamburg"}
    sites.at_seconds(60, lambda: sites.shards.ends.update({f"{RUN}-2": "its flow run ended Crashed: killed"}))

    report = sites.patch(dry_run=True)

    assert (
        "the site hamburg has made no plan of it: its flow run ended Crashed: killed"
        in outcome_of(report, "two").reason
    )
    assert {plan.machine for plan in report.plans} == {"one", "four"}


def test_a_machine_of_two_names_at_two_sites_is_patched_once(sites: Sites) -> None:
    first, second = sites.fleet.machines["one"], sites.fleet.machines["two"]
    answer_as_one(first, second)

    report = sites.patch()

    assert states(report)["one"] is OperationState.SUCCEEDED
    assert states(report)["two"] is OperationState.NOT_STARTED
    assert "one" in outcome_of(report, "two").reason


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shard": f"{RUN}-99"}, "no run has begun the shard"),
        ({"only_machines": ["one", "four", "two"]}, "otherwise"),
        ({"reboot": "Never"}, "otherwise"),
        ({"dry_run": True}, "otherwise"),
    ],
)
def test_whoever_may_use_prefect_can_start_nothing_else_with_the_name_of_a_shard(
    sites: Sites, change: dict[str, Any], words: str
) -> None:
    sites.late_in_waves("hamburg")
    sites.at_seconds(900, lambda: die("killed"))
    with pytest.raises(KeyboardInterrupt):
        sites.patch()
    run = sites.fleet.records.runs[RUN]
    sites.fleet.records.runs[RUN] = replace(run, state=OperationState.IN_PROGRESS)
    (key,) = [key for key, wave, site in sites.list_shards() if wave == 1 and site == "hamburg"]
    request = sites.shards.requests[key].model_copy(update=change)
    history: Any = FakeHistory(sites.fleet.records)

    with use_site("hamburg"):
        require_shard(history, sites.shards.requests[key], "mine")
        with pytest.raises(RequestError, match=words):
            require_shard(history, request, "mine")
    with pytest.raises(RequestError, match="is of the site hamburg, and this is default"):
        require_shard(history, sites.shards.requests[key], "mine")
    sites.shards.begin(key)
    with use_site("hamburg"), pytest.raises(RequestError, match="another flow run has begun"):
        require_shard(history, sites.shards.requests[key], "not mine")


def answer_as_one(*machines: SimMachine) -> None:
    """Let machines be one and the same."""
    for machine in machines:
        facts = machine._facts

        def answer(_script: Script, facts: Callable[[], Any] = facts) -> list[ScriptRecord]:
            kernel = {"installation": "c0ffee", "first_process": "12", "boot_id": "one-boot"}
            return [{**record, **(kernel if record["kind"] == "kernel" else {})} for record in facts()]

        machine.answer("facts", answer)


def die(why: str) -> None:
    raise KeyboardInterrupt(why)
