"""A long table is written as rich writes it, only sooner."""

import io
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.runtime import table as grid_module
from flows.cli.runtime.output import render_count, to_safe_text
from flows.cli.runtime.table import build_number_column, build_table, build_unwrapped_column

WORDS = st.text("ab☃日[]x ", max_size=9)


def _plain(rendered: object, width: int, *, fast_from: int = grid_module.FAST_RENDER_MIN_ROWS) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False, color_system=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid_module, "FAST_RENDER_MIN_ROWS", fast_from)
        console.print(rendered)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().split("\n")]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(WORDS, st.integers(0, 10_000), WORDS), min_size=1, max_size=6), st.integers(30, 120))
def test_it_looks_as_richs_own(rows: list[tuple[str, int, str]], width: int) -> None:
    made = build_table(
        build_unwrapped_column("machine"), build_number_column("updates"), "a longer header", build_unwrapped_column("")
    )
    for name, count, words in rows * 3:
        made.add_row(
            to_safe_text(name),
            render_count(count, "red"),
            Text.assemble(to_safe_text(words, "dim"), " → ", "x"),
            "plain",
        )
    assert _plain(made, width, fast_from=1) == _plain(made, width, fast_from=10**9)


def test_rich_is_not_asked_to_measure_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def noted(*words: object) -> Iterator[object]:
        asked.append(words)
        return iter(())

    monkeypatch.setattr(Table, "_render", noted)
    made = build_table(build_unwrapped_column("machine"), build_number_column("updates"))
    for count in range(1000):
        made.add_row(to_safe_text("web"), render_count(count))
    assert len(_plain(made, 80)) > 1000
    assert asked == []
