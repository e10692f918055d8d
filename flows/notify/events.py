"""Events for programs: what happened to a run or to one of its machines, as JSON and as CEF. Pure.

Text from machines and people is hostile. In JSON it is a value. In CEF it is escaped, so that it can neither begin
another field nor another line.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import field
from datetime import UTC, datetime
from typing import Final

from flows.notify.messages import Message
from flows.ports.web_links import build_approval_url, build_machine_url, build_run_url
from inventory.data_class import dataclass
from tasks.domain.model import Outcome, RunReport
from tasks.domain.rows.audit import AuditEntry
from tasks.domain.scheduled_events import EventStatus, ScheduledEvent
from tasks.domain.states import NotificationOccasion, OperationState, RebootState
from tasks.reports.formatting import format_iso_utc
from tasks.reports.sanitizing import sanitize
from tasks.rules.runs.approval import compute_report_digest
from tasks.rules.scheduled_events import build_event_row, describe_approvals

MACHINE_FAILED: Final = "machine_failed"
MACHINE_REBOOTED: Final = "machine_rebooted"
MACHINE_TOLD: Final = "machine_told"
AUDIT: Final = "audit"
_AUDIT_FIELDS: Final = ("who", "source", "claimed", "address", "act", "subject", "detail", "result", "message", "seal")
_END_OCCASIONS: Final = frozenset(
    {NotificationOccasion.FINISHED, NotificationOccasion.FAILED, NotificationOccasion.CANCELLED}
)
END_EVENTS: Final = frozenset({*_END_OCCASIONS, MACHINE_FAILED, MACHINE_REBOOTED})
"""The events that tell how a run and its machines ended."""
_SEVERITIES: Final = {"failed": 7, MACHINE_FAILED: 7, "missed": 6, "cancelled": 5, "waiting": 4}
"""CEF's severities, from 0 to 10; all other events have 3."""
_DEFAULT_SEVERITY: Final = 3
_MAX_TEXT_LENGTH: Final = 1000  # characters; CEF allows 1023 in msg and reason
_PRODUCT: Final = "fleetpatch"


@dataclass(frozen=True, slots=True)
class Event:
    """One event."""

    id: str  # the same for every attempt to send it, also by a process that resumed the run
    kind: str  # "planned", "failed", "machine_failed", …
    at: datetime
    title: str
    run: Mapping[str, object] = field(default_factory=dict)  # the run's data for JSON
    # The machine's data for JSON; empty for an event of the run.
    machine: Mapping[str, object] = field(default_factory=dict)
    link: str = ""  # the address of its page; "" for none
    text: str = ""
    audit: Mapping[str, object] = field(default_factory=dict)  # the entry of the audit log; empty for all other events


def build_run_event(occasion: NotificationOccasion, report: RunReport, at: datetime, web_url: str = "") -> Event:
    """Return the event of a run."""
    run = report.run
    is_waiting = occasion is NotificationOccasion.WAITING
    link = build_approval_url(run.id, web_url) if is_waiting else ""
    # A run that plans anew asks anew, and a true end follows an unknown one. Receivers ignore an id that they have.
    version = compute_report_digest(report) if is_waiting else format_iso_utc(run.ended_at) or ""
    states = Counter(outcome.state.value for outcome in report.outcomes)
    return Event(
        _build_id(run.id, occasion.value, version),
        occasion.value,
        at,
        f"run {occasion.value}",
        {**_describe_run(report), "machines": len(report.outcomes or report.plans), "machine_states": dict(states)},
        link=link or build_run_url(run.id, web_url),
        text=run.message,
    )


def build_machine_events(
    occasion: NotificationOccasion, report: RunReport, at: datetime, web_url: str = ""
) -> tuple[Event, ...]:
    """Return the events of the machines that failed or were rebooted, if the run has ended."""
    if occasion not in _END_OCCASIONS or report.run.state is OperationState.UNKNOWN:  # its true end has them
        return ()
    failed = [outcome for outcome in report.outcomes if outcome.state is OperationState.FAILED]
    rebooted = [outcome for outcome in report.outcomes if outcome.reboot is RebootState.COMPLETED]
    return (
        *(_build_machine_event(MACHINE_FAILED, outcome, report, at, web_url) for outcome in failed),
        *(_build_machine_event(MACHINE_REBOOTED, outcome, report, at, web_url) for outcome in rebooted),
    )


def build_told_event(event: ScheduledEvent, at: datetime, web_url: str = "") -> Event:
    """Return the event that says how far a scheduled event is, and who has approved it."""
    row = build_event_row(event)
    status, names = event.status, ", ".join(event.resources)
    text = {EventStatus.SCHEDULED: event.description, EventStatus.STARTED: describe_approvals(event)}
    return Event(
        _build_id(event.run_id, MACHINE_TOLD, event.id, status.value),
        MACHINE_TOLD,
        at,
        f"{event.event_type} {status}",
        {"id": event.run_id},
        {
            "name": names,
            "state": status.value,
            "event": event.id,
            "event_type": event.event_type.value,
            "not_before": format_iso_utc(event.not_before),
            "approved_by": list(row.approved_by),
            "approvals_missing": list(row.approvals_missing),
        },
        build_run_url(event.run_id, web_url),
        text.get(status, event.reason),
    )


