"""Custom checks: a command on the machine, or a TCP or HTTP connection from the controller."""

import http.client
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler

from inventory.checks import Check, CheckKind, CheckLevel
from inventory.network_targets import parse_tcp_target
from tasks.domain.errors import TransportError
from tasks.domain.model import Finding
from tasks.domain.protocols.clock import Deadline
from tasks.domain.states import FindingLevel
from tasks.rules.url_redaction import redact_url
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.http_client import HTTP_OPENER, build_http_request, describe_http_error

COMMAND_GRACE_SECONDS = 15.0  # added to a command's own timeout, for the connection


def run_check(context: MachineContext, check: Check) -> Finding:
    """Run one check and return its finding. Only a command check can raise (TransportError)."""
    match check.kind:
        case CheckKind.COMMAND:
            problem = _check_command(context, check)
        case CheckKind.TCP:
            problem = _check_within_timeout(check, lambda: _check_tcp(context.state.machine.address, check))
        case CheckKind.HTTP:
            problem = _check_within_timeout(check, lambda: _check_http(check))
    if not problem:
        return Finding(check.name, FindingLevel.GOOD, f"{check.kind} {_format_target(check)}: good")
    return _build_failed_finding(check, problem)


def run_all_checks(context: MachineContext) -> tuple[Finding, ...]:
    """Run all checks of the machine for a plan. A check that can't be run becomes a finding too."""
    return tuple(
        _try_check(context, check) for check in (*context.state.machine.pre_checks, *context.state.machine.probes)
    )


def _try_check(context: MachineContext, check: Check) -> Finding:
    try:
        return run_check(context, check)
    except TransportError as error:
        return _build_failed_finding(check, f"it could not be asked: {error.message}", error.hint)


def _build_failed_finding(check: Check, problem: str, remedy: str = "") -> Finding:
    level = FindingLevel.BLOCK if check.level is CheckLevel.BLOCK else FindingLevel.WARN
    own = "This is the machine owner's own check."
    return Finding(check.name, level, f"{check.kind} {_format_target(check)}: {problem}", f"{remedy} {own}".strip())


def _format_target(check: Check) -> str:
    """Return a target as it is shown. A URL has no login and no query: passwords and tokens may be there."""
    return redact_url(check.target) if check.kind is CheckKind.HTTP else check.target


def _check_command(context: MachineContext, check: Check) -> str:
    deadline = Deadline.after(context.clock, check.timeout_seconds + COMMAND_GRACE_SECONDS)
    parameters = {"command": check.target, "timeout": f"{check.timeout_seconds:.0f}"}
    script = context.build_shared_script("probe", parameters)
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
