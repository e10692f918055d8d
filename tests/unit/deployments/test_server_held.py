"""Whether doctor sees that nobody looks at what is held."""

from datetime import datetime

import pytest

from deployments.maintenance.flow import control_maintenance
from deployments.server.health_checks import run_server_checks
from tasks.domain.states import FindingLevel
from tests.unit.deployments.test_server_doctor import GOOD, OLD, WARN, ago, deployed, found, view


@pytest.mark.parametrize(
    ("looks", "level", "words"),
    [
        ({"web": ago(minutes=20)}, GOOD, "control-maintenance looks at 1 group"),
        ({"web": ago(minutes=20), "db": ago(hours=3)}, WARN, "nobody has looked for 2 hours at what is held: db"),
        ({}, WARN, "it is not known what control-maintenance holds: it has not looked yet"),
        (None, WARN, "it is not known what control-maintenance holds: the records can't be read"),
    ],
)
def test_maintenance_control_that_does_not_look_is_told(
    looks: dict[str, datetime] | None, level: FindingLevel, words: str
) -> None:
    control = {
        "deployments": (deployed(), deployed(id="d2", name="scheduled", flow_id="f2")),
        "flow_names": {"f1": "patch-fleet", "f2": control_maintenance.name},
    }
    finding = found("held", held_looks=looks, **control)
    assert (finding.level, finding.message) == (level, words)


def test_a_server_that_holds_nothing_says_nothing_of_it() -> None:
    assert not [each for each in run_server_checks(view(held_looks={"web": OLD})) if each.check == "held"]
