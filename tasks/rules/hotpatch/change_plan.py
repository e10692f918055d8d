"""What a request for hotpatches or live patches does on one machine, or why it does nothing. Pure.

Only means that the vendor documents are used. Where people have to act, the plan says so and nothing is changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from tasks.domain.model import Finding, HotpatchEnrolment
from tasks.domain.states import FindingLevel
from tasks.rules.hotpatch.status import HotpatchAction

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
    """What a request does on one machine.

    Attributes:
        steps: what is done, in words: commands, registry values, requests. Empty without a refusal: nothing is to do.
        registry_values: those to set (VBS, TABLE_SIZE, PACKAGE).
        note: what people have to do afterwards, or "".
    """

    refusal: str = ""
    remedy: str = ""
    steps: tuple[str, ...] = ()
    registry_values: tuple[str, ...] = ()
    runs_job: bool = False
    asks_provider: bool = False
    note: str = ""


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
    if refused := _refuse(action, enrolment):
        return refused
    if _is_done(action, enrolment):
        return ChangePlan()
    if enrolment.means == "arc":
        return _plan_arc(action, enrolment, has_provider=has_provider, first_day=first_day)
    return _plan_registry(enrolment) if enrolment.means == "registry" else _plan_commands(action, enrolment, commands)


def _plan_commands(action: HotpatchAction, enrolment: HotpatchEnrolment, commands: Sequence[str]) -> ChangePlan:
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
    blocking = next(
        (
            prerequisite
            for prerequisite in enrolment.prerequisites
            if prerequisite.level is FindingLevel.BLOCK and prerequisite.check not in provided
        ),
        None,
    )
    if not enrolment.means or blocking is not None:
        obstacle = blocking or Finding("", FindingLevel.BLOCK, "fleetpatch has no means to enrol it")
        return ChangePlan(obstacle.message, obstacle.remedy)
    return None


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
