"""What threads store at the same time is one transaction, and each thread gets the answer for its own item."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tasks.domain.errors import RecordsError, RecordsUnavailable
from tasks.records.storage.write_group import MAX_ITEMS, WriteGroup

PATIENCE = 60.0


class Disk:
    """Stores groups of items. Its first group, "first", takes until ``go_on``."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.faults: dict[str, Callable[[], BaseException]] = {}
        self.began, self.go_on = threading.Event(), threading.Event()

    def write(self, items: Sequence[str]) -> None:
        if "first" in items:
            self.began.set()
            assert self.go_on.wait(PATIENCE)
        for item in items:
            if item in self.faults:
                raise self.faults[item]()
        self.groups.append(list(items))


def store_together(disk: Disk, items: Sequence[str]) -> dict[str, Future[bool]]:
    """Store items by a thread each while another one writes: they wait until it has written."""
    group = WriteGroup(disk.write)
    with ThreadPoolExecutor(len(items) + 1) as pool:
        first = pool.submit(group.store, "first", PATIENCE)
        assert disk.began.wait(PATIENCE)
        futures = {item: pool.submit(group.store, item, PATIENCE) for item in items}
        until = time.monotonic() + PATIENCE
        while len(group._requests) < len(items) + 1 and time.monotonic() < until:
            time.sleep(0.001)
        disk.go_on.set()
    assert first.result()
    return futures


def test_threads_that_wait_for_a_write_share_the_next_one() -> None:
    disk = Disk()
    items = [f"item-{number}" for number in range(MAX_ITEMS + 5)]
    for future in store_together(disk, items).values():
        assert future.result()
    assert [len(group) for group in disk.groups] == [1, MAX_ITEMS, 5]
    assert sorted(item for group in disk.groups for item in group) == sorted([*items, "first"])


def test_an_item_that_cannot_be_stored_does_not_take_others_with_it() -> None:
    disk = Disk()
    disk.faults["bad"] = lambda: RecordsError("it is too long")
    futures = store_together(disk, ["a", "bad", "b", "c"])
    with pytest.raises(RecordsError, match="it is too long"):
        futures.pop("bad").result()
    for future in futures.values():
        assert future.result()
    assert sorted(item for group in disk.groups for item in group) == ["a", "b", "c", "first"]


def test_all_are_told_that_the_database_is_unavailable_and_can_repeat_it() -> None:
    disk = Disk()
    tries: list[int] = []

    def fail() -> RecordsUnavailable:
        tries.append(1)
        return RecordsUnavailable("it is down", hint="Start it.")

    disk.faults["a"] = fail
    futures = store_together(disk, ["a", "b", "c"])
    errors = [future.exception() for future in futures.values()]
    assert [(str(error), type(error), getattr(error, "hint", "")) for error in errors] == [
        ("it is down", RecordsUnavailable, "Start it.")
    ] * 3
    assert len({id(error) for error in errors}) == 3  # each thread adds its own traceback
    assert tries == [1]  # an unavailable database takes long to say so: it is not asked for each of them
    disk.faults.clear()
    group = WriteGroup(disk.write)
    assert group.store("a", PATIENCE)
    assert disk.groups[-1] == ["a"]


def test_a_thread_that_is_interrupted_leaves_the_items_of_others_to_them() -> None:
    disk = Disk()
    interrupted: list[Any] = []

    def interrupt() -> BaseException:
        disk.faults.clear()
        interrupted.append(threading.current_thread())
        return KeyboardInterrupt()

    disk.faults["a"] = interrupt
    futures = store_together(disk, ["a", "b", "c"])
    errors = [type(error) for future in futures.values() if (error := future.exception()) is not None]
    assert errors == [KeyboardInterrupt] == [KeyboardInterrupt] * len(interrupted)
    stored = {item for group in disk.groups for item in group}
    assert len(stored) == 3  # "first" and the two of the other threads


def test_a_thread_whose_turn_does_not_come_goes_away() -> None:
    disk = Disk()
    group = WriteGroup(disk.write)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(group.store, "first", PATIENCE)
        assert disk.began.wait(PATIENCE)
        assert not group.store("late", 0.01)
        disk.go_on.set()
        assert first.result()
    assert group.store("next", PATIENCE)
    assert disk.groups == [["first"], ["next"]]
