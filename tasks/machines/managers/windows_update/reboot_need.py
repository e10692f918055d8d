"""Whether a Windows machine needs a reboot. Pure.

Reasons that mean yes: the agent or Windows servicing asks for it, an installed update waits for it, ConfigMgr asks for
it, or a new name or domain of the computer takes effect at the next boot.

Others mean nothing alone: files to be renamed at the next boot (printers and virus scanners leave some on healthy
machines for months), and marks that only a reboot removes. They are shown beside a reason that counts.

Windows servicing may keep its mark for some minutes after a boot. As the only reason so soon, it means unknown.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from pydantic import Field

from inventory.name_lists import format_count
from tasks.domain.model import RebootNeed
from tasks.domain.states import YesNoUnknown
from tasks.machines.managers.windows_update.records import Count, OfferedUpdate, Record, Texts

SETTLING_SECONDS: Final = 900
"""How long after a boot the mark of Windows servicing is not trusted alone."""

_MAX_NAMES: Final = 5
_SERVICING_REASON: Final = "Windows servicing waits for a reboot"


class RebootRecord(Record):
    """The places where Windows notes that a reboot is pending: record "reboot".

    Attributes:
        known: whether the registry could be read.
        update_agent: key "RebootRequired" of Automatic Updates.
        servicing: key "RebootPending" of Component Based Servicing.
        servicing_continues: key "RebootInProgress": part of an update waits for the next boot.
        config_manager: the client of ConfigMgr says so; None when there is none.
        renamed: the computer's name changes at the next boot.
        joining: it joins a domain at the next boot.
        file_renames: number of files that are renamed or removed at the next boot.
        marks: names of other marks.
    """

    known: bool = True
    update_agent: bool = False
    servicing: bool = False
    servicing_continues: bool = False
    config_manager: bool | None = None
    renamed: bool = False
    joining: bool = False
    file_renames: Count = 0
    marks: Texts = Field(default=[])


def find_reboot_need(
    record: RebootRecord | None, waiting: Sequence[OfferedUpdate] = (), *, uptime: float | None = None
) -> RebootNeed:
    """Combine the sources, as the module docstring describes.

    Args:
        record: None when the script did not send it.
        waiting: updates that are installed and wait for a reboot.
        uptime: seconds since the boot; None when unknown.
    """
    if record is None or not record.known:
        told = tuple(_describe_waiting(waiting)) or ("the registry could not be read",)
        return RebootNeed(YesNoUnknown.YES if waiting else YesNoUnknown.UNKNOWN, told)
    reasons = [*_describe_waiting(waiting), *_find_reasons(record)]
    is_servicing = record.servicing or record.servicing_continues
    if is_servicing and not reasons and uptime is not None and uptime < SETTLING_SECONDS:
        soon = f"{_SERVICING_REASON}, but its mark may be of the boot {uptime:.0f} s ago"
        return RebootNeed(YesNoUnknown.UNKNOWN, (soon,))
    if is_servicing:
        reasons.append(_SERVICING_REASON)
    if reasons:
        return RebootNeed(YesNoUnknown.YES, (*reasons, *_find_remarks(record)))
    return RebootNeed(YesNoUnknown.NO)


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


def _find_remarks(record: RebootRecord) -> Iterator[str]:
    if record.file_renames:
        yield f"{format_count(record.file_renames, 'file', ('is', 'are'))} to be renamed or removed at the next boot"
    if record.marks:
        yield f"marks: {', '.join(sorted(record.marks)[:_MAX_NAMES])}"
