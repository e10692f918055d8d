"""Builds the application: its pages, who may see them, and the headers of every answer."""

from importlib.resources import files

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from fleetpatch.api.api_app import API_PATH, build_api
from fleetpatch.pages import ROUTERS
from fleetpatch.server.head_requests import install_head_requests
from fleetpatch.server.middleware import install_access
from fleetpatch.server.security_headers import install_security_headers
from fleetpatch.web.context import WebContext
from fleetpatch.web.errors import install_error_pages


def build_app(context: WebContext) -> FastAPI:
    """Return the application. Its records must stay open while it serves."""
    app = FastAPI(title="fleetpatch", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.context = context
    app.mount("/static", StaticFiles(directory=str(files("fleetpatch.pages") / "static")), name="static")
    app.mount(API_PATH, build_api(context))
    for router in ROUTERS:
        app.router.routes.extend(router.routes)  # they are built; include_router builds each of them again
    install_error_pages(app)
    install_access(app, context)
    install_head_requests(app)
    install_security_headers(app, is_encrypted=context.settings.is_encrypted_for_others)
    return app
