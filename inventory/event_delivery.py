"""How programs on a machine learn of scheduled events: what the owner of the machine agrees to."""

from enum import StrEnum


class EventDelivery(StrEnum):
    """How programs on a machine learn of scheduled events, and what fleetpatch may lay down there for that."""

    ENDPOINT = "endpoint"  # they ask the endpoint themselves: nothing is laid down
    FORWARDER = "forwarder"  # they ask 169.254.169.254: fleetpatch may lay down units that forward it
    FILE = "file"  # fleetpatch may lay down a file, and looks for approvals beside it
