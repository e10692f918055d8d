"""What an update will ask for, before it is installed: a reboot or none, and why. Pure.

The agent knows "never", "always" and "can ask". This adds what an update is: a boot completes a cumulative update, a
hotpatch changes the running system. For hotpatches the calendar of baselines is a forecast. After the installation,
only what the machine says counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tasks.machines.managers.windows_update.hotpatch import HotpatchRecord, find_hotpatching, is_eligible
from tasks.machines.managers.windows_update.records import OfferedUpdate, SystemRecord
from tasks.machines.managers.windows_update.transaction_order import is_cumulative, is_hotpatch
from tasks.rules.hotpatch.baselines import BASELINE_MONTHS, find_next_baseline, find_release_month

_NEVER: Final = 0
_ALWAYS: Final = 1
_CAN_ASK: Final = 2
_REQUIRED: Final[Mapping[int | None, bool]] = {_NEVER: False, _ALWAYS: True}


@dataclass(frozen=True, slots=True)
class RebootOutlook:
    """Whether an update needs a reboot.

    Attributes:
        required: None when only the installation shows it.
        expected: it changes what the machine boots with, so that a reboot is expected.
        reason: in words, or "".
    """

    required: bool | None
    expected: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class HotpatchMonth:
    """What hotpatches can do on a machine today.

    Attributes:
        doubt: why one may ask for a reboot all the same, or "".
        is_baseline: whether this month has a planned baseline, from its second Tuesday to the next month's.
        next_baseline: its date, as text.
    """

    doubt: str
    is_baseline: bool
    next_baseline: str


def find_hotpatch_month(record: HotpatchRecord | None, system: SystemRecord) -> HotpatchMonth:
    """Return what hotpatches can do on a machine on the day that its clock shows."""
    today = datetime.fromtimestamp(system.at, UTC).date()
    doubt = ""
    if record is None or not record.enrolled:
        doubt = "the machine is not enrolled for hotpatches"
    elif not is_eligible(record, system):
        doubt = "the machine's edition or licence is not one for hotpatches"
    elif (live := find_hotpatching(record, system, ())) is not None:
        doubt = live.problem
    is_baseline = find_release_month(today) in BASELINE_MONTHS
    return HotpatchMonth(doubt, is_baseline, f"{find_next_baseline(today):%Y-%m-%d}")


def predict_reboot(update: OfferedUpdate, month: HotpatchMonth) -> RebootOutlook:
    """Return whether an update needs a reboot, as the module docstring describes."""
    if is_hotpatch(update.title) and update.reboot_behavior != _ALWAYS:
        return _predict_hotpatch(update, month)
    required = _REQUIRED.get(update.reboot_behavior)
    if is_cumulative(update) and required is not False:
        return RebootOutlook(required, expected=True, reason="a cumulative update, which a boot completes")
    if required:
        return RebootOutlook(required, reason="it always needs one")
    return RebootOutlook(required, reason="it may ask for one" if update.reboot_behavior == _CAN_ASK else "")


def _predict_hotpatch(update: OfferedUpdate, month: HotpatchMonth) -> RebootOutlook:
    subject = "a hotpatch, which changes the running system"
    if update.reboot_behavior == _NEVER:
        return RebootOutlook(required=False, reason=subject)
    if month.doubt:
        return RebootOutlook(None, reason=f"a hotpatch, but {month.doubt}")
    if month.is_baseline:
        return RebootOutlook(None, expected=True, reason="it may ask for one, in a month with a planned baseline")
    return RebootOutlook(required=False, reason=f"{subject}; the next planned baseline is on {month.next_baseline}")
