"""The key `automatic` of configuration files: loading, faults, and what is told of it before the first night."""

from datetime import time
from pathlib import Path

import pytest

from deployments.checks.configuration_checks import check_configurations, find_blocking_findings
from deployments.checks.controller_checks import check_controller
from deployments.checks.finding import ConfigurationFinding
from deployments.configuration.loader import InvalidConfigurations, load_configurations
from deployments.configuration.model import Inventories, load_inventories
from inventory.machine import Inventory, Machine, PatchOwner
from tasks.rules.calendar.checks import FindingSeverity
from tests.unit.config.folder import NOW, TODAY, WEEKLY, Folder, wall
from tests.unit.config.test_docs import AUTOMATIC

FLEET = Inventory(
    (
        Machine("ber-1", "10.0.0.1", location="ber", owner=PatchOwner.MANAGED, environment="prod"),
        Machine("muc-1", "10.0.0.2", location="muc", owner=PatchOwner.MANAGED, environment="prod"),
        Machine("vie-1", "10.0.0.3", location="vie", environment="test"),
    )
)
FLEETS = Inventories({None: FLEET})
WEB = f"name: web\nscope: '*'\n{WEEKLY}\n"


def look(folder: Folder, text: str) -> list[ConfigurationFinding]:
    return list(check_configurations(folder.read(f"automatic: {text}"), FLEETS, NOW))


def test_its_defaults_are_enough(folder: Folder) -> None:
    found = folder.read("automatic: {}")
    assert found.all_configurations == ()
    assert found.automatic is not None
    assert (found.automatic.off_peak.start, found.automatic.inventory, found.automatic.freezes) == (time(22), None, [])


def test_the_documented_policy_is_read(folder: Folder) -> None:
    request = folder.read(AUTOMATIC).automatic
    assert request is not None
    assert request.feeds == folder.path / "feeds"
    assert request.inventory == folder.path / "fleet.yaml"
    policy = request.to_policy()
    assert (policy.off_peak_start, policy.off_peak_end, policy.window_minutes) == (time(22), time(6), 235)
    assert [(rule.due_days, rule.known_exploited, rule.epss, rule.cvss) for rule in policy.risk_rules] == [
        (3, True, None, None),
        (14, False, 0.5, 9),
    ]
    assert policy.paired_locations == (("munich", "vienna"),)
    assert [each.reason for each in request.freezes] == ["closed"]


def test_without_the_key_there_is_none(folder: Folder) -> None:
    assert folder.read(WEB).automatic is None


def test_it_stands_beside_configurations_and_in_a_file_of_its_own(folder: Folder) -> None:
    indented = WEB.replace("\n", "\n    ").rstrip()
    beside = folder.read(f"automatic: {{scope: env=prod}}\nconfigurations:\n  - {indented}\n")
    assert beside.automatic is not None
    assert [one.name for one in beside.all_configurations] == ["web"]
    (folder.path / "one.yaml").write_text("automatic: {scope: env=prod}")
    (folder.path / "web.yaml").write_text(WEB)
    whole = load_configurations(folder.path, TODAY)
    assert whole.automatic is not None
    assert [one.name for one in whole.all_configurations] == ["web"]


def test_all_freezes_apply_and_paths_are_absolute(folder: Folder) -> None:
    (folder.path / "year.yaml").write_text("freezes: [{date: 2026-12-31, reason: year}]")
    (folder.path / "auto.yaml").write_text(
        "automatic:\n  inventory: a/fleet.yaml\n  feeds: feeds\n  freezes: [{date: 2026-12-24}]\n"
        "  notify: [{to: 'file:secret'}]\n"
    )
    request = load_configurations(folder.path, TODAY).automatic
    assert request is not None
    assert [(each.start, each.reason) for each in request.freezes] == [
        (wall("2026-12-24"), ""),
        (wall("2026-12-31"), "year"),
    ]
    assert (request.inventory, request.feeds) == (folder.path / "a/fleet.yaml", folder.path / "feeds")
    assert request.notify[0].to == f"file:{folder.path / 'secret'}"


def test_a_second_one_is_refused_with_both_places(folder: Folder) -> None:
    (folder.path / "a.yaml").write_text("automatic: {}")
    (folder.path / "b.yaml").write_text("freezes: []\nautomatic: {}")
    with pytest.raises(InvalidConfigurations) as caught:
        load_configurations(folder.path, TODAY)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.key) == (folder.path / "b.yaml", 2, "automatic")
    assert "first in a.yaml:1" in problem.message


