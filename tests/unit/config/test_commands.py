"""`fleetpatch config` and `fleetpatch calendar`: what people and programs are told, and how they end."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleetpatch.cli.command import main
from fleetpatch.cli.runtime.output import get_stderr_console, get_stdout_console
from tests.unit.config.folder import NOW
from tests.unit.config.test_azure import EXAMPLES
from tests.unit.config.test_coming import SEVERAL

FLEET = """\
defaults: {zone: Europe/Berlin}
machines:
- {name: "web-[1:2]", environment: prod, groups: [web]}
- {name: db-1, environment: prod, groups: [db]}
- {name: nyc-1, environment: shop, zone: America/New_York}
- {name: tok-1, environment: shop, zone: Asia/Tokyo}
- {name: alone}
"""


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Said]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """The command in a folder with a fleet and configurations, at a fixed moment, for somebody in New York."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TZ", "America/New_York")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "own"))
    for name in ("FLEETPATCH_INVENTORY", "FLEETPATCH_CONFIGURATIONS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tasks.domain.protocols.clock.SystemClock.now", lambda _self: NOW)
    (tmp_path / "fleet.yaml").write_text(FLEET)
    (tmp_path / "configurations.yaml").write_text(SEVERAL)
    time.tzset()

    def call(*words: str, width: int = 120) -> Said:
        monkeypatch.setenv("COLUMNS", str(width))
        get_stdout_console.cache_clear()
        get_stderr_console.cache_clear()
        capsys.readouterr()
        code = main([*words])
        return Said(code, *capsys.readouterr())

    yield call
    monkeypatch.undo()
    time.tzset()


def test_a_check_shows_all_and_warns(run: Run) -> None:
    said = run("config", "check", width=1000)  # a folder's name may be long, and is part of a line
    assert said.code == 3
    assert "every month on the second Tuesday plus 4 days, 22:00" in said.out
    assert "in each machine's own zone" in said.out
    assert "disabled" in said.out
    assert "! web: window: its windows overlap those of 'db' on web-1: at 2026-12-12 23:30 UTC" in said.out
    assert "configurations.yaml: 4 configurations, 1 warning" in said.out


