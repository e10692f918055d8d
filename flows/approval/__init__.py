"""Approve or reject runs that wait for approval. The public names, without Prefect."""

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = [
    "WaitingRun",
    "approve_run",
    "find_waiting_runs",
    "read_approval",
    "reject_run",
    "waiting_runs",
]

if TYPE_CHECKING:
    from flows.approval.decisions import WaitingRun, approve_run, find_waiting_runs, read_approval, reject_run
    from flows.approval.decisions import find_waiting_runs as waiting_runs
else:
    _HOMES = {
        "WaitingRun": ("decisions", "WaitingRun"),
        "approve_run": ("decisions", "approve_run"),
        "find_waiting_runs": ("decisions", "find_waiting_runs"),
        "read_approval": ("decisions", "read_approval"),
        "reject_run": ("decisions", "reject_run"),
        "waiting_runs": ("decisions", "find_waiting_runs"),  # former name
    }

    def __getattr__(name: str) -> object:
        """Load a public name on first use: the import takes a second."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, attribute = _HOMES[name]
        return getattr(import_module(f"{__name__}.{module}"), attribute)
