"""The pages. Each module has the routes of one page and of its parts."""

from deployments.web import metrics
from deployments.web.pages import compliance, overview

ROUTERS = (compliance.router, metrics.router, overview.router)
