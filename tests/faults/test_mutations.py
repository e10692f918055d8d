"""Each law broken on purpose is noticed: otherwise the other tests of this folder would prove nothing."""

import pytest

from tests.faults.mutant_runs import play_mutant

QUICK = (
    "the journal is not written",
    "an installation is retried under a new id",
    "the end of the window is ignored",
    "a reboot counts as done without a new boot id",
    "a stop kills the job",
    "the exit code is trusted",
    "an outcome is dropped",
    "the lease of another process is ignored, and the records accept that",
    "a lost lease is not noticed, and the records accept that",
    "the records accept writes without the lease",
    "no machine lock is acquired",
    "the machine lock is never released",
    "a failed pre-check is ignored",
    "services that run replaced files are not reported",
    "services with logins are restarted",
    "a root that became read-only is not noticed",
    "the machine does not compare a reboot order with its lock",
    "recovery ignores dead download runs",
    "abandoned runs are recovered one after the other",
    "recovery waits for a flow run whose process died",
)
"""Those that are noticed within a few seconds; `make faults ARGS=--mutations` plays them all."""


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_broken_law_is_detected(name: str) -> None:
    caught = play_mutant(name, "mut", 200)

    assert caught.case is not None, f"{name} was not caught"
