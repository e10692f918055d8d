"""Shows access tokens: as a table or JSON."""

from collections.abc import Sequence
from datetime import datetime

from fleetpatch.cli.runtime.output import print_to_stderr, print_to_stdout
from fleetpatch.cli.runtime.row_table import Fact, build_list_json, build_list_table
from tasks.records.access_tokens import AccessToken
from tasks.reports.formatting import format_count, format_second_utc


def _list_facts(now: datetime) -> Sequence[Fact[AccessToken]]:
    def describe_end(token: AccessToken) -> str:
        """Return the end of a token, with a note if somebody should do something about it."""
        note = ""
        if not token.is_signed:
            note = " (not valid: its signature doesn't fit)"
        elif token.has_expired(now):
            note = " (expired)"
        elif token.expires_at is not None and token.ends_soon(now):
            note = f" (in {format_count((token.expires_at - now).days, 'day')})"
        return f"{format_second_utc(token.expires_at)}{note}"

    def describe_use(token: AccessToken) -> str:
        return format_second_utc(token.used_at)

    return (
        Fact("name", lambda token: token.name, "NAME", wraps=True),
        Fact("roles", lambda token: token.roles, "ROLES", lambda token: ", ".join(token.roles), wraps=True),
        Fact("created_by", lambda token: token.created_by, "MADE BY", wraps=True),
        Fact(
            "created_at", lambda token: token.created_at, "MADE", lambda t: format_second_utc(t.created_at), wraps=True
        ),
        Fact("expires_at", lambda token: token.expires_at, "ENDS", describe_end, wraps=True),
        Fact("is_expired", lambda token: token.has_expired(now)),
        Fact("is_signed", lambda token: token.is_signed),
        Fact("used_at", lambda token: token.used_at, "LAST USED", describe_use, wraps=True),
    )


def print_tokens(tokens: Sequence[AccessToken], now: datetime) -> None:
    """Print a table of access tokens. Those that have expired are marked."""
    if tokens:
        print_to_stdout(build_list_table(_list_facts(now), tokens))
    else:
        print_to_stderr("There are no access tokens. Make one with: fleetpatch web token add NAME --role run")


def build_tokens_json(tokens: Sequence[AccessToken], now: datetime) -> Sequence[dict[str, object]]:
    """Return access tokens as JSON data."""
    return build_list_json(_list_facts(now), tokens)
