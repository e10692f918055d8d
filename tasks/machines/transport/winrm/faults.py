"""What the faults of WS-Management mean, by their codes (wsmerror.h, winerror.h): their texts are localised."""

from dataclasses import dataclass
from typing import Final

from tasks.domain.errors import ConnectionLost, DeadlineExceeded, PrivilegeError, ProtocolViolation, TransportError

TIMED_OUT: Final = 2150858793
SHELL_NOT_FOUND: Final = 2150858843
ABORTED: Final = 995
STALE_PROFILE: Final = 2147943418
ACCESS_DENIED: Final = frozenset({5, 2147942405})
SHELL_QUOTAS: Final = frozenset({2150859173, 2150859240})
OPERATION_QUOTAS: Final = frozenset({2150859174, 2150859175, 2150859176, 2150859239, 2150859241})
"""Faults of Create and Command after which nothing ran: the same request may succeed later, or in a new shell."""
LOST_SHELL: Final = frozenset({SHELL_NOT_FOUND, STALE_PROFILE})


class WsmanFault(Exception):
    """A fault that the machine answered: the login worked, and the request did not.

    Attributes:
        code: its code, without a sign; 0 if it has none.
        reason: its text, in the machine's language.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} (0x{code:08X})")
        self.code = code
        self.reason = " ".join(reason.split())

    @property
    def is_lost_shell(self) -> bool:
        """Whether the shell is gone, and all that ran in it."""
        return self.code in LOST_SHELL

    @property
    def is_quota(self) -> bool:
        """Whether a quota was full, so that nothing ran."""
        return self.code in SHELL_QUOTAS | OPERATION_QUOTAS


@dataclass(frozen=True, slots=True)
class _Meaning:
    error: type[TransportError] | type[ProtocolViolation]
    message: str
    hint: str


_SHELL_QUOTA: Final = _Meaning(
    ConnectionLost,
    "the machine allows this login no further shell",
    "Shells of broken connections end after two hours. Raise MaxShellsPerUser: winrm set winrm/config/winrs "
    '@{MaxShellsPerUser="100"}.',
)
_OPERATION_QUOTA: Final = _Meaning(
    ConnectionLost,
    "the machine allows this login no further operation now",
    'Raise the quota: winrm set winrm/config/service @{MaxConcurrentOperationsPerUser="1500"}.',
)
_ACCESS_DENIED: Final = _Meaning(
    PrivilegeError,
    "the login works, and may not use remote shells",
    "It must be in the machine's group Administrators. A local account other than the built-in Administrator also "
    "needs LocalAccountTokenFilterPolicy = 1 (DWORD) in "
    "HKLM\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Policies\\System.",
)
_MEANINGS: Final = {
    **dict.fromkeys(SHELL_QUOTAS, _SHELL_QUOTA),
    **dict.fromkeys(OPERATION_QUOTAS, _OPERATION_QUOTA),
    **dict.fromkeys(ACCESS_DENIED, _ACCESS_DENIED),
    SHELL_NOT_FOUND: _Meaning(
        ConnectionLost,
        "the shell on the machine is gone: it restarted, or its WinRM service did",
        "Ask again; what ran in the shell was ended.",
    ),
    STALE_PROFILE: _Meaning(
        ConnectionLost,
        "the machine still unloads the profile of an earlier login",
        "Ask again; if it stays so, restart the WinRM service there.",
    ),
    ABORTED: _Meaning(
        ConnectionLost,
        "the command was ended on the machine",
        "Did it run out of the memory of a shell (MaxMemoryPerShellMB, 1024 or more), or was WinRM stopped?",
    ),
    TIMED_OUT: _Meaning(DeadlineExceeded, "the machine did not carry out the request in time", "Is it overloaded?"),
}
_DEFAULT_HINT: Final = "Look at the machine's event log: Microsoft-Windows-WinRM/Operational."


def build_fault_error(fault: WsmanFault) -> TransportError | ProtocolViolation:
    """Return the error for a fault that nothing repaired."""
    meaning = _MEANINGS.get(fault.code)
    fault_text = f" (WS-Management fault {fault.code}: {fault.reason[:300]})"
    if meaning is None:
        return TransportError(f"the machine refused the request{fault_text}", hint=_DEFAULT_HINT)
    return meaning.error(f"{meaning.message}{fault_text}", hint=meaning.hint)
