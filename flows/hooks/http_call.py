"""Hooks that are HTTP calls: one POST of JSON. No redirects, and no repeat of a request that was delivered."""

import errno
import http.client
import json
import socket
from typing import NoReturn
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from flows.hooks.event import HookEvent
from flows.hooks.hook_deadline import HookDeadline, run_in_thread
from tasks.domain.model import Hook
from tasks.steps.machine.http_requests import build_http_request, describe_http_error

MAX_RESPONSE_BYTES = 64 * 1024
MAX_MESSAGE_CHARACTERS = 300  # characters of an answer that are kept for messages
RETRY_PAUSE_SECONDS = 1.0
_UNREACHABLE_ERRNOS = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN})


class _NoRedirectHandler(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:  # None: a redirect stays an error
        return None


_NO_REDIRECT_OPENER = build_opener(_NoRedirectHandler)


def run_http_hook(hook: Hook, event: HookEvent, hook_deadline: HookDeadline) -> tuple[bool, str, str]:
    """Post the event. Return whether the status was 2xx, the answer's text, and why the answer cancels the run.

    The request is repeated until the deadline while no connection is possible. A request that may have been delivered
    is not sent again.

    Raises:
        HookWaitAborted: there was no answer in time.
    """
    try:
        request = build_http_request(hook.target, json.dumps(event.as_json()).encode())
    except ValueError:  # the text of the error contains a part of the URL
        return False, "the target is no http or https URL", ""
    return run_in_thread(lambda: _send_with_retries(request, hook_deadline), hook_deadline)


def _send_with_retries(request: Request, hook_deadline: HookDeadline) -> tuple[bool, str, str]:
    while True:
        try:
            return _send_request(request, max(1.0, hook_deadline.remaining_seconds))
        except URLError as error:
            if not _is_undelivered(error) or hook_deadline.find_abort_reason():
                return False, f"it could not be called: {describe_http_error(error)}", ""
        except (OSError, http.client.HTTPException, ValueError) as error:
            return False, f"there was no answer: {describe_http_error(error)}", ""
        hook_deadline.clock.sleep(RETRY_PAUSE_SECONDS)


def _send_request(request: Request, seconds: float) -> tuple[bool, str, str]:
    try:
        with _NO_REDIRECT_OPENER.open(request, timeout=seconds) as answer:
            body = answer.read(MAX_RESPONSE_BYTES).decode("utf-8", "replace")
            return True, _shorten_body(body), _parse_cancel_reason(body)
    except HTTPError as error:
        with error:
            body = error.read(MAX_RESPONSE_BYTES).decode("utf-8", "replace")
        redirect_note = " (redirects are not followed)" if 300 <= error.code < 400 else ""
        return False, f"status {error.code}{redirect_note}: {_shorten_body(body)}".rstrip(": "), ""


def _is_undelivered(error: URLError) -> bool:
    """Return whether a request was certainly not delivered: no connection, or an unknown host name."""
    reason = error.reason
    return isinstance(reason, socket.gaierror) or (isinstance(reason, OSError) and reason.errno in _UNREACHABLE_ERRNOS)


def _parse_cancel_reason(body: str) -> str:
    """Return the reason if an answer cancels the run, or ""."""
    try:
        response = json.loads(body, parse_constant=_reject_json_constant)
    except (ValueError, RecursionError):
        return ""
    reason = response.get("cancel") if isinstance(response, dict) else None
    return reason.strip()[:MAX_MESSAGE_CHARACTERS] if isinstance(reason, str) else ""


def _reject_json_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _shorten_body(body: str) -> str:
    return " ".join(body.split())[:MAX_MESSAGE_CHARACTERS]
