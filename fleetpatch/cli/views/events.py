"""Shows scheduled events and the tokens of machines: as a table or JSON."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from fleetpatch.cli.runtime.output import print_to_stderr, print_to_stdout
from fleetpatch.cli.runtime.row_table import Fact, Shown, build_list_json, build_list_table, build_row_table
from tasks.domain.rows.scheduled_events import ScheduledEventRow
from tasks.records.event_tokens import EventToken
from tasks.reports.export.tabular_formats import build_row_json

if TYPE_CHECKING:
    from flows.event_forwarding import ForwarderResult

_SHORT_ID: Final = 8
TOKEN_FACTS: Final[Sequence[Fact[EventToken]]] = (
    Fact("machineName", lambda token: token.machine, "machine"),
    Fact("createdBy", lambda token: token.created_by, "made by", wraps=True),
    Fact("createdDateTime", lambda token: token.created_at, "made"),
)

FORWARDER_FACTS: "Final[Sequence[Fact[ForwarderResult]]]" = (
    Fact("machineName", lambda result: result.machine, "machine"),
    Fact("result", lambda result: result.state, "result"),
    Fact("target", lambda result: result.target or None, "forwards to"),
    Fact("message", lambda result: result.message or None, "remarks", wraps=True),
    Fact("remedy", lambda result: result.remedy or None),
)


def build_events_json(rows: Sequence[ScheduledEventRow]) -> list[dict[str, Any]]:
    """Return events as JSON data."""
    return list(map(build_row_json, rows))


def print_events(rows: Sequence[ScheduledEventRow]) -> None:
    """Print events as a table, the newest on top."""
    if not rows:
        print_to_stdout("No machine is told anything.")
        return
    columns: list[str | Shown] = [
        Shown("event_id", limit=_SHORT_ID, render=lambda row: row.event_id[:_SHORT_ID]),
        "event_type",
        "resources",
        "status",
        "not_before",
        Shown("approved_by", wraps=True),
        Shown("approvals_missing", wraps=True),
        Shown("run_id", wraps=True),
        Shown("reason", wraps=True),
    ]
    print_to_stdout(build_row_table(ScheduledEventRow, rows, columns))


def build_tokens_json(tokens: Sequence[EventToken]) -> list[dict[str, object]]:
    """Return the tokens of machines as JSON data."""
    return build_list_json(TOKEN_FACTS, tokens)


def print_tokens(tokens: Sequence[EventToken]) -> None:
    """Print which machines have a token."""
    if tokens:
        print_to_stdout(build_list_table(TOKEN_FACTS, tokens))
    else:
        print_to_stderr("No machine has a token. Make one with: fleetpatch events token add MACHINE")
