"""The named faults on real machines, once; those of BEFORE_RELEASE are for `make soak`."""

import os

import pytest

from tests.faults.on_machines import LAST_LINES, Played, play_all, plays_of_all_tests, told
from tests.lab.fleet import Flavour, Lab


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(("flavours", "count"), [(("apt",), 41), (("dnf", "zypper"), 16)], ids=["apt", "dnf-zypper"])
def test_no_fault_on_real_machines_breaks_a_promise(flavours: tuple[Flavour, ...], count: int) -> None:
    lab = Lab(f"{os.environ.get('FLEETPATCH_LAB') or 'pytest'}-faults-{'-'.join(flavours)}")
    reason = lab.reason_it_cannot_run()
    if reason:
        why = f"the lab can't run here: {reason}"
        if os.environ.get("CI") == "true":  # a skipped lab must not look like a passed one
            pytest.fail(why)
        pytest.skip(why)
    lab.down()
    with lab:
        played = play_all(lab, plays_of_all_tests(*flavours))

    wrong = [one for one in played if one.fault]
    if wrong:  # a long assertion is cut by pytest: in the middle of what matters
        pytest.fail(told(wrong), pytrace=False)
    assert len(played) == len(plays_of_all_tests(*flavours)) == count


def test_failed_cases_are_listed_with_their_last_lines() -> None:
    long = "\n".join(f"line {number}" for number in range(200))
    wrong = [Played("power cut / reboot", 12.0, "not rebooted"), Played("disk full / install", 3.0, long)]

    lines = told(wrong).splitlines()

    assert lines[0] == "2 cases on real machines broke a promise:"
    assert lines[2:4] == ["power cut / reboot (12 s)", "    not rebooted"]
    assert lines[5] == "disk full / install (3 s)"
    assert lines[6:] == [f"    line {number}" for number in range(200 - LAST_LINES, 200)]
