"""The file of unplanned baselines."""

from datetime import date
from pathlib import Path

import pytest

from flows.hotpatch.baseline_file import BASELINES_VARIABLE, load_baseline_calendar, read_baseline_file
from tasks.domain.errors import RequestError
from tasks.rules.hotpatch import BaselineCalendar

GOOD = """
as_of: 2026-11-20
baselines:
  - {day: 2026-12-08, reason: a zero-day, source: "https://example.org", builds: ["20348"]}
  - {day: 2026-09-08, reason: another}
"""


def test_without_a_file_there_are_only_planned_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BASELINES_VARIABLE, raising=False)
    assert load_baseline_calendar() == BaselineCalendar()


def test_a_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "baselines.yaml"
    path.write_text(GOOD)
    monkeypatch.setenv(BASELINES_VARIABLE, str(path))
    found = load_baseline_calendar()
    assert found.as_of == date(2026, 11, 20)
    assert [(each.day.month, each.reason, each.builds) for each in found.unplanned] == [
        (9, "another", ()),
        (12, "a zero-day", ("20348",)),
    ]


@pytest.mark.parametrize(
    "text", ["", "[", "as_of: soon", "baselines: []", GOOD + "more: 1\n", GOOD.replace("reason: another", "reason: ''")]
)
def test_a_file_that_is_not_one_names_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    path = tmp_path / "baselines.yaml"
    path.write_text(text)
    monkeypatch.setenv(BASELINES_VARIABLE, str(path))
    with pytest.raises(RequestError, match=r"baselines\.yaml") as caught:
        load_baseline_calendar()
    assert BASELINES_VARIABLE in caught.value.hint
    path.unlink()
    with pytest.raises(RequestError, match="can't be read"):
        load_baseline_calendar()


def test_every_fault_has_its_line_its_key_and_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "baselines.yaml"
    path.write_text(
        "as_of: 2026-11-20\nbaselines:\n  - day: 2026-13-08\n    reson: a zero-day\n  - {day: 2026-12-08, reason: x}\n"
    )
    with pytest.raises(RequestError) as caught:
        read_baseline_file(path)
    said = caught.value.message
    assert f"{path}:3: baselines.0.day: '2026-13-08'" in said
    assert f"{path}:4: baselines.0.reson: unknown key 'reson'\n    Did you mean 'reason'?" in said
    assert "pydantic" not in said
    assert "_File" not in said


def test_numbers_of_builds_need_no_quotes(tmp_path: Path) -> None:
    path = tmp_path / "baselines.yaml"
    path.write_text(GOOD.replace('"20348"', "20348"))
    assert read_baseline_file(path).unplanned[1].builds == ("20348",)


@pytest.mark.parametrize(("text", "said"), [("", "this file is empty"), ("x: [", "no valid YAML")])
def test_one_fault_is_said_once(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "baselines.yaml"
    path.write_text(text)
    with pytest.raises(RequestError, match=said) as caught:
        read_baseline_file(path)
    assert caught.value.message.count(str(path)) == 1
