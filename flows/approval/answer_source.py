"""The question that a person is asked about a plan, the answer, and the sources from which an answer can come."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tasks.model import RunReport
from tasks.records.approvals import Approval
from tasks.steps.context.stop_token import StopToken


@dataclass(frozen=True, slots=True)
class ApprovalAnswer:
    """What a person said about a plan."""

    is_approval: bool
    who: str
    remark: str = ""


class AnswerSource(Protocol):
    """A place besides the records where a person may answer. Its methods don't block and don't raise."""

    def read_answer(self) -> ApprovalAnswer | None:
        """Return an answer, once; None while there is none."""
        ...

    def reject_answer(self, why: str) -> None:
        """The answer can't be taken: say why, and ask again."""
        ...


class NoAnswerSource:
    """Nobody can answer but by the records."""

    def read_answer(self) -> ApprovalAnswer | None:
        """There never is an answer."""
        return None

    def reject_answer(self, why: str) -> None:
        """Nobody answered here."""


@dataclass(frozen=True, slots=True)
class PendingApproval:
    """What a person is asked.

    Attributes:
        expires_at: when it expires, by the run's own clock.
    """

    planned: RunReport
    digest: str
    expires_at: datetime


ApprovalPresenter = Callable[[PendingApproval, StopToken, Callable[[AnswerSource], Approval | None]], Approval | None]
"""Puts a question where people see it, and has it waited for there by calling the last argument once."""


MAX_NAME_LENGTH, MAX_REMARK_LENGTH = 200, 2000
