"""Sends what happens now to all browsers that listen, by server-sent events.

One task reads the records each second for all of them, and only while somebody listens. Events have complete parts of
pages, so a browser that connects again needs no earlier event: the first one makes it right. While the records can't
be read, the event "trouble" says so, and since when.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from datetime import UTC, datetime, timedelta
from typing import Final

from fleetpatch.access.limiter import find_source
from inventory.data_class import dataclass
from tasks.domain.errors import FleetpatchError

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 1.0
REPEAT_SECONDS: Final = 15.0
"""A part is sent again after this time without a change: how old its news are is a part of what it says."""
HEARTBEAT_SECONDS: Final = 15.0
MAX_STREAMS: Final = 100
MAX_OF_ADDRESS: Final = 30
"""Only a visible page has a stream. An office behind one address has some at once; a program has no need of more."""
MAX_OF_LOGIN: Final = 10
"""A person looks at some pages at once, on some screens."""
MAX_STREAM_SECONDS: Final = 60.0
"""A stream ends after this time, and the browser opens another one: so a login that has ended shows nothing more."""
STOP_CHECK_SECONDS: Final = 0.5
RECONNECT_MILLISECONDS: Final = 1000
TROUBLE_SECONDS: Final = 5.0
"""After this time without an answer of the records, browsers are told that what they show is old."""
TROUBLE: Final = "trouble"
_ALL: Final = "all"


class TooManyStreams(Exception):
    """No place is free for another stream.

    Attributes:
        is_own: the address or the login has as many as it may; otherwise this process serves as many as it can.
    """

    def __init__(self, *, is_own: bool) -> None:
        super().__init__("no place is free for another stream")
        self.is_own = is_own


@dataclass(frozen=True, slots=True)
class TopicPart:
    """What a topic shows now."""

    state: object  # equal to the last one if nothing has changed but the time
    render: Callable[[], Mapping[str, str]]  # returns the events by name: HTML, or another text
    is_last: bool = False  # nothing more will happen


ReadPart = Callable[[], TopicPart]


@dataclass
class _Topic:
    """What the listeners of one topic have in common."""

    read: ReadPart
    listeners: "set[_Listener]" = field(default_factory=set)
    state: object = None
    events: Mapping[str, str] = field(default_factory=dict)
    sent_at: float = 0.0
    good_at: float = field(default_factory=time.monotonic)
    trouble: str = ""


@dataclass(eq=False)
class _Listener:
    """A browser. Only the newest event of each name waits for it: a slow one skips the others.

    ``seen`` has the last text of each event: what it has already is not sent again.
    """

    seen: dict[str, str]
    waiting: dict[str, str] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: bool = False

    def put(self, events: Mapping[str, str], *, is_over: bool) -> None:
        self.waiting.update({name: text for name, text in events.items() if self.seen.get(name) != text})
        self.seen.update(events)
        self.is_over = self.is_over or is_over
        self.news.set()


class LiveHub:
    """All streams of this process. It belongs to the event loop that serves the pages.

    Attributes:
        is_stopping: returns whether the server is about to end. Then all streams end.
    """

    def __init__(self) -> None:
        self.is_stopping: Callable[[], bool] = lambda: False
        self._topics: dict[str, _Topic] = {}
        self._places: Counter[str] = Counter()
        self._poller: asyncio.Task[None] | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="live")
        self._prefix = secrets.token_hex(3)
        self._number = 0

    @property
    def stream_count(self) -> int:
        """How many streams are open."""
        return self._places[_ALL]

    @contextlib.contextmanager
    def reserve_place(self, address: str, login: str) -> Iterator[None]:
        """Take a place for a stream until the end of the block. Between the look and the taking, nothing else runs.

        Args:
            address: of the browser, as a trusted proxy says it.
            login: the name of the login; "" for none.

        Raises:
            TooManyStreams: no place is free.
        """
        limits = {f"address {find_source(address)}": MAX_OF_ADDRESS, _ALL: MAX_STREAMS}
        limits |= {f"login {login}": MAX_OF_LOGIN} if login else {}
        for source, most in sorted(limits.items(), key=lambda limit: limit[0] == _ALL):
            if self._places[source] >= most:
                raise TooManyStreams(is_own=source != _ALL)
        self._places.update(limits.keys())
        try:
            yield
        finally:
            self._places.subtract(limits.keys())
            self._places = +self._places  # without those that have none: addresses are many

    async def stream(
        self, name: str, read: ReadPart, seen: Mapping[str, str], is_gone: Callable[[], Awaitable[bool]]
    ) -> AsyncGenerator[str]:
        """Yield the events of a topic, as text for the browser, until the server stops or nothing more can happen.

        The caller has reserved its place.

        Args:
            name: the topic; the same for all listeners of the same thing.
            read: reads what it shows now. It is called in a thread.
            seen: the texts of events that the browser has already.
            is_gone: returns whether the browser has left. Nothing else says so before something is sent.
        """
        topic, listener = self._topics.setdefault(name, _Topic(read)), _Listener(dict(seen))
        topic.listeners.add(listener)
        topic.sent_at = 0.0  # everybody gets the present state at the next turn, which comes at once
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="live")
        try:
            yield f"retry: {RECONNECT_MILLISECONDS}\n\n"
            trouble = {TROUBLE: topic.trouble} if topic.trouble else {}
            listener.put({**topic.events, **trouble}, is_over=False)
            async for text in self._follow(listener, is_gone):
                yield text
        finally:
            topic.listeners.discard(listener)
            if not topic.listeners:
                self._topics.pop(name, None)

    async def _follow(self, listener: _Listener, is_gone: Callable[[], Awaitable[bool]]) -> AsyncIterator[str]:
        began = beat = time.monotonic()
        while not self.is_stopping() and time.monotonic() - began < MAX_STREAM_SECONDS:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(listener.news.wait(), STOP_CHECK_SECONDS)
            if await is_gone():
                return
            listener.news.clear()
            waiting, listener.waiting = listener.waiting, {}
            for event, text in waiting.items():
                yield self._format(event, text)
            if listener.is_over:
                yield self._format("over", "over")
                return
            now = time.monotonic()
            if waiting:
                beat = now
            elif now - beat >= HEARTBEAT_SECONDS:
                beat = now
                yield ": heartbeat\n\n"

    def _format(self, event: str, text: str) -> str:
        self._number += 1
        lines = "".join(f"data: {line}\n" for line in text.splitlines() or [""])
        return f"id: {self._prefix}-{self._number}\nevent: {event}\n{lines}\n"

    async def _poll(self) -> None:
        while self._topics and not self.is_stopping():
            began = time.monotonic()
            for topic in list(self._topics.values()):
                await self._poll_topic(topic)
            # A slow database is asked less often.
            spent = time.monotonic() - began
            await asyncio.sleep(max(POLL_SECONDS - spent, spent / 2, 0.05))

    async def _poll_topic(self, topic: _Topic) -> None:
        reading = asyncio.get_running_loop().run_in_executor(self._reader, _read_topic, topic)
        # Records that don't answer hold up the one reader: then nothing is news to anybody.
        while not (await asyncio.wait({reading}, timeout=TROUBLE_SECONDS))[0]:
            for other_topic in self._topics.values():
                _tell_trouble(other_topic, "they do not answer")
        try:
            events, is_over = await reading
        except Exception as error:  # noqa: BLE001 - streams go on, whatever happens
            _tell_trouble(topic, error)
            return
        topic.good_at = time.monotonic()
        if topic.trouble:
            topic.trouble = ""
            logger.info("the live part of pages is read again")
            events = {**(events or {}), TROUBLE: ""}
        if events is not None:
            for listener in list(topic.listeners):
                listener.put(events, is_over=is_over)


def _tell_trouble(topic: _Topic, why: object) -> None:
    """Tell the browsers of a topic that what they show is old, and the log why; each once."""
    silent_seconds = time.monotonic() - topic.good_at
    if topic.trouble or silent_seconds < TROUBLE_SECONDS:
        return
    error = None if isinstance(why, FleetpatchError | str) or not isinstance(why, BaseException) else why
    logger.warning("the live part of pages can't be read: %s", why, exc_info=error)
    since = datetime.now(UTC) - timedelta(seconds=silent_seconds)
    topic.trouble = (
        '<p class="problem"><strong>The records can\'t be read.</strong> What is shown here is as it was '
        f'<span class="clock" data-at="{since.isoformat()}" data-kind="since">{silent_seconds:.0f} s</span> ago.</p>'
    )
    for listener in list(topic.listeners):
        listener.put({TROUBLE: topic.trouble}, is_over=False)


def _read_topic(topic: _Topic) -> tuple[Mapping[str, str] | None, bool]:
    """Return the events to send now; None if nothing has changed."""
    part = topic.read()
    now = time.monotonic()
    if part.state == topic.state and now - topic.sent_at < REPEAT_SECONDS and not part.is_last:
        return None, False
    events = part.render()
    topic.state, topic.sent_at, topic.events = part.state, now, events
    return events, part.is_last
