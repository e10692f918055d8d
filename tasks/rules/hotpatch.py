"""Hotpatches of Windows and live patches of Linux: the baselines, the status of an enrolment, and its changes. Pure.

A baseline is a cumulative update, which needs a reboot. Microsoft plans one for January, April, July and October, on
the second Tuesday. When a fix can't be a hotpatch, Microsoft publishes an unplanned baseline instead of that month's
hotpatch. Nobody can foresee those, so the calendar is a forecast. Known ones come from a file that people keep.

The words of a status are those of Azure, with its meaning. What the machine says counts. A request only explains a
machine that is not enrolled: it is on its way (Pending), or people ended it (Canceled). A machine that was unenrolled
can enrol again at once, but it gets hotpatches again only from the next baseline on; until that day it is Pending.

A change uses only means that the vendor documents. Where people have to act, the plan says so and nothing is changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.model import HotpatchEnrolment
from tasks.domain.states import FindingLevel, HotpatchStatus, YesNoUnknown

BASELINE_MONTHS: Final = (1, 4, 7, 10)
STALE_AFTER: Final = timedelta(days=62)
"""A file of unplanned baselines that is older than this has missed at least one publication of monthly updates."""
_TUESDAY: Final = 1
_TWO_MONTHS: Final = timedelta(days=62)
_MONTHS: Final = 12


@dataclass(frozen=True, slots=True, order=True)
class Baseline:
    """A baseline: the day of its publication, and why it is one."""

    day: date
    reason: str = ""  # of an unplanned baseline, in words; "" for a planned one
    source: str = ""
    builds: tuple[str, ...] = ()  # the builds of Windows that it is for ("20348", "26100"); empty: all

    @property
    def is_planned(self) -> bool:
        """Whether it belongs to the regular calendar."""
        return not self.reason

    def is_for(self, build: str) -> bool:
        """Return whether it is for a build of Windows; "" stands for any."""
        return not self.builds or not build or build in self.builds


@dataclass(frozen=True, slots=True)
class BaselineCalendar:
    """All baselines."""

    unplanned: tuple[Baseline, ...] = ()  # those of the file
    as_of: date | None = None  # until when the file is complete; None: there is no file
    source: str = field(default="", compare=False)  # the file, for messages

    def find_next(self, today: date, build: str = "") -> Baseline:
        """Return the next baseline from a day on, that day included."""
        planned = Baseline(find_next_baseline(today))
        later = [baseline for baseline in self.unplanned if baseline.day >= today and baseline.is_for(build)]
        return min([planned, *later], key=lambda baseline: (baseline.day, baseline.reason))

    def find_last(self, today: date, build: str = "") -> Baseline:
        """Return the last baseline up to a day, that day included."""
        earlier = [baseline for baseline in self.unplanned if baseline.day <= today and baseline.is_for(build)]
        return max([Baseline(find_last_baseline(today)), *earlier], key=lambda baseline: baseline.day)

    def iterate(self, start: date, end: date) -> Iterator[tuple[date, Baseline | None]]:
        """Yield each day on which monthly updates are published, with its baseline, or None for a hotpatch.

        Unplanned baselines on other days are included, in the order of the days.
        """
        days: dict[date, Baseline | None] = {}
        year, month = start.year, start.month
        while (day := find_second_tuesday(year, month)) <= end:
            if day >= start:
                days[day] = Baseline(day) if month in BASELINE_MONTHS else None
            year, month = (year, month + 1) if month < _MONTHS else (year + 1, 1)
        for baseline in self.unplanned:
            if start <= baseline.day <= end and days.get(baseline.day) is None:
                days[baseline.day] = baseline
        yield from sorted(days.items())

    def find_newest_release(self, today: date, build: str = "") -> tuple[date, Baseline | None]:
        """Return the newest monthly updates up to a day, with their baseline, or None for a hotpatch."""
        return max(self._iterate_for(today - _TWO_MONTHS, today, build), key=lambda release: release[0])

    def find_next_release(self, today: date, build: str = "") -> tuple[date, Baseline | None]:
        """Return the next monthly updates after a day, likewise."""
        return min(
            self._iterate_for(today + timedelta(days=1), today + _TWO_MONTHS, build), key=lambda release: release[0]
        )

    def _iterate_for(self, start: date, end: date, build: str) -> Iterator[tuple[date, Baseline | None]]:
        for day, baseline in self.iterate(start, end):
            is_for = baseline is not None and baseline.is_for(build)
            if is_for or day == find_second_tuesday(day.year, day.month):
                yield day, baseline if is_for else None

    def describe_age(self, today: date) -> str:
        """Return that the file is too old to be relied on, or "". Without a file there is nothing to say."""
        if self.as_of is None or today - self.as_of <= STALE_AFTER:
            return ""
        return f"the list of unplanned baselines is of {self.as_of:%Y-%m-%d}: later ones are not in it"


def find_second_tuesday(year: int, month: int) -> date:
    """Return the day on which Microsoft publishes the updates of a month."""
    first = date(year, month, 1)
    return first.replace(day=1 + (_TUESDAY - first.weekday()) % 7 + 7)


def find_next_baseline(today: date) -> date:
    """Return the day of the next planned baseline: the second Tuesday of a quarter's first month."""
    return min(day for day in _list_baselines(today.year, today.year + 1) if day >= today)


