"""Controller processes of one case on machines, and what is promised of those that come too early or too late."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.execution import execute_run
from flows.local_run import LocalRunner
from flows.ports.caller import Caller
from tasks.domain.run_errors import LeaseHeld
from tests.ci.tree import TOP
from tests.support.forked import ForkedProcess, start_forked

RUN = "20260310-010000-aaaaaa"
BEFORE = "20260310-003000-bbbbbb"
LAST = "20260310-090000-cccccc"


class Broken(AssertionError):
    """A promise that was not kept."""


class NotReached(Broken):
    """A run that ended before the step at which the fault was to be injected."""


class Controllers(ABC):
    """Begins controllers, which carry runs by the request in a folder.

    Attributes:
        place: the folder.
        records_url: of the records.
        begun: the processes.
    """

    place: Path
    records_url: str
    begun: list[ForkedProcess]

    @abstractmethod
    def describe_request(self, *masks: str, **fields: Any) -> None:
        """Write the request where controllers look for it."""

    def controller(self, verb: str, *words: str, run: str = RUN) -> ForkedProcess:
        """Start a controller process (see lab_controller.py)."""
        said = self.place / f"controller-{len(self.begun)}"
        self.begun.append(
            start_forked(
                "tests.faults.lab_controller",
                [str(self.place), verb, run, *words],
                place=TOP,
                environment={**os.environ, "FLEETPATCH_RECORDS_URL": self.records_url},
                out=said.with_suffix(".out"),
                err=said.with_suffix(".err"),
            )
        )
        return self.begun[-1]

    def end(self) -> None:
        """Kill the controllers that a case has left: a stopped one would never end."""
        for process in self.begun:
            process.kill()
            process.wait(60)  # it may still write into the folder that is removed

    def killed_and_taken_up(self, steps: Sequence[str], *masks: str, **fields: Any) -> None:
        """Begin a run in a process that is killed at a step. The one that takes it up is killed at the next step.

        Whoever takes it up too early is refused.
        """
        self.describe_request(*masks, **fields)
        for verb, at in zip(("begin", *("resume" for _ in steps[1:])), steps, strict=True):
            (self.place / "struck").unlink(missing_ok=True)
            process = self.controller(verb, at)
            _, said = process.communicate(timeout=360)
            if process.returncode != -9:
                raise Broken(f"the controller was to die at {at}, and ended with {process.returncode}: {said}")
            self.refused()
        self.taken_up()

    def refused(self) -> None:
        """Try to take the run up while its lease is held."""
        who = Caller(records_url=self.records_url)
        try:
            execute_run(RUN, who, lambda request, ports: LocalRunner())
        except LeaseHeld:
            return
        raise Broken("the run was resumed while its lease was valid")

    def taken_up(self, verb: str = "resume", run: str = RUN) -> None:
        """Take the run up once its lease is over; or settle it."""
        process = self.controller(verb, run=run)  # it waits for the lease itself
        _, said = process.communicate(timeout=360)
        if process.returncode != 0:
            raise Broken(f"resuming the run ended with {process.returncode}: {said}")
