"""Reading files: all faults at once, each with its place and remedy."""

from pathlib import Path

import pytest

from deployments.configuration.loader import InvalidConfigurations, find_configurations, load_configurations
from inventory.errors import InventoryError
from tests.unit.config.folder import TODAY, WEEKLY, Folder, wall

BAD = """\
configurations:
  - name: Web Servers
    scop: env=prod
    window: {start: 2026-13-05 22:00, length: 2 fortnights, zone: Mars, recurrence: Month Twelfth Tuesday}
    lead: soon
    reboot: Sometimes
    waves: {at_once: 0, size: x, pause_minutes: -1}
    hooks: {before_run: [{name: "-a", kind: htp, target: "", timeout: 5}]}
    freezes: [{start: 2026-12-20}, {date: 2026-12-24 10:00}, {file: nothere.ics}]
  - name: a
    scope: env=
    window: {start: 2026-12-05 22:00Z, length: 0, zone: UTC}
  - name: b
    window:
  - 5
  - name: c
    scope: "*"
    window: {start: 2026-12-05, length: 32d, zone: UTC, expires: 2020-01-01}
    notify: [{to: "env:X", on: [finishd]}]
    tags: [a b]
    approval: yes
    description: {}
freezes:
  - {start: 2026-12-20, end: 2026-12-19}
"""


def test_everything_is_told_at_once(folder: Folder) -> None:
    found = folder.faults(BAD)
    assert [(line, key) for line, key, _ in found] == [
        (2, "configurations.0.name"),
        (3, "configurations.0.scop"),
        (4, "configurations.0.window.start"),
        (4, "configurations.0.window.length"),
        (4, "configurations.0.window.zone"),
        (4, "configurations.0.window.recurrence"),
        (5, "configurations.0.lead"),
        (6, "configurations.0.reboot"),
        (7, "configurations.0.waves.size"),
        (7, "configurations.0.waves.at_once"),
        (7, "configurations.0.waves.pause_minutes"),
        (8, "configurations.0.hooks.before_run.0.name"),
        (8, "configurations.0.hooks.before_run.0.kind"),
        (8, "configurations.0.hooks.before_run.0.target"),
        (8, "configurations.0.hooks.before_run.0.timeout"),
        (9, "configurations.0.freezes.0"),
        (9, "configurations.0.freezes.1.date"),
        (9, "configurations.0.freezes.2.file"),
        (11, "configurations.1.scope"),
        (12, "configurations.1.window.start"),
        (12, "configurations.1.window.length"),
        (14, "configurations.2.window"),
        (15, "configurations.3"),
        (18, "configurations.4.window.length"),
        (19, "configurations.4.notify.0.on.0"),
        (20, "configurations.4.tags.0"),
        (21, "configurations.4.approval"),
        (22, "configurations.4.description"),
        (24, "freezes.0"),
    ]
    assert all(words.partition(" / ")[2] for _, _, words in found), "each has a remedy"


def test_the_words_help(folder: Folder) -> None:
    words = {key: text for _, key, text in folder.faults(BAD)}
    assert words["configurations.0.scop"].startswith("unknown key 'scop' / Did you mean 'scope'?")
    assert "'Twelfth' is no week of a month / Write one of First" in words["configurations.0.window.recurrence"]
    assert "'0' is out of range / Give at least 1." in words["configurations.0.waves.at_once"]
    assert "is not one of IfRequired, Never, Always" in words["configurations.0.reboot"]
    assert "Leave the offset out" in words["configurations.1.window.start"]
    assert "Did you mean 'finished'?" in words["configurations.4.notify.0.on.0"]
    assert "nothere.ics" in words["configurations.0.freezes.2.file"]
    assert "ends before it starts" in words["freezes.0"]


def test_a_fault_names_its_file(folder: Folder) -> None:
    with pytest.raises(InvalidConfigurations) as caught:
        folder.read("name: a\nscope: '*'\n")
    assert caught.value.file == folder.path / "one.yaml"
    assert "'window' is missing" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "this file is empty"),
        ("# nothing\n", "this file is empty"),
        ("- name: a\n", "a map is wanted here, not a list"),
        ("configurations: {}\n", "`configurations` is a list"),
        ("configurations: []\n", "no configuration here"),
        ("freezes: []\n", "no configuration here"),
        ("configurations: []\nfreeze: []\n", "unknown key 'freeze'"),
        ("name: [a\n", "no valid YAML"),
        (f"name: a\n{WEEKLY}\n", "it names no machines"),
        (f"name: a\nname: b\nscope: '*'\n{WEEKLY}\n", "stands here twice"),
        (f"name: a\nscope: '*'\n{WEEKLY}\nconfigurations: []\n", "unknown key"),
        (f"name: {'a' * 64}\nscope: '*'\n{WEEKLY}\n", "no usable name"),
        (f"name: a--b\nscope: '*'\n{WEEKLY}\n", "no usable name"),
        (f"name: a\nmachines: ['x y,z']\n{WEEKLY}\n", "no usable name"),
        ("name: a\nscope: '*'\nwindow: {start: 1950-01-01, length: 2h, zone: UTC}\n", "can't start at"),
        (
            "name: a\nscope: '*'\nwindow: {start: 2026-01-02, length: 2h, zone: UTC, expires: 2026-01-01}\n",
            "expires before",
        ),
        (f"name: a\nscope: '*'\nlead: 8d\n{WEEKLY}\n", "out of range"),
        (f"name: a\nscope: '*'\nwaves: {{percent: true x}}\n{WEEKLY}\n", "is not a number"),
    ],
)
def test_what_makes_no_sense(folder: Folder, text: str, words: str) -> None:
    assert any(words in said for _, _, said in folder.faults(text))


