"""Logins of tests at the pages: real tokens, real sessions."""

import httpx

from deployments.web.access.roles import Role
from deployments.web.access.token_admin import create_access_token
from tests.support.web_site import Site


def add_token(site: Site, name: str, *roles: Role) -> str:
    """Make an access token, and return its text."""
    return create_access_token(site.records, name, [role.value for role in roles or (Role.VIEW,)])[1]


def log_in(site: Site, name: str, *roles: Role) -> httpx.Client:
    """Return a browser that is logged in with a new token."""
    browser = site.open_browser()
    answer = browser.post("/login", data={"token": add_token(site, name, *roles)})
    assert answer.status_code == 303, answer.text
    return browser


def read_csrf_token(page: str) -> str:
    """Return the CSRF token of the first form of a page that has one."""
    return page.split('name="csrf" value="', 1)[1].split('"', 1)[0]
