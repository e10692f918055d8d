"""Machine sets: machines that must not be down together, such as the members of a cluster."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from inventory.checks import Check


class SetActionKind(StrEnum):
    """What an action of a set runs. The words are those of a request's hooks."""

    MACHINE_COMMAND = "machine-command"  # on the member
    CONTROLLER_COMMAND = "controller-command"
    HTTP = "http"
    PYTHON = "python"
    DEPLOYMENT = "deployment"


@dataclass(frozen=True, slots=True)
class SetAction:
    """A command, URL, function or deployment of the owner that takes a member out of service or brings it back.

    Attributes:
        target: a command line, a URL, ``package.module:function`` or ``flow/deployment``; ``kind`` decides which.
        repeatable: whether a resumed run may run it again if it is unknown whether it ran.
    """

    kind: SetActionKind
    target: str
    timeout_seconds: float = 300.0
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class SetRole:
    """How the role of a member is found: from a tag, or by a command on the member. Its first word is the role.

    A command is asked again just before the turn of each member, because roles move.
    """

    tag: str = ""
    command: str = ""
    timeout_seconds: float = 30.0

    def find_in_tags(self, tags: Mapping[str, str]) -> str:
        """Return the role that the tags of a member give it; "": none, or a command tells it."""
        parts = tags.get(self.tag, "").split() if self.tag else []
        return parts[0] if parts else ""


@dataclass(frozen=True, slots=True)
class MachineSet:
    """Machines of which only some may be out of service at a time.

    Attributes:
        name: unique in the inventory.
        scope: selects the members.
        members: names of the members, in the order of the inventory.
        max_unavailable: how many members may be out of service together, those that are down anyway included; None:
            ``max_unavailable_percent``.
        max_unavailable_percent: the same as a share, rounded down, at least one; None and no count: 20, and one in a
            set of fewer than ten members, as Azure does for availability sets.
        update_domain: a tag; members with different values are never out of service together. "": no domains.
        role: how the role of a member is found; None: all members are equal.
        order: roles in the order of their turns, such as replica before primary. Members of a role that is not listed
            come first. A role's turn begins when no member of an earlier role is left in the run.
        quorum: how many members must be healthy at any time; None: no such limit besides ``max_unavailable``.
        drain: takes a member out of service, before its first change; None: nothing.
        undrain: brings it back, after its last step; None: nothing.
        healthy: how a member is known to be healthy; empty: it answers at its port.
        healthy_seconds: how long a member may take to be healthy after its turn. Azure waits 300 s.
    """

    name: str
    scope: str
    members: tuple[str, ...]
    max_unavailable: int | None = None
    max_unavailable_percent: float | None = None
    update_domain: str = ""
    role: SetRole | None = None
    order: tuple[str, ...] = ()
    quorum: int | None = None
    drain: SetAction | None = None
    undrain: SetAction | None = None
    healthy: tuple[Check, ...] = ()
    healthy_seconds: float = 300.0

    @property
    def allowed_unavailable(self) -> int:
        """How many members may be out of service together; at least one."""
        if self.max_unavailable is not None:
            return self.max_unavailable
        percent = 20.0 if self.max_unavailable_percent is None else self.max_unavailable_percent
        if self.max_unavailable_percent is None and len(self.members) < 10:
            return 1
        return max(1, int(len(self.members) * percent / 100 + 1e-9))
