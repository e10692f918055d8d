"""Every named fault on real machines, once."""

import os

import pytest

from tests.faults.on_machines import play_all, table
from tests.lab.fleet import Lab


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_fault_on_real_machines_breaks_a_promise() -> None:
    lab = Lab(f"{os.environ.get('FLEETPATCH_LAB') or 'pytest'}-faults")
    reason = lab.reason_it_cannot_run()
    if reason:
        why = f"the lab can't run here: {reason}"
        if os.environ.get("CI") == "true":  # a skipped lab must not look like a passed one
            pytest.fail(why)
        pytest.skip(why)
    lab.down()
    with lab:
        played = play_all(lab)

    assert len(played) >= 40
    assert [one.name for one in played if one.fault] == [], table(played, 0)
