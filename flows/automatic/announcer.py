"""Tells people what automatic patching has to say: all of one tick in one message."""

from collections.abc import Callable, Sequence

from flows.notify.messages import Message, sanitize_text
from flows.notify.notifier import AppriseNotifier
from flows.request.policies import NotifyRequest
from inventory.credentials import Credential
from tasks.domain.states import NotificationEvent
from tasks.reports.formatting import format_count
from tasks.rules.automatic.model import Tell

MAX_LINES = 30
_MAX_LINE_LENGTH = 400


class Announcer:
    """Sends messages to those who want to hear of failures.

    Args:
        targets: the recipients and their events.
        read_credential: resolves a reference.
        print_message: gets the messages that could not be sent, without secrets.
    """

    def __init__(
        self,
        targets: Sequence[NotifyRequest],
        read_credential: Callable[[str], Credential],
        print_message: Callable[[str], None],
    ) -> None:
        self._targets, self._read_credential, self._print_message = tuple(targets), read_credential, print_message

    def tell(self, tells: Sequence[Tell]) -> bool:
        """Send one message. Return whether anybody got it, or nobody wants to be told."""
        notifier = AppriseNotifier(self._targets, self._read_credential, self._print_message)
        target_count = sum(NotificationEvent.FAILED.value in target.on for target in self._targets)
        notifier.send(NotificationEvent.FAILED, build_announcement(tells), "of what automatic patching found")
        notifier.close()
        return not target_count or len(notifier.undelivered) < target_count


def build_announcement(tells: Sequence[Tell]) -> Message:
    """Return the message. Pure."""
    lines = [sanitize_text(tell.message, _MAX_LINE_LENGTH) for tell in tells[:MAX_LINES]]
    if len(tells) > MAX_LINES:
        lines.append(f"and {len(tells) - MAX_LINES} more")
    lines.append("More: fleetpatch automatic")
    title = f"fleetpatch: automatic patching: {format_count(len(tells), 'thing')} to look at"
    return Message(title, "\n".join(lines), is_failure=True)