def test_a_check_of_good_ones(run: Run, tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(
        "name: a\nscope: web\nwindow: {start: 2026-12-06 22:00, length: 2h, zone: UTC}\n"
    )
    said = run("config", "check", "good.yaml")
    assert (said.code, said.err) == (0, "")
    assert "✓ good.yaml: 1 configuration\n" in said.out


def test_a_check_as_json(run: Run) -> None:
    said = run("config", "check", "--json")
    assert said.code == 3
    assert said.json["valid"] is True
    assert [each["name"] for each in said.json["configurations"]] == ["web", "db", "shops", "off"]
    assert [each["machineCount"] for each in said.json["configurations"]] == [2, 2, 2, 6]
    assert said.json["configurations"][2]["nextWindowStart"] == "2026-12-05T18:30:00Z"
    assert [each["severity"] for each in said.json["findings"]] == ["warns"]


def test_faults_end_with_2(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        "name: A\nscope: web\nwindow: {start: 2026-12-06, length: 2h, zone: UTC}\nleed: 5\n"
    )
    said = run("config", "check", "bad.yaml")
    assert said.code == 2
    assert "bad.yaml:1: name: 'A' is no usable name" in said.out
    assert "Did you mean 'lead'?" in said.out
    assert "bad.yaml: 2 faults" in said.out
    as_json = run("config", "check", "bad.yaml", "--json")
    assert (as_json.code, as_json.json["valid"]) == (2, False)
    assert [(each["line"], each["key"]) for each in as_json.json["problems"]] == [(1, "name"), (4, "leed")]


def test_what_is_over_is_a_warning_and_has_a_state_of_its_own(run: Run, tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text("name: a\nscope: web\nwindow: {start: 2020-12-06, length: 2h, zone: UTC}\n")
    said = run("config", "check", "old.yaml")
    assert said.code == 3
    assert "! a: window: its last window is over" in said.out
    assert said.out.splitlines()[2].rstrip().endswith("over")
    assert "All windows are over: nothing here will ever be patched by a schedule." in said.out
    assert run("config", "check", "old.yaml", "--json").json["configurations"][0]["state"] == "over"
    shown = run("calendar", "--config", "old.yaml")
    assert shown.code == 3
    assert "no next window" in shown.out
    assert "! a: over, its last window has ended: it patches nothing any more" in shown.out
    assert "has no window after" not in shown.out
    assert run("calendar", "--config", "old.yaml", "--json").json["over"] == ["a"]


def test_the_calendar_shows_freezes_without_a_window(run: Run, tmp_path: Path) -> None:
    (tmp_path / "quiet").mkdir()
    (tmp_path / "quiet" / "freezes.yaml").write_text("freezes: [{date: 2026-12-24, reason: holidays}]\n")
    shown = run("calendar", "--config", "quiet")
    assert shown.code == 0
    assert "the whole fleet: holidays" in shown.out
    own = run("calendar", "--config", "quiet", "--machine", "nyc-1")
    assert "Thu 2026-12-24 00:00 to Fri 2026-12-25 00:00 EST  the whole fleet: holidays" in own.out
    (tmp_path / "once.yaml").write_text(
        "configurations: [{name: once, scope: '*', window: {start: 2026-12-24 22:00, length: 1h, zone: UTC}}]\n"
        "freezes: [{date: 2026-12-24, reason: holidays}]\n"
    )
    assert "none: a freeze" in run("config", "check", "once.yaml").out
    (freeze,) = run("calendar", "--config", "quiet", "--json").json["freezes"]
    assert (freeze["reason"], freeze["wholeFleet"]) == ("holidays", True)
    assert run("config", "check", "quiet").code == 0


def test_what_can_never_run_ends_with_2(run: Run, tmp_path: Path) -> None:
    never = "window: {start: 2026-02-01, length: 2h, zone: UTC, recurrence: 12Months day31}"
    (tmp_path / "never.yaml").write_text(f"name: a\nscope: web\n{never}\n")
    said = run("config", "check", "never.yaml")
    assert said.code == 2
    assert "✗ a: window:" in said.out
    assert "never has a window" in said.out


def test_no_inventory_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").unlink()
    said = run("config", "check")
    assert said.code == 3
    assert "no inventory: machines, scopes and overlaps are not checked" in said.out
    named = run("config", "check", "--inventory", "none.yaml")
    assert named.code == 2
    assert "none.yaml" in named.out


def test_no_configurations(run: Run, tmp_path: Path) -> None:
    (tmp_path / "configurations.yaml").unlink()
    for words in (("config", "check"), ("calendar",)):
        said = run(*words)
        assert said.code == 2
        assert "there are no configurations" in said.err
        assert "FLEETPATCH_CONFIGURATIONS" in said.err


@pytest.mark.parametrize("width", [120, 80, 40])
def test_the_calendar(run: Run, width: int) -> None:
    said = run("calendar", "--next", "9", width=width)
    assert said.code == 0
    tables = [block for block in said.out.split("\n\n") if "───" in block]  # a sentence is wrapped by the terminal
    assert len(tables) == 2
    assert all(len(line.rstrip()) <= width for table in tables for line in table.splitlines())
    if width < 80:
        return
    assert "Sat 2026-12-12 22:00–01:55 CET  16:00" in said.out  # noqa: RUF001
    assert "overlaps db" in said.out
    assert "Sat 23:50" in said.out, "the run of db starts 40 minutes before midnight and a half"
    assert "9 windows, 3 frozen, 2 overlapping, from 2026-11-20 07:00 EST on" in said.out
    assert "machines without a configuration: alone" in said.out
    assert "disabled: off" in said.out


def test_the_calendar_where_one_is_has_no_second_clock(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    assert "yours" not in run("calendar", "--machine", "db-1").out


def test_the_calendar_of_a_machine(run: Run) -> None:
    said = run("calendar", "--machine", "tok-1", "--next", "2")
    assert said.out.count("Asia/Tokyo") == 2
    assert "New_York" not in said.out
    wrong = run("calendar", "--machine", "tok-2")
    assert wrong.code == 2
    assert "there is no machine 'tok-2'" in wrong.err


def test_the_calendar_as_json(run: Run) -> None:
    said = run("calendar", "--next", "9", "--json")
    web = said.json["windows"][3]
    assert web["configuration"] == "web"
    assert (web["start"], web["localStart"]) == ("2026-12-12T21:00:00Z", "2026-12-12T22:00:00+01:00")
    assert (web["runStart"], web["startedByPrefect"], web["overlaps"]) == ("2026-12-12T13:00:00Z", True, ["db"])
    frozen = said.json["windows"][6]
    assert (frozen["frozen"]["reason"], frozen["startedByPrefect"]) == ("closing", False)
    assert said.json["machinesWithoutConfiguration"] == ["alone"]


def test_machines_that_nobody_knows(run: Run, tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").unlink()
    said = run("calendar")
    assert said.code == 0
    assert "machines are unknown: there is no inventory" in said.err
    assert "shops uses the time zones of its machines" in said.out


def test_long_waits_are_told(run: Run, tmp_path: Path) -> None:
    window = "{start: 2027-02-01, length: 2h, zone: UTC, recurrence: 60Days, expires: 2027-08-01}"
    (tmp_path / "rare.yaml").write_text(f"name: a\nscope: web\nwindow: {window}\n")
    said = run("calendar", "--config", "rare.yaml")
    assert "! a has no window for 72 d" in said.out
    assert "no window after 2027-" in said.out


def test_the_schema(run: Run, tmp_path: Path) -> None:
    printed = run("config", "schema")
    said = run("config", "schema", "--output", "s.json")
    assert said.code == printed.code == 0
    assert json.loads((tmp_path / "s.json").read_text()) == printed.json


def test_azures_are_taken_over(run: Run, tmp_path: Path) -> None:
    said = run("config", "import-azure", str(EXAMPLES / "guest-windows.json"), "--scope", "web", "-o", "new.yaml")
    assert (said.code, said.out) == (0, "")
    assert "config check new.yaml" in said.err
    assert "scope: web,os=windows" in (tmp_path / "new.yaml").read_text()
    checked = run("config", "check", "new.yaml")
    assert "every 5 days" in checked.out


def test_azures_to_the_screen_with_what_was_lost(run: Run) -> None:
    files = [str(EXAMPLES / name) for name in ("guest-windows.json", "guest-linux.json", "list.json")]
    said = run("config", "import-azure", *files)
    assert said.code == 3
    assert "name: configuration1-2" in said.out
    assert "OSImage is not about updates" in said.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "this is no JSON"),
        ("{}", "no maintenance configuration in it"),
        (
            '{"properties": {"maintenanceWindow": {"startDateTime": "2026-01-01", "recurEvery": "Never"}}}',
            "Never",
        ),
    ],
)
def test_azures_that_make_no_sense(run: Run, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    said = run("config", "import-azure", "bad.json")
    assert said.code == 2
    assert words in said.err
    assert said.out == ""


def test_only_what_is_no_guest_ends_with_2(run: Run) -> None:
    assert run("config", "import-azure", str(EXAMPLES / "list.json")).code == 2


def test_a_check_shows_automatic_patching(run: Run, tmp_path: Path) -> None:
    (tmp_path / "configurations.yaml").write_text("automatic: {scope: env=prod, enabled: false}\n")
    (tmp_path / "fleet.yaml").write_text(FLEET.replace("defaults: {", "defaults: {owner: managed, "))
    said = run("config", "check")
    assert said.code == 0
    assert "automatic" in said.out
    assert "22:00 to 06:00 by each machine's clock" in said.out
    assert "disabled" in said.out
    assert "configurations.yaml: automatic patching" in " ".join(said.out.split())
    told = run("config", "check", "--json").json["automatic"]
    assert (told["machineCount"], told["enabled"], told["scope"], told["line"]) == (3, False, "env=prod", 1)


def test_a_check_of_automatic_patching_ends_with_its_worst_finding(run: Run, tmp_path: Path) -> None:
    (tmp_path / "configurations.yaml").write_text("automatic: {scope: env=prod}\n")
    said = run("config", "check")
    assert said.code == 3
    assert "automatic: scope: none of its machines (3) has the owner `managed`" in said.out
    (tmp_path / "configurations.yaml").write_text("automatic: {off_peak: {window_minutes: 12}}\n")
    assert run("config", "check").code == 2


def test_a_window_that_is_too_short_is_told_with_what_would_do(run: Run, tmp_path: Path) -> None:
    window = "{start: 2027-02-01, length: 20m, zone: UTC, recurrence: Day}"
    (tmp_path / "short.yaml").write_text(f"name: short\nscope: '*'\nwindow: {window}\nwaves: {{percent: 100}}\n")
    checked = run("config", "check", "short.yaml")
    assert (checked.code, "fit into its window" in checked.out) == (0, False)
    (tmp_path / "short.yaml").write_text(
        f"name: short\nscope: '*'\nwindow: {window}\nwaves: {{percent: 100, at_once: 1}}\n"
    )
    checked = run("config", "check", "short.yaml")
    said = " ".join(checked.out.split())
    assert checked.code == 3
    assert "short: window: about 1 of its" in said
    assert "by defaults, nothing was learned yet" in said
    assert "for `at_once` under `waves`, or give it a window of" in said
    listed = run("calendar", "--config", "short.yaml", "--next", "1")
    assert "about 1 of" in " ".join(listed.out.split())
    fit = run("calendar", "--config", "short.yaml", "--next", "1", "--json").json["windows"][0]["fit"]
    assert (fit["fittingCount"], fit["atOnce"], fit["learnedCount"]) == (1, 1, 0)
    assert fit["neededAtOnce"] == fit["machineCount"] > 1
