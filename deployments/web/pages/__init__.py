"""The pages. Each module has the routes of one page and of its parts."""

from deployments.web import metrics
from deployments.web.pages import approvals, machine, machines, overview, updates

ROUTERS = (
    approvals.router,
    machines.router,
    machine.router,
    metrics.router,
    overview.router,
    updates.router,
)
