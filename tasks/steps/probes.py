"""Owners' own checks: a command on the machine, or a connection or page asked for from the controller."""

import base64
import http.client
import socket
from urllib.error import URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from inventory.machine import Check, CheckKind, CheckLevel
from tasks.model import Finding
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
            problem = _tcp(work.run.machine.address, check)
        case CheckKind.HTTP:
            problem = _http(check)
    if not problem:
        return Finding(check.name, FindingLevel.GOOD, f"{check.kind} {_shown(check)}: good")
    level = FindingLevel.BLOCK if check.level is CheckLevel.BLOCK else FindingLevel.WARN
    return Finding(
        check.name, level, f"{check.kind} {_shown(check)}: {problem}", "This is the machine owner's own check."
    )


def _shown(check: Check) -> str:
    """Return a target for people: of a URL neither login nor query, where passwords and tokens stand."""
    if check.kind is not CheckKind.HTTP:
        return check.target
    try:
        parts = urlsplit(check.target)
        _ = parts.port  # a password with a slash in it looks like a port that is no number
    except ValueError:
        return "URL"
    login, at, place = parts.netloc.rpartition("@")
    return urlunsplit(
        (parts.scheme, f"{'***' if login else ''}{at}{place}", parts.path, "***" if parts.query else "", "")
    )


def _command(work: Work, check: Check) -> str:
    deadline = Deadline.after(work.context.clock, check.timeout_seconds + GRACE_SECONDS)
    parameters = {"command": check.target, "timeout": f"{check.timeout_seconds:.0f}"}
    answer = work.transport.run(Script("probe", parameters), deadline=deadline).of_kind("probe")
    if not answer:
        return "the machine gave no answer"
    code, text = answer[0].get("exit_code"), str(answer[0].get("text", "")).strip()
    return "" if code == 0 else f"exit code {code}: {text[-300:]}"


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
        request = _request(check.target)
    except ValueError:  # its text would repeat a part of the URL
        return "the target is not an http or https URL"
    try:
        with urlopen(request, timeout=check.timeout_seconds) as answer:  # noqa: S310 - the same
            return "" if 200 <= answer.status < 400 else f"status {answer.status}"
    except (URLError, OSError, http.client.HTTPException) as error:
        return str(error)


def _request(target: str) -> Request:
    """Return the request for a URL. A login in it goes as basic authentication, and to no place that it is sent on to.

    Raises:
        ValueError: it is no http or https URL.
    """
    parts = urlsplit(target)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError("not an http or https URL")
    place = parts.netloc.rpartition("@")[2]
    request = Request(urlunsplit(parts._replace(netloc=place)), headers={"User-Agent": "fleetpatch"})  # noqa: S310 - the scheme is checked above
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    return request
