"""What configurations will do in a fleet, told before they do it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from deployments.checks.configuration_checks import check_configurations
from deployments.checks.finding import ConfigurationFinding
from deployments.configuration.model import Inventories, load_inventories
from tasks.rules.calendar.checks import FindingSeverity
from tests.unit.config.folder import FLEETS, NOW, WEEKLY, Folder

GOOD = f"name: a\nscope: env=prod,web\n{WEEKLY}\n"


def look(folder: Folder, text: str, fleets: Inventories = FLEETS) -> list[ConfigurationFinding]:
    return list(check_configurations(folder.read(text), fleets, NOW))


def test_good_ones_give_nothing(folder: Folder) -> None:
    assert look(folder, GOOD) == []


@pytest.mark.parametrize(
    ("more", "severity", "key", "words"),
    [
        ("updates: {classifications: []}", FindingSeverity.BLOCKS, "updates", "it selects no updates"),
        (
            "reboot_reserve_minutes: 120",
            FindingSeverity.BLOCKS,
            "window",
            "the reboot reserve takes 2 h of the window's 2 h",
        ),
        ("approval: {required: true}", FindingSeverity.WARNS, "lead", "only while its window is open"),
        (
            "announce: {enabled: true, notice_minutes: 110}",
            FindingSeverity.WARNS,
            "announce",
            "a reboot is announced 1 h 50 min ahead, and the window has 2 h",
        ),
        ("stage_ahead: 1h\nstage: false", FindingSeverity.WARNS, "stage_ahead", "`stage` is off"),
        (
            "updates: {as_in_run: 'last:b'}",
            FindingSeverity.WARNS,
            "updates",
            "the configuration 'b', which does not exist",
        ),
        ("waves: {go_on_after_failed_canary: true}", FindingSeverity.WARNS, "waves", "there are no canaries"),
        (
            "waves: {failure_budget_count: 1, failure_budget_percent: 10}",
            FindingSeverity.WARNS,
            "waves",
            "`failure_budget_percent` has no effect",
        ),
        ("waves: {canary_count: 2}", FindingSeverity.WARNS, "waves", "all of its machines (2) are canaries"),
        ("waves: {canary_percent: 60}", FindingSeverity.WARNS, "waves", "all of its machines (2) are canaries"),
        (
            "waves: {canary_count: 1, failure_budget_count: 1, go_on_after_failed_canary: true}",
            FindingSeverity.WARNS,
            "waves",
            "when its canary fails, the run continues",
        ),
        (
            "maintenance: {hold: 5 days}",
            FindingSeverity.WARNS,
            "maintenance",
            "the next one that may open ends later than the hold of 5 d",
        ),
        ("machines: [wbe-1]", FindingSeverity.WARNS, "machines", "no machine 'wbe-1'"),
        (
            "freezes: [{start: 2026-01-01, end: 2028-12-31, reason: all}]",
            FindingSeverity.WARNS,
            "freezes",
            "all of its 50 windows",
        ),
    ],
)
def test_what_is_found(folder: Folder, more: str, severity: FindingSeverity, key: str, words: str) -> None:
    (found,) = look(folder, f"{GOOD}{more}\n")
    assert (found.configuration, found.severity, found.key) == ("a", severity, key)
    assert words in found.message
    assert found.remedy


@pytest.mark.parametrize(
    "more",
    [
        "updates: {classifications: [], include: [nginx]}",
        "updates: {classifications: [], as_in_run: run-1}",
        "reboot_reserve_minutes: 120\nreboot: Never",
        "waves: {canary_count: 1, failure_budget_count: 1}",
        "waves: {canary_count: 1, failure_budget_percent: 100}",
        "waves: {canary_count: 1, go_on_after_failed_canary: true}",
        "waves: {canary_count: 1, failure_budget_count: 0, go_on_after_failed_canary: true}",
        "approval: {required: true}\nlead: 1h",
        "updates: {as_in_run: 'last:a'}",
        "freezes: [{start: 2026-01-01, end: 2027-06-30}]",
    ],
)
def test_what_is_meant(folder: Folder, more: str) -> None:
    assert look(folder, f"{GOOD}{more}\n") == []


@pytest.mark.parametrize(
    ("scope", "severity", "words"),
    [
        ("env=prd", FindingSeverity.WARNS, "no machine is in the scope"),
        ("rnig=a", FindingSeverity.BLOCKS, "no machine has a tag 'rnig'"),
        ("env=old", FindingSeverity.WARNS, "all of its machines have another patch owner"),
        ("env=prod,web or env=old", FindingSeverity.WARNS, "1 of its 3 machines have another patch owner"),
    ],
)
def test_scopes(folder: Folder, scope: str, severity: FindingSeverity, words: str) -> None:
    (found,) = look(folder, f"name: a\nscope: {scope}\n{WEEKLY}\n")
    assert (found.severity, found.key) == (severity, "scope")
    assert words in found.message


def test_an_empty_scope_is_told_although_machines_stand_beside_it(folder: Folder) -> None:
    (found,) = look(folder, f"name: a\nscope: env=prd\nmachines: [web-1]\n{WEEKLY}\n")
    assert "no machine is in the scope 'env=prd'" in found.message


@pytest.mark.parametrize(
    ("window", "severity", "words"),
    [
        ("{start: 2025-12-06 22:00, length: 2h, zone: UTC}", FindingSeverity.WARNS, "its last window is over"),
        (
            "{start: 2026-12-06, length: 25h, zone: UTC, recurrence: Day}",
            FindingSeverity.BLOCKS,
            "after the next one opens",
        ),
        (
            "{start: 2026-12-06, length: 5, zone: UTC, recurrence: Day}",
            FindingSeverity.WARNS,
            "is too short for an update",
        ),
        (
            "{start: 2026-12-06 02:30, length: 2h, zone: Europe/Berlin, recurrence: Week Sunday}",
            FindingSeverity.WARNS,
            "clocks are put",
        ),
    ],
)
def test_windows(folder: Folder, window: str, severity: FindingSeverity, words: str) -> None:
    found = look(folder, f"name: a\nscope: web\nreboot: Never\nwindow: {window}\n")
    assert [(each.severity, each.key) for each in found] == [(severity, "window")]
    assert words in found[0].message


@pytest.mark.parametrize(
    "ended",
    [
        "{start: 2025-12-06 22:00, length: 2h, zone: UTC}",
        "{start: 2025-12-06 22:00, length: 2h, zone: UTC, recurrence: 'FREQ=DAILY;UNTIL=20260101T000000Z'}",
        "{start: 2025-12-06 22:00, length: 2h, zone: UTC, recurrence: Day, expires: 2026-01-01}",
        "{start: 2025-12-06 22:00, length: 2h, zone: machine}",
    ],
)
def test_of_what_is_over_nothing_else_is_looked_for(folder: Folder, ended: str) -> None:
    faulty = "updates: {classifications: []}\nreboot_reserve_minutes: 180\nfreezes: [{date: 2025-12-24}]"
    found = look(folder, f"name: a\nscope: rack=gone\n{faulty}\nwindow: {ended}\n")
    assert [(each.severity, each.key) for each in found] == [(FindingSeverity.WARNS, "window")]


def test_clocks_of_each_machines_own_zone(folder: Folder) -> None:
    found = look(
        folder,
        "name: a\nscope: env=shop\n"
        "window: {start: 2026-12-06 02:30, length: 2h, zone: machine, recurrence: Week Sunday}\n",
    )
    assert [each.message[-18:] for each in found] == ["(America/New_York)"], "Tokyo's clocks never change"


def test_windows_of_one_that_is_off_are_nobodys_trouble(folder: Folder) -> None:
    old = "window: {start: 2025-12-06 22:00, length: 2h, zone: UTC}"
    assert look(folder, f"name: a\nscope: web\nenabled: false\n{old}\n") == []


TWO = """\
configurations:
- {{name: a, scope: web, window: {{start: 2026-12-06 22:00, length: 2h, zone: Europe/Berlin, recurrence: Week Sunday}}}}
- {{name: b, {more}, window: {{start: 2026-12-06 {time}, length: 2h, zone: {zone}, recurrence: Week Sunday}}}}
"""


@pytest.mark.parametrize(
    ("more", "time", "zone", "meet"),
    [
        ("scope: web", "23:00", "Europe/Berlin", "web-1, web-2: at 2026-12-06 22:00 UTC and 49 more times"),
        ("machines: [web-2]", "21:00", "Europe/Berlin", "web-2: at 2026-12-06 21:00 UTC"),
        ("machines: [web-2]", "21:30", "machine", "web-2: at 2026-12-06 21:00 UTC"),
        ("scope: web", "00:00", "Europe/Berlin", ""),
        ("scope: web", "20:00", "Europe/Berlin", ""),
        ("scope: db", "22:00", "Europe/Berlin", ""),
        ("scope: web, enabled: false", "22:00", "Europe/Berlin", ""),
        ("scope: web, freezes: [{start: 2026-01-01, end: 2028-12-31}]", "22:00", "Europe/Berlin", ""),
    ],
)
def test_windows_that_meet_on_a_machine(folder: Folder, more: str, time: str, zone: str, meet: str) -> None:
    found = [each for each in look(folder, TWO.format(more=more, time=time, zone=zone)) if "overlap" in each.message]
    assert [meet in each.message for each in found] == [True] * bool(meet)
    assert all(each.severity is FindingSeverity.WARNS for each in found)


def test_many_that_meet_take_a_line_each_and_not_one_for_each_pair(folder: Folder) -> None:
    window = "{{start: 2026-12-06 22:00, length: 2h, zone: {1}, recurrence: Week Sunday}}"
    entry = f"- name: c{{0}}\n  scope: '*'\n  window: {window}\n"
    zones = ("Europe/Berlin", "machine", "Europe/Paris")
    text = "configurations:\n" + "".join(entry.format(number, zones[number % 3]) for number in range(30))
    found = [each for each in look(folder, text) if "overlap" in each.message]
    assert [each.configuration for each in found] == [f"c{number}" for number in range(29)]
    assert "'c1' on web-1, web-2, db-1" in found[0].message
    assert found[0].message.endswith("and those of 'c2', 'c3', 'c4', 'c5', 'c6', 'c7', 'c8', 'c9' and 20 more")
    assert "and those" not in found[-1].message


NIGHTS = "window: {start: 2026-12-05 22:00, length: 2h, zone: Europe/Berlin, recurrence: 1Day}"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("stage_ahead: 1d", "the download for the window of 2026-12-06 22:00 may last from 2026-12-05 22:00 to"),
        ("stage_ahead: 25h", "the download for the window of 2026-12-06 22:00 may last from 2026-12-05 21:00 to"),
        ("stage_ahead: 23h", "the download for the window of 2026-12-06 22:00 may last from 2026-12-05 23:00 to"),
        ("stage_ahead: 2d", "the download for the window of 2026-12-07 22:00 may last from 2026-12-05 22:00 to"),
        ("stage_ahead: 20h", ""),
        ("stage_ahead: 2h", ""),
        ("stage_ahead: 1d\nfreezes: [{start: 2026-12-05, end: 2028-12-31}]", ""),
    ],
)
def test_downloads_that_meet_an_earlier_window(folder: Folder, more: str, words: str) -> None:
    found = look(folder, f"name: a\nscope: env=prod,web\n{NIGHTS}\n{more}\n")
    found = [each for each in found if each.key != "freezes"]
    assert [(each.key, each.severity) for each in found] == [("stage_ahead", FindingSeverity.WARNS)] * bool(words)
    assert all(words in each.message for each in found), found
    assert all("overlaps the window of 2026-12-05 22:00: its run ends downloads" in each.message for each in found)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("lead: 23h", "a run takes 1 d 1 h (its lead and its window), and the next one is due 1 d after it"),
        ("lead: 1321", "Prefect cancels the run of the window of 2026-12-06 22:00"),
        ("lead: 22h", "Prefect cancels the run of the window of 2026-12-06 22:00"),
        ("lead: 21h", "is due 23 h after it: Prefect cancels the run of the window of 2027-03-28 22:00"),
        ("lead: 20h", ""),
        ("lead: 1d\nfreezes: [{start: 2026-12-05, end: 2028-12-31}]", ""),
    ],
)
def test_a_lead_that_begins_while_the_run_before_goes_on(folder: Folder, more: str, words: str) -> None:
    found = look(folder, f"name: a\nscope: env=prod,web\n{NIGHTS}\n{more}\n")
    found = [each for each in found if each.key != "freezes"]
    assert [(each.key, each.severity) for each in found] == [("lead", FindingSeverity.BLOCKS)] * bool(words)
    assert all(words in each.message and each.remedy for each in found), found


def test_what_cannot_be_read_is_not_looked_at(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLEETPATCH_INVENTORY", str(tmp_path / "none.yaml"))
    found = folder.read(f"{GOOD}machines: [nobody]\n")
    fleets = load_inventories(found)
    assert (fleets.by_path, list(fleets.errors)) == ({}, [None])
    assert check_configurations(found, fleets, NOW) == ()


def test_each_inventory_is_its_own_fleet(folder: Folder) -> None:
    for name in ("x", "y"):
        (folder.path.parent / f"{name}.yaml").write_text(f"machines: [{name}-1, both]\n")
    one = "name: NAME, inventory: ../NAME.yaml, machines: [both], " + WEEKLY
    found = folder.read(
        "".join(["configurations:\n", *(f"- {{{one.replace('NAME', name)}}}\n" for name in ("x", "y"))])
    )
    fleets = load_inventories(found)
    assert [len(inventory.machines) for inventory in fleets.by_path.values()] == [2, 2]
    assert check_configurations(found, fleets, datetime(2026, 11, 20, tzinfo=UTC)) == (), (
        "machines of two inventories are two machines"
    )
