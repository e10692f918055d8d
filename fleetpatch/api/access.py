"""Who may use the API: programs with a bearer token. A browser's cookie and a proxy's header open nothing here."""

from fastapi import Depends, HTTPException, Request
from fastapi.params import Depends as Dependency
from fastapi.security import HTTPBearer

from fleetpatch.access.identity import get_identity, require_role
from fleetpatch.access.roles import Role
from fleetpatch.api.parameters import check_parameters
from fleetpatch.web.authentication import ActPermission

BEARER: Dependency = Depends(HTTPBearer(auto_error=False, description="A token of `fleetpatch web token add`."))


def require_token(request: Request) -> None:
    """Refuse requests without a valid bearer token.

    Raises:
        HTTPException: there is none (401).
    """
    if get_identity(request).source != "token":
        raise HTTPException(401, "The API needs a bearer token: Authorization: Bearer TOKEN.")


READ: tuple[Dependency, ...] = (
    BEARER,
    Depends(require_token),
    Depends(require_role(Role.VIEW)),
    Depends(check_parameters),
)
"""The dependencies of routes that read."""


def allow_act(role: Role) -> list[Dependency]:
    """Return the dependencies of a route that does something."""
    return [BEARER, Depends(require_token), Depends(ActPermission(role)), Depends(check_parameters)]
