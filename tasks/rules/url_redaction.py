"""URLs as they may be shown and logged. Pure."""

import html
import json
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

REDACTED: Final = "***"
_MIN_SECRET_SEGMENT_LENGTH: Final = 8  # a shorter part of a path is a word such as "hooks"; of a query it may be a PIN
_MIN_SECRET_VALUE_LENGTH: Final = 4


def redact_url(target: str) -> str:
    """Return a URL for people: neither its login nor its query, where passwords and tokens stand."""
    try:
        parts = urlsplit(target)
        _ = parts.port  # a password with a slash in it looks like a port that is no number
    except ValueError:
        return "URL"
    login, at, place = parts.netloc.rpartition("@")
    return urlunsplit(
        (parts.scheme, f"{REDACTED if login else ''}{at}{place}", parts.path, REDACTED if parts.query else "", "")
    )


def redact_url_path(target: str) -> str:
    """Return where a URL leads, for people: of one that is called, the path may be the secret as well."""
    try:
        parts = urlsplit(target)
        _ = parts.port
    except ValueError:
        return "URL"
    more = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], f"/{REDACTED}" if more else parts.path, "", ""))


def redact_url_secrets(text: str, target: str) -> str:
    """Return a text without what a URL holds besides its place, in whichever way somebody may have repeated it."""
    for secret in sorted(_find_url_secrets(target), key=len, reverse=True):
        in_json = json.dumps(secret)[1:-1]
        for spelt in (secret, unquote(secret), html.escape(secret), in_json, in_json.replace("/", "\\/")):
            text = text.replace(spelt, REDACTED)
    return text


def _find_url_secrets(target: str) -> set[str]:
    try:
        parts = urlsplit(target)
    except ValueError:
        return {target}
    login = parts.netloc.rpartition("@")[0]
    behind = target.partition(parts.netloc)[2] if parts.netloc else ""
    values = {value for _, value in parse_qsl(parts.query)} | set(login.split(":"))
    segments = {part for part in parts.path.split("/") if len(part) >= _MIN_SECRET_SEGMENT_LENGTH}
    whole = {target, behind, parts.path, parts.query, parts.fragment, login}
    return (
        {part for part in whole if len(part) > 1} | segments | {v for v in values if len(v) >= _MIN_SECRET_VALUE_LENGTH}
    )
