"""A frozen set: only what an earlier run has tested is chosen."""

import functools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.engine.fleet_run import FleetRun
from flows.engine.pinned_updates import find_pinned_updates, resolve_pinned_updates
from flows.local_run import LocalRunner
from flows.request.patch_request import PatchRequest, UpdatesRequest
from flows.request.read_requests import AssessRequest
from tasks.domain.errors import RequestError
from tasks.domain.model import PinnedUpdates, RunReport, Selection, UpdateResult
from tasks.domain.states import Classification, OperationState, UpdateState
from tasks.rules.updates.selection import describe_unapplied_limits, select_updates
from tests.support import builders as make
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of
from tests.unit.approval.scene import RUN, Scene

NAMES = st.sampled_from(["curl", "openssl", "zlib"])
VERSIONS = st.sampled_from(["1", "2", "3"])


def selection(*tested: tuple[str, str], **changes: Any) -> Selection:
    base = {
        "classifications": frozenset({Classification.SECURITY}),
        "pinned_updates": PinnedUpdates("run-1", frozenset(tested)),
    }
    return Selection(**{**base, **changes})


class TestSelecting:
    @given(st.sets(st.tuples(NAMES, VERSIONS)), st.dictionaries(NAMES, VERSIONS))
    def test_exactly_the_tested_versions_are_chosen(
        self, tested: set[tuple[str, str]], pending: dict[str, str]
    ) -> None:
        updates = tuple(make.make_update(name=name, available=version) for name, version in pending.items())
        chosen, skipped = select_updates(make.make_package_state(updates=updates), selection(*tested))
        assert {(each.name, each.available) for each in chosen} == set(pending.items()) & tested
        assert len(chosen) + len(skipped) == len(updates)
        assert all(each.state is UpdateState.NOT_SELECTED and "run-1" in each.reason for each in skipped)

    def test_a_tested_version_is_chosen_although_a_newer_one_is_offered(self) -> None:
        curl = make.make_update(name="curl", available="4", older_versions=("3", "2", "1"))
        updates = make.make_package_state(updates=(curl,))
        (chosen,), _ = select_updates(updates, selection(("curl", "1"), ("curl", "2")))
        assert (chosen.available, chosen.older_versions) == ("2", ("1",))
        assert select_updates(updates, selection(("curl", "5")))[0] == ()
        assert select_updates(updates, selection(pinned_updates=None))[0] == (curl,)

    def test_versions_newer_than_the_security_fix_are_not_older_ones(self) -> None:
        curl = make.make_update(name="curl", available="4", older_versions=("3", "2", "1"), security_version="2")
        (chosen,), _ = select_updates(make.make_package_state(updates=(curl,)), selection(("curl", "1")))
        assert (chosen.available, chosen.older_versions) == ("1", ())
        (newest,), _ = select_updates(make.make_package_state(updates=(curl,)), selection(pinned_updates=None))
        assert (newest.available, newest.older_versions) == ("2", ("1",))

    def test_it_says_why(self) -> None:
        updates = (make.make_update(name="curl", available="3"), make.make_update(name="zlib", available="1"))
        _, skipped = select_updates(make.make_package_state(updates=updates), selection(("curl", "1"), ("curl", "2")))
        assert [each.reason for each in skipped] == [
            "run run-1 has tested 1, 2, and not 3, which is offered",
            "run run-1, whose updates this run uses, has not installed it",
        ]

    def test_it_widens_nothing(self) -> None:
        other = make.make_update(name="curl", available="1", classification=Classification.OTHER)
        barred = make.make_update(name="zlib", available="1")
        chosen, skipped = select_updates(
            make.make_package_state(updates=(other, barred)), selection(("curl", "1"), ("zlib", "1"), exclude=("zlib",))
        )
        assert chosen == ()
        assert [each.state for each in skipped] == [UpdateState.NOT_SELECTED, UpdateState.EXCLUDED]

    def test_the_plan_says_so(self) -> None:
        assert describe_unapplied_limits((), selection()) == ("only what run run-1 has tested is chosen",)


def result(
    name: str, version: str, state: UpdateState = UpdateState.INSTALLED, after: str | None = None
) -> UpdateResult:
    update = make.make_update(name=name, available=version)
    return UpdateResult(update, state, version_after=after if after is not None else version)


def remember(scene: Scene, run_id: str, *results: UpdateResult, configuration: str = "", **run: Any) -> None:
    """Remember a run that did this to one machine, while another failed."""
    about = {"request": {"configuration": configuration}, "state": OperationState.FAILED, **run}
    outcomes = (
        make.make_outcome(run_id=run_id, updates=results),
        make.make_failed_outcome(run_id=run_id, updates=(result("kernel", "6", UpdateState.FAILED),)),
    )
    scene.records.save(RunReport(make.make_run(id=run_id, **about), outcomes))


