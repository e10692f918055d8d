"""Notices that two names of an inventory lead to the same machine."""

import threading
from collections.abc import Iterable

from tasks.domain.model import Facts


class MachineInstances:
    """The machines that a run has met, each with the name under which it met it first. Safe for use by many threads.

    The machine's own lock has the last word: it is of a run and a name, also for a second process of the run.

    Args:
        known: the names and the facts of the machines that an earlier process of the run has met.
    """

    def __init__(self, known: Iterable[tuple[str, Facts | None]] = ()) -> None:
        self._names: dict[str, str] = {}
        self._lock = threading.Lock()
        for name, facts in known:
            self.meet(facts, name)

    def meet(self, facts: Facts | None, name: str) -> str:
        """Return the other name under which the run has met this machine before, or "".

        Args:
            facts: of the machine. Without them, or without an id of the instance, nothing is said.
            name: the name under which it answered now.
        """
        if facts is None or not facts.instance_id:
            return ""
        with self._lock:
            first = self._names.setdefault(facts.instance_id, name)
        return "" if first == name else first
