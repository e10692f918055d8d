"""Removes secrets from URLs, and from a machine's texts: logins, tokens, passwords that stand beside their name. Pure.

A package manager prints its repositories' and proxies' URLs, and lines of its configuration. The URLs may have a login
(``http://user:password@host``) or a token in the query. What is no secret stays: the host, the path, e-mail addresses,
packages with an @ in their name, and what mirrors are asked for (``?repo=…``).
"""

import html
import json
import re
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
    """Return a run's request without the secrets of its HTTP hooks' URLs, at any depth. It is only for display."""
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
    texts = {target, behind, parts.path, parts.query, parts.fragment, login}
    return (
        {part for part in texts if len(part) > 1} | segments | {v for v in values if len(v) >= _MIN_SECRET_VALUE_LENGTH}
    )


# a quote may be part of a password, unless it ends a quoted text
_QUOTE: Final = r"""["'](?![\s,;:.)\]}>&]|$)"""
_PORT: Final = r"""\d+(?:[\s/?#"',;:.)\]}<>\\&]|$)"""
_BEGIN: Final = r":(?:\\?/){2}"
_MAX_LENGTH: Final = 300  # of what a pattern may try at many places: a search must not take longer than its text
_NOT_SECRET: Final = re.escape(REDACTED)
_LOGIN_PATTERN: Final = re.compile(rf"""({_BEGIN})(?:[^\s<>/?#"'\\]|{_QUOTE}|\\(?!/))*@""")
# What follows the user is no port: a password with /, ? or # that was written without percent signs.
_RAW_LOGIN_PATTERN: Final = re.compile(rf"""({_BEGIN})(?!\[)[^/?#:@]+:(?!{_PORT})""")
# A tool may decode a login, and take a password with a slash for a port and a path: for ``http://me:6d%2Fx@host/y``, it
# prints ``http://me:6/x@host/y``, and for ``http://me:d%2Fx@host/y``, ``http://me/x@host/y``. A user has seldom a dot.
# A password may have an @ before that, too: then its first part is hidden already.
_DECODED_LOGIN_PATTERN: Final = re.compile(rf"({_BEGIN})(?:{_NOT_SECRET}@)?(?!\[)([^/?#:@]+)(?::[^/?#]*)?[/?#]")
_END_PATTERN: Final = re.compile(r"@(?!sha\d{1,3}:)")  # not that of an image
_HOST_AND_PATH_PATTERN: Final = re.compile(
    r"@(?=(?:(?:[\w-]{1,63}\.){1,9}[A-Za-z][\w-]{0,62}|\d{1,3}(?:\.\d{1,3}){3}|\[[\da-fA-F:.]{2,45}\])(?::\d{1,5})?/)"
)
# The end of the login is missing: a tool, or a limit, has cut the text.
_TORN_LOGIN_PATTERN: Final = re.compile(
    rf"""({_BEGIN})(?!\[)[^\s<>/?#:@"'%$]+:(?!{_PORT})[^\s<>/@"']+(?=[;,.…]*(?:\s|$))"""
)
# In the name of a file, and as a parameter of another URL. %25 is a percent sign that was encoded again.
_ENCODED_LOGIN_PATTERN: Final = re.compile(
    r"(%(?:25)?3a(?:%(?:25)?2f){2})(?:(?!%(?:25)?2f)[^\s<>\"'/])*%(?:25)?40", re.IGNORECASE
)
# No scheme: a name that can't be resolved, the value of a proxy's variable, and what has a port behind it.
_BARE_LOGIN_PATTERNS: Final = (
    re.compile(
        rf"""((?:resolv(?:e|ing)|connect(?:ing|ed)? to)(?:\ (?:host|proxy|name))*:?\s{{0,3}}[`'"]?)"""
        rf"""[^\s'"/]{{0,{_MAX_LENGTH}}}@""",
        re.IGNORECASE,
    ),
    re.compile(
        rf"""(proxy["']?\s{{0,3}}[=:]?\s{{0,3}}["']?)(?![\w+.-]{{1,30}}:\\?/)"""
        rf"""[^\s"'@:/]{{1,{_MAX_LENGTH}}}:[^\s"'/]{{0,{_MAX_LENGTH}}}@""",
        re.IGNORECASE,
    ),
    re.compile(r"""((?<![\w%+~/:@.-]))[\w%+~.-]{1,100}:[^\s:/@"']{1,300}@(?=[\w.-]{1,300}:\d{2,5}(?!\w))"""),
)
_URL_BEGIN_PATTERN: Final = re.compile(_BEGIN)
_WORD_PATTERN: Final = re.compile(r"""[^\s<>"']+""")
_HARMLESS_PARAMETER_PATTERN: Final = re.compile(
    r"id=\d{1,8}|(?:arch|basearch|cc|components|country|countme|credentials|debug|distro|edition|file|infra|os|path|product"
    r"|protocol|release|releasever|repo|ssl_verify|suite|type|variant|version)=[^@]*"
)
_SENTENCE_END: Final = ")].,:;"
_NAME: Final = r"pass(?:word|wd|phrase)|secret|token|api[_-]?key"
_ASSIGNMENT_PATTERNS: Final = (
    re.compile(
        rf"""((?:{_NAME})(?:["']?\s{{0,3}}=\s{{0,3}}|["']\s{{0,3}}:\s{{0,3}}))"""
        rf"""(?!{_NOT_SECRET})(?:"[^"\n]*"|'[^'\n]*'|["']?[^\s&;,"'}}]+)""",
        re.IGNORECASE,
    ),
    re.compile(rf"(\blogin\s{{1,9}}\S{{1,300}}\s{{1,9}}password\s{{1,9}})(?!{_NOT_SECRET})\S+"),  # netrc
    re.compile(
        rf"""(\bauthorization["']?\s{{0,3}}[:=]\s{{0,3}}["']?)(?!(?:\w{{3,10}}\s{{1,3}})?{_NOT_SECRET})"""
        r"""(?:\w{3,10}\s{1,3})?[^\s"']{4,}""",
        re.IGNORECASE,
    ),
)
# These publishers have a customer's token in the path.
_TOKEN_PATH_PATTERN: Final = re.compile(
    r"(\b(?:packagecloud\.io(?::\d+)?/priv/|dl\.cloudsmith\.io(?::\d+)?/(?!public/|basic/)))[^/\s'\"]+"
)
_HINTS: Final = (
    "@", "?", "%40", "%2540", "passw", "passphrase", "secret", "token", "api", "authorization", "/priv/", "cloudsmith",
)  # fmt: skip
"""In small letters: a line without any of them, and without a login that was cut, shows no secret."""


