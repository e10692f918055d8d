"""What others install between two rounds of installing is not told as it was before."""

from collections.abc import Mapping
from typing import Any

from tasks.domain.states import UpdateState
from tests.support.fake_manager import FakeManager
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of


class _ManagerOfManyHands(FakeManager):
    """The first round fails and changes nothing. Then somebody installs ``late``, and a person stops the run."""

    def __init__(self, fleet: SimFleet) -> None:
        super().__init__()
        self.fleet = fleet
        self.reads = 0

    def read_installed_versions(self, *arguments: Any, **options: Any) -> Mapping[str, str]:
        self.reads += 1
        world = self.fleet.machines["web"].world
        if self.reads == 2:  # after the first round
            for update_id in ("early", "late"):
                world[update_id].installed, world[update_id].broken = "1.0", False
        versions = super().read_installed_versions(*arguments, **options)
        if self.reads == 2:
            world["late"].installed = "2.0"
            self.fleet.control.request_stop("a person stopped the run")
        return versions


def test_versions_are_read_again_when_a_later_round_does_not_begin() -> None:
    fleet = SimFleet()
    fleet.manager = _ManagerOfManyHands(fleet)
    web = fleet.add(
        "web", [FakePackage("early", fails="disk on fire", group="both"), FakePackage("late", group="both")]
    )

    outcome = outcome_of(fleet.patch(), "web")

    states = {result.update.id: result.state for result in outcome.updates}
    assert len(web.installs()) == 1
    assert states == {"early": UpdateState.FAILED, "late": UpdateState.INSTALLED}
