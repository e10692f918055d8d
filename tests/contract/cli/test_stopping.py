"""Ctrl-C and SIGTERM: what is counted, and what is said to be running."""

import signal

from fleetpatch.cli.runtime.interrupts import InterruptHandler, print_detached, print_stopping
from fleetpatch.cli.runtime.run_lookup import find_unfinished_acts
from tasks.domain.protocols.records import JournalMark
from tasks.steps.context.run_control import StopToken
from tests.support.builders import make_journal_entry


def test_the_first_one_stops_and_the_second_leaves() -> None:
    control = StopToken()
    before = signal.getsignal(signal.SIGINT)
    with InterruptHandler(control) as interrupts:
        signal.raise_signal(signal.SIGINT)
        assert (interrupts.stop_reason, interrupts.is_detach_requested, control.reason) == ("Ctrl-C", False, "Ctrl-C")
        signal.raise_signal(signal.SIGINT)
        assert interrupts.is_detach_requested
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_stops_and_never_leaves() -> None:
    control = StopToken()
    with InterruptHandler(control) as interrupts:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert (interrupts.stop_reason, interrupts.is_detach_requested) == ("SIGTERM", False)
        assert control.is_stopping
        signal.raise_signal(signal.SIGINT)
        assert interrupts.is_detach_requested


def test_what_was_begun_and_not_ended_is_open() -> None:
    stage, install = make_journal_entry(act="stage", key="job-0"), make_journal_entry(key="job-1")
    ended = make_journal_entry(act="stage", key="job-0", mark=JournalMark.AFTER)
    assert find_unfinished_acts([stage, ended, install]) == [install]
    assert find_unfinished_acts([stage, ended]) == []
    assert find_unfinished_acts([make_journal_entry(machine="b", act="stage", key="job-0"), ended]) != []


def test_both_say_what_runs_and_how_to_come_back(capsys) -> None:
    running = [
        make_journal_entry(machine="web-1", key="job-1"),
        make_journal_entry(machine="db", act="reboot", key="b"),
    ]
    for tell in (lambda: print_stopping("Ctrl-C", ("run-1",), running), lambda: print_detached(("run-1",), running)):
        tell()
        said = capsys.readouterr().err
        assert "web-1 install job job-1" in said
        assert "db reboot" in said
        assert "fleetpatch show run-1" in said


def test_nothing_running_and_nothing_known_are_not_the_same(capsys) -> None:
    print_stopping("SIGTERM", ("run-1",), [])
    assert "No job or reboot is running" in capsys.readouterr().err
    print_stopping("SIGTERM", ("run-1",), None)
    assert "not known" in capsys.readouterr().err
