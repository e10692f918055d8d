"""What machines say is shown, never obeyed."""

import errno
import io
import json
import logging
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fleetpatch.cli.runtime.output import (
    ConsoleLogHandler,
    get_stderr_console,
    get_stdout_console,
    print_error,
    print_json,
    print_to_stderr,
    render_json,
    shorten_list,
    to_safe_text,
)
from fleetpatch.cli.runtime.progress import LineDisplay, LiveDisplay
from fleetpatch.cli.runtime.table import build_table
from fleetpatch.cli.views.doctor import print_findings, print_machine_readiness
from fleetpatch.cli.views.runs import print_patch_run
from flows.doctor import Readiness
from tasks.domain.model import Finding
from tasks.domain.states import FindingLevel, OperationState, Step
from tasks.reports.formatting import NO_FIGURE, format_size
from tests.support.builders import make_failed_outcome, make_outcome, make_report, make_update, make_update_result

HOSTILE = "\x1b]0;pwned\x07\x1b[2J[bold red]x[/] \u202eevil\r\nsecond"


def _printed(text: str, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, legacy_windows=False)
    console.print(to_safe_text(text))
    written = console.file
    assert isinstance(written, io.StringIO)
    return written.getvalue()


def test_hostile_text_is_harmless() -> None:
    shown = _printed(HOSTILE)
    assert "[bold red]x[/]" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert shown.count("\n") == 1


@given(st.text(max_size=200))
def test_no_text_acts_on_the_terminal(text: str) -> None:
    shown = _printed(text, width=10_000)
    acting = {"Cc", "Cs", "Zl", "Zp"}  # controls, halves of characters, separators of lines
    assert [c for c in shown.rstrip("\n") if unicodedata.category(c) in acting] == []
    assert shown.count("\n") == 1


@given(st.text(alphabet=st.sampled_from("[]/ab=#\\"), max_size=60))
def test_no_text_is_taken_for_markup(text: str) -> None:
    assert _printed(text, width=10_000).rstrip("\n") == " ".join(text.split())


def test_a_hostile_report_is_shown_harmless(capsys) -> None:
    results = (make_update_result(update=make_update(name=HOSTILE, available=HOSTILE)),)
    report = make_report(
        outcomes=(make_outcome(machine=HOSTILE, updates=results), make_failed_outcome(reason=HOSTILE)), waves=()
    )
    print_patch_run(report)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "[bold red]x[/]" in shown


def test_hostile_progress_is_shown_harmless(capsys) -> None:
    lines = LineDisplay()
    lines.on_message(HOSTILE)
    lines.on_step_finished(HOSTILE, Step.INSTALL, OperationState.FAILED, HOSTILE)
    picture = LiveDisplay([HOSTILE], None, "run")
    picture.on_progress(HOSTILE, Step.INSTALL, 0.5, HOSTILE)
    get_stderr_console().print(picture.build_renderable())
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert "\u202e" not in shown


@pytest.mark.parametrize("width", [None, 40, 80, 200])
def test_lines_to_copy_stay_whole_at_any_width(capsys, monkeypatch, width: int | None) -> None:
    key = f"[192.0.2.17]:2222 ssh-rsa {'A' * 370}"
    finding = Finding("host key", FindingLevel.BLOCK, f"its host key is not trusted yet: {key}", f"Add to it: {key}")
    for console in (get_stdout_console(), get_stderr_console()):
        monkeypatch.setattr(console, "width", width or console.width)
        monkeypatch.setattr(console, "_force_terminal", width is not None)
    print_findings([finding])
    print_machine_readiness([Readiness("m", (finding,))])
    print_error(f"m: {key}", f"Add to it: {key}")
    print_to_stderr(f"To continue: fleetpatch resume {key}")
    said = capsys.readouterr()
    assert said.out.count(key) == 4
    assert said.err.count(key) == 3


def test_a_warning_about_the_inventory_is_shown_once(capsys) -> None:
    handler = ConsoleLogHandler()
    for name in ("inventory.loader", "inventory.loader", "flows.engine", "flows.engine"):
        handler.emit(logging.LogRecord(name, logging.WARNING, "", 0, "hosts:6: %s is not used", (name,), None))
    shown = capsys.readouterr().err
    assert (shown.count("inventory.loader is not used"), shown.count("flows.engine is not used")) == (1, 2)


def test_logs_are_shown_harmless_and_prefects_are_not(capsys) -> None:
    handler = ConsoleLogHandler()
    for name in ("inventory.loader", "prefect.flow_runs"):
        handler.emit(logging.LogRecord(name, logging.WARNING, "", 0, "%s: " + HOSTILE, (name,), None))
    shown = capsys.readouterr().err
    assert shown.startswith("warning: inventory.loader: ")
    assert "prefect" not in shown
    assert "\x1b" not in shown


def test_pipes_get_whole_lines(capsys) -> None:
    grid = build_table("a", "b")
    grid.add_row("x" * 90, "y" * 60)
    get_stdout_console().print(grid)
    assert "x" * 90 in capsys.readouterr().out


def test_long_lists_say_how_much_is_left_out() -> None:
    assert shorten_list(["a", "b", "c"], 2) == ["a", "b", "… and 1 more"]
    assert shorten_list(["a", "b"], 2) == ["a", "b"]


def test_sizes_are_for_people() -> None:
    assert [format_size(n) for n in (None, 0, 999, 1_000, 20_400, 999_900, 17_000_000, 2_500_000_000)] == [
        NO_FIGURE,
        "0 B",
        "999 B",
        "1.0 kB",
        "20 kB",
        "1.0 MB",
        "17 MB",
        "2.5 GB",
    ]


class _Lost(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_reader_that_is_gone_breaks_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, name, _Lost())
    console = get_stdout_console() if name == "stdout" else get_stderr_console()
    console.print("nobody reads this")
    LineDisplay().on_step_finished("web", Step.INSTALL, OperationState.SUCCEEDED, "")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_json_is_as_the_library_writes_it(value: object) -> None:
    assert render_json(value) == json.dumps(value, indent=1)


def test_a_number_that_json_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        render_json({"a": [float("nan")]})


def test_a_full_disk_is_no_reader_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys.stdout, "write", full)
    with pytest.raises(OSError, match="No space"):
        print_json({})
    monkeypatch.setattr(sys.stderr, "write", full)
    get_stderr_console().print("progress that can't be kept stops nothing")