def find_last_baseline(today: date) -> date:
    """Return the day of the last planned baseline."""
    return max(day for day in _list_baselines(today.year - 1, today.year) if day <= today)


def _list_baselines(*years: int) -> list[date]:
    return [find_second_tuesday(year, month) for year in years for month in BASELINE_MONTHS]


def find_release_month(today: date) -> int:
    """Return the month of the newest monthly updates: until its second Tuesday, a month has those of the one before."""
    is_out = today >= find_second_tuesday(today.year, today.month)
    return today.month if is_out else (today.month - 2) % _MONTHS + 1


def describe_releases(calendar: BaselineCalendar, today: date) -> tuple[str, ...]:
    """Return what the newest and the next monthly updates of Windows are, and when the next baseline is."""
    newest, newest_baseline = calendar.find_newest_release(today)
    coming, coming_baseline = calendar.find_next_release(today)
    following = calendar.find_next(today + timedelta(days=1))
    return (
        f"The newest monthly updates, of {newest:%Y-%m-%d}, are {_describe_release(newest_baseline)}.",
        f"The next ones, on {coming:%Y-%m-%d}, are {_describe_release(coming_baseline)}.",
        f"The next baseline is on {following.day:%Y-%m-%d}{f' ({following.reason})' if following.reason else ''}.",
    )


def _describe_release(baseline: Baseline | None) -> str:
    if baseline is None:
        return "hotpatches: machines that receive them need no reboot"
    unplanned = "" if baseline.is_planned else f" that was not planned ({baseline.reason})"
    return f"a baseline{unplanned}: every machine needs a reboot"


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
    if request is not None and request.failure:
        request = None
    wish = request if request is not None and request.action.wants_patches else None
    if enrolment.enrolled and enrolment.receives:
        must_wait = wish is not None and wish.not_before is not None and today < wish.not_before
        return HotpatchStatus.PENDING if must_wait else HotpatchStatus.ENABLED
    if wish is not None:
        return HotpatchStatus.PENDING
    if request is not None and request.action is HotpatchAction.UNENROLL:
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


def find_machine_baseline(
    enrolment: HotpatchEnrolment | None, status: HotpatchStatus | None, calendar: BaselineCalendar, today: date
) -> Baseline | None:
    """Return the next baseline, with an expected reboot, of a Windows machine that receives hotpatches; else None."""
    if enrolment is None or enrolment.provider != WINDOWS_PROVIDER or status not in _RECEIVING:
        return None
    return calendar.find_next(today, enrolment.product)


def find_reboot_expectation(
    enrolment: HotpatchEnrolment | None, status: HotpatchStatus | None, calendar: BaselineCalendar, today: date
) -> YesNoUnknown:
    """Return whether the next monthly updates are expected to reboot a Windows machine.

    Without hotpatches, each month's cumulative update does. Of other systems that is not known before.
    """
    if enrolment is None or enrolment.provider != WINDOWS_PROVIDER or status is None:
        return YesNoUnknown.UNKNOWN
    if status is not HotpatchStatus.ENABLED:
        return YesNoUnknown.YES
    return YesNoUnknown.NO if calendar.find_next_release(today, enrolment.product)[1] is None else YesNoUnknown.YES


WINDOWS_PROVIDER: Final = "hotpatch"
_RECEIVING: Final = frozenset({HotpatchStatus.ENABLED, HotpatchStatus.PENDING})


VBS: Final = "vbs"
TABLE_SIZE: Final = "table_size"
PACKAGE: Final = "package"
REGISTRY_WORDS: Final[Mapping[str, str]] = {
    VBS: "set EnableVirtualizationBasedSecurity = 1, and restart the machine later",
    TABLE_SIZE: "set HotPatchTableSize = 0x1000",
    PACKAGE: "set the values Name and Version of TargetingInfo's Hotpatch.amd64",
}
"""The registry values that Microsoft documents, and what is said of them."""

_ENROLL, _UNENROLL, _ENABLE, _DISABLE = HotpatchAction
_ARC_WORDS: Final[Mapping[HotpatchAction, str]] = {
    _ENROLL: "ask Azure Arc for the licence of hotpatches",
    _UNENROLL: "give the licence of hotpatches back to Azure Arc",
    _ENABLE: "enable hotpatches in Azure Arc's patch settings",
    _DISABLE: "disable hotpatches in Azure Arc's patch settings",
}
_BUILD_2022: Final = "20348"


@dataclass(frozen=True, slots=True)
class ChangePlan:
    """What a request does on one machine."""

    refusal: str = ""
    remedy: str = ""
    # What is done, in words: commands, registry values, requests. Empty without a refusal: nothing is to do.
    steps: tuple[str, ...] = ()
    registry_values: tuple[str, ...] = ()  # those to set (VBS, TABLE_SIZE, PACKAGE)
    runs_job: bool = False
    asks_provider: bool = False
    note: str = ""  # what people have to do afterwards, or ""


