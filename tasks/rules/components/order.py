"""The order in which components are upgraded: each one after those that it names. Pure."""

import graphlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.components import Component, ComponentStanding

_NOT_THERE_YET: Final = frozenset({ComponentStanding.PENDING, ComponentStanding.RETRY_LATER, ComponentStanding.UNKNOWN})
"""A component that is due, failed, or not known. The others have nothing to wait for."""


@dataclass(frozen=True, slots=True)
class Circle:
    """Components that wait for each other: the first one is also the last."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        """Return the circle as people read it: "a after b after a"."""
        return " after ".join(self.names)


def find_circle(after: Mapping[str, Sequence[str]]) -> Circle | None:
    """Return the components of a circle, or None. ``after``: name -> names of those before it."""
    try:
        graphlib.TopologicalSorter(after).prepare()
    except graphlib.CycleError as error:
        # graphlib tells each one before those that wait for it
        return Circle(tuple(reversed(error.args[1])))
    return None


def order_components(components: Iterable[Component]) -> tuple[Component, ...]:
    """Return components so that each comes after those that it names. The same input has the same result.

    Those without an order between them keep their place. A name that is not among them has no effect.

    Raises:
        ValueError: some of them wait for each other.
    """
    by_name = {component.name: component for component in components}
    ordered: dict[str, Component] = {}
    under_way: set[str] = set()

    def add(component: Component) -> None:
        if component.name in ordered:
            return
        if component.name in under_way:
            raise ValueError(f"components wait for each other: {component.name}")
        under_way.add(component.name)
        for name in component.after:
            if name in by_name:
                add(by_name[name])
        ordered[component.name] = component

    for component in by_name.values():
        add(component)
    return tuple(ordered.values())


def find_prerequisite(component: Component, standings: Mapping[str, ComponentStanding]) -> str:
    """Return the component that one has to wait for on a machine, or "".

    One waits while another that it names is enrolled there, and is not at the version that it is to have: its upgrade
    is due, has failed, or its version is not known. So dependants of a failed component stay as they are, on that
    machine alone, until a later try succeeds. What is not installed, or current, holds nobody back.

    Args:
        component: what is due.
        standings: how the enrolled components stand on the machine, by name.
    """
    return next((name for name in component.after if standings.get(name) in _NOT_THERE_YET), "")
