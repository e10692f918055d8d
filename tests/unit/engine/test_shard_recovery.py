"""Runs of shards whose processes die, whose runs are stopped or suspended, and that others try to start."""

from dataclasses import replace
from typing import Any

import pytest

from flows.engine.fleet_run import FleetRun
from flows.engine.shard_state import ShardGate, read_left_state, read_shard_state, require_shard
from flows.local_run import LocalRunner
from inventory.sites import use_site
from tasks.domain.errors import RecordsError, RequestError
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.states import OperationState, Step
from tasks.steps.context.run_control import StopToken
from tasks.steps.hooks import HOOK_ACT
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeHistory
from tests.support.fleet import outcome_of
from tests.support.site_fleet import RUN, Sites, die, states


def test_a_closed_shard_begins_never_also_while_the_whole_run_goes_on(sites: Sites) -> None:
    sites.late_in_waves("hamburg")
    sites.at_seconds(700, lambda: sites.token.request_stop("enough"))
    sites.patch(waves={"at_once": 4})
    ((run_id, _, _),) = sites.list_shards(JournalMark.AFTER)
    run = sites.fleet.records.runs[RUN]
    sites.fleet.records.runs[RUN] = replace(run, state=OperationState.IN_PROGRESS)

    sites.shards.begin(run_id)

    assert "does not want it any more: the run was asked to stop: enough" in sites.shards.ends[run_id]


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


def test_a_run_whose_plans_all_died_goes_on_with_the_shards_that_it_has_begun(sites: Sites) -> None:
    """It has no plan. But what its shards do to machines has begun."""
    start = sites.shards.start

    def lose_plans(run_id: str, at: str, name: str, request: Any) -> str:
        if not request.get("dry_run"):
            return start(run_id, at, name, request)
        sites.shards.ends[run_id] = "its flow run ended Crashed"
        return f"flow run of {run_id}"

    sites.shards.start = lose_plans  # type: ignore[method-assign, assignment]
    sites.shards.hanging = {"default", "hamburg"}
    sites.at_seconds(60, lambda: die("killed"))
    with pytest.raises(KeyboardInterrupt):
        sites.patch()
    before = sites.list_shards()
    for key in [key for key, wave, _ in before if wave == 1]:
        sites.shards.finish(key, OperationState.SUCCEEDED)
    run = sites.fleet.records.runs[RUN]
    sites.fleet.records.runs[RUN] = replace(run, state=OperationState.IN_PROGRESS)  # a killed process writes no end

    report = sites.patch(resume=True)

    assert [wave for _, wave, _ in before] == [0, 0, 1, 1]
    assert sites.list_shards() == before
    assert set(states(report).values()) == {OperationState.SUCCEEDED}


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


def test_a_shard_whose_flow_run_crashed_begins_never(sites: Sites) -> None:
    """Somebody retries it in Prefect, while the whole run goes on."""
    sites.late_in_waves("hamburg")
    start = sites.shards.start

    def crash(run_id: str, site: str, name: str, request: Any) -> str:
        if site == "hamburg" and not request.get("dry_run"):
            sites.shards.ends[run_id] = "its flow run ended Crashed: out of memory"
        return start(run_id, site, name, request)

    sites.shards.start = crash  # type: ignore[method-assign]
    sites.shards.hanging = {"default"}
    retried: list[str] = []

    def retry() -> None:
        (key,) = sites.shards.ends
        sites.shards.begin(key)
        retried.append(key)
        (other,) = [key for key, wave, site in sites.list_shards() if wave == 1 and site == "default"]
        sites.shards.finish(other, OperationState.SUCCEEDED)

    sites.at_seconds(900, retry)
    report = sites.patch()

    assert states(report)["two"] is OperationState.NOT_STARTED
    assert sites.fleet.machines["two"].begun() == []
    assert "does not want it any more: its flow run ended Crashed" in sites.shards.ends[retried[0]]


def test_a_cancelled_run_stops_its_shards_also_without_a_process(sites: Sites) -> None:
    sites.late_in_waves("hamburg")
    sites.at_seconds(900, lambda: die("killed"))
    with pytest.raises(KeyboardInterrupt):
        sites.patch()
    run = sites.fleet.records.runs[RUN]
    sites.fleet.records.runs[RUN] = replace(run, state=OperationState.IN_PROGRESS)
    (key,) = [key for key, wave, site in sites.list_shards() if wave == 1 and site == "hamburg"]

    sites.fleet.leases.request_stop(RUN, "anne", "enough")

    stop = sites.fleet.leases.find_lease(key)
    assert stop is not None
    assert stop.stop is not None
    assert (stop.stop.who, stop.stop.reason) == ("anne", "enough")


