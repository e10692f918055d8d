"""Machines that would read or approve for another one, or that would silence the endpoint for others."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fleetpatch.access.machine_identity import AMBIGUOUS, MachineDirectory, UnknownMachine, build_address_index
from fleetpatch.access.network import Address, parse_address
from fleetpatch.server import event_endpoint, event_server
from inventory.guests import GuestSettings
from inventory.machine import Inventory, Machine
from tasks.records.setup import open_records
from tests.contract.events.asked_endpoint import EVENTS, METADATA, AskedEndpoint
from tests.contract.records_subjects import new_database

PATIENCE = 30.0


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[AskedEndpoint]:
    with new_database("sqlite", tmp_path) as url, open_records(url) as records:
        yield AskedEndpoint(records, tmp_path)


def resolve(address: str) -> tuple[Address, ...]:
    parsed = parse_address(address)
    return (parsed,) if parsed is not None else ()


def test_what_may_give_its_address_to_others_stands_for_nobody() -> None:
    machines = (
        Machine("gate", "192.0.2.1"),
        Machine("behind", "10.0.0.2", jump=("gate",)),
        Machine("kvm", "192.0.2.3"),
        Machine("guest", "192.0.2.4", hypervisor="kvm"),
        Machine("other-kvm", "192.0.2.5", guests=GuestSettings()),
        Machine("plain", "192.0.2.6"),
    )
    index = build_address_index(machines, "default", resolve)
    assert {str(address): name for address, name in index.items()} == {
        "192.0.2.1": AMBIGUOUS,
        "192.0.2.3": AMBIGUOUS,
        "192.0.2.4": "guest",
        "192.0.2.5": AMBIGUOUS,
        "192.0.2.6": "plain",
    }


def test_a_name_that_is_not_known_for_a_while_keeps_its_address() -> None:
    names = {"nat.example": "192.0.2.10"}
    inventory = Inventory((Machine("web-1", "192.0.2.10"), Machine("web-2", "nat.example")))
    directory = MachineDirectory(
        lambda: inventory, "default", lambda _: "", lambda host: resolve(names.get(host, host))
    )
    directory.refresh()
    names.clear()
    directory.refresh()
    with pytest.raises(UnknownMachine):
        directory.identify("192.0.2.10", "")


def test_a_hostile_machine_uses_up_nothing_of_its_neighbours(
    endpoint: AskedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_endpoint, "MAX_REFUSALS", 3)
    endpoint.machines = (Machine("web", "2001:db8::1"),)
    endpoint.start()
    token = {"Authorization": f"Bearer {endpoint.add_token('web')}"}

    wrong = METADATA | {"Authorization": "Bearer fpe_x"}
    bad = [endpoint.ask(source="2001:db8::bad").status for _ in range(5)]
    worse = [endpoint.ask(source="2001:db8::bad", headers=wrong).status for _ in range(3)]

    assert (bad, worse) == ([403] * 3 + [429] * 2, [429] * 3)
    assert endpoint.ask(source="2001:db8::1").status == 200
    assert endpoint.ask(source="2001:db8::2", headers=METADATA | token).status == 200


@contextmanager
def serving(endpoint: AskedEndpoint) -> Iterator[tuple[str, int]]:
    """Serve an endpoint on loopback."""
    server = event_server.build_event_server(endpoint.app)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join(PATIENCE)


def ask(place: tuple[str, int]) -> bytes:
    """Return the beginning of an answer; empty: the connection was closed."""
    with socket.create_connection(place, PATIENCE) as connection:
        head = f"GET {EVENTS} HTTP/1.1\r\nHost: x\r\nMetadata: true\r\nConnection: close\r\n\r\n"
        try:
            connection.sendall(head.encode())
            return connection.recv(15)
        except OSError:
            return b""


def test_connections_of_one_address_have_their_share(endpoint: AskedEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_server, "MAX_CONNECTIONS_OF_ADDRESS", 3)
    with serving(endpoint) as place:
        with ExitStack() as idle:
            for _ in range(3):
                idle.enter_context(socket.create_connection(place, PATIENCE))
            assert ask(place) == b""
        until = time.monotonic() + PATIENCE
        while not (answer := ask(place)) and time.monotonic() < until:
            time.sleep(0.05)
        assert answer == b"HTTP/1.1 403 Fo"
