"""A run that only downloads: ahead of a window, and of nothing else in the machine's life."""

import pytest

from tasks.domain.states import OperationState, Step, UpdateState
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of


@pytest.mark.parametrize("reboot", ["IfRequired", "Always", "Never"])
def test_it_downloads_and_does_nothing_else(reboot: str) -> None:
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("a", asks_reboot=True), FakePackage("b")])
    boot = web.boot_id

    report = fleet.patch(download_only=True, reboot=reboot, stage=False, reboot_pending_first=True)

    outcome = outcome_of(report, "web")
    assert report.run.kind == "stage"
    assert [job.script.params["work"] for job in web.jobs()] == ["stage"]
    assert web.world.whole() == {"a": "1.0", "b": "1.0"}
    assert (web.boot_id, web.boots.orders) == (boot, [])
    assert {result.state for result in outcome.updates} == {UpdateState.NOT_ATTEMPTED}
    assert {result.reason for result in outcome.updates} == {"only downloaded: nothing is installed in this run"}
    assert [record.step for record in outcome.steps] == [Step.ASSESS, Step.PRECHECK, Step.INSTALL]
    assert outcome.install is not None
    assert outcome.install.staged_seconds is not None
    assert web.locked_by is None  # the run in the window may have it


def test_where_nothing_is_pending_nothing_is_done() -> None:
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("a", available="1.0")])

    outcome = outcome_of(fleet.patch("nothing-like-it", download_only=True, reboot="Always"), "web")

    assert outcome.state is OperationState.SUCCEEDED
    assert web.jobs() == []
    assert web.boots.orders == []
