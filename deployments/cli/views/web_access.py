"""Shows access tokens: as a table or JSON."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from flows.cli.runtime.output import get_stdout_console, print_to_stderr, to_safe_text
from flows.cli.runtime.table import build_table
from tasks.records.access_tokens import AccessToken
from tasks.reporting.formatting import NO_FIGURE, format_iso_utc


def print_tokens(tokens: Sequence[AccessToken], now: datetime) -> None:
    """Print a table of access tokens. Those that have expired are marked."""
    if not tokens:
        print_to_stderr("There are no access tokens. Make one with: fleetpatch web token add NAME --role run")
        return
    table = build_table("NAME", "ROLES", "MADE BY", "MADE", "ENDS", "LAST USED")
    for each in tokens:
        made, ends, used = (format_iso_utc(at) or NO_FIGURE for at in (each.created_at, each.expires_at, each.used_at))
        ends = f"{ends} (expired)" if each.has_expired(now) else ends
        texts = (each.name, ", ".join(each.roles), each.created_by, made, ends, used)
        table.add_row(*map(to_safe_text, texts))
    get_stdout_console().print(table)


def build_tokens_json(tokens: Sequence[AccessToken], now: datetime) -> Sequence[Mapping[str, object]]:
    """Return access tokens as JSON data."""
    return [
        {
            "name": each.name,
            "roles": list(each.roles),
            "created_by": each.created_by,
            "created_at": format_iso_utc(each.created_at),
            "expires_at": format_iso_utc(each.expires_at),
            "is_expired": each.has_expired(now),
            "used_at": format_iso_utc(each.used_at),
        }
        for each in tokens
    ]
