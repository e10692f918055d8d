"""The error codes of the Windows Update Agent and of what it calls: their names, what they mean, and what helps. Pure.

The table is error_codes.tsv: its head explains the fields. A code is a number of 32 bits. PowerShell shows it with a
sign, documents show it without one.
"""

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from importlib.resources import files
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.protocols.package_manager import FailureCause

DEFENDER_NAME: Final = "KB2267602"
"""The definitions of Microsoft Defender Antivirus. Their number never changes."""
DEFENDER_REMEDY: Final = (
    'run "%ProgramFiles%\\Windows Defender\\MpCmdRun.exe" -SignatureUpdate as an administrator, which checks for new'
    " security intelligence updates"
)
"""As in Microsoft's "Configure and manage Microsoft Defender Antivirus with the mpcmdrun.exe command-line tool"."""
DEFENDER_CODES: Final = (
    0x80070643,
    0x8024200B,
    0x8024200D,
    0x80240022,
    0x80240034,
    0x8024402C,
    0x80072EE2,
    0x80072EE7,
    0x80072EFD,
    0x80508007,
    0x8050800C,
    0x80508020,
)
"""What fails with these: Defender's own tool also asks other sources than Windows Update."""


class RetryClass(StrEnum):
    """What can help against an error."""

    DONE = "done"  # no error
    TRANSIENT = "transient"  # it may pass by itself: a download is repeated, an installation never is
    REBOOT = "reboot"  # first a reboot
    CONFIGURATION = "configuration"  # the machine's settings, its proxy or its WSUS forbid or prevent it
    PERMANENT = "permanent"  # somebody has to repair something


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """What is known of an error code."""

    code: int  # without a sign
    name: str  # "" when the code is unknown
    cause: FailureCause
    retry: RetryClass
    meaning: str
    remedy: str = ""  # "" when none is known
    is_update_fault: bool = False  # whether the table says that the update itself has failed

    @property
    def text(self) -> str:
        """Return the code with its name, meaning and remedy, in one line."""
        return f"{format_code(self.code)}{self.explanation}"

    @property
    def explanation(self) -> str:
        """Return the text without the code, which it follows: " NAME: MEANING (REMEDY)"."""
        return f"{' ' if self.name else ''}{self.name}: {self.meaning}{f' ({self.remedy})' if self.remedy else ''}"


_LOOK_IT_UP: Final = "look it up in Microsoft's list of Windows Update error codes"
_UNKNOWN: Final = ErrorCode(
    0, "", FailureCause.FAILED, RetryClass.PERMANENT, "an error that is not in fleetpatch's table"
)


def _read_table() -> tuple[Mapping[int, ErrorCode], Mapping[str, ErrorCode]]:
    """Return the codes, and what the beginning of a code ("80244") tells when the code itself is unknown."""
    text = files("tasks.machines.managers.windows_update").joinpath("error_codes.tsv").read_text(encoding="utf-8")
    codes: dict[int, ErrorCode] = {}
    families: dict[str, ErrorCode] = {}
    for line in [line for line in text.splitlines() if not line.startswith("#")][1:]:
        digits, name, cause, retry, update, _, meaning, *remedy = line.split("\t")
        code = int(digits.replace("x", "0"), 16)
        meant = FailureCause(cause), RetryClass(retry), meaning
        row = ErrorCode(code, name, *meant, "".join(remedy), is_update_fault=update == "yes")
        if name:
            codes[code] = row
        else:
            families[digits.rstrip("x")] = row
    return codes, families


ERROR_CODES, _FAMILIES = _read_table()


def format_code(code: int) -> str:
    """Return a code as documents write it: 0x80240022."""
    return f"0x{code & 0xFFFFFFFF:08X}"


def explain_code(code: int) -> ErrorCode:
    """Return what is known of a code, with or without its sign."""
    code &= 0xFFFFFFFF
    if code in ERROR_CODES:
        return ERROR_CODES[code]
    if code < 0x80000000:  # the first bit says whether it is an error
        return ErrorCode(code, "", FailureCause.FAILED, RetryClass.DONE, "no error", _LOOK_IT_UP)
    family = next((row for begin, row in _FAMILIES.items() if f"{code:08X}".startswith(begin)), _UNKNOWN)
    return replace(family, code=code, remedy=_LOOK_IT_UP)


def build_job_table() -> tuple[str, ...]:
    """Return the table as the job's script reads it: "CODE|CAUSE|RETRY|TEXT", also for the unknown codes of a family.

    The code of a family is written with an "x" in place of its last digits ("0x80244xxx"). A line that begins
    with the name of an update ("KB2267602:0x80070643") is for that one.
    """

    def build_line(error_code: ErrorCode, code: str = "") -> str:
        code = code or format_code(error_code.code)
        return f"{code}|{error_code.cause}|{error_code.retry}|{error_code.explanation}"

    defender = (replace(explain_code(code), remedy=DEFENDER_REMEDY) for code in DEFENDER_CODES)
    return (
        *map(build_line, ERROR_CODES.values()),
        *(build_line(row, f"0x{begin:x<8}") for begin, row in _FAMILIES.items()),
        *(f"{DEFENDER_NAME}:{build_line(error_code)}" for error_code in defender),
    )
