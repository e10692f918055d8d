"""The pages. Each module has the routes of one page and of its parts."""

from deployments.web.pages import overview

ROUTERS = (overview.router,)
