"""The named faults on real machines, once each; those of BEFORE_RELEASE are for `make soak`."""

import os
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.faults.on_machines import (
    Play,
    play_on_host,
    play_on_windows,
    plays_of_all_tests,
    reason_windows_cannot_run,
)
from tests.faults.windows_case import WindowsCase
from tests.lab.fleet import Lab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ON_LINUX = [play for play in plays_of_all_tests() if play.flavour != "windows"]
ON_WINDOWS = plays_of_all_tests("windows")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab of this process of the tests."""
    name = os.environ.get("FLEETPATCH_LAB") or "pytest"
    lab = Lab(f"{name}-faults-{os.environ.get('PYTEST_XDIST_WORKER', '')}")
    _require(lab.reason_it_cannot_run(), "the lab")
    lab.down()
    with lab:
        yield lab


def test_each_family_has_cases() -> None:
    counts = Counter(play.flavour for play in (*ON_LINUX, *ON_WINDOWS))
    assert counts == {"apt": 10, "zypper": 1, "windows": 1}


@pytest.mark.lab
@pytest.mark.parametrize("play", ON_LINUX, ids=[play.title for play in ON_LINUX])
def test_no_fault_on_real_machines_breaks_a_promise(play: Play, lab: Lab) -> None:
    assert play.flavour != "windows"
    assert not isinstance(play.case, WindowsCase)
    (host,) = lab.up(1, play.flavour)

    play_on_host(play.name, play.case, host)


@pytest.mark.parametrize("play", ON_WINDOWS, ids=[play.title for play in ON_WINDOWS])
def test_no_fault_on_windows_machines_breaks_a_promise(play: Play) -> None:
    assert isinstance(play.case, WindowsCase)
    _require(reason_windows_cannot_run(), "a Windows machine")

    play_on_windows(play.case)


def _require(reason: str | None, what: str) -> None:
    if not reason:
        return
    why = f"{what} can't run here: {reason}"
    if os.environ.get("CI") == "true":  # what is skipped must not look like what passed
        pytest.fail(why)
    pytest.skip(why)
