"""The endpoint that machines ask for their scheduled events, as Azure's programs do. It knows nothing else.

It serves each machine its own document and its own metadata, and takes approvals of events that the machine is told. It
speaks plain HTTP, as Azure's does: an answer has nothing that is secret, and a request proves itself by the machine's
address or its token. Nothing else of fleetpatch is here: no pages, no API, no login.
"""

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from fleetpatch.access.limiter import FailureLimiter
from fleetpatch.access.machine_identity import UnknownMachine
from inventory.data_class import dataclass
from inventory.machine import Inventory, Machine
from tasks.domain.errors import FleetpatchError
from tasks.domain.scheduled_events import EventDocument, ScheduledEvent
from tasks.rules.instance_metadata import build_instance, find_metadata
from tasks.rules.scheduled_events import API_VERSIONS, MalformedStartRequest, build_document, parse_start_requests

logger = logging.getLogger(__name__)

EVENTS_PATH: Final = "/metadata/scheduledevents"
INSTANCE_PATH: Final = "/metadata/instance"
MAX_BODY_BYTES: Final = 64 * 1024
MAX_BODY_SECONDS: Final = 10.0
MAX_REQUESTS: Final = 600
"""Requests of one machine in a minute: ten programs that ask once a second."""
MAX_REFUSALS: Final = 60
"""Refused requests of one address in a minute. Then it is not looked at any more."""
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class _Directory(Protocol):
    @property
    def inventory(self) -> Inventory: ...

    def identify(self, address: str, authorization: str) -> Machine: ...


class _Documents(Protocol):
    def read(self, machine: str) -> EventDocument: ...


