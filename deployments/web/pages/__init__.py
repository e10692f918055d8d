"""The pages. Each module has the routes of one page and of its parts."""

from deployments.web.pages import machine, machines, overview

ROUTERS = (
    machines.router,
    machine.router,
    overview.router,
)
