"""Writes into the audit log that records were backed up, restored or copied."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.composition import read_own_secret
from flows.notify.audit_forwarding import forward_audit_log
from flows.ports.audit import RecordedAct, build_entry, record_end
from flows.ports.caller import read_os_actor
from tasks.domain.errors import FleetpatchError
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.rows.audit import AuditEntry, AuditResult
from tasks.records.audit.log import SqlAuditLog
from tasks.records.backup.manifest import BackupManifest
from tasks.records.backup.restoring import RestorePlan
from tasks.records.setup import find_newest_revision, open_records
from tasks.records.storage.url import find_records_url, redact_url

logger = logging.getLogger(__name__)


def record_backup(url: str | None, path: Path, manifest: BackupManifest, keys: Path | None) -> None:
    """Record a backup. Records of an earlier version get no entry: that would migrate them.

    Raises:
        RecordsError: the log can't be written, and keys are to be backed up. Without keys, only a warning is logged.
    """
    if manifest.records.revision != find_newest_revision():
        logger.warning("the audit log has no entry of this backup: the records are of an earlier version")
        return
    detail = {"sha256": manifest.content_sha256, "keys": str(keys or "")}
    entry = _build_entry("records backup", path, detail, AuditResult.DONE)
    if keys is None:
        record_end(lambda made: _append(url, made), entry)
    else:
        _append(url, entry)


@contextmanager
def record_restore(url: str | None, plan: RestorePlan) -> Iterator[RecordedAct]:
    """Record a restoration in the records that are replaced, which keeps it, and in the restored ones."""
    detail = {"sha256": plan.backup.content_sha256, "of": plan.backup.made_at.isoformat()}
    is_recorded_before = plan.present is not None and plan.present.revision == find_newest_revision()

    def record(result: AuditResult, message: str = "") -> None:
        entry = _build_entry("records restore", plan.path, detail, result, message)
        record_end(lambda made: _append(url, made), entry)

    if is_recorded_before:
        record(AuditResult.BEGUN)
    ended = RecordedAct()
    try:
        yield ended
    except FleetpatchError as error:
        if is_recorded_before:
            record(AuditResult.FAILED, error.message)
        raise
    record(ended.result, ended.message)


@contextmanager
def record_copy(url: str | None, target_url: str) -> Iterator[RecordedAct]:
    """Record a copy in the records that are copied, and its end in the copy."""
    subject = redact_url(find_records_url(target_url))

    def record(to_url: str | None, result: AuditResult, message: str = "") -> None:
        _append(to_url, build_entry(read_os_actor(), SystemClock(), "records copy", subject, "{}", result, message))

    record(url, AuditResult.BEGUN)
    ended = RecordedAct()
    try:
        yield ended
    except FleetpatchError as error:
        record(url, AuditResult.FAILED, error.message)
        raise
    record(target_url, ended.result, ended.message)


def _append(url: str | None, entry: AuditEntry) -> None:
    with open_records(url) as records, forward_audit_log(records.database, read_own_secret):
        SqlAuditLog(records.database).append(entry)


def _build_entry(act: str, path: Path, detail: dict[str, str], result: AuditResult, message: str = "") -> AuditEntry:
    return build_entry(
        read_os_actor(),
        SystemClock(),
        act,
        str(path.absolute()),
        json.dumps(detail, ensure_ascii=False),
        result,
        message,
    )
