"""The approval that a person is asked for, the answer, and the sources of answers."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tasks.domain.model import RunReport
from tasks.records.approvals import Approval
from tasks.steps.context.run_context import StopToken


@dataclass(frozen=True, slots=True)
class ApprovalAnswer:
    """A person's answer to an approval."""

    is_approval: bool
    who: str
    remark: str = ""


class AnswerSource(Protocol):
    """A source of answers other than the records. Its methods don't block and don't raise."""

    def read_answer(self) -> ApprovalAnswer | None:
        """Return an answer, once; None while there is none."""
        ...

    def reject_answer(self, why: str) -> None:
        """Refuse the answer: show the reason, and ask again."""
        ...


class NoAnswerSource:
    """The source if only the records can hold an answer."""

    def read_answer(self) -> ApprovalAnswer | None:
        """Return None: there is never an answer."""
        return None

    def reject_answer(self, why: str) -> None:
        """Do nothing: there is no answer to refuse."""


@dataclass(frozen=True, slots=True)
class PendingApproval:
    """The approval that a person is asked for.

    Attributes:
        expires_at: when it expires, by the run's clock.
    """

    planned: RunReport
    digest: str
    expires_at: datetime


ApprovalPresenter = Callable[[PendingApproval, StopToken, Callable[[AnswerSource], Approval | None]], Approval | None]
"""Shows an approval to people, and calls the last argument once to wait for the decision."""


MAX_NAME_LENGTH, MAX_REMARK_LENGTH = 200, 2000
