"""What becomes of the guests of a hypervisor host before it reboots."""

from enum import StrEnum

from inventory.data_class import dataclass


class GuestAction(StrEnum):
    """What is done with running guests before their host reboots. Afterwards exactly these run again."""

    SHUTDOWN = "shutdown"
    PAUSE = "pause"  # their memory is saved to disk
    MOVE = "move"  # to another host, and back


class StubbornGuests(StrEnum):
    """What is done about a guest that is not away in its time."""

    LEAVE = "leave"  # the host is not rebooted, and the other guests are brought back
    FORCE = "force"  # it is switched off hard, and the report says so


@dataclass(frozen=True, slots=True)
class GuestSettings:
    """What becomes of the guests of a hypervisor host before it reboots."""

    action: GuestAction = GuestAction.SHUTDOWN  # what is done with those that run
    to: str = ""  # the host to which they move
    minutes: float = 10.0  # how long all of them may take to be away, and then to be back
    stubborn: StubbornGuests = StubbornGuests.LEAVE  # what is done about one that is not away in its time
