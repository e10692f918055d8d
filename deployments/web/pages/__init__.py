"""The pages. Each module has the routes of one page and of its parts."""

from deployments.web import metrics
from deployments.web.pages import overview

ROUTERS = (metrics.router, overview.router)
