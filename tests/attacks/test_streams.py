"""Attacks on the streams of live pages: by more connections than one may have, at once and from one place."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleetpatch.live import streams
from fleetpatch.live.streams import EventStream
from fleetpatch.web import live_hub
from fleetpatch.web.live_hub import LiveHub, TooManyStreams, TopicPart
from tests.contract.web.test_live import wait_until
from tests.support.web_site import Site, serve_site

PROXY: dict[str, Any] = {
    "trusted_proxies": ("127.0.0.0/8",),
    "user_header": "X-Remote-User",
    "roles_header": "X-Remote-Roles",
}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serve_site(tmp_path, **PROXY) as served:
        yield served


def describe_visitor(address: str, name: str) -> dict[str, str]:
    """Return the headers of the trusted proxy for somebody."""
    return {"X-Remote-User": name, "X-Remote-Roles": "view", "X-Forwarded-For": address}


async def connect(url: str, visitors: list[dict[str, str]]) -> list[tuple[int, str]]:
    """Open a stream for each visitor, all at once. Return status and Retry-After of each; then close them all."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=120, limits=limits) as client:
        requests = [client.build_request("GET", "/live/runs", headers=each) for each in visitors]
        answers = await asyncio.gather(*(client.send(each, stream=True) for each in requests))
        found = [(each.status_code, each.headers.get("retry-after", "")) for each in answers]
        for each in answers:
            await each.aclose()
    return found


def test_as_many_as_allowed_get_in_when_all_come_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty browsers connect in the same moment, before any stream has sent its first byte. The limit holds."""
    monkeypatch.setattr(live_hub, "MAX_STREAMS", 10)
    visitors = [describe_visitor(f"192.0.2.{number}", f"user-{number}") for number in range(60)]
    found = asyncio.run(connect(site.url, visitors))
    assert sorted(found) == [(200, "")] * 10 + [(503, "30")] * 50
    wait_until(lambda: site.context.live.stream_count == 0)
    assert asyncio.run(connect(site.url, visitors[:1])) == [(200, "")]


def test_one_address_takes_not_all_places(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """One client behind the proxy opens stream after stream, under other names. The others still get theirs."""
    monkeypatch.setattr(live_hub, "MAX_OF_ADDRESS", 3)
    attacker = [describe_visitor("2001:db8::1", f"user-{number}") for number in range(10)]
    attacker += [describe_visitor(f"2001:db8::{number}", "other") for number in range(2, 7)]  # addresses of one network
    found = asyncio.run(connect(site.url, [*attacker, describe_visitor("192.0.2.9", "anna")]))
    assert sorted(found[:-1]) == [(200, "")] * 3 + [(429, "30")] * 12
    assert found[-1] == (200, "")


def test_one_login_takes_not_all_places(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """One login opens streams from many addresses."""
    monkeypatch.setattr(live_hub, "MAX_OF_LOGIN", 3)
    visitors = [describe_visitor(f"192.0.2.{number}", "mallory") for number in range(8)]
    found = asyncio.run(connect(site.url, [*visitors, describe_visitor("192.0.2.99", "anna")]))
    assert sorted(found[:-1]) == [(200, "")] * 3 + [(429, "30")] * 5
    assert found[-1] == (200, "")


def test_an_address_that_no_trusted_proxy_says_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client gives itself another address in each request. Without a trusted proxy, its own one counts."""
    monkeypatch.setattr(live_hub, "MAX_OF_ADDRESS", 2)
    with serve_site(tmp_path) as site:
        found = asyncio.run(connect(site.url, [{}] * 2 + [{"X-Forwarded-For": f"192.0.2.{n}"} for n in range(4)]))
    assert found.count((200, "")) <= 2


async def _read(hub: LiveHub) -> AsyncGenerator[str]:
    async def is_gone() -> bool:
        return False

    async for text in hub.stream("runs", lambda: TopicPart("state", lambda: {"runs": "x"}), {}, is_gone):
        yield text


async def _receive_never() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def _receive_leaving() -> dict[str, Any]:
    await asyncio.sleep(0.2)
    return {"type": "http.disconnect"}


async def _send(message: Any) -> None:
    del message


async def _send_to_nobody(message: Any) -> None:
    raise OSError("the browser has gone")


async def _send_to_a_sleeper(message: Any) -> None:
    if message["type"] == "http.response.body":
        await asyncio.Event().wait()


async def _send_with_a_fault(message: Any) -> None:
    raise ValueError("a fault of ours")


WAYS_OUT: dict[str, tuple[Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]]] = {
    "it leaves": (_receive_leaving, _send),
    "its connection breaks": (_receive_never, _send_to_nobody),
    "it reads nothing": (_receive_never, _send_to_a_sleeper),
    "a fault": (_receive_never, _send_with_a_fault),
    "cancelled": (_receive_never, _send),
    "never begun": (_receive_never, _send),
}


@pytest.mark.parametrize("way", WAYS_OUT)
def test_a_place_is_given_back_on_every_way_out(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client takes places and leaves them in odd ways, so that they are never free again."""
    monkeypatch.setattr(streams, "SEND_SECONDS", 0.3)

    async def run() -> None:
        live = LiveHub()
        receive, send = WAYS_OUT[way]
        stream = EventStream(_read(live), live.reserve_place("192.0.2.1", "anna"))
        if way == "never begun":
            assert live.stream_count == 0
            return
        scope = {"type": "http", "asgi": {"spec_version": "2.0"}}
        task = asyncio.create_task(stream(scope, receive, send))
        await asyncio.sleep(0.05)
        if way == "cancelled":
            assert live.stream_count == 1
            task.cancel()
        await asyncio.wait({task}, timeout=20)
        assert task.done()
        assert live.stream_count == 0
        with live.reserve_place("192.0.2.1", "anna"):
            assert live.stream_count == 1
        if not task.cancelled():
            task.exception()  # it was looked at

    asyncio.run(run())


def test_a_refused_place_takes_none() -> None:
    """A client that is refused again and again does not use up the places of others."""
    live = LiveHub()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_hub, "MAX_OF_ADDRESS", 1)
        with live.reserve_place("192.0.2.1", ""):
            for _ in range(200):
                with pytest.raises(TooManyStreams), live.reserve_place("192.0.2.1", ""):
                    pass
            assert live.stream_count == 1
            with live.reserve_place("192.0.2.2", ""):
                assert live.stream_count == 2
        assert live.stream_count == 0
