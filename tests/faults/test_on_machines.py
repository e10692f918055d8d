"""The named faults on real machines, once; those of BEFORE_RELEASE are for `make soak`."""

import os
from collections.abc import Sequence

import pytest

from tests.faults.on_machines import (
    LAST_LINES,
    Played,
    play_all,
    plays_of_all_tests,
    reason_windows_cannot_run,
    told,
)
from tests.lab.fleet import Flavour, Lab


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(("flavours", "count"), [(("apt",), 41), (("dnf", "zypper"), 16)], ids=["apt", "dnf-zypper"])
def test_no_fault_on_real_machines_breaks_a_promise(flavours: tuple[Flavour, ...], count: int) -> None:
    lab = Lab(f"{os.environ.get('FLEETPATCH_LAB') or 'pytest'}-faults-{'-'.join(flavours)}")
    _require(lab.reason_it_cannot_run(), "the lab")
    lab.down()
    with lab:
        played = play_all(lab, plays_of_all_tests(*flavours))

    _all_kept(played)
    assert len(played) == len(plays_of_all_tests(*flavours)) == count


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_fault_on_windows_machines_breaks_a_promise() -> None:
    _require(reason_windows_cannot_run(), "a Windows machine")

    played = play_all(None, plays_of_all_tests("windows"))

    _all_kept(played)
    assert len(played) == 9


def _require(reason: str | None, what: str) -> None:
    if not reason:
        return
    why = f"{what} can't run here: {reason}"
    if os.environ.get("CI") == "true":  # what is skipped must not look like what passed
        pytest.fail(why)
    pytest.skip(why)


def _all_kept(played: Sequence[Played]) -> None:
    wrong = [one for one in played if one.fault]
    if wrong:  # a long assertion is cut by pytest: in the middle of what matters
        pytest.fail(told(wrong), pytrace=False)


def test_failed_cases_are_listed_with_their_last_lines() -> None:
    long = "\n".join(f"line {number}" for number in range(200))
    wrong = [Played("power cut / reboot", 12.0, "not rebooted"), Played("disk full / install", 3.0, long)]

    lines = told(wrong).splitlines()

    assert lines[0] == "2 cases on real machines broke a promise:"
    assert lines[2:4] == ["power cut / reboot (12 s)", "    not rebooted"]
    assert lines[5] == "disk full / install (3 s)"
    assert lines[6:] == [f"    line {number}" for number in range(200 - LAST_LINES, 200)]