def build_announcement_event(kind: str, message: Message, at: datetime) -> Event:
    """Return the event of a message that belongs to no single run."""
    return Event(_build_id(message.title, message.body, f"{at:%Y-%m-%d}"), kind, at, message.title, text=message.body)


def build_audit_event(entry: AuditEntry) -> Event:
    """Return the event of an entry of the audit log. With its number and seal, a receiver can tell what is missing."""
    texts = {name: str(getattr(entry, name)) for name in _AUDIT_FIELDS}
    audit = {"number": entry.number, **texts}
    return Event(
        f"aud_{entry.seal[:32]}", AUDIT, entry.at, f"{entry.act} {entry.result}", text=entry.message, audit=audit
    )


def _build_machine_event(kind: str, outcome: Outcome, report: RunReport, at: datetime, web_url: str) -> Event:
    run_id = report.run.id
    return Event(
        _build_id(run_id, kind, outcome.machine),
        kind,
        outcome.ended_at or at,
        kind.replace("_", " "),
        _describe_run(report),
        {
            "name": outcome.machine,
            "state": outcome.state.value,
            "reason": outcome.reason,
            "reboot": outcome.reboot.value,
            "reboot_reason": outcome.reboot_result.reason if outcome.reboot_result else "",
            "wave": outcome.wave,
        },
        build_machine_url(run_id, outcome.machine, web_url),
        outcome.reason,
    )


def _describe_run(report: RunReport) -> dict[str, object]:
    run, window = report.run, report.run.window
    return {
        "id": run.id,
        "kind": run.kind,
        "state": run.state.value,
        "configuration": str(run.request.get("configuration") or ""),
        "scope": run.scope,
        "started_by": run.started_by,
        "message": run.message,
        "window_start": format_iso_utc(window.start) if window else None,
        "window_end": format_iso_utc(window.end) if window else None,
    }


def _build_id(*parts: str) -> str:
    return "evt_" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def render_json(event: Event) -> bytes:
    """Return an event as JSON in UTF-8. Unsafe characters of its text are codes."""
    document = {
        "id": event.id,
        "type": f"{_PRODUCT}.{event.kind}",
        "time": format_iso_utc(event.at),
        "title": event.title,
        "text": event.text,
        "run": event.run or None,
        "machine": event.machine or None,
        "audit": event.audit or None,
        "link": event.link or None,
    }
    return json.dumps(document).encode()  # ASCII: a lone surrogate is an escape, and no error


def render_cef(event: Event, version: str) -> str:
    """Return an event in the Common Event Format, on one line."""
    severity = _SEVERITIES.get(event.kind, _DEFAULT_SEVERITY)
    header = (_PRODUCT, _PRODUCT, version, event.kind, event.title, str(severity))
    fields = {
        "rt": str(int(event.at.astimezone(UTC).timestamp() * 1000)),
        "externalId": event.id,
        "dhost": event.machine.get("name"),
        "outcome": event.machine.get("state") or event.run.get("state") or event.audit.get("result"),
        "msg": event.text,
        "suser": event.run.get("started_by") or event.audit.get("who"),
        "act": event.audit.get("act"),
        "request": event.link,
        **_build_custom_fields(event),
    }
    extension = " ".join(f"{key}={escape_cef_value(str(value))}" for key, value in fields.items() if value)
    return f"CEF:0|{'|'.join(map(escape_cef_header, header))}|{extension}"


def _build_custom_fields(event: Event) -> dict[str, object]:
    """Return the fields for which CEF has no name of its own, each with its label."""
    values = {
        "cs1": ("runId", event.run.get("id")),
        "cs2": ("configuration", event.run.get("configuration")),
        "cs3": ("scope", event.run.get("scope")),
        "cs4": ("reboot", event.machine.get("reboot")),
        "cs5": ("windowStart", event.run.get("window_start")),
        "cs6": ("windowEnd", event.run.get("window_end")),
        "cn1": ("machines", event.run.get("machines")),
    }
    if event.audit:
        names = ("claimed", "source", "subject", "detail", "seal", "address")
        values = {f"cs{number}": (name, event.audit.get(name)) for number, name in enumerate(names, 1)}
        values["cn1"] = ("number", event.audit.get("number"))
    extension: dict[str, object] = {}
    for key, (label, value) in values.items():
        if value:
            extension |= {key: value, f"{key}Label": label}
    return extension


def clean_cef_text(text: str) -> str:
    """Return the text that a CEF field has: unsafe characters as codes, cut to CEF's length."""
    return sanitize(text)[:_MAX_TEXT_LENGTH]


def escape_cef_header(text: str) -> str:
    """Return a field of the header: backslash and bar are escaped; it has no line breaks."""
    flat = " ".join(clean_cef_text(text).split())
    return flat.replace("\\", "\\\\").replace("|", "\\|")


def escape_cef_value(text: str) -> str:
    """Return a value of the extension: backslash, equals sign and line breaks are escaped."""
    return clean_cef_text(text).replace("\\", "\\\\").replace("=", "\\=").replace("\n", "\\n")