def test_a_process_that_has_lost_its_lease_stops_no_shard(sites: Sites) -> None:
    sites.shards.hanging = {"hamburg"}
    sites.at_seconds(900, sites.token.mark_lease_lost)
    sites.patch(minutes=60)

    assert sites.shards.stops == {}


def test_a_shard_that_had_begun_when_it_was_closed_is_found_again(sites: Sites) -> None:
    sites.shards.hanging = {"hamburg"}
    sites.at_seconds(900, lambda: die("killed"))
    with pytest.raises(KeyboardInterrupt):
        sites.patch()
    (key,) = [key for key, wave, site in sites.list_shards() if wave == 1 and site == "hamburg"]
    records = sites.fleet.records
    closed = next(entry for entry in records.journal if entry.key == key)
    records.journal.append(replace(closed, mark=JournalMark.AFTER, detail={"reason": "enough"}))
    records.runs[RUN] = replace(records.runs[RUN], state=OperationState.IN_PROGRESS)
    sites.shards.finish(key, OperationState.SUCCEEDED)

    report = sites.patch(resume=True)

    assert set(states(report).values()) == {OperationState.SUCCEEDED}
    assert len([key for key, wave, site in sites.list_shards() if wave == 1 and site == "hamburg"]) == 1


def test_a_shard_that_died_before_it_saved_its_plans_installs_only_what_was_approved(sites: Sites) -> None:
    sites.late_in_waves("hamburg")
    records = sites.fleet.records
    history: Any = FakeHistory(records)

    def die_and_resume() -> None:
        (key,) = [key for key, wave, site in sites.list_shards() if wave == 1 and site == "hamburg"]
        for name in ("two", "three"):
            sites.fleet.machines[name].world.packages.append(FakePackage("unapproved", seconds=60))
        request = sites.shards.requests[key]
        with use_site("hamburg"):
            whole = require_shard(history, request, f"flow run of {key}")
            state = read_shard_state(history, request, whole, sites.fleet.clock.now())
            ports = replace(sites._build_ports(StopToken()), gate=ShardGate(history, request))
            first = FleetRun(request, ports, LocalRunner(), run_id=key, resume_state=state)
            records.save(first.info)
            FleetRun(request, ports, LocalRunner(), run_id=key, resume_state=read_left_state(history, key)).execute()

    sites.at_seconds(400, die_and_resume)
    report = sites.patch(approval={"required": True})

    installed = {result.update.name for outcome in report.outcomes for result in outcome.updates}
    assert set(states(report).values()) == {OperationState.SUCCEEDED}
    assert installed == {"a"}


def test_a_machine_whose_hooks_have_run_is_not_left_open(sites: Sites) -> None:
    sites.shards.hanging = {"hamburg"}

    def suspend() -> None:
        (key,) = [key for key, wave, site in sites.list_shards() if wave == 1 and site == "hamburg"]
        now = sites.fleet.clock.now()
        entry = JournalEntry(key, "two", Step.PRECHECK, JournalMark.AFTER, HOOK_ACT, "snapshot", now, {})
        sites.fleet.records.journal.append(entry)
        sites.token.request_suspension("somebody")

    sites.at_seconds(900, suspend)
    report = sites.patch()

    assert states(report)["two"] is OperationState.NOT_STARTED
    assert "three" not in states(report)


def test_a_shard_that_can_not_be_looked_up_at_the_end_is_unknown_and_not_unstarted(sites: Sites) -> None:
    sites.shards.hanging = {"hamburg"}

    def fail_at_hamburg(read: Any) -> Any:
        def read_or_fail(run_id: str, *others: Any) -> Any:
            request = sites.shards.requests.get(run_id)
            if request is not None and not request.dry_run and sites.shards.sites[run_id] == "hamburg":
                raise RecordsError("the seal of its record is broken")
            return read(run_id, *others)

        return read_or_fail

    shards: Any = sites.shards
    shards.look, shards.has_begun = fail_at_hamburg(shards.look), fail_at_hamburg(shards.has_begun)
    report = sites.patch(minutes=60)

    assert states(report)["one"] is OperationState.SUCCEEDED
    assert states(report)["two"] is OperationState.UNKNOWN
    assert "the seal of its record is broken" in outcome_of(report, "two").reason
