"""Logins of tests at the pages: real tokens, real links, real sessions."""

from fleetpatch.access.login_admin import create_access_token, create_login_link
from fleetpatch.access.roles import Role
from tests.support.web_site import Browser, Site


def add_token(site: Site, name: str, *roles: Role) -> str:
    """Make an access token, and return its text."""
    return create_access_token(site.records, name, [role.value for role in roles or (Role.VIEW,)])[1]


def add_link(site: Site, name: str, *roles: Role) -> str:
    """Make a link that logs in once, and return its address."""
    words = [role.value for role in roles or (Role.VIEW,)]
    return create_login_link(site.records, site.url, name, words, site.context.clock)[0]


def log_in(site: Site, name: str, *roles: Role) -> Browser:
    """Return a browser that is logged in: by a token where there is TLS, else by a link."""
    browser = site.open_browser()
    if site.url.startswith("https:"):
        answer = browser.post("/login", data={"token": add_token(site, name, *roles)})
        assert answer.status_code == 303, answer.text
        browser.form_token = read_csrf_token(browser.get("/assess").text)
    else:
        answer = browser.post("/login/link", data={"code": add_link(site, name, *roles).partition("#")[2]})
        assert answer.status_code == 200, answer.text
        browser.form_token = answer.json()["form_token"]
    return browser


def read_csrf_token(page: str) -> str:
    """Return the CSRF token of the first form of a page that has one."""
    return page.split('name="csrf" value="', 1)[1].split('"', 1)[0]
