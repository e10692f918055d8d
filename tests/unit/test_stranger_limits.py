"""What strangers may cost Prefect's server: requests, WebSockets, idle connections, without a server."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from uvicorn.server import ServerState

from flows.prefect_api import stranger_limits, timed_connection
from flows.prefect_api.stranger_limits import StrangerLimits
from flows.prefect_api.timed_connection import TimedConnection

PATIENCE: Final = 30.0
LOGIN: Final = json.dumps({"type": "auth", "token": "fleet:x"})


def run(check: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(check(), PATIENCE))


async def ask(limits: StrangerLimits, path: str) -> int:
    """Return the status of an answer to a stranger; 0 if there is none."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await limits({"type": "http", "path": path, "headers": []}, _receive_nothing, send)
    return int(sent[0]["status"]) if sent else 0


async def _receive_nothing() -> Message:
    return {"type": "http.disconnect"}


class Files:
    """An application whose answers wait for a permission."""

    def __init__(self) -> None:
        self.allowed = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.allowed.wait()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b""})


class TestRequests:
    def test_a_browser_gets_all_files_of_the_page(self) -> None:
        async def check() -> None:
            files = Files()
            limits = StrangerLimits(files, "fleet:x")
            asked = [asyncio.create_task(ask(limits, f"/assets/{number}.js")) for number in range(64)]
            await asyncio.sleep(0)
            refused = await asyncio.gather(*(ask(limits, path) for path in ("/api/flows", "/api/ready")))
            health = asyncio.create_task(ask(limits, "/api/health"))
            files.allowed.set()
            assert await asyncio.gather(*asked) == [200] * 64
            assert (refused, await health) == ([503, 503], 200)

        run(check)

    def test_the_wait_has_an_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stranger_limits, "WAIT_SECONDS", 0.05)
        monkeypatch.setattr(stranger_limits, "MAX_WAITING_STRANGERS", 8)

        async def check() -> None:
            limits = StrangerLimits(files := Files(), "fleet:x")
            asked = [asyncio.create_task(ask(limits, "/x.js")) for _ in range(32 + 8 + 1)]
            done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            assert done == {asked[-1]}  # it does not even wait
            while not all(task.done() for task in asked[32:]):
                await asyncio.sleep(0.01)
            files.allowed.set()
            assert await asyncio.gather(*asked) == [200] * 32 + [503] * 9

        run(check)

    def test_an_answer_has_an_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stranger_limits, "ANSWER_SECONDS", 0.05)

        async def check() -> None:
            limits = StrangerLimits(Files(), "fleet:x")
            assert await asyncio.gather(*(ask(limits, "/x.js") for _ in range(33))) == [0] * 33

        run(check)


class Client:
    """A WebSocket of a client, with an application that only reads the message with the password."""

    def __init__(self, limits: StrangerLimits) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.messages.put_nowait({"type": "websocket.connect"})
        self.sent: list[Message] = []
        self.task = asyncio.create_task(limits({"type": "websocket"}, self.messages.get, self._send))

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    async def end(self) -> int:
        """Return the code of the end; 0 if the application has read the message."""
        await self.task
        return int(self.sent[-1].get("code", 0))


async def read_login(_scope: Scope, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    message = await receive()
    if message["type"] == "websocket.receive":
        json.loads(message["text"]).get("token")
        await send({"type": "websocket.send", "text": "auth_success"})


class TestWebSockets:
    @pytest.mark.parametrize(
        ("message", "code"),
        [
            ({"text": LOGIN}, 0),
            ({"text": '{"type": "auth", "token": null}'}, 0),  # Prefect says what it lacks
            ({"bytes": LOGIN.encode()}, 1008),
            ({"text": "[" + "1," * 2100 + "1]"}, 1008),
            ({"text": LOGIN.ljust(4097)}, 1008),
            ({"text": "[1]"}, 1008),
            ({"text": "[" * 4000}, 1008),
            ({"text": '{"token": ["x"]}'}, 1008),
            ({"text": '{"token": "\\u00e4"}'}, 1008),
        ],
        ids=range(9),
    )
    def test_only_a_message_with_a_password_reaches_prefect(self, message: dict[str, Any], code: int) -> None:
        async def check() -> None:
            client = Client(StrangerLimits(read_login, "fleet:x"))
            client.messages.put_nowait({"type": "websocket.receive", **message})
            assert await client.end() == code

        run(check)

    def test_a_client_that_must_make_room_connects_again(self) -> None:
        async def check() -> None:
            limits = StrangerLimits(read_login, "fleet:x")
            clients = [Client(limits) for _ in range(65)]
            assert await clients[0].end() == 1001
            for client in clients[1:]:
                client.messages.put_nowait({"type": "websocket.receive", "text": LOGIN})
            assert [await client.end() for client in clients[1:]] == [0] * 64

        run(check)

    def test_a_silent_client_connects_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stranger_limits, "PASSWORD_SECONDS", 0.05)

        async def check() -> None:
            assert await Client(StrangerLimits(read_login, "fleet:x")).end() == 1001

        run(check)


class Transport(asyncio.Transport):
    """The client's side of a connection."""

    is_over = False

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.is_over

    def close(self) -> None:
        self.is_over = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def answer_nothing(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


GET: Final = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "ends"), [([GET], False), ([GET, b"G"], True), ([GET + b"G"], True), ([b"G"], True), ([], True)]
)
def test_an_idle_connection_is_not_slow(sent: list[bytes], ends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed_connection, "HEAD_SECONDS", 0.05)

    async def check() -> None:
        config = uvicorn.Config(answer_nothing, timeout_keep_alive=60, log_config=None, lifespan="off")
        connection, transport = TimedConnection(config, ServerState(), {}), Transport()
        transport.set_protocol(connection)
        connection.connection_made(transport)
        for data in sent:
            connection.data_received(data)
            while transport.written.count(b"200") < bool(GET in data):
                await asyncio.sleep(0)
        await asyncio.sleep(0.2)
        assert transport.is_closing() is ends

    run(check)