class _Approvals(Protocol):
    def approve(self, machine: str, event_ids: tuple[str, ...]) -> tuple[ScheduledEvent, ...]: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. ``body`` is JSON data, or a text."""

    status: int
    body: object
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> tuple[bytes, str]:
        """Return the body, and its type."""
        if isinstance(self.body, str):
            return self.body.encode(), "text/plain; charset=utf-8"
        return json.dumps(self.body).encode(), "application/json; charset=utf-8"


class Refusal(Exception):
    """A request that gets no more than its error.

    Args:
        status: of HTTP.
        message: for the person who reads the program's log.
        more: further keys of the answer.
    """

    def __init__(self, status: int, message: str, **more: object) -> None:
        super().__init__(message)
        self.status, self.message, self.more = status, message, more


@dataclass(frozen=True, slots=True)
class _Query:
    path: str
    method: str
    address: str
    headers: Headers
    parameters: Mapping[str, str]


class EventEndpoint:
    """The ASGI application.

    ``directory``: says which machine asks.
    ``documents``: what each machine is told.
    """

    def __init__(self, directory: _Directory, documents: _Documents, approvals: _Approvals, fleet: str) -> None:
        self._directory, self._documents, self._approvals, self._fleet = directory, documents, approvals, fleet
        self._requests = FailureLimiter(each=MAX_REQUESTS)
        # By whole address: a hostile machine must not use up what its neighbours in a network of IPv6 have.
        self._refusals = FailureLimiter(each=MAX_REFUSALS, find_key=str)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return
        query = _read_query(scope)
        try:
            answer = await self._answer(query, receive)
        except Refusal as refusal:
            headers = {"Allow": "GET, POST"} if refusal.status == 405 else {}
            headers |= {"Retry-After": "10"} if refusal.status in {429, 503} else {}
            answer = Answer(refusal.status, {"error": refusal.message, **refusal.more}, headers)
        await _send_answer(send, answer)

    async def _answer(self, query: _Query, receive: Receive) -> Answer:
        route = query.path.rstrip("/")
        is_instance = route == INSTANCE_PATH or route.startswith(f"{INSTANCE_PATH}/")
        if route != EVENTS_PATH and not is_instance:
            raise Refusal(404, "There is nothing here.")
        if query.method not in ({"GET"} if is_instance else {"GET", "POST"}):
            raise Refusal(405, "Only GET, and POST for approvals.")
        # Refuse what a program on a machine would not send: a page in a browser, or a proxy for somebody else.
        if query.headers.get("metadata", "").strip().lower() != "true":
            raise Refusal(400, "Bad request: the header Metadata: true is missing.")
        if "x-forwarded-for" in query.headers:
            raise Refusal(400, "Bad request: the header X-Forwarded-For is not allowed.")
        version = _check_version(query, is_instance)
        machine = await run_in_threadpool(self._identify, query)
        try:
            if is_instance:
                return self._describe_instance(machine, query, route)
            if query.method == "GET":
                return Answer(200, build_document(await run_in_threadpool(self._documents.read, machine.name), version))
            return await self._approve(machine, await _read_body(receive))
        except FleetpatchError as error:
            logger.warning("%s could not be answered: %s", machine.name, error.message)
            raise Refusal(503, "The records can't be reached.") from error

    def _identify(self, query: _Query) -> Machine:
        authorization = query.headers.get("authorization", "")
        if authorization and not self._refusals.count(query.address):  # before the records are asked for a token
            raise Refusal(429, "Too many requests.")
        try:
            machine = self._directory.identify(query.address, authorization)
        except UnknownMachine as error:
            if not authorization and not self._refusals.count(query.address):
                raise Refusal(429, "Too many requests.") from error
            raise Refusal(401 if authorization else 403, str(error)) from error
        except FleetpatchError as error:
            logger.warning("a machine could not be identified: %s", error.message)
            raise Refusal(503, "The records can't be reached.") from error
        if authorization:
            self._refusals.take_back(query.address)
        if not self._requests.count(machine.name):
            raise Refusal(429, "Too many requests.")
        return machine

    def _describe_instance(self, machine: Machine, query: _Query, route: str) -> Answer:
        sets = [machine_set for machine_set in self._directory.inventory.sets if machine.name in machine_set.members]
        instance = build_instance(machine, sets, self._fleet)
        try:
            part = find_metadata(instance, [name for name in route.removeprefix(INSTANCE_PATH).split("/") if name])
        except KeyError as error:
            raise Refusal(404, "There is no such metadata.") from error
        if query.parameters.get("format", "json") != "text":
            return Answer(200, part)
        if not isinstance(part, str):
            raise Refusal(400, "The format text is for single values.")
        return Answer(200, part)

    async def _approve(self, machine: Machine, body: bytes) -> Answer:
        try:
            event_ids = parse_start_requests(body)
        except MalformedStartRequest as error:
            raise Refusal(400, f"Bad request: {error}.") from error
        told = await run_in_threadpool(self._approvals.approve, machine.name, event_ids)
        known = [event.id for event in told]
        if not known:
            raise Refusal(400, "Bad request: none of these events is in the document of this machine.")
        logger.info("%s approves %s", machine.name, ", ".join(known))
        return Answer(200, {"Approved": known})


def _read_query(scope: Scope) -> _Query:
    client = scope.get("client")
    try:
        pairs = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=50)
    except ValueError:  # too many: then the version is missing
        pairs = {}
    parameters = {name.lower(): values[-1] for name, values in pairs.items()}
    return _Query(scope["path"], scope["method"], client[0] if client else "", Headers(scope=scope), parameters)


def _check_version(query: _Query, is_instance: bool) -> str:
    version = query.parameters.get("api-version", "")
    if _DATE.fullmatch(version) if is_instance else version in API_VERSIONS:
        return version
    newest = {"newest-versions": list(reversed(API_VERSIONS))}
    raise Refusal(400, "Bad request: api-version is invalid, or was not specified in the request.", **newest)


async def _read_body(receive: Receive) -> bytes:
    """Return the body. One that is too long, or that takes too long, is refused."""
    body = bytearray()
    try:
        async with asyncio.timeout(MAX_BODY_SECONDS):
            while True:
                message: Any = await receive()
                if message["type"] == "http.disconnect":
                    raise Refusal(400, "Bad request: it ended early.")
                body += message.get("body", b"")
                if len(body) > MAX_BODY_BYTES:
                    raise Refusal(413, f"An approval must not have more than {MAX_BODY_BYTES} bytes.")
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise Refusal(408, f"An approval must come within {MAX_BODY_SECONDS:g} seconds.") from None


async def _send_answer(send: Send, answer: Answer) -> None:
    body, content_type = answer.encode()
    fields = {
        "Content-Type": content_type,
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        **answer.headers,
    }
    headers = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
