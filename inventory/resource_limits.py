"""What machines share, and how many of them a run works on at once because of that."""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from inventory.data_class import dataclass


class ResourceKind(StrEnum):
    """A kind of thing that machines share, and that many of them at once would overload."""

    SITE = "site"
    JUMP_HOST = "jump host"
    MIRROR = "mirror"
    HYPERVISOR = "hypervisor"


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing that machines share."""

    kind: ResourceKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """How many machines that share a resource a run works on at once."""

    named: Mapping[Resource, int] = field(default_factory=dict)  # the limits of single resources
    others: Mapping[ResourceKind, int] = field(default_factory=dict)  # the limit of each other resource of a kind

    def find(self, resource: Resource) -> int | None:
        """Return the limit of a resource; None: there is none."""
        return self.named.get(resource, self.others.get(resource.kind))
