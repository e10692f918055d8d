"""What a machine answers about the version of a component: a long answer takes no longer to read than a short one."""

import time

import pytest

from tasks.machines.managers.components.drivers import MAX_ANSWER_CHARACTERS, find_driver
from tasks.machines.managers.components.kinds import ComponentKind
from tasks.machines.managers.script_output import ScriptSection
from tests.support.components import make_component

LONGEST_SECONDS = 2.0


def parse(kind: ComponentKind, text: str, *, pattern: str = "", stderr: str = "", code: int = 0):
    command = "app --version" if pattern else ""
    component = make_component(kind=kind, version_command=command, version_pattern=pattern)
    return find_driver(component).parse_answer(component, ScriptSection(code, text, stderr))


@pytest.mark.parametrize("kind", ComponentKind)
@pytest.mark.parametrize("text", ["\n" * 300_000 + "x", " " * 300_000 + "x", "a" * 300_000, "a\n" * 150_000])
def test_each_kind_reads_a_long_answer_at_once(kind: ComponentKind, text: str) -> None:
    began = time.monotonic()
    parse(kind, text, stderr=text)
    parse(kind, text, stderr=text, code=1)
    assert time.monotonic() - began < LONGEST_SECONDS


def test_so_does_a_pattern_of_an_owner() -> None:
    began = time.monotonic()
    assert parse(ComponentKind.FILE, f"{'a' * 8000}\n" * 100, pattern=r".*version (\S+)").version is None
    assert time.monotonic() - began < LONGEST_SECONDS


@pytest.mark.parametrize(
    ("kind", "line"),
    [(ComponentKind.FLATPAK, "\t Version: 1.2"), (ComponentKind.CHOCO, "app|1.2"), (ComponentKind.SNAP, "version 1.2")],
)
def test_a_version_is_found_between_other_lines(kind: ComponentKind, line: str) -> None:
    assert parse(kind, f"\n  \nother words\n{line}\n\n").version == "1.2"


def test_a_version_that_the_end_of_what_is_read_would_cut_is_not_known() -> None:
    text = f"{'x' * (MAX_ANSWER_CHARACTERS - 12)}\nversion 1.2345\n"
    cut = parse(ComponentKind.FILE, text, pattern=r"^version (\S+)")
    assert (cut.version, cut.problem[:31]) == (None, "no version can be found in the ")
    assert parse(ComponentKind.FILE, text[10:] + "\n" * 20, pattern=r"^version (\S+)").version == "1.2345"


def test_a_long_answer_of_one_line_is_not_silence() -> None:
    assert parse(ComponentKind.FILE, "x" * 100_000, pattern=r"(1\.2)").problem
