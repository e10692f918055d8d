"""A value that takes long to compute: it is kept for a while, and never for good."""

import pytest

from fleetpatch.machines.fleet_reader import CHEAP_SECONDS, PAUSE_FACTOR, ThrottledValue


@pytest.mark.parametrize(("first", "seconds"), [("first", CHEAP_SECONDS / 2), (None, 10.0)])
def test_a_cheap_or_an_empty_value_is_not_kept_after_a_change(
    monkeypatch: pytest.MonkeyPatch, first: str | None, seconds: float
) -> None:
    now = [100.0]
    monkeypatch.setattr("fleetpatch.machines.fleet_reader.time.monotonic", lambda: now[0])
    value = ThrottledValue[str | None]()

    def compute(result: str | None) -> str | None:
        now[0] += seconds
        return result

    assert value.read("old", lambda: compute(first)) == first
    assert value.read("new", lambda: compute("second")) == "second"


def test_a_value_that_has_changed_is_due_after_its_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("fleetpatch.machines.fleet_reader.time.monotonic", lambda: now[0])
    value = ThrottledValue[str]()

    def compute(result: str) -> str:
        now[0] += 2.0
        return result

    def is_due() -> bool:
        return value.is_due

    assert not is_due()
    assert value.read("old", lambda: compute("first")) == "first"
    assert not is_due()  # nothing has changed
    now[0] += 2.0 * PAUSE_FACTOR - 1
    assert value.read("new", lambda: compute("second")) == "first"
    assert not is_due()
    now[0] += 1
    assert is_due()
    assert value.read("new", lambda: compute("second")) == "second"
    assert not is_due()
