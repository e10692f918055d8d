"""What goes wrong at a host, and when: at the n-th Create, Command, … or connection."""

import threading
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from tests.lab.windows.messages import Operation

Point = Literal["connect", "any"] | Operation
ALWAYS = 2**31


class What(StrEnum):
    """What happens instead of an answer, or to it."""

    TIMED_OUT = "fault: nothing in time"
    SHELL_LOST = "fault: shell not found; it is gone"
    QUOTA_SHELLS = "fault: too many shells"
    QUOTA_OPERATIONS = "fault: too many operations"
    QUOTA_OPERATIONS_WMI = "fault: too many operations, as Server 2022 tells it"
    ACCESS_DENIED = "fault: access denied"
    ABORTED = "fault: operation aborted"
    PIPE_CLOSED = "fault: the program's stdin is closed"
    STALE_PROFILE = "fault: the user's profile is being unloaded"
    UNAUTHORISED = "status 401"
    EMPTY_500 = "status 500 without a body"
    UNAVAILABLE = "status 503: the service does not run"
    REDIRECT = "status 302 to another place"
    GARBAGE = "a page that is no XML, in the clear, as a proxy would show it"
    BAD_XML = "an answer that is no XML, encrypted as others are"
    XML_BOMB = "an answer whose few entities are gigabytes, encrypted as others are"
    BAD_OUTPUT = "a Receive's answer whose output is no base64, and whose exit code is no number"
    OTHER_ANSWER = "the answer to another request"
    BAD_SEAL = "an encrypted answer whose signature is wrong"
    SLOW = "the first byte comes late"
    TRICKLE = "the answer comes byte by byte, one each `seconds`"
    FLOOD = "an answer that never ends"
    HANG = "no answer ever; the connection stays"
    RESET = "the connection is reset, without an answer"
    CUT = "the connection is reset in the middle of the answer"
    CLOSE = "a good answer, and then the connection is closed without a word"
    POWER_LOSS = "the machine is off: shells are lost, ports closed"
    REBOOT = "the machine restarts; its ports are closed for `seconds`"
    SERVICE_RESTART = "WinRM restarts: shells are lost, connections reset; the machine goes on"
    OTHER_CERTIFICATE = "from now on it shows a certificate nobody has signed (HTTPS)"


AT_CONNECT = frozenset(
    {
        What.RESET,
        What.CLOSE,
        What.HANG,
        What.SLOW,
        What.POWER_LOSS,
        What.REBOOT,
        What.SERVICE_RESTART,
        What.OTHER_CERTIFICATE,
    }
)
"""What can meet a connection from which nothing was read yet."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        at: at which operation; "connect": before anything is read from a connection.
        nth: at which of them, counted from when the fault was added.
        times: at how many in a row.
        acts: whether the operation takes effect before; else nothing of it happens.
        seconds: how late, or how long.
        location: where a redirect leads.
    """

    at: Point
    what: What
    nth: int = 1
    times: int = 1
    acts: bool = False
    seconds: float = 0.0
    location: str = "http://127.0.0.1:9/elsewhere"


@dataclass
class Schedule:
    """The faults of a host, and how often there was each operation."""

    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[tuple[Fault, int]] = []
        self._met: list[Fault] = []

    def add(self, *faults: Fault) -> None:
        for fault in faults:
            if fault.at == "connect" and fault.what not in AT_CONNECT:
                raise ValueError(f"a connection cannot meet {fault.what}: nothing was asked yet")
        with self._lock:
            self._faults += [(fault, self.counts.get(fault.at, 0)) for fault in faults]

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        with self._lock:
            self._faults.clear()

    def met(self) -> list[Fault]:
        """The faults that happened, in their order."""
        with self._lock:
            return list(self._met)

    def next(self, point: Point) -> Fault | None:
        """What goes wrong this time, if anything: the first that was added counts."""
        with self._lock:
            names = (point,) if point == "connect" else (point, "any")
            for name in names:
                self.counts[name] = self.counts.get(name, 0) + 1
            for fault, before in self._faults:
                turn = self.counts.get(fault.at, 0) - before
                if fault.at in names and fault.nth <= turn < fault.nth + fault.times:
                    self._met.append(fault)
                    return fault
            return None
