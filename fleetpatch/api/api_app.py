"""The REST API for programs: what the pages show and do, with an OpenAPI document."""

import json
import threading
from functools import cache
from typing import Any, Final

from fastapi import FastAPI

from fleetpatch.api import acting, fleet_reading, maintenance, run_reading
from fleetpatch.api.acting import NOT_BY_TOKEN
from fleetpatch.api.dependencies import describe_words
from fleetpatch.api.models import Problem
from fleetpatch.api.problems import install_problems
from fleetpatch.web.context import WebContext

API_PATH: Final = "/api/v1"


def build_api(context: WebContext) -> FastAPI:
    """Return the application of the API, for its path."""
    api = FastAPI(
        title="fleetpatch",
        version="1",
        description="The state of the fleet and its runs, and what can be done with them. Lists come in parts: follow "
        "`next`. Times are ISO 8601 with an offset. Errors are problems (RFC 9457). Answers have names in camel case; "
        "requests to assess, plan and patch have the keys of configurations. A request that is sent again, because its "
        "answer was lost, has no second effect.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        servers=[{"url": API_PATH}],
    )
    api.state.context = context
    for router in (fleet_reading.router, run_reading.router, maintenance.router, acting.router):
        api.router.routes.extend(router.routes)  # see build_app
    install_problems(api)
    _add_problem_schema(api)
    return api


def _add_problem_schema(api: FastAPI) -> None:
    build = api.openapi

    building = threading.Lock()

    @cache
    def build_document() -> dict[str, Any]:
        document = build()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        for route in (operation for path in document["paths"].values() for operation in path.values()):
            route["responses"].pop("422", None)  # FastAPI's own; here it is a problem with status 400
        for name in ("AssessRequest", "PatchRequest"):
            for key in NOT_BY_TOKEN:
                schemas[name]["properties"].pop(key, None)
        _remove_unused(document, schemas)
        describe_words(document)
        return document

    def find_document() -> dict[str, Any]:
        with building:  # FastAPI changes the same dictionary in each thread that builds it
            return build_document()

    api.openapi = find_document  # type: ignore[method-assign]


def _remove_unused(document: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Remove the schemas that nothing refers to, and then those that only they referred to."""
    while True:
        text = json.dumps(document)
        unused = [name for name in schemas if f'"#/components/schemas/{name}"' not in text]
        if not unused:
            return
        for name in unused:
            del schemas[name]
