"""Reads the plans of runs that wait for approval, and keeps the last few: a plan of 5,000 machines takes seconds."""

import threading
import time
from typing import Final

from fleetpatch.plans.plan_view import PlanView, build_plan_view
from tasks.records.approvals import Approval
from tasks.records.queries.history import History

MAX_PLANS: Final = 12
MAX_AGE_SECONDS: Final = 30.0
"""A run that is resumed may record another plan at any time. A decision never relies on what is kept here."""


class PlanReader:
    """Plans by run and digest. All threads may share it."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], tuple[float, PlanView]] = {}

    def read(self, approval: Approval) -> PlanView:
        """Return the recorded plan of the run of an approval.

        Raises:
            RecordsError: it can't be read.
        """
        key = (approval.run_id, approval.digest)
        with self._lock:
            cached_plan = self._kept.get(key)
            if cached_plan is not None and time.monotonic() - cached_plan[0] < MAX_AGE_SECONDS:
                return cached_plan[1]
            view = build_plan_view(self._history.read_report(approval.run_id))
            self._kept.pop(key, None)
            self._kept[key] = (time.monotonic(), view)
            while len(self._kept) > MAX_PLANS:
                self._kept.pop(next(iter(self._kept)))
            return view
