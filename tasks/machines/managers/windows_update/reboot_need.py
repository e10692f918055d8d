"""Whether a Windows machine needs a reboot now, and whether an update will need one. Pure.

Reasons that mean yes: the agent or Windows servicing asks for it, an installed update waits for it, ConfigMgr asks for
it, or a new name or domain of the computer takes effect at the next boot.

Others mean nothing alone: files to be renamed at the next boot (printers and virus scanners leave some on healthy
machines for months), and marks that only a reboot removes. They are shown beside a reason that counts.

Windows servicing may keep its mark for some minutes after a boot. As the only reason so soon, it means unknown.

Of an update, the agent knows "never", "always" and "can ask". This adds what the update is: a boot completes a
cumulative update, a hotpatch changes the running system. For hotpatches the calendar of baselines is a forecast. After
the installation, only what the machine says counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from pydantic import Field

from inventory.data_class import dataclass
from inventory.name_lists import format_count
from tasks.domain.model import RebootNeed
from tasks.domain.states import YesNoUnknown
from tasks.machines.managers.windows_update.hotpatch import HotpatchMonth
from tasks.machines.managers.windows_update.offered_updates import OfferedUpdate, is_cumulative_title, is_hotpatch_title
from tasks.machines.managers.windows_update.records import Count, Record, Texts

BOOT_MARK_SECONDS: Final = 900
"""How long after a boot the mark of Windows servicing is not trusted alone."""

_MAX_NAMES: Final = 5
_SERVICING_REASON: Final = "Windows servicing waits for a reboot"


class RebootRecord(Record):
    """The places where Windows notes that a reboot is pending: record "reboot"."""

    known: bool = True  # whether the registry could be read
    update_agent: bool = False  # key "RebootRequired" of Automatic Updates
    servicing: bool = False  # key "RebootPending" of Component Based Servicing
    servicing_continues: bool = False  # key "RebootInProgress": part of an update waits for the next boot
    config_manager: bool | None = None  # the client of ConfigMgr says so; None when there is none
    config_manager_restarts: bool | None = False  # its client does, after a countdown; None when it does not answer
    renamed: bool = False  # the computer's name changes at the next boot
    joining: bool = False  # it joins a domain at the next boot
    file_renames: Count = 0  # number of files that are renamed or removed at the next boot
    marks: Texts = Field(default=[])  # names of other marks


def find_windows_reboot_need(
    record: RebootRecord | None, waiting: Sequence[OfferedUpdate] = (), *, uptime: float | None = None
) -> RebootNeed:
    """Combine the sources, as the module docstring describes.

    ``uptime`` is in seconds since the boot; None when unknown.
    """
    if record is None or not record.known:
        reasons = [*_describe_waiting(waiting)] or ["the registry could not be read"]
        return RebootNeed(YesNoUnknown.YES if waiting else YesNoUnknown.UNKNOWN, tuple(reasons))
    reasons = [*_describe_waiting(waiting), *_find_reasons(record)]
    is_servicing = record.servicing or record.servicing_continues
    if is_servicing and not reasons and uptime is not None and uptime < BOOT_MARK_SECONDS:
        soon = f"{_SERVICING_REASON}, but its mark may be of the boot {uptime:.0f} s ago"
        return RebootNeed(YesNoUnknown.UNKNOWN, (soon,))
    if is_servicing:
        reasons.append(_SERVICING_REASON)
    if not reasons:
        return RebootNeed(YesNoUnknown.NO)
    if record.file_renames:
        files_text = format_count(record.file_renames, "file", ("is", "are"))
        reasons.append(f"{files_text} to be renamed or removed at the next boot")
    if record.marks:
        reasons.append(f"marks: {', '.join(sorted(record.marks)[:_MAX_NAMES])}")
    return RebootNeed(YesNoUnknown.YES, tuple(reasons))


def _describe_waiting(waiting: Sequence[OfferedUpdate]) -> Iterator[str]:
    names = sorted({update.name for update in waiting})
    if names:
        more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
        yield f"installed, and complete after a reboot: {', '.join(names[:_MAX_NAMES])}{more}"


def _find_reasons(record: RebootRecord) -> Iterator[str]:
    if record.update_agent:
        yield "the Windows Update Agent asks for a reboot"
    if record.config_manager:
        yield "ConfigMgr asks for a reboot"
    if record.renamed:
        yield "the computer's new name takes effect at the next boot"
    if record.joining:
        yield "the computer joins a domain at the next boot"


_NEVER: Final = 0
_ALWAYS: Final = 1
_CAN_ASK: Final = 2
_REQUIRED: Final[Mapping[int | None, bool]] = {_NEVER: False, _ALWAYS: True}


@dataclass(frozen=True, slots=True)
class RebootOutlook:
    """Whether an update needs a reboot."""

    required: bool | None  # None when only the installation shows it
    changes_boot: bool = False  # it changes what the machine boots with, so that a reboot is expected
    reason: str = ""  # in words, or ""


def predict_reboot(update: OfferedUpdate, month: HotpatchMonth) -> RebootOutlook:
    """Return whether an update needs a reboot, as the module docstring describes."""
    if is_hotpatch_title(update.title) and update.reboot_behavior != _ALWAYS:
        subject = "a hotpatch, which changes the running system"
        if update.reboot_behavior != _NEVER and month.doubt:
            return RebootOutlook(None, reason=f"a hotpatch, but {month.doubt}")
        if update.reboot_behavior != _NEVER and month.is_baseline:
            return RebootOutlook(
                None, changes_boot=True, reason="it may ask for one, in a month with a planned baseline"
            )
        more = "" if update.reboot_behavior == _NEVER else f"; the next planned baseline is on {month.next_baseline}"
        return RebootOutlook(required=False, reason=f"{subject}{more}")
    required = _REQUIRED.get(update.reboot_behavior)
    if is_cumulative_title(update.title) and required is not False:
        return RebootOutlook(required, changes_boot=True, reason="a cumulative update, which a boot completes")
    if required:
        return RebootOutlook(required, reason="it always needs one")
    return RebootOutlook(required, reason="it may ask for one" if update.reboot_behavior == _CAN_ASK else "")
