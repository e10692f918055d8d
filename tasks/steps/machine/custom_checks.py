"""Custom checks: a command on the machine, or a TCP or HTTP connection from the controller."""

import http.client
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import IO
from urllib.error import HTTPError
from urllib.parse import SplitResult
from urllib.request import HTTPRedirectHandler, Request, build_opener

from inventory.addresses import parse_tcp_target, parse_url
from inventory.machine import Check, CheckKind, FailedCheckEffect
from tasks.domain.errors import TransportError
from tasks.domain.model import Finding
from tasks.domain.protocols.clock import Deadline
from tasks.domain.states import FindingLevel
from tasks.rules.redaction import redact_url
from tasks.steps.context.machine_context import COMMAND_GRACE_SECONDS, MachineContext
from tasks.steps.machine.http_requests import build_http_request, describe_http_error


class _SameHostRedirectHandler(HTTPRedirectHandler):
    """Follows redirects within one host. A redirect to another host is the answer of the check (3xx)."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Request | None:
        """Return the next request, or None if the redirect itself is the answer."""
        try:
            there, here = parse_url(newurl), parse_url(req.full_url)
        except ValueError:
            return None
        if there.hostname != here.hostname or (there.scheme, there.port) not in _list_allowed_endpoints(here):
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _list_allowed_endpoints(here: SplitResult) -> set[tuple[str, int | None]]:
    """Return the schemes and ports that count as the same host: its own, and the change from http to https."""
    usual = {"http": {80, None}, "https": {443, None}}
    mine = usual[here.scheme] if here.port in usual[here.scheme] else {here.port}
    upgraded = usual["https"] if here.scheme == "http" and here.port in usual["http"] else set()
    return {(here.scheme, port) for port in mine} | {("https", port) for port in upgraded}


HTTP_OPENER = build_opener(_SameHostRedirectHandler)


def run_check(context: MachineContext, check: Check) -> Finding:
    """Run one check and return its finding. Only a command check can raise (TransportError)."""
    match check.kind:
        case CheckKind.COMMAND:
            problem = run_command(context, check.target, check.timeout_seconds)
        case CheckKind.TCP:
            problem = _check_within_timeout(check, lambda: _check_tcp(context.state.machine.address, check))
        case CheckKind.HTTP:
            problem = _check_within_timeout(check, lambda: _check_http(check))
    if not problem:
        return Finding(check.name, FindingLevel.GOOD, f"{check.kind} {_format_target(check)}: good")
    return _build_failed_finding(check, problem)


def run_all_checks(context: MachineContext) -> tuple[Finding, ...]:
    """Run all checks of the machine for a plan. A check that can't be run becomes a finding too."""
    findings = []
    for check in (*context.state.machine.pre_checks, *context.state.machine.probes):
        try:
            findings.append(run_check(context, check))
        except TransportError as error:
            findings.append(_build_failed_finding(check, f"it could not be asked: {error.message}", error.hint))
    return tuple(findings)


def _build_failed_finding(check: Check, problem: str, remedy: str = "") -> Finding:
    level = FindingLevel.BLOCK if check.level is FailedCheckEffect.BLOCK else FindingLevel.WARN
    own = "This is the machine owner's own check."
    return Finding(check.name, level, f"{check.kind} {_format_target(check)}: {problem}", f"{remedy} {own}".strip())


def _format_target(check: Check) -> str:
    """Return a target as it is shown. A URL has no login and no query: passwords and tokens may be there."""
    return redact_url(check.target) if check.kind is CheckKind.HTTP else check.target


def run_command(context: MachineContext, command: str, timeout_seconds: float, *, read_only: bool = True) -> str:
    """Run an owner's command on the machine. Return what is wrong, or "".

    Raises:
        TransportError: the machine can't be asked.
    """
    deadline = Deadline.after(context.clock, timeout_seconds + COMMAND_GRACE_SECONDS)
    parameters = {"command": command, "timeout": f"{timeout_seconds:.0f}"}
    script = context.build_shared_script("probe", parameters, read_only=read_only)
    answer = context.transport.run_script(script, deadline=deadline).find_records("probe")
    if not answer:
        return "the machine gave no answer"
    code, text = answer[0].get("exit_code"), str(answer[0].get("text", "")).strip()
    return "" if code == 0 else f"exit code {code}: {text[-300:]}"


def _check_within_timeout(check: Check, question: Callable[[], str]) -> str:
    """Run a check in its own thread. The thread is abandoned if there is no answer in time.

    A socket timeout covers only one read. Name lookup, several addresses, redirects and a slow answer can each take
    that long.
    """
    answer: Future[str] = Future()

    def run_question() -> None:
        try:
            answer.set_result(question())
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            answer.set_exception(error)

    threading.Thread(target=run_question, name=f"check {check.name}", daemon=True).start()
    try:
        return answer.result(check.timeout_seconds)
    except TimeoutError:
        return f"no answer in {check.timeout_seconds:g} s"


def _check_tcp(address: str, check: Check) -> str:
    try:
        host, port = parse_tcp_target(check.target)
    except ValueError as error:
        return f"the target is not HOST:PORT or PORT: {error}"
    try:
        with socket.create_connection((host or address, port), timeout=check.timeout_seconds):
            return ""
    except OSError as error:
        return str(error)


def _check_http(check: Check) -> str:
    try:
        request = build_http_request(check.target)
    except ValueError as error:
        return f"the target is not a usable http or https URL: {error}"
    try:
        with HTTP_OPENER.open(request, timeout=check.timeout_seconds) as answer:
            return "" if 200 <= answer.status < 400 else f"status {answer.status}"
    except HTTPError as error:
        with error:
            if error.msg.startswith(HTTPRedirectHandler.inf_msg):
                return f"status {error.code}: redirects without end"
            return "" if 300 <= error.code < 400 else describe_http_error(error)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return describe_http_error(error)
