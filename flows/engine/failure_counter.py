"""The failures of a run, compared with its failure budget. Safe for use by many threads."""

import functools
import threading
from collections import Counter
from collections.abc import Iterable

from flows.engine.health_counter import HealthCounter
from flows.request.patch_request import PatchRequest
from flows.request.read_requests import AssessRequest
from tasks.domain.components import ComponentOrder
from tasks.domain.model import Outcome, Wave
from tasks.rules.runs.failure_budget import (
    FailureBudget,
    OutcomeClass,
    OutcomeTally,
    check_canary_wave,
    check_failures,
    check_unreachable,
    classify_outcome,
    find_broken_login,
)


class FailureCounter:
    """Counts the outcomes of a run's machines, and decides when no further machine may begin."""

    def __init__(self, budget: FailureBudget, *, only_downloads: bool = False) -> None:
        self._budget = budget
        self._find_verdict = functools.partial(classify_outcome, only_downloads=only_downloads)
        self._lock = threading.Lock()
        self._verdicts: dict[str, OutcomeClass] = {}
        self._run_counts: Counter[OutcomeClass] = Counter()
        self._wave_counts: Counter[OutcomeClass] = Counter()
        self._machine_count = 0
        self._wave = Wave(0, ())
        self._wave_machines: frozenset[str] = frozenset()
        self._stop_reason = self._broken_login = ""

    def count_earlier_outcomes(
        self, order: Iterable[Wave], outcomes: Iterable[Outcome], unreachable: Iterable[str]
    ) -> None:
        """Begin the count of a run with what is known before its first wave.

        Args:
            order: all waves of the run.
            outcomes: the outcomes of machines that an earlier process has finished.
            unreachable: names of machines that could not be reached during the assessment.
        """
        waves = list(order)
        with self._lock:
            self._machine_count = sum(len(wave.machines) for wave in waves)
            self._verdicts = dict.fromkeys(unreachable, OutcomeClass.UNREACHABLE)
            for outcome in outcomes:
                self._broken_login = self._broken_login or find_broken_login(outcome)
            self._verdicts |= {outcome.machine: self._find_verdict(outcome) for outcome in outcomes}
            self._run_counts = Counter(self._verdicts.values())

    def begin_counting_wave(self, wave: Wave) -> None:
        """Count the machines of this wave also separately from now on."""
        with self._lock:
            self._wave, self._wave_machines = wave, frozenset(wave.machines)
            self._wave_counts = Counter(self._verdicts[name] for name in wave.machines if name in self._verdicts)
            self._check_budget()

    def judge_canary_wave(self) -> None:
        """After a wave: if it was a canary wave, check that it has tested anything."""
        with self._lock:
            if self._wave.canary and not self._stop_reason:
                self._stop_reason = check_canary_wave(
                    OutcomeTally(len(self._wave_machines), self._wave_counts), self._wave.number
                )

    def add_outcome(self, outcome: Outcome) -> None:
        """Count the outcome of a machine of the current wave."""
        with self._lock:
            name, verdict = outcome.machine, self._find_verdict(outcome)
            before = self._verdicts.get(name)
            self._verdicts[name] = verdict
            for counter in (
                (self._run_counts, self._wave_counts) if name in self._wave_machines else (self._run_counts,)
            ):
                if before is not None:
                    counter[before] -= 1
                counter[verdict] += 1
            self._broken_login = self._broken_login or find_broken_login(outcome)
            self._check_budget()

    @property
    def stop_reason(self) -> str:
        """Why no further machine may begin, or ""."""
        with self._lock:
            if self._broken_login:
                return self._broken_login
            if self._stop_reason:
                return f"the failure budget is spent: {self._stop_reason}"
            reason = check_unreachable(self._budget, OutcomeTally(self._machine_count, self._run_counts))
            return f"too many machines are unreachable: {reason}" if reason else ""

    def _check_budget(self) -> None:
        """Check the failures. Their stop reason is final. Machines that are unreachable may answer later."""
        if not self._stop_reason:
            self._stop_reason = check_failures(
                self._budget,
                OutcomeTally(self._machine_count, self._run_counts),
                OutcomeTally(len(self._wave_machines), self._wave_counts),
                number=self._wave.number,
                canary=self._wave.canary,
            )


RunCounter = FailureCounter | HealthCounter
"""What decides when no further machine may begin: failures, or the health with a component."""


def build_failure_counter(request: PatchRequest | AssessRequest, order: ComponentOrder | None) -> RunCounter:
    """Return the counter for a request. An assessment has no failure budget, so failures never stop it."""
    if isinstance(request, AssessRequest):
        return FailureCounter(FailureBudget())
    if order is not None:
        return HealthCounter(order.component.limits)
    return FailureCounter(request.waves.to_wave_policy().budget, only_downloads=request.download_only)
