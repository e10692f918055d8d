"""The audit log: every act of people and programs, before it is done and after."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fastapi import Request

from fleetpatch.access.identity import get_identity
from fleetpatch.access.token_secrets import hide_tokens
from fleetpatch.web.context import get_context
from tasks.domain.errors import FleetpatchError, PolicyRefused, RecordsError
from tasks.domain.rows.audit import AuditEntry, AuditResult
from tasks.records.audit.log import SqlAuditLog
from tasks.reports.sanitizing import sanitize, sanitize_to_one_line

logger = logging.getLogger(__name__)

_MAX_LENGTH: Final = 2000


@contextmanager
def record_act(request: Request, act: str, subject: str, detail: str = "") -> Iterator[None]:
    """Record an act in the audit log: "begun" before the block, then "done", or "failed" with the error.

    Args:
        request: the request, with the identity.
        act: what is done: "approve", "reject", "assess", "plan", "patch", "cancel", "resume" …
        subject: the run, the machine or the scope.
        detail: more of it, on one line, without secrets.

    Raises:
        RecordsError: the log can't be written. Then nothing may be done.
    """
    _append(request, AuditResult.BEGUN, act, subject, detail)
    try:
        yield
    except BaseException as error:
        message = error.message if isinstance(error, FleetpatchError) else f"{type(error).__name__}: {error}"
        result = AuditResult.REFUSED if isinstance(error, PolicyRefused) else AuditResult.FAILED
        _append_end(request, result, act, subject, detail, message)
        raise
    _append_end(request, AuditResult.DONE, act, subject, detail)


def record_refusal(request: Request, message: str, *, act: str = "", who: str = "") -> None:
    """Record that a request was refused. Strangers can't fill the records: of each address, some a minute are kept.

    Args:
        request: the request.
        message: why.
        act: what was wanted; "": the method and the path.
        who: the name that a stranger gave, if any. It is only claimed.
    """
    identity = get_identity(request)
    if not identity.name and not get_context(request).refusals.count(identity.address):
        logger.warning("refused for %s, not in the audit log: %s", identity.address, sanitize(message))
        return
    act_name = act or f"{request.method} {request.url.path}"
    _append_end(request, AuditResult.REFUSED, act or "request", act_name, "", message, claimed=who)


def record_login(request: Request, name: str, act: str, source: str) -> None:
    """Record that somebody logs in or out, before it is so. The source, "token" or "oidc", has proven the name."""
    _append(request, AuditResult.DONE, act, "", "", login=name, source=source)


def _append_end(
    request: Request, result: AuditResult, act: str, subject: str, detail: str, message: str = "", *, claimed: str = ""
) -> None:
    """Store how an act ended. What is done is done: that this can't be written must not make it look undone."""
    try:
        _append(request, result, act, subject, detail, message, claimed=claimed)
    except RecordsError as error:
        lost = _shorten(f"{result} {act} {subject} {message}")
        logger.warning("the audit log lacks %s: %s", lost, error)


def _append(
    request: Request,
    result: AuditResult,
    act: str,
    subject: str,
    detail: str,
    message: str = "",
    *,
    claimed: str = "",
    login: str = "",
    source: str = "",
) -> None:
    identity, context = get_identity(request), get_context(request)
    entry = AuditEntry(
        at=context.clock.now(),
        who=_shorten(identity.name or login),
        source=identity.source if identity.name or not login else source,
        claimed=_shorten(claimed),
        address=_shorten(identity.address),
        act=_shorten(act),
        subject=_shorten(subject),
        detail=_shorten(detail),
        result=result,
        message=_shorten(message),
    )
    SqlAuditLog(context.records.database).append(entry)


def _shorten(text: str) -> str:
    """Return a text for one field of an entry: on one line, so that nobody can forge further entries."""
    return sanitize_to_one_line(hide_tokens(text), _MAX_LENGTH)