class TestLookingUp:
    def test_what_was_installed_somewhere_counts_and_nothing_else(self, scene: Scene) -> None:
        remember(
            scene,
            "canary-1",
            result("curl", "2"),
            result("zlib", "1", after="1.1"),
            result("bash", "5", UpdateState.NOT_ATTEMPTED),
            result("vim", "9", UpdateState.EXCLUDED),
        )
        assert find_pinned_updates(scene.history, "canary") == PinnedUpdates(
            "canary-1", frozenset({("curl", "2"), ("zlib", "1.1")})
        )

    def test_of_a_plan_it_is_what_was_chosen(self, scene: Scene) -> None:
        plan = make.make_plan(chosen=(make.make_update(name="curl", available="2"),))
        run = make.make_run(id="plan-1", kind="plan", state=OperationState.SUCCEEDED)
        scene.records.save(RunReport(run, (), plans=(plan,)))
        assert find_pinned_updates(scene.history, "plan-1").updates == {("curl", "2")}

    def test_the_last_of_a_configuration_is_the_newest_that_is_over_and_began_anything(self, scene: Scene) -> None:
        remember(scene, "r1", result("curl", "1"), configuration="canary", started_at=make.at(0))
        remember(scene, "r2", result("curl", "2"), configuration="canary", started_at=make.at(1))
        remember(scene, "r3", configuration="canary", started_at=make.at(2), state=OperationState.NOT_STARTED)
        remember(scene, "r4", configuration="canary", started_at=make.at(3), state=OperationState.IN_PROGRESS)
        remember(scene, "r5", result("curl", "5"), configuration="other", started_at=make.at(4))
        assert find_pinned_updates(scene.history, "last: canary") == PinnedUpdates("r2", frozenset({("curl", "2")}))

    @pytest.mark.parametrize(
        ("named", "why"),
        [
            ("nobody", "as_in_run: there is no run 'nobody'"),
            ("last:nothing", "no finished run of configuration 'nothing'"),
            ("looked", "only assessed machines"),
            ("running", "has not come to its end"),
            ("r", "may be any of several runs"),
        ],
    )
    def test_bad_names_are_named(self, scene: Scene, named: str, why: str) -> None:
        remember(scene, "looked", kind="assess")
        remember(scene, "running", state=OperationState.IN_PROGRESS)
        remember(scene, "r1")
        with pytest.raises(RequestError, match=why) as caught:
            find_pinned_updates(scene.history, named)
        assert caught.value.hint


class TestRunning:
    def test_the_next_ring_installs_what_the_canaries_had_and_waits_with_the_rest(self, scene: Scene) -> None:
        scene.fleet.add("canary", [package("openssl"), replace(package("curl"), fails="no")])
        scene.run(scene.fleet.request())
        second = SimFleet(clock=scene.clock)
        second.add("prod", [package(name) for name in ("openssl", "curl", "zlib")])
        ports = replace(
            second.ports(),
            records=scene.records,
            find_pinned_updates=functools.partial(find_pinned_updates, scene.history),
        )
        request = second.request(updates={"as_in_run": RUN[:15]})

        report = FleetRun(request, ports, LocalRunner(), run_id="next").execute()

        states = {each.update.name: each.state for each in outcome_of(report, "prod").updates}
        assert states == {
            "openssl": UpdateState.INSTALLED,
            "curl": UpdateState.NOT_SELECTED,
            "zlib": UpdateState.NOT_SELECTED,
        }
        assert report.run.request["updates"]["as_in_run"] == RUN  # type: ignore[index]

    def test_an_unknown_run_stops_everything_before_it_began(self, scene: Scene) -> None:
        scene.add("web", "openssl")
        ports = replace(scene.fleet.ports(), find_pinned_updates=functools.partial(find_pinned_updates, scene.history))
        request = scene.fleet.request(updates={"as_in_run": "last:canary"})
        with pytest.raises(RequestError, match="no finished run"):
            FleetRun(request, ports, LocalRunner())
        assert scene.fleet.machines["web"].calls == []

    def test_whoever_resumes_is_not_kept_from_it_by_a_run_that_is_gone(self) -> None:
        def gone(named: str) -> PinnedUpdates:
            raise RequestError(f"there is no run {named}")

        request = PatchRequest(scope="*", updates=UpdatesRequest(as_in_run="gone"))
        assert resolve_pinned_updates(request, gone, has_plans=True)[1] == PinnedUpdates("gone")
        with pytest.raises(RequestError):
            resolve_pinned_updates(request, gone)

    def test_nothing_is_looked_up_where_nobody_asked_for_it(self, scene: Scene) -> None:
        def never(named: str) -> PinnedUpdates:
            raise AssertionError(named)

        ports = replace(scene.fleet.ports(), find_pinned_updates=never)
        for request in (PatchRequest(scope="*"), AssessRequest(scope="*")):
            assert FleetRun(request, ports, LocalRunner()).info.scope == "*"


def package(name: str) -> FakePackage:
    return FakePackage(name, classification=Classification.SECURITY)
