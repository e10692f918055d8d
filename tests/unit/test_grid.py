"""A long table is written as rich writes it, only sooner."""

import io
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli import grid as grid_module
from flows.cli.screen import number, right, safe, solid, table

WORDS = st.text("ab☃日[]x ", max_size=9)


def _plain(rendered: object, width: int, *, by_rich: bool) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False, color_system=None)
    if by_rich:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(grid_module, "MANY_ROWS", 10**9)
            console.print(rendered)
    else:
        console.print(rendered)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().split("\n")]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(WORDS, st.integers(0, 10_000), WORDS), min_size=1, max_size=6), st.integers(30, 120))
def test_it_looks_as_richs_own(rows: list[tuple[str, int, str]], width: int) -> None:
    made = table(solid("machine"), right("updates"), "a longer header", solid(""))
    for name, count, words in rows * grid_module.MANY_ROWS:
        made.add_row(safe(name), number(count, "red"), Text.assemble(safe(words, "dim"), " → ", "x"), "plain")
    assert _plain(made, width, by_rich=False) == _plain(made, width, by_rich=True)


def test_rich_is_not_asked_to_measure_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def noted(*words: object) -> Iterator[object]:
        asked.append(words)
        return iter(())

    monkeypatch.setattr(Table, "_render", noted)
    made = table(solid("machine"), right("updates"))
    for count in range(1000):
        made.add_row(safe("web"), number(count))
    assert len(_plain(made, 80, by_rich=False)) > 1000
    assert asked == []
