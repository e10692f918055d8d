"""The enrolment of machines for hotpatches by their latest assessments and the last requests. Contacts no machine."""

from collections.abc import Mapping, Sequence
from datetime import date

from inventory.data_class import dataclass
from tasks.domain.model import HotpatchEnrolment
from tasks.domain.states import HotpatchStatus
from tasks.rules.hotpatch import (
    Baseline,
    BaselineCalendar,
    EnrolmentRequest,
    find_hotpatch_status,
    find_machine_baseline,
)


@dataclass(frozen=True, slots=True)
class HotpatchRow:
    """The enrolment of one machine."""

    machine: str
    status: HotpatchStatus | None = None  # None when it can't have hotpatches, or does not say enough
    enrolment: HotpatchEnrolment | None = None  # what it said at its latest assessment; None when it said nothing of it
    request: EnrolmentRequest | None = None  # what people last asked for, if anything
    # The next baseline, with an expected reboot: of a Windows machine that receives hotpatches.
    baseline: Baseline | None = None
    provider_words: str = ""  # what a licence provider says, if one was asked


def build_row(
    machine: str,
    enrolment: HotpatchEnrolment | None,
    request: EnrolmentRequest | None,
    calendar: BaselineCalendar,
    today: date,
    provider_words: str = "",
) -> HotpatchRow:
    """Return the row of one machine. Pure."""
    status = find_hotpatch_status(enrolment, request, today)
    baseline = find_machine_baseline(enrolment, status, calendar, today)
    return HotpatchRow(machine, status, enrolment, request, baseline, provider_words)


def build_hotpatch_overview(
    machines: Sequence[str],
    enrolments: Mapping[str, HotpatchEnrolment],
    last_requests: Mapping[str, EnrolmentRequest],
    calendar: BaselineCalendar,
    today: date,
) -> Mapping[str, HotpatchRow]:
    """Return the row of each machine, by its name. Pure."""
    return {name: build_row(name, enrolments.get(name), last_requests.get(name), calendar, today) for name in machines}