def redact_text(text: str) -> str:
    """Return a text without the secrets that it shows."""
    if "\n" in text:
        return "\n".join(map(redact_text, text.split("\n"))) if _may_show_secret(text) else text
    if not _may_show_secret(text):
        return text
    text = _LOGIN_PATTERN.sub(rf"\1{REDACTED}@", text)
    text = _WORD_PATTERN.sub(_redact_word, text)
    text = _TORN_LOGIN_PATTERN.sub(rf"\1{REDACTED}", text)
    text = _ENCODED_LOGIN_PATTERN.sub(rf"\1{REDACTED}%40", text)
    for pattern in _BARE_LOGIN_PATTERNS:
        text = pattern.sub(rf"\1{REDACTED}@", text)
    for pattern in (*_ASSIGNMENT_PATTERNS, _TOKEN_PATH_PATTERN):
        text = pattern.sub(rf"\1{REDACTED}", text)
    return text


def _may_show_secret(text: str) -> bool:
    lower = text.lower()
    for hint in _HINTS:  # any() with a generator takes three times as long, and every text of a machine comes here
        if hint in lower:
            return True
    return _TORN_LOGIN_PATTERN.search(text) is not None


def redact_value(value: object) -> object:
    """Return a record of a machine, or a part of it, without the secrets that its texts show."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {redact_text(str(key)): redact_value(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [redact_value(part) for part in value]
    return value


def _redact_word(found: re.Match[str]) -> str:
    text = found[0]
    end = text.rfind("@")
    if end >= 0 and (login := _RAW_LOGIN_PATTERN.search(text, 0, end)):
        text = f"{text[: login.end(1)]}{REDACTED}{text[end:]}"
    elif end >= 0 and (login := _DECODED_LOGIN_PATTERN.search(text, 0, end)):
        is_host = "." in login[2] or login[2] == "localhost"
        ends = list((_HOST_AND_PATH_PATTERN if is_host else _END_PATTERN).finditer(text, login.end()))
        text = f"{text[: login.end(1)]}{REDACTED}{text[ends[-1].start() :]}" if ends else text
    head, mark, query = text.partition("?")
    if not mark or not _URL_BEGIN_PATTERN.search(head):
        return text
    parts = re.split(r"(&amp;|[&;?])", query)
    return (
        head + mark + "".join(_redact_parameter(part) if index % 2 == 0 else part for index, part in enumerate(parts))
    )


def _redact_parameter(part: str) -> str:
    name, equals, value = part.partition("=")
    bare = part.rstrip(_SENTENCE_END)
    if not bare or _HARMLESS_PARAMETER_PATTERN.fullmatch(bare) or (equals and not value):
        return part
    return f"{name if equals else ''}{equals}{REDACTED}{part[len(bare) :]}"
