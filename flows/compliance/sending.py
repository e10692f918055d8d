"""Sends the compliance document through notifications, with the document attached where the service supports that."""

from collections.abc import Callable, Sequence
from pathlib import Path

from flows.notify.messages import Message, sanitize_text
from flows.notify.notifier import AppriseNotifier, CredentialReader
from flows.request.policies import NotifyRequest
from tasks.domain.states import NotificationEvent
from tasks.reports.compliance.sections import build_tiles
from tasks.reports.formatting import format_scope
from tasks.rules.compliance.model import ComplianceDocument

SEND_SECONDS = 60.0
"""How long sending may take: attachments are larger than messages."""


def send_compliance_document(
    document: ComplianceDocument,
    attachment: Path | None,
    recipients: Sequence[str],
    page_url: str,
    read_credential: CredentialReader,
    print_message: Callable[[str], None],
) -> list[str]:
    """Send the document. Return what could not be sent.

    Args:
        document: the figures.
        attachment: the HTML file; None: the message has the figures only.
        recipients: references to Apprise URLs (``env:NAME``, ``file:/path``, ``block:NAME``).
        page_url: the address of the document's page; "" if there is none.
        read_credential: resolves a reference.
        print_message: gets what could not be sent.
    """
    occasion = NotificationEvent.FINISHED
    targets = [NotifyRequest(to=recipient, on=[occasion.value]) for recipient in recipients]
    notifier = AppriseNotifier(targets, read_credential, print_message)
    message = build_compliance_message(document, attachment, page_url)
    notifier.send(occasion, message, f"of the compliance of {document.month}")
    notifier.close(SEND_SECONDS)
    return notifier.undelivered


def build_compliance_message(document: ComplianceDocument, attachment: Path | None, page_url: str) -> Message:
    """Return the message: the figures that are seen first, and where the rest is. Pure."""
    scope = sanitize_text(format_scope(document.scope), 200)
    lines = [f"{tile.title}: {tile.value} ({tile.note})" for tile in build_tiles(document)]
    lines += [f"Not known: {sanitize_text(gap, 300)}" for gap in document.gaps]
    if page_url:
        lines.append(f"More: {page_url}")
    title = f"fleetpatch: compliance {document.month}: {scope}"
    return Message(title, "\n".join(lines), is_failure=False, attachments=(attachment,) if attachment else ())
