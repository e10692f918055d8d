"""Builds the application: its pages, who may see them, and the headers of every answer."""

from importlib.resources import files

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from deployments.web.access.middleware import install_access
from deployments.web.api.api_app import API_PATH, build_api
from deployments.web.context import WebContext
from deployments.web.errors import install_error_pages
from deployments.web.head_requests import install_head_requests
from deployments.web.pages import ROUTERS
from deployments.web.security_headers import install_security_headers


def build_app(context: WebContext) -> FastAPI:
    """Return the application. Its records must stay open while it serves."""
    app = FastAPI(title="fleetpatch", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.context = context
    app.mount("/static", StaticFiles(directory=str(files("deployments.web") / "static")), name="static")
    app.mount(API_PATH, build_api(context))
    for router in ROUTERS:
        app.router.routes.extend(router.routes)  # they are built; include_router builds each of them again
    install_error_pages(app)
    install_access(app, context)
    install_head_requests(app)
    install_security_headers(app, is_encrypted=context.settings.is_encrypted_for_others)
    return app
