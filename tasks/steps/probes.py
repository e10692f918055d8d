"""Owners' own checks: a command on the machine, or a connection or page asked for from the controller."""

import base64
import http.client
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, unquote, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from inventory.machine import Check, CheckKind, CheckLevel
from inventory.targets import read_tcp, read_url
from tasks.errors import TransportError
from tasks.model import Finding
from tasks.rules.urls import shown_url
from tasks.seams.clock import Deadline
from tasks.seams.transport import Script
from tasks.states import FindingLevel
from tasks.steps.context import Work


class _WithinItsHost(HTTPRedirectHandler):
    """Follows a page within its own host. Where else it is sent on to is no business of a check: 3xx is an answer."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Request | None:
        """Return the next request, or None: the redirect itself is the answer."""
        try:
            there, here = read_url(newurl), read_url(req.full_url)
        except ValueError:
            return None
        if there.hostname != here.hostname or (there.scheme, there.port) not in _next_to(here):
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _next_to(here: SplitResult) -> set[tuple[str, int | None]]:
    """Return the schemes and ports that count as the same place: its own, and the change from http to https."""
    usual = {"http": {80, None}, "https": {443, None}}
    mine = usual[here.scheme] if here.port in usual[here.scheme] else {here.port}
    upgraded = usual["https"] if here.scheme == "http" and here.port in usual["http"] else set()
    return {(here.scheme, port) for port in mine} | {("https", port) for port in upgraded}


_OPENER = build_opener(_WithinItsHost)

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
    return _failed(check, problem)


def try_all(work: Work) -> tuple[Finding, ...]:
    """Ask all of the owner's checks for somebody who only looks; what can't be asked at all is told in the same way."""
    return tuple(_tried(work, check) for check in (*work.run.machine.pre_checks, *work.run.machine.probes))


def _tried(work: Work, check: Check) -> Finding:
    try:
        return ask(work, check)
    except TransportError as error:
        return _failed(check, f"it could not be asked: {error.message}", error.hint)


def _failed(check: Check, problem: str, remedy: str = "") -> Finding:
    level = FindingLevel.BLOCK if check.level is CheckLevel.BLOCK else FindingLevel.WARN
    own = "This is the machine owner's own check."
    return Finding(check.name, level, f"{check.kind} {_shown(check)}: {problem}", f"{remedy} {own}".strip())


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
    try:
        host, port = read_tcp(check.target)
    except ValueError as error:
        return f"the target is not HOST:PORT or PORT: {error}"
    try:
        with socket.create_connection((host or address, port), timeout=check.timeout_seconds):
            return ""
    except OSError as error:
        return str(error)


def _http(check: Check) -> str:
    try:
        request = request_to(check.target)
    except ValueError as error:
        return f"the target is not an http or https URL that can be asked: {error}"
    try:
        with _OPENER.open(request, timeout=check.timeout_seconds) as answer:
            return "" if 200 <= answer.status < 400 else f"status {answer.status}"
    except HTTPError as error:
        with error:
            if error.msg.startswith(HTTPRedirectHandler.inf_msg):
                return f"status {error.code}: redirects without end"
            return "" if 300 <= error.code < 400 else why_not(error)
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
        ValueError: it is no http or https URL that can be asked for; it repeats nothing of it.
    """
    parts = read_url(target)
    place = parts.netloc.rpartition("@")[2]
    headers = {"User-Agent": "fleetpatch", **({"Content-Type": "application/json"} if body is not None else {})}
    request = Request(urlunsplit(parts._replace(netloc=place)), data=body, headers=headers)  # noqa: S310 - the scheme is checked above
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    return request
