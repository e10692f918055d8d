"""Asks the endpoint of scheduled events as an ASGI server does, and reads its answer."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from fleetpatch.access.machine_identity import TOKEN_PREFIX, MachineDirectory
from fleetpatch.access.network import parse_address
from fleetpatch.access.token_secrets import create_secret, digest_secret
from fleetpatch.server.event_endpoint import EventEndpoint
from fleetpatch.server.event_server import DocumentReader
from inventory.machine import Inventory, Machine, MachineSet
from tasks.domain.scheduled_events import EventType, ScheduledEvent
from tasks.domain.states import OperationState
from tasks.records.event_tokens import EventToken, SqlEventTokens
from tasks.records.scheduled_events import SqlScheduledEvents
from tasks.records.sql_records import SqlRecords
from tests.support import builders as make
from tests.support.fake_clock import FakeClock

MACHINES = (
    Machine("vm_0", "192.0.2.10", environment="prod"),
    Machine("vm_1", "192.0.2.11", environment="prod"),
    Machine("lone", "192.0.2.12"),
    Machine("gate", "192.0.2.16"),
    Machine("far", "192.0.2.13", jump=("gate",)),
    Machine("twin-a", "192.0.2.14", port=22),
    Machine("twin-b", "192.0.2.14", port=23),
    Machine("named", "host.example"),
)
SETS = (MachineSet("web", "vm*", ("vm_0", "vm_1")),)
VERSION = "api-version=2020-07-01"
EVENTS = f"/metadata/scheduledevents?{VERSION}"
INSTANCE = "/metadata/instance?api-version=2021-12-13"
METADATA = {"Metadata": "true"}


@dataclass(frozen=True)
class Said:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)


@dataclass
class AskedEndpoint:
    """An endpoint over real records, with the machines of this module."""

    records: SqlRecords
    folder: Path
    clock: FakeClock = field(default_factory=FakeClock)
    machines: tuple[Machine, ...] = MACHINES
    fault: Exception | None = None

    def __post_init__(self) -> None:
        self.records.save(make.make_run(id="run-1", state=OperationState.IN_PROGRESS))
        self.start()

    def start(self) -> None:
        """Begin a new process."""
        database = self.records.database
        self.events = SqlScheduledEvents(database, self.clock)
        self.directory = MachineDirectory(
            self._load_inventory,
            "default",
            SqlEventTokens(database).find_machine,
            lambda address: tuple(
                filter(None, [parse_address("192.0.2.15" if address == "host.example" else address)])
            ),
        )
        self.directory.refresh()
        documents = DocumentReader(self.events, self.folder / "count")
        self.app = EventEndpoint(self.directory, documents, self.events, "default")

    def _load_inventory(self) -> Inventory:
        if self.fault is not None:
            raise self.fault
        return Inventory(self.machines, sets=SETS)

    def announce(self, name: str, *audience: str, act: str = "reboot/0") -> ScheduledEvent:
        """Announce a reboot."""
        now = self.clock.now()
        event = ScheduledEvent(
            id="",
            run_id="run-1",
            act=act,
            event_type=EventType.REBOOT,
            resources=(name,),
            audience=audience,
            not_before=now + timedelta(minutes=15),
            expires_at=now + timedelta(hours=4),
            announced_at=now,
            description="Updates need a reboot.",
        )
        return self.events.announce(event)

    def add_token(self, machine: str) -> str:
        """Make a token."""
        text = TOKEN_PREFIX + create_secret()
        SqlEventTokens(self.records.database).save(EventToken(machine, digest_secret(text), "anna", self.clock.now()))
        return text

    def ask(
        self,
        target: str = EVENTS,
        *,
        source: str = "192.0.2.10",
        method: str = "GET",
        headers: Mapping[str, str] = METADATA,
        body: bytes = b"",
        chunks: int = 1,
    ) -> Said:
        """Send a request, and return the answer."""
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "client": (source, 40000),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
        size = max(1, -(-len(body) // chunks))
        parts = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
        messages = [
            {"type": "http.request", "body": part, "more_body": number < len(parts) - 1}
            for number, part in enumerate(parts)
        ]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        answer_headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Said(sent[0]["status"], answer_headers, sent[1]["body"])

    def approve(self, *event_ids: str, source: str = "192.0.2.10", **more: Any) -> Said:
        """Approve events."""
        body = json.dumps({"StartRequests": [{"EventId": event_id} for event_id in event_ids]}).encode()
        return self.ask(method="POST", source=source, body=body, **more)
