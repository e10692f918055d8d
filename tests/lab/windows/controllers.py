"""Controllers in processes of their own, for runs on Windows machines of the tests."""

import os
import signal
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.ci.tree import TOP
from tests.lab.windows.patching import RUN, WindowsFleet
from tests.support.forked import ForkedProcess, start_forked


class Controllers:
    """Processes that carry a run of a fleet, one after the other."""

    def __init__(self, fleet: WindowsFleet) -> None:
        self._fleet = fleet
        self._begun: list[ForkedProcess] = []

    def __enter__(self) -> Self:
        (self._fleet.place / "request.json").write_text(self._fleet.request().model_dump_json())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._begun:
            process.kill()
            process.wait(60)

    def _start(self, verb: str, *words: str) -> ForkedProcess:
        place = self._fleet.place
        (place / "struck").unlink(missing_ok=True)
        said = place / f"controller-{len(self._begun)}"
        process = start_forked(
            "tests.faults.lab_controller",
            [str(place), verb, RUN, *words],
            place=TOP,
            environment={**os.environ, "FLEETPATCH_RECORDS_URL": self._fleet.records_url},
            out=said.with_suffix(".out"),
            err=said.with_suffix(".err"),
        )
        self._begun.append(process)
        return process

    def _run(self, verb: str, *words: str) -> tuple[int | None, str]:
        process = self._start(verb, *words)
        _, errors = process.communicate(timeout=300)
        return process.returncode, errors

    def begun(self, blow: str) -> ForkedProcess:
        """Begin the run in a process that is struck while something is being installed; return when it was."""
        process = self._start("begin", f"installing={blow}")
        self._fleet.one.machine.wait_until(lambda _: (self._fleet.place / "struck").exists(), timeout=300)
        return process

    def killed(self, verb: str, at: str) -> None:
        """Begin or resume the run in a process that is killed at a step."""
        code, said = self._run(verb, at)
        assert code == -signal.SIGKILL, f"the controller was to die at {at}, and ended with {code}: {said}"

    def carried(self, verb: str, then: Callable[[], object] = lambda: None) -> None:
        """Have a process carry the run to its end; something is done as soon as it has begun."""
        process = self._start(verb)
        then()
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
