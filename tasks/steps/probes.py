"""Owners' own checks: a command on the machine, or a connection or page asked for from the controller."""

import base64
import http.client
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import Future
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from inventory.machine import Check, CheckKind, CheckLevel
from tasks.model import Finding
from tasks.rules.urls import shown_url
from tasks.seams.clock import Deadline
from tasks.seams.transport import Script
from tasks.states import FindingLevel
from tasks.steps.context import Work

GRACE_SECONDS = 15.0  # on top of a command's own timeout, for the way there and back


def ask(work: Work, check: Check) -> Finding:
    """Ask one check and return what it found. Only a command's transport can raise (TransportError)."""
    match check.kind:
        case CheckKind.COMMAND:
            problem = _command(work, check)
        case CheckKind.TCP:
            problem = _in_time(check, lambda: _tcp(work.run.machine.address, check))
        case CheckKind.HTTP:
            problem = _in_time(check, lambda: _http(check))
    if not problem:
        return Finding(check.name, FindingLevel.GOOD, f"{check.kind} {_shown(check)}: good")
    level = FindingLevel.BLOCK if check.level is CheckLevel.BLOCK else FindingLevel.WARN
    return Finding(
        check.name, level, f"{check.kind} {_shown(check)}: {problem}", "This is the machine owner's own check."
    )


def _shown(check: Check) -> str:
    """Return a target for people: of a URL neither login nor query, where passwords and tokens stand."""
    return shown_url(check.target) if check.kind is CheckKind.HTTP else check.target


def _command(work: Work, check: Check) -> str:
    deadline = Deadline.after(work.context.clock, check.timeout_seconds + GRACE_SECONDS)
    parameters = {"command": check.target, "timeout": f"{check.timeout_seconds:.0f}"}
    answer = work.transport.run(Script("probe", parameters), deadline=deadline).of_kind("probe")
    if not answer:
        return "the machine gave no answer"
    code, text = answer[0].get("exit_code"), str(answer[0].get("text", "")).strip()
    return "" if code == 0 else f"exit code {code}: {text[-300:]}"


def _in_time(check: Check, question: Callable[[], str]) -> str:
    """Ask in a thread of its own, which is left behind when there is no answer in time.

    A socket's own timeout is that of one read: looking up names, many addresses, redirects and an answer that comes
    byte by byte take several of them.
    """
    answer: Future[str] = Future()

    def ask() -> None:
        try:
            answer.set_result(question())
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            answer.set_exception(error)

    threading.Thread(target=ask, name=f"check {check.name}", daemon=True).start()
    try:
        return answer.result(check.timeout_seconds)
    except TimeoutError:
        return f"no answer in {check.timeout_seconds:g} s"


def _tcp(address: str, check: Check) -> str:
    host, _, port = check.target.rpartition(":")
    try:
        with socket.create_connection((host or address, int(port)), timeout=check.timeout_seconds):
            return ""
    except ValueError:
        return "the target is not HOST:PORT or PORT"
    except OSError as error:
        return str(error)


def _http(check: Check) -> str:
    try:
        request = request_to(check.target)
    except ValueError:  # its text would repeat a part of the URL
        return "the target is not an http or https URL"
    try:
        with urlopen(request, timeout=check.timeout_seconds) as answer:  # noqa: S310 - the same
            return "" if 200 <= answer.status < 400 else f"status {answer.status}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return why_not(error)


_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (http.client.InvalidURL, "the URL holds a blank or a control character: write it as %20"),
    (UnicodeError, "the URL holds letters that can't be sent (write them as %C3%A9), or its name can't be looked up"),
    (http.client.RemoteDisconnected, "the connection was closed without an answer"),
    (http.client.HTTPException, "the answer is no HTTP"),
    (TimeoutError, "no answer in time"),
)


def why_not(error: Exception) -> str:
    """Return why a page was not had, without the library's own text: that may repeat the URL, or a part of it."""
    if isinstance(error, HTTPError):
        return f"status {error.code}"
    reason = error.reason if isinstance(error, URLError) else error
    for kind, words in _REASONS:
        if isinstance(reason, kind):
            return words
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {reason.verify_message}"
    if isinstance(reason, OSError) and (reason.strerror or str(reason).startswith("Tunnel ")):
        return reason.strerror or str(reason)
    return type(reason).__name__


def request_to(target: str, body: bytes | None = None) -> Request:
    """Return the request for a URL. A login in it goes as basic authentication, and to no place that it is sent on to.

    Args:
        target: the URL.
        body: JSON to post; None: the page is only asked for.

    Raises:
        ValueError: it is no http or https URL.
    """
    parts = urlsplit(target)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError("not an http or https URL")
    place = parts.netloc.rpartition("@")[2]
    headers = {"User-Agent": "fleetpatch", **({"Content-Type": "application/json"} if body is not None else {})}
    request = Request(urlunsplit(parts._replace(netloc=place)), data=body, headers=headers)  # noqa: S310 - the scheme is checked above
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    return request
