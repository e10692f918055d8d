"""Signals in a flow's main thread: the run is asked to stop and is seen to its end, however many of them come."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from prefect._internal.concurrency.cancellation import WatcherThreadCancelScope
from prefect.exceptions import TerminationSignal

from flows.prefect_runtime.signals import run_with_signals
from tasks.domain.model import RunReport
from tasks.steps.context.run_control import StopToken
from tests.support.builders import make_report


def as_prefect_does(number: int, _frame: object) -> None:
    raise TerminationSignal(signal=number)


@pytest.fixture(autouse=True)
def prefects_handlers() -> Iterator[None]:
    """As in a flow's process; whoever starts the tests may have SIGINT ignored, as a shell's background does."""
    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, as_prefect_does),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Run:
    """A body that takes until it is asked to stop, and then some time."""

    def __init__(self, *signals: int) -> None:
        self.control = StopToken()
        self.signals = signals
        self.noted: list[str] = []
        self.over = False

    def __call__(self) -> RunReport:
        for number in self.signals:
            os.kill(os.getpid(), number)
        until = time.monotonic() + 60
        while self.signals and not self.control.is_stopping and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.1)
        self.over = True
        return make_report()

    def attended(self) -> RunReport:
        return run_with_signals(self, self.control, self.noted.append)


def test_without_signals_it_gives_what_the_run_gives() -> None:
    run = Run()
    assert run.attended() == make_report()
    assert run.noted == []


def test_what_the_run_raises_is_raised() -> None:
    def broken() -> RunReport:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        run_with_signals(broken, StopToken(), print)


@pytest.mark.parametrize("times", [1, 2, 20])
def test_told_to_end_the_run_comes_to_its_end_before_anything_is_raised(times: int) -> None:
    run = Run(*[signal.SIGTERM] * times)
    with pytest.raises(TerminationSignal):
        run.attended()
    assert run.over
    assert run.noted == ["its process was told to end"]
    assert run.control.reason == "its process was told to end"
    assert signal.getsignal(signal.SIGTERM) is as_prefect_does


def test_ctrl_c_does_so_too() -> None:
    run = Run(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run.attended()
    assert run.over
    assert run.noted == ["Ctrl-C"]


def test_a_second_ctrl_c_leaves_at_once() -> None:
    left = threading.Event()

    def stubborn() -> RunReport:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)
        left.wait(60)
        return make_report()

    with pytest.raises(KeyboardInterrupt):
        run_with_signals(stubborn, StopToken(), lambda reason: None)
    assert not left.is_set()
    left.set()


def test_in_another_thread_signals_are_none_of_its_business() -> None:
    seen: list[threading.Thread] = []

    def body() -> RunReport:
        seen.append(threading.current_thread())
        return make_report()

    thread = threading.Thread(target=run_with_signals, args=(body, StopToken(), print))
    thread.start()
    thread.join()
    assert seen == [thread]


def test_prefect_losing_its_limit_does_not_end_the_run() -> None:
    with WatcherThreadCancelScope() as scope:  # as the keeper of its lease does it

        def run() -> RunReport:
            scope.cancel()
            time.sleep(0.3)
            return make_report()

        assert run_with_signals(run, StopToken(), lambda _reason: None) == make_report()
    assert scope.cancelled()