def plan_change(
    action: HotpatchAction,
    enrolment: HotpatchEnrolment | None,
    *,
    has_provider: bool,
    commands: Sequence[str] = (),
    first_day: date | None = None,
) -> ChangePlan:
    """Return what a request does on a machine.

    ``commands`` are the vendor's for that on this machine; empty when it documents none. ``first_day`` is the baseline
    from which on a machine that was unenrolled gets hotpatches again.
    """
    if enrolment is None:
        return ChangePlan(
            "it has neither hotpatches nor live patches that fleetpatch can enrol", "See docs/how-to/hotpatch.md."
        )
    refused = _refuse(action, enrolment)
    if refused is not None or _is_done(action, enrolment):
        return refused or ChangePlan()
    if enrolment.means == "arc":
        return _plan_arc(action, enrolment, has_provider=has_provider, first_day=first_day)
    if enrolment.means == "registry":
        return _plan_registry(enrolment)
    if not commands:
        message = f"{enrolment.provider} has no documented way to {action}"
        return ChangePlan(message, "Use fleetpatch hotpatch unenroll." if action is _DISABLE else "")
    return ChangePlan(steps=tuple(commands), runs_job=True)


def describe_first_day(first_day: date | None) -> str:
    """Return from when on a machine gets hotpatches again, or ""."""
    if first_day is None:
        return ""
    return f"it was unenrolled, so it gets hotpatches again from the next baseline on, {first_day:%Y-%m-%d}"


def _refuse(action: HotpatchAction, enrolment: HotpatchEnrolment) -> ChangePlan | None:
    """Return why an action makes no sense on the machine; None if it does."""
    if enrolment.means == "registry" and not action.wants_patches:
        remedy = "On a virtual machine in Azure, people do it in the portal; elsewhere Microsoft documents no way."
        return ChangePlan("hotpatches of Datacenter: Azure Edition can't be ended from the machine", remedy)
    if action in {_ENABLE, _DISABLE} and enrolment.enrolled is not True:
        return ChangePlan("it is not enrolled", "fleetpatch hotpatch enroll")
    if not action.wants_patches:
        return None
    provided = {VBS, "table size"} if enrolment.means == "registry" else {VBS}
    if enrolment.means == "arc" and enrolment.enrolled is not None:
        provided.add("licence")
    for prerequisite in enrolment.prerequisites:
        if prerequisite.level is FindingLevel.BLOCK and prerequisite.check not in provided:
            return ChangePlan(prerequisite.message, prerequisite.remedy)
    return None if enrolment.means else ChangePlan("fleetpatch has no means to enrol it")


def _is_done(action: HotpatchAction, enrolment: HotpatchEnrolment) -> bool:
    if action.wants_patches:
        return enrolment.enrolled is True and enrolment.receives is True and not needs_vbs(enrolment)
    if action is _DISABLE:
        return enrolment.receives is False
    # the subscription of the whole machine stays, as other services belong to it
    return not enrolment.enrolled or (enrolment.provider == "livepatch" and enrolment.receives is False)


def needs_vbs(enrolment: HotpatchEnrolment) -> bool:
    """Return whether virtualization-based security does not run."""
    return any(
        prerequisite.check == VBS and prerequisite.level is FindingLevel.BLOCK
        for prerequisite in enrolment.prerequisites
    )


def _plan_arc(
    action: HotpatchAction, enrolment: HotpatchEnrolment, *, has_provider: bool, first_day: date | None
) -> ChangePlan:
    if not has_provider:
        remedy = "Give --arc with the resource group, and --arc-token; or do it in the portal (Azure Update Manager)."
        return ChangePlan("Azure Arc has to do that, and was not named", remedy)
    steps, note = [_ARC_WORDS[action]], describe_first_day(first_day)
    values: tuple[str, ...] = ()
    if action.wants_patches and needs_vbs(enrolment):
        steps, values = [REGISTRY_WORDS[VBS], *steps], (VBS,)
        note = "; ".join(filter(None, ["restart it, so that virtualization-based security runs", note]))
    return ChangePlan(steps=tuple(steps), registry_values=values, asks_provider=True, note=note)


def _plan_registry(enrolment: HotpatchEnrolment) -> ChangePlan:
    """Return the values for an Azure Edition. Microsoft documents a restart between the first one and the others."""
    values: tuple[str, ...]
    if needs_vbs(enrolment):
        values, note = (VBS,), "restart it, so that virtualization-based security runs; then enrol it again"
    elif enrolment.product == _BUILD_2022:
        values = (TABLE_SIZE, PACKAGE)
        note = "restart it; a machine that was not made from an image of Azure's marketplace also needs KB5003508"
    else:
        return ChangePlan("nothing that fleetpatch could set is missing", "Look at its prerequisites.")
    return ChangePlan(steps=tuple(REGISTRY_WORDS[value] for value in values), registry_values=values, note=note)
