"""What the API's routes ask before they answer: a bearer token, a role, and parameters that the OpenAPI document has.

A browser's cookie and a proxy's header open nothing here.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fastapi import Depends, HTTPException, Request
from fastapi.params import Depends as Dependency
from fastapi.security import HTTPBearer

from fleetpatch.access.identity import get_identity, require_role
from fleetpatch.access.roles import Role
from fleetpatch.machines.machine_list import KINDS, NO_VALUE, SHOWN, SORT_KEYS
from fleetpatch.web.authentication import ActPermission
from inventory.machine import PatchOwner
from tasks.domain.components import AutomaticUpgrade, ComponentStanding
from tasks.domain.errors import RequestError
from tasks.domain.states import Classification, Compliance, HotpatchStatus, ReadinessState, Severity, YesNoUnknown

WORDS: Final[Mapping[str, Mapping[str, Iterable[str]]]] = {
    "/machines": {
        "compliance": Compliance,
        "owner": PatchOwner,
        "reboot": YesNoUnknown,
        "readiness": ReadinessState,
        "kind": KINDS,
        "hotpatch": (*HotpatchStatus, NO_VALUE),
        "show": SHOWN,
        "sort": (*SORT_KEYS, *(f"-{each}" for each in SORT_KEYS)),
    },
    "/hotpatch": {"kind": KINDS, "hotpatch": (*HotpatchStatus, NO_VALUE), "owner": PatchOwner, "show": SHOWN},
    "/components": {"standing": ComponentStanding, "automatic": AutomaticUpgrade},
    "/updates": {"classification": Classification, "severity": Severity},
}
"""The words of filters, by path and parameter. "" is no filter."""


def describe_words(document: dict[str, Any]) -> None:
    """Write the words of the filters into the OpenAPI document."""
    for path, description in WORDS.items():
        for parameter in document["paths"][path]["get"]["parameters"]:
            if parameter["name"] in description:
                parameter["schema"]["enum"] = ["", *map(str, description[parameter["name"]])]


def check_parameters(request: Request) -> None:
    """Refuse parameters and words that the document has not: a misspelled filter would select everything, or nothing.

    Raises:
        RequestError: the name or the word is unknown.
    """
    route = request.app.openapi()["paths"][request.scope["route"].path][request.method.lower()]
    schemas = {
        parameter["name"]: parameter["schema"]
        for parameter in route.get("parameters", ())
        if parameter["in"] == "query"
    }
    for name, value in request.query_params.multi_items():
        if name not in schemas:
            known_text = f"The parameters are: {', '.join(schemas)}." if schemas else "It has no parameters."
            raise RequestError(f"the parameter {name!r} is unknown", hint=known_text)
        schema = schemas[name].get("enum")
        if schema is not None and value not in schema:
            raise RequestError(f"{name}: {value!r} is unknown", hint=f"One of: {', '.join(filter(None, schema))}.")


BEARER: Dependency = Depends(HTTPBearer(auto_error=False, description="A token of `fleetpatch web token add`."))


def require_token(request: Request) -> None:
    """Refuse requests without a valid bearer token. Raise HTTPException if there is none (401)."""
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
