"""Find, resume, cancel and reconcile runs whose process died. The public names, without Prefect."""

from typing import TYPE_CHECKING

from inventory.lazy_names import build_name_loader

__all__ = [
    "AbandonedRun",
    "CancelRequest",
    "ReconcileResult",
    "cancel_run",
    "find_abandoned_runs",
    "reconcile_runs",
    "resume_run",
]

if TYPE_CHECKING:
    from flows.recovery.cancellation import CancelRequest, cancel_run
    from flows.recovery.reconciliation import ReconcileResult, reconcile_runs, resume_run
    from flows.recovery.unfinished_runs import AbandonedRun, find_abandoned_runs
else:
    __getattr__ = build_name_loader(
        __name__,
        {
            "AbandonedRun": ("unfinished_runs", "AbandonedRun"),
            "find_abandoned_runs": ("unfinished_runs", "find_abandoned_runs"),
            "CancelRequest": ("cancellation", "CancelRequest"),
            "cancel_run": ("cancellation", "cancel_run"),
            "ReconcileResult": ("reconciliation", "ReconcileResult"),
            "reconcile_runs": ("reconciliation", "reconcile_runs"),
            "resume_run": ("reconciliation", "resume_run"),
        },
    )
