"""Ctrl-C and SIGTERM: what is counted, and what is said to be running."""

import signal

from flows.cli.stopping import Interrupts, still_open, tell_leaving, tell_stopping
from tasks.seams.records import JournalMark
from tasks.steps.context import Control
from tests.support.builders import make_journal_entry


def test_the_first_one_stops_and_the_second_leaves() -> None:
    control = Control()
    before = signal.getsignal(signal.SIGINT)
    with Interrupts(control) as interrupts:
        signal.raise_signal(signal.SIGINT)
        assert (interrupts.asked, interrupts.leave, control.reason) == ("Ctrl-C", False, "Ctrl-C")
        signal.raise_signal(signal.SIGINT)
        assert interrupts.leave
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_stops_and_never_leaves() -> None:
    control = Control()
    with Interrupts(control) as interrupts:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert (interrupts.asked, interrupts.leave) == ("SIGTERM", False)
        assert control.stopping
        signal.raise_signal(signal.SIGINT)
        assert interrupts.leave


def test_what_was_begun_and_not_ended_is_open() -> None:
    stage, install = make_journal_entry(act="stage", key="job-0"), make_journal_entry(key="job-1")
    ended = make_journal_entry(act="stage", key="job-0", mark=JournalMark.AFTER)
    assert still_open([stage, ended, install]) == [install]
    assert still_open([stage, ended]) == []
    assert still_open([make_journal_entry(machine="b", act="stage", key="job-0"), ended]) != []


def test_both_say_what_runs_and_how_to_come_back(capsys) -> None:
    running = [
        make_journal_entry(machine="web-1", key="job-1"),
        make_journal_entry(machine="db", act="reboot", key="b"),
    ]
    for tell in (lambda: tell_stopping("Ctrl-C", ("run-1",), running), lambda: tell_leaving(("run-1",), running)):
        tell()
        said = capsys.readouterr().err
        assert "web-1 install job job-1" in said
        assert "db reboot" in said
        assert "fleetpatch show run-1" in said


def test_nothing_running_and_nothing_known_are_not_the_same(capsys) -> None:
    tell_stopping("SIGTERM", ("run-1",), [])
    assert "Nothing that changes a machine is running" in capsys.readouterr().err
    tell_stopping("SIGTERM", ("run-1",), None)
    assert "not known" in capsys.readouterr().err
