"""What the page of a machine in a run shows of its log."""

import pytest

from fleetpatch.pages.run_machine import LOG_CHARACTERS, LOG_LINES, cut_log
from tasks.reports.log_files import sanitize_log


def number_lines(count: int, line: str = "{}") -> str:
    return "".join(f"{line.format(number)}\n" for number in range(count))


@pytest.mark.parametrize(
    "text", ["", "one", "one\n", number_lines(LOG_LINES), "\x1b[31mred\x1b[0m " * 100, "5 %\r" * 900]
)
def test_a_log_that_is_shown_whole_is_not_called_its_end(text: str) -> None:
    assert cut_log(text).left_out == 0
    assert cut_log(text).text == sanitize_log(text.rstrip("\n"))


@pytest.mark.parametrize(
    "text",
    [
        number_lines(LOG_LINES + 1),
        number_lines(LOG_LINES + 99, "1"),
        number_lines(LOG_LINES * 2, "\x01" * 9),
        number_lines(LOG_LINES * 2, "x" * 200),
        number_lines(LOG_LINES // 2, "x" * 400),
    ],
)
def test_a_log_that_is_cut_says_so_and_begins_with_a_whole_line(text: str) -> None:
    found = cut_log(text)
    lines = text.rstrip("\n").split("\n")
    shown = lines[-found.text.count("\n") - 1 :]
    assert found.text == sanitize_log("\n".join(shown))
    assert found.left_out == len("\n".join(lines)) - len("\n".join(shown)) > 0
    assert len(shown) <= LOG_LINES


def test_the_end_of_a_line_that_is_too_long_is_shown() -> None:
    found = cut_log(f"first\n{'x' * (2 * LOG_CHARACTERS)}")
    assert (found.text, found.left_out) == ("x" * LOG_CHARACTERS, 6 + LOG_CHARACTERS)
