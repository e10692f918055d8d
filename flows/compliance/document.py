"""Makes the compliance document of a month from inventory and records, and sends it with the notifications."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from flows.notify.messages import Message, sanitize_text
from flows.notify.notifier import AppriseNotifier, CredentialReader
from flows.request.request_parts import NotifyRequest
from inventory.machine import Inventory
from inventory.scope import Scope
from tasks.domain.errors import RequestError
from tasks.domain.states import NotificationOccasion
from tasks.records.queries.compliance import read_compliance_data, read_machines_of_month
from tasks.records.sql_records import SqlRecords
from tasks.reports.compliance.sections import build_tiles
from tasks.reports.formatting import format_scope
from tasks.rules.compliance.figures import KINDS, build_document, find_evaluation_end
from tasks.rules.compliance.model import DEFAULT_SLA_DAYS, ComplianceDocument, Month, ScopeMachine, SlaDays

ALL_MACHINES = "*"
MAX_SLA_DAYS = 366.0


def make_compliance_document(
    records: SqlRecords, inventory: Inventory | None, scope: str, month: Month, sla: tuple[SlaDays, str], now: datetime
) -> ComplianceDocument:
    """Return the document.

    Without an inventory the scope can only be all machines of the records. For "*", the document also has machines that
    are not in the inventory any more.

    Raises:
        InventoryError: the scope is not valid, or selects no machine.
        RecordsError: the records can't be read.
        RequestError: the month has not begun, or the scope needs an inventory.
    """
    if month.start > now:
        raise RequestError(f"the month {month} has not begun", hint="Name a month that is over, or the present one.")
    machines = _select_machines(records, inventory, scope, month)
    names = [machine.name for machine in machines]
    data = read_compliance_data(records, names, month, find_evaluation_end(month, sla[0], now))
    return build_document(month, scope, machines, data, sla[0], sla[1], now)


def _select_machines(
    records: SqlRecords, inventory: Inventory | None, scope: str, month: Month
) -> tuple[ScopeMachine, ...]:
    everything = scope.strip() == ALL_MACHINES
    if inventory is None and not everything:
        raise RequestError("a scope needs an inventory", hint="Name the inventory, or ask for all machines.")
    chosen = Scope.parse(scope).select_machines(inventory) if inventory is not None else ()
    scope_machines = {machine.name: ScopeMachine(machine.name, machine.environment) for machine in chosen}
    if everything:
        for name in read_machines_of_month(records, month):
            scope_machines.setdefault(name, ScopeMachine(name, in_inventory=False))
    return tuple(scope_machines[name] for name in sorted(scope_machines))


def parse_sla_days(text: str) -> tuple[SlaDays, str]:
    """Return the days of "critical=7,security=30", and where they come from.

    Raises:
        RequestError: it is not of this form.
    """
    days: dict[str, float] = dict(DEFAULT_SLA_DAYS)
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if name.strip() not in KINDS or not 0 < number <= MAX_SLA_DAYS:
            raise RequestError(f"{part[:40]!r} gives no days", hint="Write critical=7,security=30.")
        days[name.strip()] = number
    return days, "as asked for" if text.strip() else "the default"


def find_sla_days(text: str, policy_days: float | None) -> tuple[SlaDays, str]:
    """Return the days as asked for, or of automatic patching's policy, or the default, and where they come from.

    ``text`` is as for ``parse_sla_days``. ``policy_days`` are `due_days` of automatic patching; None: it is not
    configured.

    Raises:
        RequestError: the text is not valid.
    """
    if text.strip() or policy_days is None:
        return parse_sla_days(text)
    same: Mapping[str, float] = dict.fromkeys(KINDS, policy_days)
    return same, "the policy of automatic patching"


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

    The attachment is the HTML file; without it the message has the figures only. Recipients are references to Apprise
    URLs (``env:NAME``, ``file:/path``, ``block:NAME``).
    """
    occasion = NotificationOccasion.FINISHED
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