def test_no_configuration_may_have_its_name(folder: Folder) -> None:
    ((line, key, words),) = folder.faults(WEB.replace("name: web", "name: automatic"))
    assert (line, key) == (1, "name")
    assert "'automatic' is reserved" in words


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        ("automatic: {}\nname: web", 2, "name", "unknown key"),
        ("automatic: 1", 1, "automatic", "a map is wanted here"),
        ("automatik:\n  scope: a", 1, "automatik", "Did you mean 'automatic'?"),
        ("automatic:\n  scop: a", 2, "automatic.scop", "Did you mean 'scope'?"),
        ("automatic:\n  scope: 'a,,b'", 2, "automatic.scope", "nothing between two commas"),
        ("automatic:\n  off_peak:\n    start: 22", 3, "automatic.off_peak.start", "'22' is no time of the day"),
        ("automatic:\n  off_peak: {end: '24:30'}", 2, "automatic.off_peak.end", "is no time of the day"),
        ("automatic:\n  off_peak: {end: '06:00+02:00'}", 2, "automatic.off_peak.end", "is no time of the day"),
        ("automatic:\n  due_days: 0", 2, "automatic.due_days", "Give more than 0"),
        ("automatic:\n  freezes:\n    - {date: soon}", 3, "automatic.freezes.0.date", "no time of the calendar"),
        ("automatic:\n  risk_rules: [{epss: 0.5}]", 2, "automatic.risk_rules.0", "'due_days' is missing"),
    ],
)
def test_faults_are_told_with_line_and_key(folder: Folder, text: str, line: int, key: str, words: str) -> None:
    found = folder.faults(text)
    assert (line, key) in [each[:2] for each in found]
    assert any(words in each[2] for each in found)


def test_a_good_one_gives_nothing(folder: Folder) -> None:
    assert look(folder, "{scope: env=prod, phases: {canary_locations: [ber], paired_locations: [[ber, muc]]}}") == []


@pytest.mark.parametrize(
    ("text", "severity", "key", "words"),
    [
        ("{scope: name=vie-1}", FindingSeverity.WARNS, "scope", "none of its machines (1) has the owner `managed`"),
        ("{scope: name=nobody}", FindingSeverity.WARNS, "scope", "nobody"),
        ("{scope: shelf=3}", FindingSeverity.BLOCKS, "scope", "shelf"),
        ("{phases: {canary_locations: [bre]}}", FindingSeverity.WARNS, "phases", "in the canary location 'bre'"),
        ("{phases: {canary_locations: [vie]}}", FindingSeverity.WARNS, "phases", "no managed machine"),
        ("{phases: {canary_locations: [ber, muc]}}", FindingSeverity.WARNS, "phases", "all locations are canary"),
        ("{phases: {paired_locations: [[ber, mcu]]}}", FindingSeverity.WARNS, "phases", "the paired location 'mcu'"),
        ("{risk_rules: [{due_days: 3, epss: 0.5}]}", FindingSeverity.WARNS, "risk_rules", "rule 1 never applies"),
        ("{risk_rules: [{due_days: 30}]}", FindingSeverity.WARNS, "risk_rules", "rule 1 has no effect"),
        ("{off_peak: {start: '22:00', end: '00:30'}}", FindingSeverity.WARNS, "off_peak", "(22:00 to 00:30) have 2 h"),
        ("{off_peak: {window_minutes: 15}}", FindingSeverity.BLOCKS, "off_peak", "a window has at most 15 min"),
        ("{notify: [{to: 'env:X', on: [missed]}]}", FindingSeverity.WARNS, "notify", "nobody is told"),
        (
            "{max_assessments: 1, max_assessment_age_hours: 0.25}",
            FindingSeverity.WARNS,
            "max_assessments",
            "2 machines are too many to be assessed every 15 min",
        ),
    ],
)
def test_what_can_not_work_is_told(folder: Folder, text: str, severity: FindingSeverity, key: str, words: str) -> None:
    (finding,) = look(folder, text)
    assert (finding.configuration, finding.severity, finding.key) == ("automatic", severity, key)
    assert words in finding.message
    assert finding.remedy
    configurations = folder.read(f"automatic: {text}")
    blocking = find_blocking_findings(configurations, FLEETS, NOW)
    assert [each.key for each in blocking] == [key] * (severity is FindingSeverity.BLOCKS)


def test_a_folder_of_feeds_that_is_missing_is_told(folder: Folder, tmp_path: Path) -> None:
    found = check_controller(folder.read("automatic: {feeds: nowhere, notify: [{to: 'file:gone'}]}"))
    assert [each.key for each in found] == ["feeds", "notify"]
    (folder.path / "feeds").mkdir()
    assert check_controller(folder.read("automatic: {feeds: feeds}")) == ()


def test_its_own_inventory_is_read(folder: Folder) -> None:
    text = "machines: [{name: a, address: 192.0.2.1, owner: managed, location: x}]"
    (folder.path / "fleet.yml").write_text(text)
    configurations = folder.read("automatic: {inventory: fleet.yml, phases: {canary_locations: [y]}}")
    (finding,) = check_configurations(configurations, load_inventories(configurations), NOW)
    assert "'y'" in finding.message


def test_machines_without_a_location_beside_others_are_named(folder: Folder) -> None:
    machines = "{name: a, owner: managed, location: x}, {name: b, owner: managed}"
    (folder.path / "fleet.yml").write_text(f"machines: [{machines}]")
    configurations = folder.read("automatic: {inventory: fleet.yml}")
    (finding,) = check_configurations(configurations, load_inventories(configurations), NOW)
    assert finding.message.endswith("count as one location: b")
    (folder.path / "fleet.yml").write_text("machines: [{name: a, owner: managed}, {name: b, owner: managed}]")
    assert not check_configurations(configurations, load_inventories(configurations), NOW)
