"""Approve or reject runs that wait for approval. The public names, without Prefect."""

from typing import TYPE_CHECKING

from inventory.lazy_names import build_name_loader

__all__ = ["WaitingRun", "approve_run", "find_waiting_runs", "read_approval", "reject_run"]

if TYPE_CHECKING:
    from flows.approval.decisions import WaitingRun, approve_run, find_waiting_runs, read_approval, reject_run
else:
    __getattr__ = build_name_loader(
        __name__,
        {
            "WaitingRun": ("decisions", "WaitingRun"),
            "approve_run": ("decisions", "approve_run"),
            "find_waiting_runs": ("decisions", "find_waiting_runs"),
            "read_approval": ("decisions", "read_approval"),
            "reject_run": ("decisions", "reject_run"),
        },
    )
