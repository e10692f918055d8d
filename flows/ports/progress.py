"""How a run tells what it does now, for people who look at it elsewhere."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from tasks.domain.model import Wave
from tasks.domain.protocols.leases import LeaseHolder


class RunProgress(Protocol):
    """Records the progress of a run. Its methods neither raise nor wait."""

    def record_run(self, run_id: str, holder: LeaseHolder | None) -> AbstractContextManager[None]:
        """Record what the listener gets inside the block as the progress of this run.

        Args:
            run_id: the id of the run.
            holder: this process, if it has the lease of the run.
        """
        ...

    def expect_machines(self, waves: Mapping[str, int | None]) -> None:
        """Receive all machines of the run in their order, with the number of their wave; None: no wave."""
        ...


class UnrecordedProgress:
    """Records nothing."""

    def record_run(self, run_id: str, holder: LeaseHolder | None) -> AbstractContextManager[None]:  # noqa: ARG002 - the protocol's
        """Do nothing."""
        return nullcontext()

    def expect_machines(self, waves: Mapping[str, int | None]) -> None:
        """Do nothing."""


def announce_waves(progress: RunProgress, waves: Sequence[Wave]) -> None:
    """Make the order of a run visible from the start, before anything is known of its machines."""
    progress.expect_machines({name: wave.number for wave in waves for name in wave.machines})
