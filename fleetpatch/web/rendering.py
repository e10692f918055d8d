"""Renders the templates and the pages of errors. Every value is escaped: texts of machines may be hostile."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from typing import Final, NamedTuple
from urllib.parse import urlencode, urlsplit

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, pass_context
from jinja2.runtime import Context
from markupsafe import Markup
from starlette.exceptions import HTTPException as StarletteHTTPException

from fleetpatch.access.identity import get_identity
from fleetpatch.web.context import get_context
from inventory.errors import InvalidFiles, InventoryError
from tasks.domain.errors import CannotRun, FleetpatchError, PolicyRefused, RecordsError, RequestError, RunNotFound
from tasks.reports.formatting import NO_FIGURE, format_age, format_details, format_share, load_zone_or_utc
from tasks.reports.html.environment import build_environment as build_shared_environment

SECTIONS: Final = (
    (("Overview", "/"),),
    (
        ("Machines", "/machines"),
        ("Components", "/components"),
        ("Images", "/images"),
        ("Snapshots", "/snapshots"),
        ("Hotpatches", "/hotpatch"),
        ("Who patches", "/owners"),
        ("Orders", "/orders"),
    ),
    (("Updates", "/updates"),),
    (("Runs", "/runs"),),
    (("Calendar", "/calendar"), ("Maintenance", "/maintenance"), ("Events", "/events")),
    (("Approvals", "/approvals"),),
    (("Compliance", "/compliance"),),
    (("Patch", "/patch"),),
    (("Audit log", "/audit"),),
)
"""Sections with the titles and addresses of their pages. A section has the title of its first page."""


class Link(NamedTuple):
    """A link of the navigation."""

    title: str
    path: str
    current: str  # "page": it leads to the open page, or to the list that it belongs to; "true": to its section; ""


def build_navigation(open_path: str) -> tuple[tuple[Link, ...], tuple[Link, ...]]:
    """Return the links to the sections, and to the pages of the open one, if it has several.

    ``open_path`` is the path of the page that is shown.
    """
    sections: list[Link] = []
    below: tuple[Link, ...] = ()
    for pages in SECTIONS:
        links = tuple(Link(title, path, "page" if _is_open(path, open_path) else "") for title, path in pages)
        is_open = any(link.current for link in links)
        sections.append(links[0]._replace(current=links[0].current or ("true" if is_open else "")))
        if is_open and len(links) > 1:
            below = links
    return tuple(sections), below


def _is_open(path: str, open_path: str) -> bool:
    return open_path == path or (path != "/" and open_path.startswith(f"{path}/"))


def render_page(request: Request, template: str, *, status: int = 200, **values: object) -> HTMLResponse:
    """Return a page.

    ``request``: the request: the page shows who is logged in, and marks its place in the navigation.
    ``template``: the name of the template, in fleetpatch/pages/templates.
    """
    context = get_context(request)
    html = (
        build_environment()
        .get_template(template)
        .render(
            request=request,
            identity=get_identity(request),
            settings=context.settings,
            now=context.clock.now(),
            login_url=build_login_url(request),
            navigation=build_navigation(request.url.path),
            beside=frozenset(),
            **values,
        )
    )
    return HTMLResponse(html, status_code=status)


def build_login_url(request: Request) -> str:
    """Return the address of the login, which leads back to this page."""
    if getattr(request.state, "hides_address", False):
        return "/login"
    if "hx-request" in request.headers:  # a part of a page
        page = urlsplit(request.headers.get("hx-current-url", ""))
        page_url = page.path + (f"?{page.query}" if page.query else "")
    elif request.method in {"GET", "HEAD"}:
        page_url = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    else:
        page_url = "/"
    return (
        "/login"
        if page_url in {"/", ""} or page_url.startswith("/login")
        else f"/login?{urlencode({'next': page_url})}"
    )


@cache
def build_environment() -> Environment:
    """Return the environment of the templates."""
    environment = build_shared_environment(PackageLoader("fleetpatch.pages"))
    environment.filters |= {
        "details": format_details,
        "age": format_age,
        "share": format_share,
        "moment": render_moment,
        "moment_text": render_moment_text,
        "day": render_day,
        "iso_day": render_iso_day,
        "short_moment": render_short_moment,
        "time_of_day": render_time_of_day,
        "hour_and_minute": render_hour_and_minute,
        "iso": lambda moment: moment.isoformat(timespec="seconds"),
    }
    return environment


def render_moment(moment: datetime | None, zone: str = "UTC") -> Markup | str:
    """Return a time as an HTML element that programs can read; a dash without a time."""
    if moment is None:
        return NO_FIGURE
    local = moment.astimezone(load_zone_or_utc(zone))
    text = render_moment_text(moment, zone)
    return Markup('<time datetime="{}">{}</time>').format(local.isoformat(timespec="seconds"), text)


def render_moment_text(moment: datetime, zone: str = "UTC") -> str:
    """Return a time as "Mon 23 Nov 2026 09:30 CET"."""
    return f"{moment.astimezone(load_zone_or_utc(zone)):%a %d %b %Y %H:%M %Z}"


def render_day(moment: datetime | None, zone: str = "UTC") -> str:
    """Return the day of a time in a zone as "24 Nov 2026"; a dash without a time."""
    return NO_FIGURE if moment is None else f"{moment.astimezone(load_zone_or_utc(zone)):%d %b %Y}"


def render_iso_day(moment: datetime, zone: str = "UTC") -> str:
    """Return the day of a time in a zone as "2026-11-24"."""
    return moment.astimezone(load_zone_or_utc(zone)).date().isoformat()


@pass_context
def render_short_moment(context: Context, moment: datetime | None, zone: str = "UTC") -> Markup | str:
    """Return a time as ``render_moment`` does, in a form for lists: the year only if it is another one than now.

    The title has all of it.
    """
    if moment is None:
        return NO_FIGURE
    local = moment.astimezone(load_zone_or_utc(zone))
    year = "" if local.year == context["now"].year else f" {local.year}"
    text, title = f"{local:%d %b}{year} {local:%H:%M}", f"{local:%a %d %b %Y %H:%M %Z}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(local.isoformat(timespec="seconds"), title, text)


def render_time_of_day(moment: datetime | None, zone: str = "UTC") -> Markup | str:
    """Return a time with seconds, for lists whose day is known. The title has all of it."""
    if moment is None:
        return NO_FIGURE
    local = moment.astimezone(load_zone_or_utc(zone))
    title = f"{local:%a %d %b %Y %H:%M:%S %Z}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        local.isoformat(timespec="milliseconds"), title, f"{local:%H:%M:%S}"
    )


def render_hour_and_minute(moment: datetime, zone: str = "UTC") -> Markup:
    """Return a time of today or tomorrow as "22:15"."""
    local = moment.astimezone(load_zone_or_utc(zone))
    return Markup('<time datetime="{}">{}</time>').format(local.isoformat(timespec="seconds"), f"{local:%H:%M}")


logger = logging.getLogger(__name__)

_TITLES = {
    400: "The request is not valid",
    401: "Log in first",
    403: "Not allowed",
    404: "Not found",
    503: "Not available now",
}


Answer = Callable[[Request, int, str, str, Mapping[str, str]], Response]
"""Answers a request with an error: its HTTP status, what is wrong, the remedy, and what is wrong with each field."""


def install_error_answers(app: FastAPI, answer: Answer, *, role_hint: str, failure: str) -> None:
    """Answer errors of an application.

    ``role_hint``: the remedy where a role is missing.
    ``failure``: the text for an unexpected error.
    """

    def answer_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, FleetpatchError)  # noqa: S101 - for the type checker
        return answer(request, find_status(error), error.message, error.hint, {})

    def answer_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException | StarletteHTTPException)  # noqa: S101 - for the type checker
        response = answer(request, error.status_code, str(error.detail), "", {})
        response.headers.update(error.headers or {})
        return response

    def answer_invalid_request(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - for the type checker
        faults: dict[str, str] = {}
        for fault in error.errors():
            # The place of JSON that can't be parsed is a number of characters.
            steps = ("body",) if fault["type"] == "json_invalid" else fault["loc"][1:] or fault["loc"]
            faults[".".join(map(str, steps))] = str(fault["msg"])
        text = "; ".join(f"{name}: {message}" for name, message in faults.items())
        return answer(request, 400, text, "", faults)

    def answer_failure(request: Request, error: Exception) -> Response:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return answer(request, 500, failure, "The log of fleetpatch web says why.", {})

    app.add_exception_handler(FleetpatchError, answer_error)
    app.add_exception_handler(
        PermissionError, lambda request, error: answer(request, 403, f"This needs the role {error}.", role_hint, {})
    )
    app.add_exception_handler(StarletteHTTPException, answer_http_error)
    app.add_exception_handler(RequestValidationError, answer_invalid_request)
    app.add_exception_handler(Exception, answer_failure)


def install_error_pages(app: FastAPI) -> None:
    """Show errors as pages."""
    install_error_answers(
        app,
        lambda request, status, message, hint, _: show_message(request, status, message, hint),
        role_hint="Log in with a token that has it.",
        failure="fleetpatch has failed to make this page.",
    )


def find_status(error: FleetpatchError) -> int:
    """Return the HTTP status of an error."""
    if isinstance(error, RunNotFound):
        return 404
    if isinstance(error, RecordsError | CannotRun | InvalidFiles):
        return 503
    if isinstance(error, PolicyRefused):
        return 403
    return 400 if isinstance(error, RequestError | InventoryError) else 409


def answer_stranger(request: Request) -> Response:
    """Return the way to the login, and back to the page that somebody wanted."""
    if request.method not in {"GET", "HEAD"}:
        return show_message(request, 401, "You are not logged in, or no longer.", "Log in, and send the form again.")
    if "hx-request" in request.headers:  # a part of a page: the whole page must go to the login
        return Response(status_code=401, headers={"HX-Redirect": build_login_url(request)})
    return RedirectResponse(build_login_url(request), 303)


def show_message(request: Request, status: int, message: str, hint: str) -> Response:
    """Return a page with a message."""
    title = _TITLES.get(status, "Error")
    values = {"title": title, "message": message, "hint": hint, "is_temporary": status == 503}
    return render_page(request, "message.html.j2", status=status, **values)
