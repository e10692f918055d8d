"""The key `maintenance` of a configuration."""

import pytest

from flows.request.request_parts import HoldRequest
from tasks.domain.states import Classification
from tasks.rules.maintenance.model import ApplyMode
from tests.unit.config.folder import FLEET, WEEKLY, Folder

BASE = f"name: web\nscope: environment=prod\n{WEEKLY}\n"


@pytest.mark.parametrize("text", ["35 days", "35d", "840h", "50400"])
def test_a_hold_is_a_length_of_time(folder: Folder, text: str) -> None:
    one = folder.one(f"{BASE}maintenance: {{hold: {text}}}\n")
    assert one.form.maintenance is not None
    assert one.form.maintenance.hold == 35 * 24 * 60
    assert one.form.maintenance.apply is ApplyMode.LAST_WINDOW


def test_its_runs_carry_it_with_the_name_of_the_group(folder: Folder) -> None:
    text = "maintenance: {hold: 10d, apply: each_window, not_held: [Critical], not_held_updates: [openssl*]}"
    (scheduled,) = folder.one(f"{BASE}{text}\n").build_scheduled_requests(FLEET)
    hold = scheduled.request.maintenance
    assert isinstance(hold, HoldRequest)
    assert hold.group == scheduled.slug == "web"
    assert hold.not_held == [Classification.CRITICAL]
    policy = hold.to_policy(120)
    assert (policy.apply, policy.not_held.masks) == (ApplyMode.EACH_WINDOW, ("openssl*",))
    assert policy.hold.days == 10


def test_each_zone_is_a_group(folder: Folder) -> None:
    window = "window: {start: 2026-12-06 02:00, length: 1h, zone: machine}"
    one = folder.one(f"name: a\nscope: environment=shop\n{window}\nmaintenance: {{hold: 35 days}}\n")
    groups = [scheduled.request.maintenance for scheduled in one.build_scheduled_requests(FLEET)]
    assert [hold.group for hold in groups if hold is not None] == ["a@america-new-york", "a@asia-tokyo"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{hold: 12h}", "maintenance.hold"),
        ("{hold: 400 days}", "maintenance.hold"),
        ("{hold: soon}", "is no length of time"),
        ("{}", "maintenance 'hold' is missing"),
        ("{hold: 35 days, apply: sometimes}", "maintenance.apply"),
        ("{hold: 35 days, group: x}", "unknown key 'group'"),
        ("{hold: 35 days, not_held: [Tools]}", "names Tools, which `updates.classifications` does not select"),
    ],
)
def test_what_is_wrong_is_named(folder: Folder, text: str, fault: str) -> None:
    (found,) = folder.faults(f"{BASE}maintenance: {text}\n")
    assert fault in f"{found[1]} {found[2]}"


def test_it_can_t_hold_what_another_run_chose(folder: Folder) -> None:
    (found,) = folder.faults(f'{BASE}updates: {{as_in_run: "last:x"}}\nmaintenance: {{hold: 35 days}}\n')
    assert "Leave one of the two out" in found[2]
