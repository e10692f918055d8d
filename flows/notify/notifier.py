"""Send notifications and events: in the background, with a time limit, and without effect on the run."""

import contextlib
import contextvars
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from flows.notify.event_senders import DEADLINE_SECONDS, NOT_ACCEPTED, send_syslog, send_webhook
from flows.notify.events import Event, build_announcement_event, build_machine_events, build_run_event, build_told_event
from flows.notify.messages import Message, build_message
from flows.ports.web_links import PREFECT_UI_URL_VARIABLE, read_web_url
from flows.request.request_parts import NotifyRequest
from inventory.credential_references import parse_reference
from inventory.credentials import Credential
from tasks.domain.errors import CredentialError, FleetpatchError
from tasks.domain.model import RunReport
from tasks.domain.scheduled_events import ScheduledEvent
from tasks.domain.states import NotificationOccasion

CredentialReader = Callable[[str], Credential]

FLUSH_TIMEOUT_SECONDS = 20.0
"""How long the end of a run waits for unsent messages."""
_POLL_SECONDS = 0.05
_BLOCK_PREFIX = "block:"
MESSAGE_KIND = "apprise"
"""The kind of targets that get messages for people. All others get events for programs."""


class AppriseNotifier:
    """A Notifier: it queues messages, and a separate thread sends them.

    Args:
        targets: the recipients and their events.
        read_credential: resolves a reference.
        print_message: gets the messages that could not be sent, without secrets.
        send: sends one message to one Apprise URL, and returns whether it was accepted.

    Attributes:
        undelivered: what could not be sent, as text.
    """

    def __init__(
        self,
        targets: Sequence[NotifyRequest],
        read_credential: CredentialReader,
        print_message: Callable[[str], None],
        send: Callable[[str, Message], bool] | None = None,
    ) -> None:
        self._targets = tuple(targets)
        self._read_credential = read_credential
        self._print_message = print_message
        self._send = send or send_with_apprise
        self._queue: queue.SimpleQueue[tuple[NotifyRequest, str, str, Message | Event] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._unsent_count = 0
        self._lock = threading.Lock()
        self._is_closed = False
        self._silent_targets: set[str] = set()
        self.undelivered: list[str] = []

    def __call__(self, occasion: NotificationOccasion, report: RunReport) -> None:
        """Queue the messages and events. Return at once, and never raise because of a failure to send."""
        about, web_url = f"that the run {_describe_occasion(occasion)}", read_web_url()
        now = datetime.now(UTC)
        if self.has_target(occasion):
            prefect_url = read_web_url(variable=PREFECT_UI_URL_VARIABLE)
            message = build_message(occasion, report, web_url, prefect_url)
            self._queue_all(occasion.value, message, build_run_event(occasion, report, now, web_url), about)
        if any(target.kind != MESSAGE_KIND for target in self._targets):
            for event in build_machine_events(occasion, report, now, web_url):
                self._queue_all(event.kind, None, event, f"of {event.title}: {event.machine['name']}")

    def tell_event(self, event: ScheduledEvent) -> None:
        """Queue how far a scheduled event is, for programs. Return at once, and never raise because of a failure."""
        told = build_told_event(event, datetime.now(UTC), read_web_url())
        self._queue_all(told.kind, None, told, f"of {told.title}: {told.machine['name']}")

    def has_target(self, occasion: NotificationOccasion) -> bool:
        """Return whether anybody wants to be told of such an event."""
        return any(occasion.value in target.on for target in self._targets)

    def send(self, occasion: NotificationOccasion, message: Message, about: str) -> None:
        """Queue a message for all who want to be told of such an event. Return at once, and never raise.

        ``about`` is for the case that it can't be sent: "that the run is failed".
        """
        event = build_announcement_event(occasion.value, message, datetime.now(UTC))
        self._queue_all(occasion.value, message, event, about)

    def _queue_all(self, occasion: str, message: Message | None, event: Event, about: str) -> None:
        """Queue the message for message services, and the event for programs."""
        numbered_targets = [(number, target) for number, target in enumerate(self._targets, 1) if occasion in target.on]
        queue_entries: list[tuple[NotifyRequest, str, str, Message | Event]] = []
        for number, target in numbered_targets:
            content = message if target.kind == MESSAGE_KIND else event
            if content is not None:
                queue_entries.append((target, _describe_target(target.to, number), about, content))
        if not queue_entries:
            return
        with self._lock:
            self._unsent_count += len(queue_entries)
        for queue_entry in queue_entries:
            self._queue.put(queue_entry)
        if self._thread is None:
            run = contextvars.copy_context().run  # the thread needs Prefect's settings, for secret blocks, and its log
            self._thread = threading.Thread(target=run, args=(self._send_queued,), name="notify", daemon=True)
            self._thread.start()

    def wait_until_sent(self, seconds: float = FLUSH_TIMEOUT_SECONDS) -> None:
        """Wait this long until each queued message was sent, or could not be."""
        until = time.monotonic() + seconds
        while self._unsent_count and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)

    def close(self, seconds: float = FLUSH_TIMEOUT_SECONDS) -> None:
        """Wait this long for unsent messages. Then drop the rest and report it."""
        if self._thread is None:
            return
        self._queue.put(None)
        self._thread.join(seconds)
        with self._lock:
            unsent, self._is_closed = self._unsent_count, True
        if unsent:
            self._record_failure(
                f"{unsent} {'notification' if unsent == 1 else 'notifications'} took too long and may be lost"
            )

    def _send_queued(self) -> None:
        while (queue_entry := self._queue.get()) is not None:
            target, target_name, about, content = queue_entry
            reason = self._send_message(target, content)
            with self._lock:
                self._unsent_count -= 1
                over = self._is_closed
            if over:
                return
            if reason:
                self._record_failure(f"{target_name} was not notified {about}: {reason}")

    def _send_message(self, target: NotifyRequest, message: Message | Event) -> str:
        """Send a message or an event. Return why that failed, or ""."""
        try:
            return self._deliver(target, message)
        except FleetpatchError as error:
            return error.message
        except Exception as error:  # noqa: BLE001 - whatever Apprise and its services raise must not cost the run
            # No error text and no traceback: Apprise's errors may contain the URL.
            return f"{type(error).__name__} while sending"

    def _deliver(self, target: NotifyRequest, message: Message | Event) -> str:
        """Send it. Return why it was not accepted, or ""."""
        url = self._read_text(target.to)
        if isinstance(message, Message):
            return "" if self._send(url, message) else NOT_ACCEPTED
        if target.kind == "syslog":
            send_syslog(url, message)
            return ""
        # A receiver that did not answer gets the following events once: they must not all wait for it.
        deadline = 0.0 if target.to in self._silent_targets else DEADLINE_SECONDS
        key = self._read_text(target.key) if target.key else ""
        reason = send_webhook(url, key, message, deadline_seconds=deadline)
        (self._silent_targets.add if reason else self._silent_targets.discard)(target.to)
        return reason

    def _read_text(self, reference: str) -> str:
        """Return the text that a reference leads to. Raise CredentialError if it leads to nothing, or to no text."""
        credential = self._read_credential(to_credential_reference(reference))
        if credential.secret is None:
            raise CredentialError("its reference does not lead to text")
        return credential.secret.reveal()

    def _record_failure(self, what: str) -> None:
        self.undelivered.append(what)
        self._print_message(what)


