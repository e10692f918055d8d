"""The error codes of the Windows Update Agent and of what it calls: their names, what they mean, and what helps. Pure.

The names are those of wuerror.h, winerror.h and cbs.h. Meanings and remedies are our own words. A code is a number of
32 bits. PowerShell shows it with a sign, documents show it without one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from tasks.domain.protocols.package_manager import FailureCause
from tasks.machines.managers.windows_update.hresult_table import DEFENDER_CODES, DEFENDER_NAME, DEFENDER_REMEDY, ROWS


class RetryClass(StrEnum):
    """What can help against an error."""

    DONE = "done"  # no error
    TRANSIENT = "transient"  # it may pass by itself: a download is repeated, an installation never is
    REBOOT = "reboot"  # first a reboot
    CONFIGURATION = "configuration"  # the machine's settings, its proxy or its WSUS forbid or prevent it
    PERMANENT = "permanent"  # somebody has to repair something


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """What is known of an error code.

    Attributes:
        code: without a sign.
        name: "" when the code is unknown.
        remedy: "" when none is known.
    """

    code: int
    name: str
    cause: FailureCause
    retry: RetryClass
    meaning: str
    remedy: str = ""

    @property
    def text(self) -> str:
        """Return the code with its name, meaning and remedy, in one line."""
        code_text = " ".join(filter(None, (format_code(self.code), self.name)))
        return f"{code_text}: {self.meaning}{f' ({self.remedy})' if self.remedy else ''}"


def _parse_row(row: str) -> ErrorCode:
    code, name, cause, retry, meaning, *remedy = (part.strip() for part in row.split("|"))
    return ErrorCode(int(code, 16), name, FailureCause(cause), RetryClass(retry), meaning, *remedy)


ERROR_CODES: Final[Mapping[int, ErrorCode]] = {each.code: each for each in map(_parse_row, ROWS)}

_UNKNOWN_FACILITIES: Final[Mapping[int, tuple[FailureCause, RetryClass, str]]] = {
    0x80240000: (FailureCause.FAILED, RetryClass.PERMANENT, "an error of the Windows Update Agent"),
    0x80242000: (FailureCause.SCRIPT, RetryClass.PERMANENT, "an error of an update's installer"),
    0x80244000: (FailureCause.FETCH, RetryClass.TRANSIENT, "an error in the exchange with the update server"),
    0x80245000: (FailureCause.FETCH, RetryClass.CONFIGURATION, "an error in finding the update server"),
    0x80246000: (FailureCause.FETCH, RetryClass.TRANSIENT, "an error of the download"),
    0x80248000: (FailureCause.FAILED, RetryClass.PERMANENT, "an error of the agent's own data"),
    0x8024A000: (FailureCause.FAILED, RetryClass.CONFIGURATION, "an error of Automatic Updates"),
    0x80072000: (FailureCause.FETCH, RetryClass.TRANSIENT, "a network error"),
    0x80508000: (FailureCause.SCRIPT, RetryClass.PERMANENT, "an error of Microsoft Defender"),
    0x800F0000: (FailureCause.SCRIPT, RetryClass.PERMANENT, "an error of Windows servicing"),
}
"""What the upper 20 bits of a code tell, when the code itself is unknown."""


def to_unsigned(code: int) -> int:
    """Return a code without its sign."""
    return code & 0xFFFFFFFF


def format_code(code: int) -> str:
    """Return a code as documents write it: 0x80240022."""
    return f"0x{to_unsigned(code):08X}"


def explain_code(code: int) -> ErrorCode:
    """Return what is known of a code, with or without its sign."""
    code = to_unsigned(code)
    if code in ERROR_CODES:
        return ERROR_CODES[code]
    cause, retry, meaning = _UNKNOWN_FACILITIES.get(
        code & 0xFFFFF000,
        (FailureCause.FAILED, RetryClass.PERMANENT, "an error that is not in fleetpatch's table"),
    )
    if code < 0x80000000:  # the first bit says whether it is an error
        cause, retry, meaning = FailureCause.FAILED, RetryClass.DONE, "no error"
    return ErrorCode(code, "", cause, retry, meaning, "look it up in Microsoft's list of Windows Update error codes")


def build_job_table() -> tuple[str, ...]:
    """Return the table as the job's script reads it: "CODE|CAUSE|RETRY|TEXT", also for the unknown codes of a facility.

    The code of a facility is written with an "x" in place of its last digits ("0x80244xxx"). A line that begins
    with the name of an update ("KB2267602:0x80070643") is for that one.
    """
    explanation = (
        f"{format_code(error_code.code)}|{error_code.cause}|{error_code.retry}|{_strip(error_code)}"
        for error_code in ERROR_CODES.values()
    )
    facilities = (
        f"{format_code(code)[:-3]}xxx|{cause}|{retry}|: {meaning}"
        for code, (cause, retry, meaning) in _UNKNOWN_FACILITIES.items()
    )
    return (*explanation, *facilities, *map(_build_defender_line, DEFENDER_CODES))


def _build_defender_line(code: int) -> str:
    error_code = replace(explain_code(code), remedy=DEFENDER_REMEDY)
    return f"{DEFENDER_NAME}:{format_code(code)}|{error_code.cause}|{error_code.retry}|{_strip(error_code)}"


def _strip(each: ErrorCode) -> str:
    return each.text.removeprefix(format_code(each.code)).strip()


def find_transient(codes: Iterable[int]) -> tuple[int, ...]:
    """Return the codes that may pass by themselves."""
    return tuple(code for code in codes if explain_code(code).retry is RetryClass.TRANSIENT)
