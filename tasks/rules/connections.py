"""Whether a PostgreSQL server has room for the connections of an installation. Pure."""

from math import ceil
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.model import Finding
from tasks.domain.states import FindingLevel

CONNECTIONS_CHECK: Final = "connections"
STANDING_PROCESSES: Final = 6
"""The pages, the endpoint of events, the process of a whole run, and the ticks: reconcile, automatic, maintenance."""


@dataclass(frozen=True, slots=True)
class ServerRoom:
    """The connections of a PostgreSQL server.

    Attributes:
        limit: its ``max_connections``.
        reserved: how many of them it keeps for superusers, and for roles with the right to its reserve.
        others: how many are open and not of fleetpatch's records: Prefect's server and other programs.
    """

    limit: int
    reserved: int
    others: int


def count_processes(machines: int, shard_size: int) -> int:
    """Return how many processes of an installation use the records at once: one run of all machines, and the rest."""
    return STANDING_PROCESSES + max(1, ceil(machines / shard_size))


def check_connections(room: ServerRoom, processes: int, bound: int) -> Finding:
    """Compare what an installation may open with what its server allows.

    ``bound``: the most connections of a process.
    """
    wanted, free = processes * bound, room.limit - room.reserved - room.others
    sums = f"{processes} processes may open {bound} each, {wanted} in all"
    if wanted <= free:
        return Finding(CONNECTIONS_CHECK, FindingLevel.GOOD, f"{sums}; PostgreSQL has {free} for them")
    needed = wanted + room.reserved + room.others
    return Finding(
        CONNECTIONS_CHECK,
        FindingLevel.WARN,
        f"{sums}, and PostgreSQL has {max(0, free)} for them: max_connections is {room.limit}, {room.reserved} are "
        f"reserved, and others have {room.others} open",
        f"Set max_connections to {needed} or more there and restart it, or set FLEETPATCH_RECORDS_CONNECTIONS to "
        f"{max(2, free // processes)}.",
    )
