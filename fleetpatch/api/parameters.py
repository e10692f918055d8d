"""Checks the parameters of an address by the OpenAPI document, so that the document is true."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fastapi import Request

from fleetpatch.machines.machine_list import SHOWN, SORT_KEYS
from inventory.machine import PatchOwner
from tasks.domain.errors import RequestError
from tasks.domain.states import Classification, Compliance, ReadinessState, Severity, YesNoUnknown

WORDS: Final[Mapping[str, Mapping[str, Iterable[str]]]] = {
    "/machines": {
        "compliance": Compliance,
        "owner": PatchOwner,
        "reboot": YesNoUnknown,
        "readiness": ReadinessState,
        "show": SHOWN,
        "sort": (*SORT_KEYS, *(f"-{each}" for each in SORT_KEYS)),
    },
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
