"""The request of an order: a change of machines outside of runs."""

from enum import StrEnum

from pydantic import Field

from flows.request.base import OnlyMachines, ScopeRequest


class OrderAct(StrEnum):
    """What can be ordered. The words of the command."""

    ENROLL = "hotpatch enroll"
    UNENROLL = "hotpatch unenroll"
    ENABLE = "hotpatch enable"
    DISABLE = "hotpatch disable"
    UPDATERS_ON = "updaters on"
    UPDATERS_OFF = "updaters off"

    @property
    def is_about_hotpatches(self) -> bool:
        """Whether it changes the enrolment for hotpatches; else it switches updaters."""
        return self.value.startswith("hotpatch ")

    @property
    def verb(self) -> str:
        """The last word."""
        return self.value.rpartition(" ")[2]


class OrderRequest(ScopeRequest):
    """Change the enrolment for hotpatches, or switch the systems' own updaters, on machines of one site."""

    act: OrderAct = Field(description="What is done on each machine.")
    only_machines: OnlyMachines = Field(default=[])
    at_once: int = Field(default=20, ge=1, le=200, description="Machines changed at the same time.")
