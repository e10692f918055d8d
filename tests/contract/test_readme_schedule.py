"""The README's inventory and maintenance configuration, read as they stand there."""

import re
from datetime import UTC, datetime
from pathlib import Path

from deployments.configuration.loader import load_configurations
from deployments.configuration.model import load_inventories
from deployments.sync.next_windows import find_next_windows
from inventory.loader import load_inventory
from tasks.domain.states import OperationState
from tasks.rules.calendar.schedule import iterate_occurrences
from tests.ci.tree import TOP
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of

BLOCK = re.compile(r"^```yaml\n# (?P<name>\S+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def written(folder: Path) -> set[str]:
    """Write each file that the README shows, under the name that it gives it, and return the names."""
    found = {match["name"]: match["text"] for match in BLOCK.finditer((TOP / "README.md").read_text())}
    for name, text in found.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return set(found)


def test_the_files_are_right_and_the_window_opens_for_both_machines(tmp_path: Path) -> None:
    assert written(tmp_path) == {"fleet.yaml", "configurations/web.yaml", "configurations/automatic.yaml"}
    configurations = load_configurations(tmp_path / "configurations", NOW.date())
    fleets = load_inventories(configurations, tmp_path / "fleet.yaml")

    (web,) = configurations.all_configurations
    inventory = fleets.get_inventory(web)

    assert not fleets.errors
    assert inventory is not None
    assert [machine.name for machine in web.select_machines(inventory)] == ["web-1", "web-2"]
    (found,) = find_next_windows(configurations, {web.name: inventory}, {}, NOW)
    # four days after the second Tuesday, in the evening, by Berlin's clocks
    assert found.next_window is not None
    assert found.next_window.start == datetime(2026, 12, 12, 21, tzinfo=UTC)


def test_a_failed_canary_is_the_last_machine_of_that_configurations_run(tmp_path: Path) -> None:
    written(tmp_path)
    (web,) = load_configurations(tmp_path / "configurations", NOW.date()).all_configurations
    fleet = SimFleet()
    for machine in load_inventory(tmp_path / "fleet.yaml").machines:
        fleet.add(machine.name, [FakePackage("a", fails="it breaks the shop")])

    report = fleet.campaign(fleet.request().model_copy(update={"waves": web.build_request("UTC").waves})).execute()

    assert web.form.waves.canary_count
    assert outcome_of(report, "web-1").state is OperationState.FAILED
    assert outcome_of(report, "web-2").state is OperationState.NOT_STARTED
    assert fleet.machines["web-2"].jobs() == []


def test_the_window_comes_back_each_month(tmp_path: Path) -> None:
    written(tmp_path)
    (web,) = load_configurations(tmp_path / "configurations", NOW.date()).all_configurations
    (opening,) = web.build_scheduled_requests(load_inventory(tmp_path / "fleet.yaml"))

    starts = [each.start.date().isoformat() for each in iterate_occurrences(opening.schedule, NOW, limit=4)]

    assert starts == ["2026-12-12", "2027-01-16", "2027-02-13", "2027-03-13"]
