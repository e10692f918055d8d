"""Shows access tokens: as a table or JSON."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from fleetpatch.cli.runtime.output import get_stdout_console, print_to_stderr, to_safe_text
from fleetpatch.cli.runtime.table import build_table
from tasks.records.access_tokens import AccessToken
from tasks.reports.formatting import format_count, format_iso_utc, format_second_utc


def print_tokens(tokens: Sequence[AccessToken], now: datetime) -> None:
    """Print a table of access tokens. Those that have expired are marked."""
    if not tokens:
        print_to_stderr("There are no access tokens. Make one with: fleetpatch web token add NAME --role run")
        return
    table = build_table("NAME", "ROLES", "MADE BY", "MADE", "ENDS", "LAST USED")
    for token in tokens:
        made, ends, used = map(format_second_utc, (token.created_at, token.expires_at, token.used_at))
        ends += _describe_end(token, now)
        texts = (token.name, ", ".join(token.roles), token.created_by, made, ends, used)
        table.add_row(*map(to_safe_text, texts))
    get_stdout_console().print(table)


def _describe_end(token: AccessToken, now: datetime) -> str:
    """Return a note beside the end of a token, if somebody should do something about it."""
    if not token.is_signed:
        return " (not valid: its signature doesn't fit)"
    if token.has_expired(now):
        return " (expired)"
    if token.ends_soon(now):
        return f" (in {format_count((token.expires_at - now).days, 'day')})" if token.expires_at else ""
    return ""


def build_tokens_json(tokens: Sequence[AccessToken], now: datetime) -> Sequence[Mapping[str, object]]:
    """Return access tokens as JSON data."""
    return [
        {
            "name": token.name,
            "roles": list(token.roles),
            "created_by": token.created_by,
            "created_at": format_iso_utc(token.created_at),
            "expires_at": format_iso_utc(token.expires_at),
            "is_expired": token.has_expired(now),
            "is_signed": token.is_signed,
            "used_at": format_iso_utc(token.used_at),
        }
        for token in tokens
    ]
