"""How many kinds of bad input are tried, by hand and at every run: the number is printed, and may only grow."""

import importlib
import math
import sys
from types import ModuleType

import pytest

BY_HAND = 600
MODULES = {
    "inventories": ["tests.unit.inventory.test_bad_yaml", "tests.unit.bad_input.test_inventories"],
    "requests": ["tests.unit.bad_input.test_requests"],
    "command": ["tests.unit.bad_input.test_options"],
    "environment": ["tests.contract.test_bad_environment"],
    "records": ["tests.unit.bad_input.test_records"],
    "machines": ["tests.unit.bad_input.test_what_machines_say"],
}


def cases(module: ModuleType) -> int:
    """Return how many times the tests of a module are called with something else."""
    found = 0
    for name, test in vars(module).items():
        if name.startswith("test_") and callable(test):
            marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
            found += math.prod(len(list(mark.args[1])) for mark in marks)
    return found


def test_how_much_is_tried(capsys: pytest.CaptureFixture[str]) -> None:
    counted = {room: sum(cases(importlib.import_module(name)) for name in names) for room, names in MODULES.items()}
    total, rooms = sum(counted.values()), ", ".join(f"{number} {room}" for room, number in counted.items())
    with capsys.disabled():
        sys.stdout.write(f"\nbad input tried: {total} cases ({rooms})\n")
    assert total >= BY_HAND
    assert min(counted.values()) >= 20
