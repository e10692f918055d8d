"""Tell people of a run through Apprise: in the background, in bounded time, and never at the run's expense."""

import contextlib
import contextvars
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence

from flows.policy_forms import NotifyRequest
from flows.ports import Herald
from flows.tidings import Tiding, tiding
from inventory.credentials import Credential, parse_reference
from tasks.errors import CredentialError, FleetpatchError
from tasks.model import RunReport
from tasks.states import Occasion

logger = logging.getLogger(__name__)

Fetch = Callable[[str], Credential]

CLOSE_SECONDS = 20.0
"""How long the end of a run waits for what is still to be told."""
_BLOCK = "block:"


class Notifier:
    """A Herald: puts what is to be told in a queue that a thread of its own works off.

    Args:
        asked: who is told of what.
        fetch: gives what a reference stands for.
        say: told of what could not be sent, without any secret.
        send: sends one message to one Apprise URL, and returns whether it was taken.

    Attributes:
        untold: what could not be sent, in words.
    """

    def __init__(
        self,
        asked: Sequence[NotifyRequest],
        fetch: Fetch,
        say: Callable[[str], None],
        send: Callable[[str, Tiding], bool] | None = None,
    ) -> None:
        self._asked = tuple(asked)
        self._fetch = fetch
        self._say = say
        self._send = send or send_by_apprise
        self._queue: queue.SimpleQueue[tuple[NotifyRequest, str, Occasion, Tiding] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._open = 0
        self._guard = threading.Lock()
        self._closed = False
        self.untold: list[str] = []

    def __call__(self, occasion: Occasion, report: RunReport) -> None:
        """Have people told. Returns at once, and never raises for what is wrong with the way to them."""
        mine = [(number, each) for number, each in enumerate(self._asked, 1) if occasion.value in each.on]
        if not mine:
            return
        told = tiding(occasion, report)
        with self._guard:
            self._open += len(mine)
        for number, each in mine:
            self._queue.put((each, _shown(each.to, number), occasion, told))
        if self._thread is None:
            run = contextvars.copy_context().run  # Prefect's settings, for secret blocks, and its log
            self._thread = threading.Thread(target=run, args=(self._work,), name="notify", daemon=True)
            self._thread.start()

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Wait so long for what is still to be told, and give the rest up, saying so."""
        if self._thread is None:
            return
        self._queue.put(None)
        self._thread.join(seconds)
        with self._guard:
            left, self._closed = self._open, True
        if left:
            self._note(f"{left} {'notification' if left == 1 else 'notifications'} took too long and may be lost")

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            asked, shown, occasion, told = item
            why = self._told(asked, told)
            with self._guard:
                self._open -= 1
                over = self._closed
            if over:
                return
            if why:
                self._note(f"{shown} was not told that the run {_was(occasion)}: {why}")

    def _told(self, asked: NotifyRequest, told: Tiding) -> str:
        """Send it, and return why that failed, or ""."""
        try:
            found = self._fetch(_reference(asked.to))
            if found.secret is None:
                return "its reference is no text"
            return "" if self._send(found.secret.reveal(), told) else "the service did not take it"
        except FleetpatchError as error:
            return error.message
        except Exception as error:  # noqa: BLE001 - whatever Apprise and its services raise must not cost the run
            # Neither its text nor its trace: Apprise's errors may repeat the URL.
            return f"{type(error).__name__} while sending"

    def _note(self, what: str) -> None:
        self.untold.append(what)
        self._say(what)


@contextlib.contextmanager
def heralded(asked: Sequence[NotifyRequest], fetch: Fetch, say: Callable[[str], None]) -> Iterator[Herald]:
    """Give a way to tell people, and wait a little at the end of the block for what is still to be sent."""
    notifier = Notifier(asked, fetch, say)
    try:
        yield notifier
    finally:
        notifier.close()


def send_by_apprise(url: str, told: Tiding) -> bool:
    """Send one message, and return whether the service took it. A URL that Apprise doesn't know is not taken either."""
    import apprise  # noqa: PLC0415 - takes a while to load, and most runs tell nobody

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it logs URLs that it can't use, secrets and all
    asset = apprise.AppriseAsset(async_mode=False, app_id="fleetpatch", app_desc="fleetpatch", app_url="")
    service = apprise.Apprise(asset=asset)
    if not service.add(url):
        raise CredentialError("what its reference stands for is no URL that Apprise knows")
    kind = apprise.NotifyType.FAILURE if told.bad else apprise.NotifyType.INFO
    text = apprise.NotifyFormat.TEXT
    return bool(service.notify(body=told.body, title=told.title, notify_type=kind, body_format=text))


def _reference(to: str) -> str:
    return f"prefect:{to.removeprefix(_BLOCK)}" if to.startswith(_BLOCK) else to


def _shown(to: str, number: int) -> str:
    """Return what a target may be called: its reference, unless it may be the secret itself."""
    try:
        return str(parse_reference(_reference(to)))
    except CredentialError:
        return f"notification {number}"


def _was(occasion: Occasion) -> str:
    return "waits for approval" if occasion is Occasion.WAITING else f"is {occasion.value}"
