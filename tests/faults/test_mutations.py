"""Each law broken on purpose is noticed: otherwise the other tests of this folder would prove nothing."""

import pytest

from tests.faults.mutant_runs import play_mutant

FOUND_BY = {
    "the journal is not written": 0,
    "an installation is retried under a new id": 53,
    "the end of the window is ignored": 0,
    "a reboot counts as done without a new boot id": 0,
    "a stop kills the job": 23,
    "the exit code is trusted": 0,
    "an outcome is dropped": 7,
    "the lease of another process is ignored, and the records accept that": 3,
    "a lost lease is not noticed, and the records accept that": 23,
    "the records accept writes without the lease": 111,
    "no machine lock is acquired": 0,
    "the machine lock is never released": 0,
    "a download does not give its machine to an installation": 38,
    "a failed pre-check is ignored": 0,
    "services that run replaced files are not reported": 4,
    "services with logins are restarted": 34,
    "a root that became read-only is not noticed": 32,
    "the machine does not compare a reboot order with its lock": 50,
    "recovery ignores dead download runs": 31,
    "abandoned runs are recovered one after the other": 127,
    "recovery waits for a flow run whose process died": 31,
}
"""Mutants, each with the case that found it last; `make faults ARGS=--mutations` plays all mutants from case 0 on."""


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUND_BY)
def test_a_broken_law_is_detected(name: str) -> None:
    caught = play_mutant(name, "mut", [FOUND_BY[name], *range(200)])  # a change of the engine moves schedules

    assert caught.case is not None, f"{name} was not caught"
