"""An assessment of several sites is carried out by assessments at these sites, and has one answer."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fleetpatch.cli.runtime.exit_codes import ExitCode, to_run_exit_code
from flows.engine.shard_state import require_shard
from inventory.sites import use_site
from tasks.domain.errors import RequestError
from tasks.domain.model import RunReport
from tasks.domain.protocols.records import JournalMark
from tasks.domain.states import OperationState
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeHistory
from tests.support.fleet import outcome_of
from tests.support.site_fleet import RUN, Sites, answer_as_one, die, states

NAMES = ("one", "two", "three", "four")


def unread(report: RunReport) -> set[str]:
    return {outcome.machine for outcome in report.outcomes} - {a.machine for a in report.assessments}


def test_each_site_assesses_its_machines_and_the_answer_is_one(sites: Sites) -> None:
    report = sites.assess()

    assert states(report) == dict.fromkeys(NAMES, OperationState.SUCCEEDED)
    assert [outcome.machine for outcome in report.outcomes] == list(NAMES)
    assert sites.list_shards() == [(f"{RUN}-1", 0, "default"), (f"{RUN}-2", 0, "hamburg")]
    assert {outcome.run_id for outcome in report.outcomes} == {RUN}
    assert {assessment.run_id for assessment in report.assessments} == {RUN}
    assert {a.machine: len(a.packages.updates) for a in report.assessments if a.packages} == dict.fromkeys(NAMES, 1)
    assert all(outcome.steps for outcome in report.outcomes)  # how long each took
    assert report.run.state is OperationState.SUCCEEDED
    assert report.notes == (f"site default: 2 machines in {RUN}-1", f"site hamburg: 2 machines in {RUN}-2")
    assert to_run_exit_code(report) is ExitCode.SUCCESS


@pytest.mark.parametrize("site", ["default", "hamburg"])
def test_one_process_assesses_any_number_of_machines_of_its_own_site(site: str) -> None:
    sites = Sites(**{f"m{number}": site for number in range(5)})
    sites.size, sites.connects = 2, True

    with use_site(site):
        assert set(states(sites.assess()).values()) == {OperationState.SUCCEEDED}
    assert sites.list_shards() == []


def test_the_machines_asked_at_once_are_shared_out_and_each_site_asks_its_own(sites: Sites) -> None:
    sites.assess(at_once=10, refresh=False, report_directory="/srv/reports", report_formats=["csv"])

    requests = [sites.shards.requests[key] for key, _, _ in sites.list_shards()]
    assert [request.at_once for request in requests] == [5, 5]
    assert [request.only_machines for request in requests] == [["one", "four"], ["two", "three"]]
    assert {(request.refresh, request.report_directory) for request in requests} == {(False, None)}


def test_without_prefect_the_machines_of_the_other_site_are_not_read_and_said_so(sites: Sites) -> None:
    sites.opens, sites.connects = False, True

    report = sites.assess()

    assert states(report)["one"] is OperationState.SUCCEEDED
    assert "reached from the site hamburg only" in outcome_of(report, "two").reason
    assert to_run_exit_code(report) is ExitCode.WARNINGS


def test_a_site_without_a_worker_costs_ten_minutes_and_its_machines_are_unread(sites: Sites) -> None:
    sites.shards.late = {"hamburg"}
    began = sites.fleet.clock.now()

    report = sites.assess()

    assert timedelta(minutes=10) <= sites.fleet.clock.now() - began < timedelta(minutes=11)
    assert states(report)["one"] is OperationState.SUCCEEDED
    assert states(report)["two"] is OperationState.NOT_STARTED
    assert "the site hamburg has not read it: no worker has taken its run since" in outcome_of(report, "two").reason
    assert unread(report) == {"two", "three"}
    assert to_run_exit_code(report) is ExitCode.WARNINGS
    assert list(sites.shards.cancelled) == [f"flow run of {RUN}-2"]
    sites.fleet.records.runs[RUN] = replace(report.run, state=OperationState.IN_PROGRESS)
    sites.shards.begin(f"{RUN}-2")  # its worker is back
    assert "does not want it any more" in sites.shards.ends[f"{RUN}-2"]


def test_where_no_site_has_a_worker_nothing_was_read(sites: Sites) -> None:
    sites.shards.late = {"default", "hamburg"}

    assert to_run_exit_code(sites.assess()) is ExitCode.NOTHING_ATTEMPTED


def test_a_site_that_prefect_refuses_is_unread_alone(sites: Sites) -> None:
    sites.shards.refusals["hamburg"] = RequestError("there is no deployment 'assess-fleet/on-demand-hamburg'")

    report = sites.assess()

    assert states(report)["one"] is OperationState.SUCCEEDED
    assert "hamburg has not read it: there is no deployment" in outcome_of(report, "two").reason
    assert sites.fleet.machines["two"].calls == []


def test_a_site_that_dies_is_unread_but_for_what_it_had_saved(sites: Sites) -> None:
    sites.shards.hanging = {"hamburg"}

    def end() -> None:
        (shard, _, _) = sites.list_shards()[1]
        saved = next(a for a in sites.fleet.records.assessments.values() if a.machine == "one")
        sites.fleet.records.save(replace(saved, machine="two", run_id=shard))
        sites.shards.view_end = "its flow run ended Crashed: out of memory"

    sites.at_seconds(60, end)
    report = sites.assess()

    assert states(report)["two"] is OperationState.SUCCEEDED
    assert states(report)["three"] is OperationState.UNKNOWN
    reason = "the site hamburg has not read it: its flow run ended Crashed: out of memory"
    assert outcome_of(report, "three").reason == reason
    assert unread(report) == {"three"}
    assert report.run.state is OperationState.FAILED
    assert to_run_exit_code(report) is ExitCode.MACHINE_FAILED


def test_a_site_that_works_for_hours_is_waited_for_and_a_silent_one_for_ten_minutes(sites: Sites) -> None:
    sites.shards.hanging = {"hamburg"}
    began = sites.fleet.clock.now()

    def fall_silent() -> None:
        sites.shards.silent_since = sites.fleet.clock.now()

    sites.at_seconds(7200, fall_silent)
    report = sites.assess()

    assert timedelta(minutes=130) <= sites.fleet.clock.now() - began < timedelta(minutes=131)
    assert states(report)["two"] is OperationState.UNKNOWN
    assert "silent since 2026-03-10 03:00:00 UTC" in outcome_of(report, "two").reason
    assert "the assessment at site hamburg: silent since 2026-03-10 03:00:00 UTC; its machines go on" in sites.said


def test_a_site_that_never_ends_has_a_limit(sites: Sites) -> None:
    sites.shards.hanging = {"hamburg"}

    report = sites.assess()

    assert "the assessment at site hamburg was not reported in time" in outcome_of(report, "two").reason
    assert states(report)["two"] is OperationState.UNKNOWN
    assert list(sites.shards.cancelled) == [f"flow run of {RUN}-2"]


def test_a_cancelled_assessment_cancels_those_of_the_sites(sites: Sites) -> None:
    sites.shards.hanging = {"hamburg"}
    sites.at_seconds(60, lambda: sites.token.request_stop("Ctrl-C"))

    report = sites.assess()

    assert states(report)["one"] is OperationState.SUCCEEDED
    assert states(report)["two"] is OperationState.NOT_STARTED
    assert outcome_of(report, "two").reason == "the run was asked to stop: Ctrl-C"
    assert list(sites.shards.cancelled) == [f"flow run of {RUN}-2"]
    assert to_run_exit_code(report, was_stopped=True) is ExitCode.INTERRUPTED


def test_a_stop_between_the_starts_of_two_sites_starts_no_second_one(sites: Sites) -> None:
    start = sites.shards.start

    def start_and_stop(*arguments: Any) -> str:
        sites.token.request_stop("Ctrl-C")
        return start(*arguments)

    sites.shards.start = start_and_stop  # type: ignore[method-assign, assignment]
    report = sites.assess()

    assert list(sites.shards.requests) == [f"{RUN}-1"]
    assert states(report)["one"] is OperationState.SUCCEEDED  # it was over when that was looked at
    assert states(report)["two"] is OperationState.NOT_STARTED
    assert [key for key, _, _ in sites.list_shards(JournalMark.AFTER)] == [f"{RUN}-2"]


def test_a_machine_that_is_not_in_the_inventory_of_its_site_is_unread(sites: Sites) -> None:
    described = sites.fleet.described
    begin = sites.shards.begin

    def begin_with_an_older_inventory(run_id: str) -> None:
        sites.fleet.described = [machine for machine in described if machine.name != "three"]
        begin(run_id)
        sites.fleet.described = described

    sites.shards.begin = begin_with_an_older_inventory  # type: ignore[method-assign]
    report = sites.assess()

    assert states(report)["two"] is OperationState.SUCCEEDED
    assert states(report)["three"] is OperationState.UNKNOWN
    assert outcome_of(report, "three").reason == (
        f"the site hamburg has not read it: run {RUN}-2 is over and does not have it. Does the inventory at its site?"
    )
    assert to_run_exit_code(report) is ExitCode.MACHINE_FAILED


def test_a_machine_that_does_not_answer_fails_with_its_own_reason(sites: Sites) -> None:
    sites.fleet.refused["two"] = RequestError("two has no route")
    sites.connect_at_site = sites.fleet._connect  # type: ignore[method-assign]

    report = sites.assess()

    assert states(report)["two"] is OperationState.FAILED
    assert outcome_of(report, "two").reason == "two has no route"
    assert states(report)["three"] is OperationState.SUCCEEDED


def test_one_machine_of_two_names_at_two_sites_has_a_remark(sites: Sites) -> None:
    answer_as_one(sites.fleet.machines["one"], sites.fleet.machines["two"])

    report = sites.assess()

    remarks = [finding.message for finding in outcome_of(report, "two").findings]
    assert len([remark for remark in remarks if "one" in remark]) == 1


def test_nobody_else_can_start_an_assessment_with_the_name_of_a_shard(sites: Sites) -> None:
    sites.shards.late = {"hamburg"}
    sites.at_seconds(60, lambda: die("killed"))
    with pytest.raises(KeyboardInterrupt):
        sites.assess()
    sites.fleet.records.runs[RUN] = replace(sites.fleet.records.runs[RUN], state=OperationState.IN_PROGRESS)
    asked, history = sites.shards.requests[f"{RUN}-2"], FakeHistory(sites.fleet.records)
    source: Any = history

    with use_site("hamburg"):
        require_shard(source, asked, "mine")
        with pytest.raises(RequestError, match="otherwise"):
            require_shard(source, asked.model_copy(update={"only_machines": ["one"]}), "mine")
        with pytest.raises(RequestError, match="otherwise"):
            require_shard(source, sites.fleet.request(shard=f"{RUN}-2", only_machines=["two", "three"]), "mine")
    with pytest.raises(RequestError, match="is of the site hamburg, and this is default"):
        require_shard(source, asked, "mine")


def test_what_a_broken_off_assessment_has_left_waiting_begins_never(sites: Sites) -> None:
    sites.shards.late = {"hamburg"}
    sites.at_seconds(60, lambda: die("killed"))
    with pytest.raises(KeyboardInterrupt):
        sites.assess()

    sites.shards.begin(f"{RUN}-2")  # nothing resumes an assessment: started again, it is another run

    assert f"run {RUN}, of which this is a part, is over: Unknown" in sites.shards.ends[f"{RUN}-2"]
    assert sites.fleet.machines["two"].calls == []


def test_a_large_assessment_is_divided_at_its_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.engine.shard_work.ASSESSMENT_SIZE", 2)
    sites = Sites(**{f"m{number}": "hamburg" for number in range(5)})
    sites.fleet.add("here", [FakePackage("a")])

    report = sites.assess(at_once=2)

    assert set(states(report).values()) == {OperationState.SUCCEEDED}
    assert [site for _, _, site in sites.list_shards()] == ["hamburg", "hamburg", "hamburg", "default"]
