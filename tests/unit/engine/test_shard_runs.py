"""A run whose machines are of several sites, or very many, is carried out by runs at their sites."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from functools import partial
from threading import Event
from typing import Any

from flows.engine.shard_entries import PLAN_WAVE
from inventory.resource_limits import Resource, ResourceKind, ResourceLimits
from tasks.domain.errors import PatchError, RequestError
from tasks.domain.protocols.records import JournalMark
from tasks.domain.states import OperationState
from tests.support.fleet import outcome_of
from tests.support.site_fleet import RUN, Listener, Sites, answer_as_one, states


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


def test_a_shard_makes_no_waves_of_its_own(sites: Sites) -> None:
    sites.patch(waves={"percent": 50, "first_locations": ["berlin"], "round_down": True})

    waves = [request.waves for request in sites.shards.requests.values()]
    assert len(waves) > 2
    assert {(one.percent, tuple(one.first_locations), one.round_down) for one in waves} == {(100, (), False)}


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

    report = sites.patch(waves={"at_once": 4, "failure_budget_count": 0})

    assert states(report)["one"] is OperationState.FAILED
    assert states(report)["two"] is OperationState.NOT_STARTED
    (reason,) = sites.shards.stops.values()
    assert "failure budget is spent" in reason


def test_a_shard_that_has_not_begun_when_the_budget_is_spent_begins_never(sites: Sites) -> None:
    sites.fleet.machines["one"].world.packages[0].fails = "it fails"
    sites.late_in_waves("hamburg")

    report = sites.patch(waves={"at_once": 4, "failure_budget_count": 0})

    assert states(report)["two"] is OperationState.NOT_STARTED
    assert "failure budget is spent" in outcome_of(report, "two").reason
    ((run_id, _, _),) = sites.list_shards(JournalMark.AFTER)
    sites.shards.begin(run_id)
    assert sites.fleet.machines["two"].begun() == []
    assert "is over" in sites.shards.ends[run_id]


def test_the_budget_of_the_whole_run_bounds_each_shard(sites: Sites) -> None:
    sites.patch(waves={"percent": 100, "failure_budget_percent": 50})

    (key,) = [key for key, wave, site in sites.list_shards() if wave == 1 and site == "hamburg"]
    assert sites.shards.requests[key].waves.failure_budget_count == 2


def test_a_machine_of_two_names_at_two_sites_is_patched_once(sites: Sites) -> None:
    first, second = sites.fleet.machines["one"], sites.fleet.machines["two"]
    answer_as_one(first, second)

    report = sites.patch()

    assert states(report)["one"] is OperationState.SUCCEEDED
    assert states(report)["two"] is OperationState.NOT_STARTED
    assert "one" in outcome_of(report, "two").reason


def test_a_site_without_a_worker_costs_the_others_ten_minutes_and_is_tried_again_in_its_wave(sites: Sites) -> None:
    sites.shards.late = {"hamburg"}
    began = sites.fleet.clock.now()
    at: dict[str, Any] = {}
    start = sites.shards.start

    def start_and_note(run_id: str, site: str, name: str, request: Any) -> str:
        at.setdefault(f"{site} {request.get('dry_run', False)}", sites.fleet.clock.now() - began)
        return start(run_id, site, name, request)

    sites.shards.start = start_and_note  # type: ignore[method-assign]
    report = sites.patch()

    assert states(report)["one"] is OperationState.SUCCEEDED
    assert states(report)["two"] is OperationState.NOT_STARTED
    assert timedelta(minutes=10) <= at["default False"] < timedelta(minutes=11)
    assert "hamburg False" in at


def test_the_machines_at_once_are_shared_out() -> None:
    sites = Sites(**{f"m{number}": "default" if number < 4 else "hamburg" for number in range(6)})
    sites.size = 2

    sites.patch(waves={"at_once": 2}, assess_at_once=9)

    shards = [sites.shards.requests[key] for key, wave, _ in sites.list_shards() if wave == 1]
    assert [request.waves.at_once for request in shards] == [1, 1, 2]
    plans = [sites.shards.requests[key] for key, wave, _ in sites.list_shards() if wave == PLAN_WAVE]
    assert [request.assess_at_once for request in plans] == [3, 3, 3]


def test_shards_share_a_limit_and_take_turns_where_it_is_too_low() -> None:
    """Six machines of one host, two in each shard. The host bears two at once, and the mirror five."""
    sites = Sites(**{f"m{number}": "hamburg" for number in range(6)})
    sites.fleet.described[:] = [replace(machine, hypervisor="esx", mirror="eu") for machine in sites.fleet.described]
    esx, mirror = Resource(ResourceKind.HYPERVISOR, "esx"), Resource(ResourceKind.MIRROR, "eu")
    sites.fleet.limits, sites.size = ResourceLimits({esx: 2, mirror: 5}), 2

    report = sites.patch(waves={"at_once": 6}, assess_at_once=6)

    assert set(states(report).values()) == {OperationState.SUCCEEDED}
    begun = [sites.shards.requests[key].shard_limits for key, wave, _ in sites.list_shards() if wave == 1]
    two_at_once = {ResourceKind.HYPERVISOR: {"esx": 1}, ResourceKind.MIRROR: {"eu": 3}}
    assert begun == [two_at_once, {**two_at_once, ResourceKind.MIRROR: {"eu": 2}}, {}]
    plans = [sites.shards.requests[key].shard_limits for key, wave, _ in sites.list_shards() if wave == PLAN_WAVE]
    assert plans == [{}] * 3  # an assessment installs nothing


def test_a_shard_keeps_its_share_of_a_limit() -> None:
    sites = Sites(**{f"m{number}": "hamburg" for number in range(4)})
    sites.fleet.described[:] = [replace(machine, mirror="eu") for machine in sites.fleet.described]
    sites.fleet.limits, sites.size = ResourceLimits(others={ResourceKind.MIRROR: 2}), 2
    waits = {"m0": Event(), "m2": Event()}
    waits |= {"m1": waits["m0"], "m3": waits["m2"]}

    class Watch(Listener):
        def on_message(self, message: str) -> None:
            super().on_message(message)
            if "mirror" in message:
                waits[message.split(maxsplit=1)[0]].set()

    sites.fleet.watch = Watch(sites.said)

    def hold(name: str) -> None:
        assert waits[name].wait(60), "the other machine of the shard did not wait"

    for name, machine in sites.fleet.machines.items():
        machine.on_start("install", 1, partial(hold, name))

    assert set(states(sites.patch(waves={"at_once": 4})).values()) == {OperationState.SUCCEEDED}

    first, second = sorted(line for line in sites.said if "mirror" in line)
    assert first in ("m0 waits: 1 machine uses mirror eu", "m1 waits: 1 machine uses mirror eu")
    assert second in ("m2 waits: 1 machine uses mirror eu", "m3 waits: 1 machine uses mirror eu")
