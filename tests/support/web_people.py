"""People at the pages, without a login: a header says who makes a request. Only tests can put it in place."""

from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from fleetpatch.access.identity import Identity
from fleetpatch.access.roles import Role, parse_grants
from fleetpatch.server.middleware import AccessMiddleware

_HEADER = "x-test-person"


def admit_people(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on requests come from whom ``person`` names; others may only look."""

    async def call(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            name, _, roles = headers.get(_HEADER, ":view").partition(":")
            grants = parse_grants(roles.split(","))
            identity = Identity(name, grants.roles, "token", scopes=grants.scopes)
            scope.setdefault("state", {})["identity"] = identity
        await self._app(scope, receive, send)

    monkeypatch.setattr(AccessMiddleware, "__call__", call)


def person(name: str, *roles: str) -> dict[str, str]:
    """The headers of a request of somebody with these roles, of which some may be limited: "run@env=test"."""
    return {_HEADER: f"{name}:{','.join(roles or (Role.VIEW,))}"}
