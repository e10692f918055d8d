"""Sends the audit log elsewhere: each entry once, in order, and again until it is accepted.

How far a receiver is stands in a private file beside the keys, not in the database: who can write the database must not
make entries look as if they were sent. A receiver ignores an id that it has.

An entry is sent only if it follows the one that was sent before it, or a recorded cut. Otherwise a forged entry with a
high number would count as sent, and all real ones behind it as older.
"""

import contextvars
import fcntl
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from flows.notify.event_senders import send_syslog, send_webhook
from flows.notify.events import Event, build_audit_event
from inventory.credentials import Secret
from inventory.data_class import dataclass
from inventory.files.own_keys import KeyFileError
from inventory.files.paths import ensure_private_directory
from tasks.domain.errors import CredentialError, FleetpatchError
from tasks.domain.rows import list_kinds
from tasks.domain.rows.audit import AuditEntry
from tasks.records.audit.log import SqlAuditLog
from tasks.records.audit.seals_and_heads import (
    CUT_ACT,
    AuditHead,
    advance_head,
    find_head_path,
    is_sealed_by,
    parse_cut,
    read_audit_key,
    read_head,
)
from tasks.records.audit.verification import KeyReader
from tasks.records.storage.database import Database

logger = logging.getLogger(__name__)

SYSLOG_VARIABLE: Final = "FLEETPATCH_AUDIT_SYSLOG"
"""Where entries go as CEF: ``syslog+tls://host:port``, or a reference that leads to it."""
WEBHOOK_VARIABLE: Final = "FLEETPATCH_AUDIT_WEBHOOK"
"""Where entries go as JSON: an http or https URL, or a reference that leads to it."""
WEBHOOK_KEY_VARIABLE: Final = "FLEETPATCH_AUDIT_WEBHOOK_KEY"
"""The reference of the key that signs them."""
_BATCH: Final = 100
_TEXTS: Final = tuple(name for name in list_kinds(AuditEntry) if name not in {"at", "number"})
"""SQLite lets others store bytes and numbers there."""
_CUTS: Final = 100
"""How many of the newest recorded cuts are asked whether entries are gone rightly."""
POLL_SECONDS: Final = 5.0
FLUSH_SECONDS: Final = 5.0
"""How long the end of a program waits for entries that are not sent yet. The next program sends the rest."""

SecretReader = Callable[[str], Secret]


@dataclass(frozen=True, slots=True)
class Backlog:
    """Entries that a receiver does not have yet."""

    receiver: str  # "syslog" or "webhook"
    count: int
    oldest_at: datetime | None = None  # the time of the oldest one; None for none
    message: str = ""  # why the last attempt failed; "" if it did not, or if there was none
    fault: str = ""  # why the next entry can't be sent, whatever the receiver does: the log was changed; "" for nothing


def read_targets(environment: Mapping[str, str] = os.environ) -> Mapping[str, str]:
    """Return the addresses or references of the receivers that are set, by kind."""
    named = {"syslog": environment.get(SYSLOG_VARIABLE, ""), "webhook": environment.get(WEBHOOK_VARIABLE, "")}
    return {kind: text.strip() for kind, text in named.items() if text.strip()}


def find_audit_backlogs(database: Database, targets: Mapping[str, str]) -> tuple[Backlog, ...]:
    """Return what each receiver does not have yet.

    Raises:
        KeyFileError: the file that says how far a receiver is can't be read.
        RecordsError: the records can't be read.
    """
    return tuple(_find_backlog(database, kind) for kind in targets)


def _find_backlog(database: Database, kind: str, message: str = "") -> Backlog:
    cursor, log = _find_cursor(database, kind), SqlAuditLog(database)
    sent = read_head(cursor)
    number = sent.number if sent is not None else 0
    count, oldest_at = log.count_after(number)
    fault = _find_cursor_fault(log, sent, cursor)
    if not fault and count:
        fault = _find_fault(log, sent, log.read_after(number, 1)[0], functools.cache(read_audit_key))
    return Backlog(kind, count, oldest_at, message or fault, fault)


def _find_cursor_fault(log: SqlAuditLog, sent: AuditHead | None, cursor: Path) -> str:
    """Return why the log is not the one of which entries were sent, or ""."""
    if sent is None:
        return ""
    seal = log.read_seal(sent.number)
    if seal == sent.seal or (seal is None and log.read_after(sent.number, 1)):
        return ""  # a removed entry shows at the next one, if that does not follow
    seal_state = "is gone, and none is behind it" if seal is None else "is not the one that was sent"
    return f"entry {sent.number} {seal_state}. If you know why, move {cursor} away: then all entries are sent again"


