"""Magic packets: the bytes, and that they really arrive."""

import socket

import pytest

from tasks.domain.errors import RequestError, TransportError
from tasks.machines.transport.wake_on_lan import PACKET_COUNT, build_magic_packet, send_magic_packet

MAC = bytes.fromhex("525400123456")


@pytest.mark.parametrize("written", ["52:54:00:12:34:56", "52-54-00-12-34-56", "5254.0012.3456", "525400123456"])
def test_a_magic_packet_has_the_address_sixteen_times(written: str) -> None:
    packet = build_magic_packet(written)
    assert packet == b"\xff" * 6 + MAC * 16
    assert len(packet) == 102


@pytest.mark.parametrize("written", ["", "52:54:00:12:34", "52:54:00:12:34:56:78", "zz:54:00:12:34:56"])
def test_what_is_no_address_is_refused(written: str) -> None:
    with pytest.raises(RequestError, match="not a hardware address"):
        build_magic_packet(written)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.255.255.255"], ids=["to a host", "as a broadcast"])
def test_packets_arrive(address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        receiver.bind(("0.0.0.0" if address.endswith("255") else address, 0))
        receiver.settimeout(60)
        send_magic_packet("52:54:00:12:34:56", address, receiver.getsockname()[1])
        received = [receiver.recv(200) for _ in range(PACKET_COUNT)]
    assert received == [build_magic_packet("52:54:00:12:34:56")] * PACKET_COUNT


def test_a_network_that_can_not_be_reached_is_an_error_of_this_system() -> None:
    with pytest.raises(TransportError, match="could not be sent to 256"):
        send_magic_packet("52:54:00:12:34:56", "256.0.0.1", 9)