@contextlib.contextmanager
def open_notifier(
    targets: Sequence[NotifyRequest], read_credential: CredentialReader, print_message: Callable[[str], None]
) -> Iterator[AppriseNotifier]:
    """Give a notifier. At the end of the block, wait some seconds for unsent messages."""
    notifier = AppriseNotifier(targets, read_credential, print_message)
    try:
        yield notifier
    finally:
        notifier.close()


def to_credential_reference(to: str) -> str:
    """Return the reference of a target as credentials are referenced."""
    return f"prefect:{to.removeprefix(_BLOCK_PREFIX)}" if to.startswith(_BLOCK_PREFIX) else to


def _describe_target(to: str, number: int) -> str:
    """Return the name of a target for messages: its reference, unless it may be the secret itself."""
    try:
        return str(parse_reference(to_credential_reference(to)))
    except CredentialError:
        return f"notification {number}"


def _describe_occasion(occasion: NotificationOccasion) -> str:
    return "waits for approval" if occasion is NotificationOccasion.WAITING else f"is {occasion.value}"


def send_with_apprise(url: str, message: Message) -> bool:
    """Send one message through Apprise. Return whether the service accepted it.

    Raises:
        CredentialError: Apprise does not support the URL.
    """
    import apprise  # noqa: PLC0415 - loads slowly, and most runs send nothing

    # Apprise logs URLs that it can't use, with their secrets.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    asset = apprise.AppriseAsset(async_mode=False, app_id="fleetpatch", app_desc="fleetpatch", app_url="")
    service = apprise.Apprise(asset=asset)
    if not service.add(url):
        raise CredentialError("its reference does not lead to a URL that Apprise knows")
    kind = apprise.NotifyType.FAILURE if message.is_failure else apprise.NotifyType.INFO
    text = apprise.NotifyFormat.TEXT
    attach = [str(path) for path in message.attachments] or None
    return bool(service.notify(message.body, message.title, notify_type=kind, body_format=text, attach=attach))
