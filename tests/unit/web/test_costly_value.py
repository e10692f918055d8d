"""A value that takes long to compute: it is kept for a while, and never for good."""

import pytest

from deployments.web.fleet import costly_value
from deployments.web.fleet.costly_value import PAUSE_FACTOR, CostlyValue


def test_a_value_that_has_changed_is_due_after_its_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(costly_value.time, "monotonic", lambda: now[0])
    value = CostlyValue[str]()

    def compute(result: str) -> str:
        now[0] += 2.0
        return result

    assert not value.is_due
    assert value.read("old", lambda: compute("first")) == "first"
    assert not value.is_due  # nothing has changed
    now[0] += 2.0 * PAUSE_FACTOR - 1
    assert value.read("new", lambda: compute("second")) == "first"
    assert not value.is_due
    now[0] += 1
    assert value.is_due
    assert value.read("new", lambda: compute("second")) == "second"
    assert not value.is_due
