"""The pages. Each module has the routes of one page and of its parts."""

from fleetpatch.live import streams
from fleetpatch.pages import (
    acts,
    approvals,
    audit,
    calendar,
    compliance,
    health,
    hotpatch,
    login,
    machine,
    machines,
    metrics,
    orders,
    overview,
    owners,
    patch,
    run,
    run_machine,
    runs,
    runs_comparison,
    updates,
)

ROUTERS = (
    acts.router,
    approvals.router,
    audit.router,
    calendar.router,
    compliance.router,
    health.router,
    hotpatch.router,
    login.router,
    machine.router,
    machines.router,
    metrics.router,
    orders.router,
    overview.router,
    owners.router,
    patch.router,
    runs.router,
    runs_comparison.router,  # before the pages of runs: "compare" is no id
    run.router,
    run_machine.router,
    streams.router,
    updates.router,
)
