"""Pages that tests attack: a fleet with hostile names everywhere, and nobody may look without a login."""

import asyncio
from collections.abc import Iterable, Iterator

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Mount

from fleetpatch.access.roles import Role
from tasks.domain.rows.audit import AuditEntry
from tasks.records.audit.log import SqlAuditLog
from tests.support.web_fleet import SampleFleet
from tests.support.web_login import log_in
from tests.support.web_site import PATIENCE, Site


class Target:
    """The pages, and somebody who is logged in there."""

    def __init__(self, site: Site, fleet: SampleFleet) -> None:
        self.site, self.fleet = site, fleet
        self.browser = log_in(site, "anna", Role.APPROVE, Role.RUN)
        self.csrf = self.browser.form_token

    def find(self, path: str) -> str:
        return path.format(**{"id": "0" * 8, **self.fleet.runs})

    def read_log(self) -> list[AuditEntry]:
        return list(SqlAuditLog(self.site.records.database).read(10_000))

    def send_raw(self, data: bytes) -> bytes:
        """Send bytes that no HTTP library would, and return the whole answer."""

        async def send() -> bytes:
            host, port = self.site.url.removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(data)
                await writer.drain()
                return await asyncio.wait_for(reader.read(), PATIENCE)
            finally:
                writer.close()

        return asyncio.run(send())


def list_routes(routes: Iterable[BaseRoute], prefix: str = "") -> Iterator[tuple[str, APIRoute]]:
    """Yield all routes with their paths, also those of the API."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield prefix + route.path, route
        elif isinstance(route, Mount) and isinstance(route.app, FastAPI):
            yield from list_routes(route.app.routes, prefix + route.path)
        elif (included := getattr(route, "original_router", None)) is not None:  # FastAPI keeps the routers of an app
            yield from list_routes(included.routes, prefix)