def test_hooks_are_checked_as_in_the_form(folder: Folder) -> None:
    twice = "{name: x, kind: http, target: 'https://a.example'}"
    faults = folder.faults(f"name: a\nscope: '*'\n{WEEKLY}\nhooks: {{before_run: [{twice}, {twice}]}}\n")
    assert any("called 'x'" in said for _, _, said in faults)


def test_a_folder_is_its_files(folder: Folder) -> None:
    folder.write(
        {
            "b.yml": f"name: b\nscope: '*'\n{WEEKLY}\n",
            "a.yaml": f"name: a\nscope: '*'\n{WEEKLY}\n",
            "c.json": '{"freezes": [{"date": "2026-12-24", "reason": "eve"}]}',
            ".hidden.yaml": "nonsense",
            "README.md": "nonsense",
            "x.ics": "nonsense",
        }
    )
    found = load_configurations(folder.path, TODAY)
    assert [one.name for one in found.all_configurations] == ["a", "b"]
    assert [one.freezes[0].reason for one in found.all_configurations] == ["eve", "eve"]
    assert found.all_configurations[1].source_location.file == folder.path / "b.yml"


def test_names_are_unique_across_files(folder: Folder) -> None:
    folder.write({"a.yaml": f"name: a\nscope: '*'\n{WEEKLY}\n", "b.yaml": f"\nname: a\nscope: '*'\n{WEEKLY}\n"})
    with pytest.raises(
        InvalidConfigurations, match=r"b\.yaml:2: name: the configuration 'a' is here a second time, first in a\.yaml:1"
    ):
        load_configurations(folder.path, TODAY)


def test_paths_are_relative_to_the_file(folder: Folder) -> None:
    one = folder.one(f"name: a\nscope: '*'\ninventory: ../fleet.yaml\nreport_directory: reports\n{WEEKLY}\n")
    assert one.inventory_path == folder.path.parent / "fleet.yaml"
    assert one.build_request().report_directory == folder.path / "reports"


def test_freezes_mean_whole_days_and_times(folder: Folder) -> None:
    one = folder.one(
        f"name: a\nscope: '*'\n{WEEKLY}\n"
        "freezes:\n- {date: 2026-12-24}\n- {start: 2026-12-19, end: 2026-12-20}\n"
        "- {start: 2026-12-01 10:00, end: 2026-12-01 11:30}\n"
    )
    assert [(freeze.start, freeze.end) for freeze in one.freezes] == [
        (wall("2026-12-01 10:00"), wall("2026-12-01 11:30")),
        (wall("2026-12-19"), wall("2026-12-21")),
        (wall("2026-12-24"), wall("2026-12-25")),
    ]


def test_more_freezes_than_a_request_takes_are_refused(folder: Folder) -> None:
    days = "".join(f"- {{date: 2026-{month:02}-{day:02}}}\n" for month in range(1, 13) for day in range(1, 29))
    later = days.replace("2026", "2027")
    faults = folder.faults(f"configurations:\n- {{name: a, scope: '*', {WEEKLY}}}\nfreezes:\n{days}{later}")
    assert any("freezes" in said and "500" in said for _, _, said in faults)


def test_where_configurations_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "own"))
    monkeypatch.delenv("FLEETPATCH_CONFIGURATIONS", raising=False)
    with pytest.raises(InventoryError, match=r"no configurations or configurations\.yaml in"):
        find_configurations()
    own = tmp_path / "own" / "fleetpatch" / "configurations"
    own.mkdir(parents=True)
    assert find_configurations() == own
    (tmp_path / "configurations.yaml").touch()
    assert find_configurations() == tmp_path / "configurations.yaml"
    (tmp_path / "configurations").mkdir()
    assert find_configurations() == tmp_path / "configurations"
    monkeypatch.setenv("FLEETPATCH_CONFIGURATIONS", str(tmp_path / "none"))
    with pytest.raises(InventoryError, match="named by FLEETPATCH_CONFIGURATIONS"):
        find_configurations()
    assert find_configurations(tmp_path) == tmp_path


@pytest.mark.parametrize(
    "freeze",
    [
        "start: '2026-12-19T00:00:00+01:00', end: 2026-12-20",
        "start: 2026-12-19, end: '2026-12-20 18:00Z'",
        "date: 2026-12-19T00:00Z",
    ],
)
def test_an_offset_in_a_freeze_is_refused_with_words_that_help(folder: Folder, freeze: str) -> None:
    ((line, key, words),) = folder.faults(f"name: a\nscope: '*'\nfreezes:\n- {{{freeze}}}\n{WEEKLY}\n")
    assert line == 4
    assert (key or "").startswith("freezes.0")
    assert "by the clocks of each window" in words
    assert "iCalendar" in words
    assert "`zone`" not in words
