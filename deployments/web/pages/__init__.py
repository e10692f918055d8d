"""The pages. Each module has the routes of one page and of its parts."""

from deployments.web.pages import approvals, calendar, calendar_feed, overview, updates

ROUTERS = (approvals.router, calendar.router, calendar_feed.router, overview.router, updates.router)
