"""The health of the machines in a run that upgrades a component. It decides when no further batch may begin."""

import threading
from collections.abc import Iterable

from tasks.domain.components import ComponentTry
from tasks.domain.images import RolloutLimits
from tasks.domain.model import Outcome, Wave
from tasks.domain.states import OperationState
from tasks.rules.components.health import AZURE_LIMITS, explain_unhealthy_scope, explain_unhealthy_upgraded
from tasks.rules.components.tries import find_try, shows_version
from tasks.rules.runs.failure_budget import find_broken_login


class HealthCounter:
    """Counts healthy machines with Azure's limits: of the whole scope before a batch, of the upgraded ones after it.

    A batch that has begun goes on to its end. It has the methods of FailureCounter.
    """

    def __init__(self, limits: RolloutLimits = AZURE_LIMITS) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._machine_count = 0
        self._unhealthy: set[str] = set()
        self._tries: dict[str, ComponentTry] = {}  # by machine
        self._canaries: set[str] = set()
        self._unavailable: set[str] = set()  # since before the first wave: no harm of the rollout
        self._known: set[str] = set()  # machines that have shown that their version works
        self._stop_reason = self._broken_login = ""

    def count_earlier_outcomes(
        self, order: Iterable[Wave], outcomes: Iterable[Outcome], unreachable: Iterable[str]
    ) -> None:
        """Begin the count of a run with what is known before its first wave.

        Args:
            order: all waves of the run.
            outcomes: the outcomes of machines that an earlier process has finished.
            unreachable: names of machines that do not answer before the first wave. They don't count until they do.
        """
        waves = list(order)
        with self._lock:
            self._unavailable = set(unreachable)
            self._machine_count = sum(len(wave.machines) for wave in waves)
            self._canaries = {name for wave in waves if wave.canary for name in wave.machines}
            for outcome in outcomes:
                self._count(outcome)

    def count_unhealthy(self, names: Iterable[str]) -> None:
        """Count machines that answer, and are unhealthy before the first wave, for any reason."""
        with self._lock:
            self._unhealthy |= set(names)

    def begin_counting_wave(self, wave: Wave) -> None:
        """Decide whether a batch may begin: too many machines of the scope may be unhealthy by now."""
        with self._lock:
            total = self._machine_count - len(self._unavailable)
            reason = explain_unhealthy_scope(self._unhealthy, total, self._limits, has_begun=bool(self._tries))
            if not reason and not wave.canary and self._canaries and not self._canaries & self._known:
                reason = "no machine of the canary locations has shown that the version works"
            self._stop_reason = self._stop_reason or reason

    def judge_canary_wave(self) -> None:
        """After a batch: too many of the machines that were upgraded may be unhealthy."""
        with self._lock:
            reason = explain_unhealthy_upgraded(self._tries.values(), self._limits)
            self._stop_reason = self._stop_reason or reason

    def end(self, reason: str) -> None:
        """Let no further machine begin. Only the first reason is kept."""
        with self._lock:
            self._stop_reason = self._stop_reason or reason

    def add_outcome(self, outcome: Outcome) -> None:
        """Count the outcome of a machine."""
        with self._lock:
            self._count(outcome)

    @property
    def stop_reason(self) -> str:
        """Why no further machine may begin, or ""."""
        with self._lock:
            if self._broken_login:
                return self._broken_login
            return f"the upgrade is stopped: {self._stop_reason}" if self._stop_reason else ""

    def _count(self, outcome: Outcome) -> None:
        self._broken_login = self._broken_login or find_broken_login(outcome)
        attempt = find_try(outcome)
        if attempt is not None:
            self._tries[outcome.machine] = attempt
        if shows_version(outcome):
            self._known.add(outcome.machine)
        else:
            self._known.discard(outcome.machine)
        is_good = outcome.state in {OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS}
        if outcome.machine in self._unavailable and not (is_good or attempt is not None):
            return
        self._unavailable.discard(outcome.machine)
        if is_good:
            self._unhealthy.discard(outcome.machine)
        elif outcome.state in {OperationState.FAILED, OperationState.UNKNOWN}:
            self._unhealthy.add(outcome.machine)
