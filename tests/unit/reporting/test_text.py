import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.reports.formatting import format_count, format_known_duration, format_minutes, load_zone_or_utc
from tasks.reports.log_files import LogExcerpt, build_log_excerpts, build_log_file_name, sanitize_log
from tasks.reports.sanitizing import sanitize, sanitize_to_one_line, to_safe_file_name
from tests.unit.reporting.strategies import HOSTILE

anything = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters()))
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")


@given(anything)
def test_cleaned_text_can_mislead_nobody(value: str) -> None:
    told = sanitize(value)
    assert not UNSAFE.search(told)
    told.encode("utf-8")
    assert sanitize(told) == told


@given(anything, st.integers(1, 40))
def test_one_line_is_one_line_and_no_longer_than_asked(value: str, limit: int) -> None:
    told = sanitize_to_one_line(value, limit)
    assert "\n" not in told
    assert len(told) <= limit


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("plain text 1.2-3~deb12", "plain text 1.2-3~deb12"),
        ("Müller, 東京, naïve", "Müller, 東京, naïve"),
        ("\x1b[1;31mError:\x1b[0m no", "Error: no"),
        ("\x1b]0;owned\x07hello", "hello"),
        ("\x9b31mred", "red"),
        ("abc\u202etxt.exe", "abc\\u202etxt.exe"),
        ("nul\x00", "nul\\u0000"),
        ("one\r\ntwo\tthree", "one\ntwo\tthree"),
        ("\ud83d", "\\ud83d"),
    ],
)
def test_what_is_dangerous_is_shown_and_what_is_not_is_kept(value: str, told: str) -> None:
    assert sanitize(value) == told


def test_progress_bars_leave_their_last_state() -> None:
    assert sanitize_log("Reading 1%\rReading 99%\rReading done\r\nnext") == "Reading done\nnext"


@given(st.lists(anything, min_size=2, max_size=2, unique=True))
def test_file_names_are_safe_and_never_shared(names: list[str]) -> None:
    first, second = map(to_safe_file_name, names)
    assert first != second
    for name in (first, second):
        assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._~-]*", name)
        assert len(name) <= 120


def test_ordinary_names_stay_readable() -> None:
    assert build_log_file_name("db-01.fra1.example.net") == "db-01.fra1.example.net.log"
    assert to_safe_file_name("..") not in ("..", ".")
    assert "/" not in to_safe_file_name("../../etc/passwd")


@given(st.dictionaries(st.sampled_from("abcdef"), st.text(max_size=2000)), st.integers(500, 5000))
def test_logs_share_the_room_that_there_is(logs: dict[str, str], room: int) -> None:
    from markupsafe import escape

    shown = build_log_excerpts(logs, list("abcdef"), room)
    assert sum(len(escape(view.text).encode()) for view in shown.values()) <= room


def test_a_log_that_is_too_long_keeps_its_end_and_says_so() -> None:
    text = "".join(f"line {n}\n" for n in range(5000))
    view = build_log_excerpts({"web-1": text}, ["web-1"], 1000)["web-1"]
    assert isinstance(view, LogExcerpt)
    assert view.text.endswith("line 4999")
    assert view.lines == 5000
    assert view.left_out == 5000 - len(view.text.split("\n"))


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(None, "\u2013"), (0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min"),
     (3599.9, "1 h 00 min"), (-5, "-5 s")],
)  # fmt: skip
def test_durations(seconds: float | None, told: str) -> None:
    assert format_known_duration(seconds) == told


def test_small_words() -> None:
    assert (format_minutes(30), format_minutes(61), format_minutes(7261)) == ("under 1 min", "2 min", "2 h 02 min")
    assert (format_count(1, "machine"), format_count(0, "machine"), format_count(2, "update")) == (
        "1 machine",
        "0 machines",
        "2 updates",
    )
    assert (
        str(load_zone_or_utc("Mars/Olympus"))
        == str(load_zone_or_utc("../etc/passwd"))
        == str(load_zone_or_utc(""))
        == "UTC"
    )
