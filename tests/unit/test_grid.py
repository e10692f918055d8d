"""A long table is written as rich writes it, only sooner."""

import io
from collections.abc import Iterator
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleetpatch.cli.runtime import output
from fleetpatch.cli.runtime import table as grid_module
from fleetpatch.cli.runtime.output import render_count, to_safe_text
from fleetpatch.cli.runtime.table import build_column, build_table

WORDS = st.text("ab☃日[]x ", max_size=9)


def _plain(rendered: object, width: int, *, fast_from: int = grid_module.FAST_RENDER_MIN_ROWS) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False, color_system=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid_module, "FAST_RENDER_MIN_ROWS", fast_from)
        console.print(rendered)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().split("\n")]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(WORDS, st.integers(0, 10_000), WORDS), min_size=1, max_size=6), st.integers(12, 120))
def test_it_looks_as_richs_own(rows: list[tuple[str, int, str]], width: int) -> None:
    made = build_table(
        build_column("machine"), build_column("updates", is_number=True), "a longer header", build_column("")
    )
    for name, count, words in rows * 3:
        made.add_row(
            to_safe_text(name),
            render_count(count, "red"),
            Text.assemble(to_safe_text(words, "dim"), " → ", "x"),
            "plain",
        )
    assert _plain(made, width, fast_from=1) == _plain(made, width, fast_from=10**9)


@pytest.mark.parametrize("width", [12, 30])
def test_a_name_that_is_wider_than_the_terminal_is_folded(width: int) -> None:
    made = build_table(build_column("machine"), build_column("updates", is_number=True), build_column("state"))
    for name in ("web-1", "batch-" + "x" * 50 + ".example.net"):
        made.add_row(name, render_count(3, "red"), "NonCompliant")

    lines = _plain(made, width, fast_from=1)

    assert lines == _plain(made, width, fast_from=10**9)
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("color_system", ["standard", "truecolor", None])
@pytest.mark.parametrize("no_color", [False, True])
@pytest.mark.parametrize("width", [12, 34])
def test_it_has_the_colours_of_richs_own_and_is_not_cut(
    color_system: Literal["standard", "truecolor"] | None, no_color: bool, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []
    for fast_from in (1, 10**9):
        file = io.StringIO()
        console = Console(file=file, width=width, color_system=color_system, no_color=no_color, force_terminal=True)
        monkeypatch.setattr(grid_module, "FAST_RENDER_MIN_ROWS", fast_from)
        monkeypatch.setattr(output, "get_stdout_console", lambda console=console: console)
        made = build_table(build_column("machine"), build_column("updates", is_number=True), build_column("state"))
        for count in range(3):
            two_colours = Text.assemble(("a", "red"), " → ", ("b", "#123456"))
            made.add_row(to_safe_text("web", "bold red"), render_count(count, "yellow"), two_colours)
        output.print_to_stdout(made)
        lines = Text.from_ansi(file.getvalue()).split()
        # blanks have no colour that anybody sees
        shown.append(
            [
                [(line.plain[at], str(line.get_style_at_offset(console, at))) for at in _find_inked(line)]
                for line in lines
            ]
        )
    assert shown[0] == shown[1]
    assert ("color(1)" in str(shown)) is (color_system is not None and not no_color)


def _find_inked(line: Text) -> list[int]:
    return [at for at, character in enumerate(line.plain) if character not in " ─"]


def test_rich_is_not_asked_to_measure_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def noted(*words: object) -> Iterator[object]:
        asked.append(words)
        return iter(())

    monkeypatch.setattr(Table, "_render", noted)
    made = build_table(build_column("machine"), build_column("updates", is_number=True))
    for count in range(1000):
        made.add_row(to_safe_text("web"), render_count(count))
    assert len(_plain(made, 80)) > 1000
    assert asked == []


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
@pytest.mark.parametrize("fast_from", [1, 10**9])
def test_what_people_copy_is_never_cut(width: int, fast_from: int) -> None:
    whole = ("20261126-213536-64b9f1c2", "CompletedWithWarnings", "2026-11-26 21:35", "1 min 44 s")
    names = ("run", "state", "started (UTC)")
    made = build_table(*map(build_column, names), build_column("lasted", is_number=True), "reason")
    for _ in range(3):
        made.add_row(*whole, "the window had ended before the last two of its machines had been asked")
    shown = _plain(made, width, fast_from=fast_from)
    assert all(len(line) <= width for line in shown)
    assert "…" not in "\n".join(shown)
    for cell in (*whole, *names):
        assert sum(cell in line for line in shown) >= (3 if cell in whole else 1)


def test_the_result_of_a_patch_fits_a_terminal_of_80_columns() -> None:
    names = ("machine", "wave", "state", "installed", "failed", "not done", "skipped", "reboot", "took")
    made = build_table(*map(build_column, names))
    made.add_row("lab-1", "1", "Warnings", "22", "0", "0", "8", "NotNeeded", "12 min 49 s")
    header, _, row = _plain(made, 80)[:3]
    assert header.split() == " ".join(names).split()
    assert row.endswith("12 min 49 s")
