"""The moving picture: who is shown when there is no room for all, and what the head says."""

import io
import time
from datetime import timedelta

import pytest
from rich.console import Console

from fleetpatch.cli.runtime import progress
from fleetpatch.cli.runtime.progress import LineDisplay, LiveDisplay, build_display, describe_time_left
from tasks.domain.states import OperationState, Step
from tests.support.builders import START, make_window


def _shown(picture: LiveDisplay, width: int, height: int, monkeypatch: pytest.MonkeyPatch) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    monkeypatch.setattr(progress, "get_stderr_console", lambda: console)
    console.print(picture.build_renderable())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 140])
def test_failures_and_work_are_shown_first_and_the_rest_is_counted(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = LiveDisplay([f"m{n:03}" for n in range(100)], None, "run 1")
    picture.on_progress("m090", Step.INSTALL, 0.4, "installing openssl")
    monkeypatch.setattr(progress, "print_to_stderr", lambda line: None)
    picture.on_step_finished("m095", Step.PRECHECK, OperationState.FAILED, "disk: full")
    picture.on_step_finished("m001", Step.VALIDATE, OperationState.SUCCEEDED, "")
    lines = _shown(picture, width, 12, monkeypatch).splitlines()
    assert lines[0].startswith("run 1, 100 machines, 1 working")
    assert "m095" in lines[1]
    assert "disk: full" in lines[1]
    assert "m090" in lines[2]
    assert "installing openssl" in lines[2]
    assert "m001" in lines[3]
    assert lines[-1].startswith("… and 92 more: 92 waiting")
    assert len(lines) <= 12
    assert max(map(len, lines)) <= width


def test_it_is_said_for_how_long_a_machine_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress, "monotonic", lambda: now)
    picture = LiveDisplay(["fast", "silent"], None, "run 1")
    for name in ("fast", "silent"):
        picture.on_progress(name, Step.ASSESS, None, "waiting for its first answer")
    picture.on_step_finished("fast", Step.ASSESS, OperationState.SUCCEEDED, "")
    now = 109.0
    assert " s" not in _shown(picture, 80, 24, monkeypatch).splitlines()[2]
    now = 142.0
    picture.on_progress("silent", Step.ASSESS, None, "waiting for its first answer")
    fast, silent = _shown(picture, 80, 24, monkeypatch).splitlines()[1:3]
    assert "42 s: waiting for its first answer" in silent
    assert "42 s" not in fast


def test_without_a_terminal_a_line_says_who_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "WAITING_SECONDS", 0.05)
    with LineDisplay(["fast", *(f"silent-{n}" for n in range(9))]) as watch:
        for n in range(9):
            watch.on_progress(f"silent-{n}", Step.ASSESS, None, "waiting for its first answer")
        watch.on_step_finished("fast", Step.ASSESS, OperationState.SUCCEEDED, "")
        said = ""
        until = time.monotonic() + 20
        while "waiting for silent" not in said:
            assert time.monotonic() < until
            said += capsys.readouterr().err
    line = next(line for line in said.splitlines() if "waiting for" in line)
    assert "waiting for silent-0 (assess for 0 s: waiting for its first answer), silent-1 " in line
    assert line.endswith("… and 4 more")
    assert "fast (" not in line


def test_few_machines_keep_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = LiveDisplay(["a", "b"], None, "run 1")
    picture.on_progress("b", Step.ASSESS, None, "")
    lines = _shown(picture, 80, 24, monkeypatch).splitlines()
    assert [line[0] for line in lines[1:]] == ["a", "b"]


def test_a_message_stays_until_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = LiveDisplay(["a"], None, "run 1")
    picture.on_progress("a", Step.INSTALL, 0.1, "installing curl")
    picture.on_progress("a", Step.INSTALL, 0.2, "")
    assert "installing curl" in _shown(picture, 80, 24, monkeypatch)
    picture.on_progress("a", Step.REBOOT, 0.0, "")
    assert "installing curl" not in _shown(picture, 80, 24, monkeypatch)


def test_the_window_is_counted_down() -> None:
    window = make_window()
    assert describe_time_left(window, START - timedelta(minutes=2)) == "the window opens in 2 min 00 s"
    assert describe_time_left(window, START + timedelta(hours=1)) == "2 h 00 min left"
    assert describe_time_left(window, START + timedelta(hours=3, seconds=5)) == "the window ended 5 s ago"


def test_without_a_terminal_there_are_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    shown = build_display(["a"], None, "run 1")
    assert isinstance(shown, LineDisplay)
    with shown as watch:
        watch.on_progress("a", Step.INSTALL, 0.5, "installing curl")
        watch.on_step_finished("a", Step.INSTALL, OperationState.SUCCEEDED, "")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "a: install Succeeded" in said
