"""Each law broken on purpose is noticed: otherwise the other tests of this folder would prove nothing."""

import pytest

from tests.faults.mutations import hunted

QUICK = (
    "the journal is skipped",
    "an installation is retried under a new id",
    "the end of the window is ignored",
    "a reboot is believed without another boot id",
    "a stop kills the job",
    "the exit code is trusted",
    "an outcome is dropped",
    "a lease that somebody has is ignored, and the records let it",
    "a lost lease is not noticed, and the records let it",
    "writing is not bound to the lease",
    "no claim is asked for",
    "the claim is never given back",
    "a failed pre-check is not heeded",
    "services that run replaced files are not told",
    "services that hold logins are restarted",
    "a root that has become read-only is not seen",
    "the machine does not compare a reboot's order with its claim",
    "recovery does not look for dead downloads",
    "abandoned runs are carried to their end one after the other",
    "a flow run whose process died is waited for",
)
"""Those that are noticed within a few seconds; `make faults ARGS=--mutations` hunts them all."""


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_broken_law_is_noticed(name: str) -> None:
    caught = hunted(name, "mut", 200)

    assert caught.case is not None, f"{name} got away"
