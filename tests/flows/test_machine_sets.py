"""Machine sets in runs that Prefect shows: turns one after the other, and every step where it belongs."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from flows.patch import patch_fleet
from tests.flows.prefect_view import look, waves
from tests.support.set_fleet import SetFleet

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_the_steps_of_members_and_their_waves_are_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fleet = SetFleet()
    fleet.add_members("web-1", "web-2", "web-3", "alone")
    fleet.add_set("web", "web-1", "web-2", "web-3")
    ports = lambda request, who: nullcontext(replace(fleet.ports(), listener=who.listener))  # noqa: E731 - as conftest.py
    monkeypatch.setattr("flows.execution.open_ports", ports)
    monkeypatch.setattr("flows.prefect_runtime.runner.find_report_directory", lambda asked: asked or tmp_path)

    state = patch_fleet(fleet.request(waves={"size": 3, "at_once": 3}), return_state=True)

    assert state.is_completed(), state.message
    assert state.state_details.flow_run_id is not None
    seen = look(state.state_details.flow_run_id, tasks=21)
    assert waves(state.state_details.flow_run_id) == ["1 | 3 | 0 | 3 Succeeded", "2 | 1 | 0 | 1 Succeeded"]
    steps = ("assess", "precheck", "install", "reboot", "validate")
    expected = {f"{step} {name}": "Completed" for step in steps for name in fleet.machines}
    assert {name: told for name, told in seen.tasks.items() if not name.startswith("report ")} == expected
    assert fleet.slots.most == {"web": 1}
    assert [each.split()[0] for each in fleet.story] == ["drain", "undrain"] * 3
