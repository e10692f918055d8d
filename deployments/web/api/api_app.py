"""The REST API for programs: what the pages show and do, with an OpenAPI document."""

from typing import Final

from fastapi import FastAPI

from deployments.web.api import acting, fleet_reading, run_reading
from deployments.web.api.models import Problem
from deployments.web.api.problems import install_problems
from deployments.web.context import WebContext

API_PATH: Final = "/api/v1"


def build_api(context: WebContext) -> FastAPI:
    """Return the application of the API, for its path."""
    api = FastAPI(
        title="fleetpatch",
        version="1",
        description="The state of the fleet and its runs, and what can be done with them. Lists come in parts: follow "
        "`next`. Times are ISO 8601 with an offset. Errors are problems (RFC 9457).",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    api.state.context = context
    for router in (fleet_reading.router, run_reading.router, acting.router):
        api.include_router(router)
    install_problems(api)
    _add_problem_schema(api)
    return api


def _add_problem_schema(api: FastAPI) -> None:
    build = api.openapi

    def build_document() -> dict[str, object]:
        document = build()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        for route in (each for path in document["paths"].values() for each in path.values()):
            route["responses"].pop("422", None)  # FastAPI's own; here it is a problem with status 400
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        return document

    api.openapi = build_document  # type: ignore[method-assign]