def _find_fault(log: SqlAuditLog, sent: AuditHead | None, entry: AuditEntry, read_key: KeyReader) -> str:
    """Return why an entry must not be the next one that is sent, or "".

    An entry whose key is not here is sent if it follows: each user may have a key of its own.
    """
    key = read_key(str(entry.key_id))
    remedy = "fleetpatch audit verify says more. After a recorded cut, the entries behind it are sent"
    is_text = all(isinstance(getattr(entry, name), str) for name in _TEXTS)
    if not is_text or (key is not None and not is_sealed_by(entry, key)):
        return f"entry {entry.number} does not fit its seal: somebody changed it, or added it. {remedy}"
    before = AuditHead(entry.number - 1, str(entry.previous))
    if before == (sent or AuditHead(0, "")):
        return ""
    cuts = (
        cut for cut in log.read(_CUTS, act=CUT_ACT) if (cut_key := read_key(cut.key_id)) and is_sealed_by(cut, cut_key)
    )
    if before in map(parse_cut, cuts):
        return ""
    position_text = (
        f"does not follow entry {sent.number}, the last that was sent" if sent is not None else "is not the first"
    )
    return f"entry {entry.number} {position_text}: entries are gone or were added. {remedy}"


def send_pending(
    database: Database,
    targets: Mapping[str, str],
    read_secret: SecretReader,
    *,
    may_continue: Callable[[], bool] = lambda: True,
) -> tuple[Backlog, ...]:
    """Send each receiver the entries that it does not have yet, and return what is left.

    ``read_secret`` resolves references, also the controller's own. ``may_continue`` is asked before each entry.

    Raises:
        KeyFileError: the file that says how far a receiver is can't be read or written.
        RecordsError: the records can't be read.
    """
    backlogs = []
    for kind, text in targets.items():
        message = ""
        with _hold_lock(_find_cursor(database, kind)) as is_mine:
            if is_mine:
                message = _send_to(database, kind, text, read_secret, may_continue)
        backlogs.append(_find_backlog(database, kind, message))
    return tuple(backlogs)


def _send_to(
    database: Database, kind: str, text: str, read_secret: SecretReader, may_continue: Callable[[], bool]
) -> str:
    """Send a receiver its entries until one is not accepted. Return why that was, or ""."""
    cursor = _find_cursor(database, kind)
    sent = read_head(cursor)
    try:
        address = _resolve(text, read_secret)
        key_reference = os.environ.get(WEBHOOK_KEY_VARIABLE, "")
        key = _resolve(key_reference, read_secret) if key_reference else ""
    except CredentialError as error:
        return error.message
    log, read_key = SqlAuditLog(database), functools.cache(read_audit_key)
    if fault := _find_cursor_fault(log, sent, cursor):
        return fault
    # No transaction stays open while something is sent.
    while entries := log.read_after(sent.number if sent is not None else 0, _BATCH):
        for entry in entries:
            if not may_continue():
                return ""
            if fault := _find_fault(log, sent, entry, read_key):
                return fault
            if message := _deliver(kind, address, key, build_audit_event(entry)):
                return message
            sent = AuditHead(entry.number, entry.seal)
            advance_head(cursor, sent)
    return ""


def _deliver(kind: str, address: str, key: str, event: Event) -> str:
    """Send one entry. Return why it was not accepted, or ""."""
    try:
        if kind == "webhook":
            return send_webhook(address, key, event, deadline_seconds=0.0)
        send_syslog(address, event)
    except CredentialError as error:
        return error.message
    except OSError as error:
        return f"the server can't be reached: {error.strerror or type(error).__name__}"
    return ""


def _resolve(text: str, read_secret: SecretReader) -> str:
    """Return an address that was given, or the text that a reference leads to.

    Raises:
        CredentialError: it leads to no text.
    """
    if "://" in text:
        return text
    reference = f"prefect:{text.removeprefix('block:')}" if text.startswith("block:") else text
    return read_secret(reference).reveal().strip()


def _find_cursor(database: Database, kind: str) -> Path:
    return find_head_path(database, f"audit-{kind}")


@contextmanager
def _hold_lock(path: Path) -> Iterator[bool]:
    """Give whether no other process sends to this receiver now."""
    try:
        ensure_private_directory(path.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path.with_name(f"{path.name}.lock"), flags, 0o600)
    except OSError as error:
        raise KeyFileError(f"{path}.lock can't be made: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


@contextmanager
def forward_audit_log(
    database: Database, read_secret: SecretReader, targets: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Send new entries in the background during the block. At its end, wait some seconds for the rest.

    Nothing waits for a receiver, and no act fails because of one. Without receivers there is no thread.
    """
    targets = read_targets() if targets is None else targets
    if not targets:
        yield
        return
    over = threading.Event()
    until: list[float] = []

    def may_continue() -> bool:
        return not until or time.monotonic() < until[0]

    def send_until_over() -> None:
        last: dict[str, str] = {}
        while True:
            is_last = over.is_set()
            try:
                backlogs = send_pending(database, targets, read_secret, may_continue=may_continue)
            except FleetpatchError as error:
                logger.warning("the audit log can't be sent: %s", error.message)
            else:
                for entry in backlogs:
                    if entry.message and last.get(entry.receiver) != entry.message:
                        logger.warning("%d entries of the audit log are not sent: %s", entry.count, entry.message)
                    last[entry.receiver] = entry.message
            if is_last:
                return
            over.wait(POLL_SECONDS)

    run = contextvars.copy_context().run  # the thread needs Prefect's settings, for secret blocks
    thread = threading.Thread(target=run, args=(send_until_over,), name="audit", daemon=True)
    thread.start()
    try:
        yield
    finally:
        until.append(time.monotonic() + FLUSH_SECONDS)
        over.set()
        thread.join(FLUSH_SECONDS)
