"""What the pages listen on, and why they can't."""

import errno
import socket

import pytest

from fleetpatch.server.listening import open_listener
from fleetpatch.settings import WebSettings
from tasks.domain.errors import CannotRun


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_all_addresses_of_ipv6_are_those_of_ipv4_too() -> None:
    with open_listener(WebSettings(host="::", port=0)) as listener:
        port = listener.getsockname()[1]
        for address in ("127.0.0.1", "::1"):
            with socket.create_connection((address, port), timeout=120):
                pass


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with open_listener(WebSettings(port=0)) as listener:
        with socket.create_connection(listener.getsockname(), timeout=120):
            accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    ("number", "said", "remedy"),
    [
        (errno.EACCES, "only root may use ports below 1024", "Choose a --port of 1024 or more"),
        (errno.EADDRINUSE, "the port is used by another process", "Choose another one: `--port NUMBER`"),
        (errno.EADDRNOTAVAIL, "Cannot assign requested address", "Give an address of this machine: --host"),
    ],
)
def test_the_remedy_is_that_of_the_error(monkeypatch: pytest.MonkeyPatch, number: int, said: str, remedy: str) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        raise OSError(number, "no")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(CannotRun) as caught, open_listener(WebSettings(port=443)):
        pass
    assert f"port 443: {said}" in caught.value.message
    assert caught.value.hint.startswith(remedy)
