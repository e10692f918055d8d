"""The failures of one run so far, against its failure budget. Many threads add to it and ask it."""

import functools
import threading
from collections import Counter
from collections.abc import Iterable

from tasks.model import Outcome, Wave
from tasks.rules.failure_budget import (
    FailureBudget,
    Tally,
    Verdict,
    too_many_failed,
    too_many_unreachable,
    verdict_of,
    why_unproven,
)


class FailureCount:
    """Counts what became of a run's machines, and says when no further machine may be begun.

    Args:
        budget: what is allowed.
        only_downloads: whether the run downloads updates and installs none.
    """

    def __init__(self, budget: FailureBudget, *, only_downloads: bool = False) -> None:
        self._budget = budget
        self._verdict_of = functools.partial(verdict_of, only_downloads=only_downloads)
        self._lock = threading.Lock()
        self._verdicts: dict[str, Verdict] = {}
        self._run: Counter[Verdict] = Counter()
        self._here: Counter[Verdict] = Counter()
        self._machines = 0
        self._wave = Wave(0, ())
        self._members: frozenset[str] = frozenset()
        self._stopped = ""

    def start(self, order: Iterable[Wave], outcomes: Iterable[Outcome], unreachable: Iterable[str]) -> None:
        """Begin to count.

        Args:
            order: all waves of the run.
            outcomes: of machines that an earlier process has finished.
            unreachable: names of machines that could not be reached when they were assessed.
        """
        waves = list(order)
        with self._lock:
            self._machines = sum(len(wave.machines) for wave in waves)
            self._verdicts = dict.fromkeys(unreachable, Verdict.UNREACHABLE)
            self._verdicts |= {outcome.machine: self._verdict_of(outcome) for outcome in outcomes}
            self._run = Counter(self._verdicts.values())

    def start_wave(self, wave: Wave) -> None:
        """A wave begins: its machines are counted for themselves too."""
        with self._lock:
            self._wave, self._members = wave, frozenset(wave.machines)
            self._here = Counter(self._verdicts[name] for name in wave.machines if name in self._verdicts)
            self._judge()

    def end_wave(self) -> None:
        """The wave is over. A canary wave has to have shown something."""
        with self._lock:
            if self._wave.canary and not self._stopped:
                self._stopped = why_unproven(Tally(len(self._members), self._here), self._wave.number)

    def add(self, outcome: Outcome) -> None:
        """Count what became of a machine of the current wave."""
        with self._lock:
            name, verdict = outcome.machine, self._verdict_of(outcome)
            before = self._verdicts.get(name)
            self._verdicts[name] = verdict
            for counter in (self._run, self._here) if name in self._members else (self._run,):
                if before is not None:
                    counter[before] -= 1
                counter[verdict] += 1
            self._judge()

    @property
    def why(self) -> str:
        """Why no further machine may be begun, or ""."""
        with self._lock:
            return self._stopped or too_many_unreachable(self._budget, Tally(self._machines, self._run))

    def _judge(self) -> None:
        """A failure stays one, so what failures have stopped stays so. An unreachable machine may answer later."""
        if not self._stopped:
            run, here = Tally(self._machines, self._run), Tally(len(self._members), self._here)
            number, canary = self._wave.number, self._wave.canary
            self._stopped = too_many_failed(self._budget, run, here, number=number, canary=canary)
