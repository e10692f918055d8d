"""The rules between the settings that start a machine that is powered off."""

from collections.abc import Callable

from inventory.files.problems import ProblemCollector, SourceLocation
from inventory.machine import Machine


def check_wake_settings(machine: Machine, locate: Callable[[str], SourceLocation], problems: ProblemCollector) -> None:
    """Report wake settings that can't start a machine. Defaults, groups and the machine may each have a part of them.

    Args:
        machine: the machine.
        locate: returns the place of a key.
        problems: collects the problems.
    """
    if machine.wake is None or machine.wake.mac or machine.wake.command:
        return
    hint = "Give `mac` or `command`; or an empty `wake:` for a machine that fleetpatch does not start."
    problems.add(locate("wake"), f"{machine.name!r}: `wake` has neither `mac` nor `command`", hint)
