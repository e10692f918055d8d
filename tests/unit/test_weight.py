"""The counting of tests/ci/weight, and the figures that may not grow."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.ci.tree import TOP
from tests.ci.weight import imports, prose, sources
from tests.ci.weight.__main__ import Checkout, build_table

MODULE = sources.Module(
    "tasks/example.py",
    '''"""A module.

With three lines."""
import os

TEXT = """first

third"""


# a comment
class Machine:
    """A machine."""

    def read(self, each):
        for found, name in _list():  # no comment line
            words = [item for item in name]
        return self._open(_list)

    @property
    def _open(self):
        return _find(lambda x: x) or (kept := 1)


def _list():
    found: int = 2
    _, names = os.sep
    return found


def _find(): return 3
''',
)


def test_lines_are_counted_by_kind() -> None:
    lines = MODULE.text.splitlines()
    counts = sources.count_lines(MODULE)
    assert counts == {"code": 16, "comment": 5, "import": 1, "blank": len(lines) - 22}


def test_functions_have_their_decorators_and_one_median() -> None:
    figures = sources.measure_sizes([MODULE])
    assert figures["functions"] == 4
    assert [len(sources.find_span(function)) for function in MODULE.functions] == [4, 1, 4, 3]
    assert figures["median lines of a function"] == 3.5


def test_locals_are_what_functions_bind_and_no_parameters() -> None:
    assert Counter(node.id for node in MODULE.bindings) == {
        **dict.fromkeys(("name", "words", "item", "kept", "names"), 1),
        "found": 2,
    }
    assert Counter(node.id for node in sources.find_fillers(MODULE)) == {"found": 2, "words": 1, "item": 1, "kept": 1}


def test_a_helper_is_called_once_when_one_place_names_it() -> None:
    assert {helper.name for helper in sources.find_helpers_called_once(MODULE)} == {"_open", "_find"}
    assert {helper.name for helper in sources.find_private_functions(MODULE)} == {"_open", "_list", "_find"}
    long = ast.parse("def _long():\n" + "    pass\n" * sources.SHORT_HELPER_LINES).body[0]
    assert isinstance(long, ast.FunctionDef)
    assert not sources.is_short(long)
    assert all(sources.is_short(helper) for helper in MODULE.functions)


def test_class_names_are_shared_within_a_room_and_across() -> None:
    second = sources.Module("tasks/other.py", "def make():\n    class Machine: ...\n")
    third = sources.Module("flows/other.py", "class Machine: ...\nclass Wave: ...\n")
    shared = sources.find_shared_class_names([MODULE, second, third])
    assert shared == {"Machine": ["tasks/example.py", "tasks/other.py", "flows/other.py"]}
    assert sources.find_rooms_with_two(shared["Machine"]) == {"tasks"}


def test_imports_for_annotations_make_circles_and_arrows_up(tmp_path: Path) -> None:
    for_annotations = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {}\n"
    files = {
        "lower_room/a.py": for_annotations.format("lower_room.b"),
        "lower_room/b.py": "import lower_room.c",
        "lower_room/c.py": "import lower_room.a, upper_room.d",
        "upper_room/d.py": "import lower_room.a",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).with_name("__init__.py").touch()
    rooms = ["lower_room", "upper_room"]
    graph = imports.read_imports(tmp_path, rooms)
    assert imports.find_circles(graph) == [["lower_room.a", "lower_room.b", "lower_room.c", "upper_room.d"]]
    arrows = imports.find_arrows_up(graph, rooms)
    assert ("lower_room.c", "upper_room.d") in arrows
    assert len(arrows) == 2  # one more opens the circle inside the lower room


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("It shows what changed.", "headless what/who"),
        ("The log says who approved it.", "headless what/who"),
        ("The time is that of the controller.", "that of/the same/those that"),
        ("Members with the same tag wait.", "that of/the same/those that"),
        ("It stops; nothing is there.", "semicolon"),
        ("The run is then ended.", "passive"),
        ("It was not begun.", "passive"),
    ],
)
def test_a_shape_is_recognised(text: str, shape: str) -> None:
    counts = prose.count_shapes(text)
    assert {name: counts[name] for name in prose.SHAPES} == {name: int(name == shape) for name in prose.SHAPES}


@pytest.mark.parametrize(
    "text",
    [
        "The person who approves it. The run ends. It is red.",
        "What does it do?",
        "It waits.\n\n    it is ended; what is it\n\n```sh\nis ended; what\n```\n",
        "See `what; is ended` and [the page](what;is-ended.md).<!-- what; -->",
    ],
)
def test_code_questions_and_plain_sentences_have_no_shape(text: str) -> None:
    counts = prose.count_shapes(text)
    assert [name for name in prose.SHAPES if counts[name]] == []


def test_paragraphs_of_lists_are_prose_and_rates_are_of_1000_words() -> None:
    counts = prose.count_shapes("- An item.\n\n    It stops; it ends.\n")
    assert counts["words"] == 6
    assert prose.find_rates(counts)["semicolon"] == 166.7


def test_the_table_shows_both_times_and_the_difference() -> None:
    lines = list(build_table({"files": 8.5, "new": 1.0}, {"files": 10.0, "gone": 2.0}))
    assert [" ".join(line.split()) for line in lines[2:]] == [
        "| files | 10 | 8.5 | -1.5 |",
        "| new | | 1 | |",
        "| gone | 2 | | |",
    ]
    assert len(list(build_table({"files": 8.5}, {}))) == 3


def test_a_column_is_found_in_each_of_its_spellings() -> None:
    texts = {"a.py": "next_window = 1", "b.py": "next_windows = 1", "c.js": "nextWindowCount", "d.j2": "my_next_window"}
    assert sources.find_files_with_column(texts, "next_window") == ["a.py", "c.js"]


# ---------------------------------------------------------------- this checkout


MOST = {
    "names: of them twice in one room": 0,
    "names: fillers, % of the locals of all rooms": 3.7,
    "imports: circles": 0,
    "imports: arrows up": 0,
}
"""The most that this checkout may have. Lower a number when it is less; `python -m tests.ci.weight --list …` helps."""


@pytest.mark.slow
def test_figures_do_not_grow() -> None:
    checkout = Checkout(TOP)
    figures = {**checkout.measure_names(), **checkout.measure_imports()}
    assert {name: figures[name] for name, most in MOST.items() if figures[name] > most} == {}
