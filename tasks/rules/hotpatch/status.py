"""The status of an enrolment, from what the machine says and what people last asked for. Pure.

The words are those of Azure, with its meaning. What the machine says counts. A request only explains a machine that is
not enrolled: it is on its way (Pending), or people ended it (Canceled). A machine that was unenrolled can enrol again
at once, but it gets hotpatches again only from the next baseline on; until that day it is Pending.
"""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Final

from tasks.domain.model import HotpatchEnrolment
from tasks.domain.states import HotpatchStatus
from tasks.rules.hotpatch.baselines import Baseline, BaselineCalendar


class HotpatchAction(StrEnum):
    """What people can ask for."""

    ENROLL = "enroll"
    UNENROLL = "unenroll"
    ENABLE = "enable"
    DISABLE = "disable"

    @property
    def wants_patches(self) -> bool:
        """Whether the machine is to receive hotpatches afterwards."""
        return self in {HotpatchAction.ENROLL, HotpatchAction.ENABLE}


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """What people last asked for on a machine."""

    action: HotpatchAction
    at: datetime
    by: str = ""
    not_before: date | None = None  # after an unenrolment: the baseline from which on the machine gets hotpatches again
    failure: str = ""


def find_hotpatch_status(
    enrolment: HotpatchEnrolment | None, request: EnrolmentRequest | None, today: date
) -> HotpatchStatus | None:
    """Return the status of a machine; None if it can't have hotpatches, or does not say enough."""
    if enrolment is None:
        return None
    is_wanted = request is not None and not request.failure and request.action.wants_patches
    if enrolment.enrolled and enrolment.receives:
        return HotpatchStatus.PENDING if is_wanted and _must_wait(request, today) else HotpatchStatus.ENABLED
    if is_wanted:
        return HotpatchStatus.PENDING
    if request is not None and request.action is HotpatchAction.UNENROLL and not request.failure:
        return HotpatchStatus.CANCELED
    if enrolment.enrolled:
        return None if enrolment.receives is None else HotpatchStatus.DISABLED
    return None if enrolment.enrolled is None else HotpatchStatus.NOT_ENROLLED


def find_first_day(action: HotpatchAction, previous: EnrolmentRequest | None, next_baseline: date) -> date | None:
    """Return from which day on a machine gets hotpatches after a request; None: at once, or it wants none.

    After an unenrolment, this is the next baseline. A repeated request keeps the day of the first one.
    """
    if previous is None or not action.wants_patches:
        return None
    if previous.action is HotpatchAction.UNENROLL:
        return None if previous.failure else next_baseline
    return previous.not_before


def _must_wait(request: EnrolmentRequest | None, today: date) -> bool:
    return request is not None and request.not_before is not None and today < request.not_before


def find_machine_baseline(
    enrolment: HotpatchEnrolment | None, status: HotpatchStatus | None, calendar: BaselineCalendar, today: date
) -> Baseline | None:
    """Return the next baseline, with an expected reboot, of a Windows machine that receives hotpatches; else None."""
    if enrolment is None or enrolment.provider != WINDOWS_PROVIDER or status not in _RECEIVING:
        return None
    return calendar.find_next(today, enrolment.product)


WINDOWS_PROVIDER: Final = "hotpatch"
_RECEIVING: Final = frozenset({HotpatchStatus.ENABLED, HotpatchStatus.PENDING})
