"""Removes secrets from URLs before display and logging. Pure."""

import html
import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

REDACTED: Final = "***"
_HTTP_KIND: Final = "http"  # of hooks, and of the actions of machine sets
_MIN_SECRET_SEGMENT_LENGTH: Final = 8  # a shorter path segment is a word ("hooks"); a short query value may be a PIN
_MIN_SECRET_VALUE_LENGTH: Final = 4


def redact_url(target: str) -> str:
    """Return a URL without its login and its query, which may contain passwords and tokens."""
    try:
        parts = urlsplit(target)
        _ = parts.port  # a password with a slash makes the port invalid: ValueError
    except ValueError:
        return "URL"
    login, at, host = parts.netloc.rpartition("@")
    return urlunsplit(
        (parts.scheme, f"{REDACTED if login else ''}{at}{host}", parts.path, REDACTED if parts.query else "", "")
    )


def redact_url_path(target: str) -> str:
    """Return scheme and host of a URL. The path of a webhook may be a secret too, so it is hidden."""
    try:
        parts = urlsplit(target)
        _ = parts.port
    except ValueError:
        return "URL"
    more = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], f"/{REDACTED}" if more else parts.path, "", ""))


def redact_url_secrets(text: str, target: str) -> str:
    """Return a text without the secrets of a URL, in plain, unquoted, HTML or JSON spelling."""
    for secret in sorted(_find_url_secrets(target), key=len, reverse=True):
        in_json = json.dumps(secret)[1:-1]
        for spelt in (secret, unquote(secret), html.escape(secret), in_json, in_json.replace("/", "\\/")):
            text = text.replace(spelt, REDACTED)
    return text


def redact_request(value: object) -> object:
    """Return a run's request without the secrets of its HTTP hooks' URLs, at any depth. It is only for display.

    Args:
        value: the request, or a part of it, as JSON data.
    """
    if isinstance(value, Mapping):
        redacted = {name: redact_request(part) for name, part in value.items()}
        if redacted.get("kind") == _HTTP_KIND and isinstance(redacted.get("target"), str):
            redacted["target"] = redact_url_path(str(redacted["target"]))
        return redacted
    return [redact_request(part) for part in value] if isinstance(value, list | tuple) else value


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
