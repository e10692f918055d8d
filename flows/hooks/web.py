"""Hooks that are HTTP calls: one POST of JSON. Redirects are not followed, and nothing is sent twice."""

import errno
import http.client
import json
import socket
from typing import NoReturn
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from flows.hooks.event import HookEvent
from flows.hooks.patience import Patience, in_a_thread
from tasks.model import Hook
from tasks.steps.probes import request_to, why_not

ANSWER_BYTES = 64 * 1024
SHOWN = 300  # characters of an answer that are kept for people
PAUSE_SECONDS = 1.0
_NOBODY_THERE = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN})


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:  # None: it stays an error
        return None


_OPENER = build_opener(_NoRedirects)


def post(hook: Hook, event: HookEvent, patience: Patience) -> tuple[bool, str, str]:
    """Post the event; return whether the answer was good (2xx), what was said, and why the run is to be cancelled.

    While nobody is there to take it, it is tried again until there is no patience left. What may have been taken is
    not sent again.

    Raises:
        GivenUp: nobody answered in time.
    """
    try:
        request = request_to(hook.target, json.dumps(event.as_json()).encode())
    except ValueError:  # its text would repeat a part of the URL
        return False, "the target is no http or https URL", ""
    return in_a_thread(lambda: _asked(request, patience), patience)


def _asked(request: Request, patience: Patience) -> tuple[bool, str, str]:
    while True:
        try:
            return _sent(request, max(1.0, patience.left))
        except URLError as error:
            if not _not_taken(error) or patience.over():
                return False, f"it could not be called: {why_not(error)}", ""
        except (OSError, http.client.HTTPException, ValueError) as error:
            return False, f"there was no answer: {why_not(error)}", ""
        patience.clock.sleep(PAUSE_SECONDS)


def _sent(request: Request, seconds: float) -> tuple[bool, str, str]:
    try:
        with _OPENER.open(request, timeout=seconds) as answer:
            body = answer.read(ANSWER_BYTES).decode("utf-8", "replace")
            return True, _short(body), _cancels(body)
    except HTTPError as error:
        with error:
            body = error.read(ANSWER_BYTES).decode("utf-8", "replace")
        sent_on = " (redirects are not followed)" if 300 <= error.code < 400 else ""
        return False, f"status {error.code}{sent_on}: {_short(body)}".rstrip(": "), ""


def _not_taken(error: URLError) -> bool:
    """Whether a request surely reached nobody: there was no connection, or no such name."""
    why = error.reason
    return isinstance(why, socket.gaierror) or (isinstance(why, OSError) and why.errno in _NOBODY_THERE)


def _cancels(body: str) -> str:
    """Return why an answer wants the run cancelled, or ""."""
    try:
        told = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return ""
    reason = told.get("cancel") if isinstance(told, dict) else None
    return reason.strip()[:SHOWN] if isinstance(reason, str) else ""


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _short(body: str) -> str:
    return " ".join(body.split())[:SHOWN]
