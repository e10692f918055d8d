"""What else installs updates on a machine, and whether a run patches that machine all the same. Pure."""

from collections.abc import Iterable
from typing import Literal

from inventory.name_lists import join_first_names
from tasks.domain.model import Finding, PackageState
from tasks.rules.calendar.time_format import format_duration
from tasks.rules.machine_checks.findings import build_blocker, build_good_finding, build_warning

AUTO_UPDATER_CHECK = "auto-updater"
"""The check of the system's own updaters and of other patch managers."""

OthersPolicy = Literal["warn", "fail", "skip"]
"""What a run does with a machine that others patch: patch it and warn, fail its pre-check, or leave it out."""


def find_other_patchers(packages: PackageState, *, paused: bool) -> tuple[str, ...]:
    """Return the names of what installs updates on the machine by itself, and is not paused by this run.

    Args:
        packages: package state of the machine.
        paused: whether this run pauses the updaters that can be paused, before it installs.
    """
    return tuple(
        name
        for name, _ in packages.auto_updaters
        if name not in packages.non_installing_updaters and not (paused and name not in packages.unpausable_updaters)
    )


def describe_left_out(packages: PackageState, policy: OthersPolicy, *, paused: bool) -> str:
    """Return why a machine is left out, or "": others patch it, and the policy skips such machines."""
    others = find_other_patchers(packages, paused=paused) if policy == "skip" else ()
    return (
        f"left out: others patch this machine ({join_first_names(others)}), and the request skips such machines"
        if others
        else ""
    )


def check_auto_updaters(
    packages: PackageState, policy: OthersPolicy = "warn", *, paused: bool = False
) -> Iterable[Finding]:
    """Yield a finding about each updater that may act by itself. With the policy "fail", those that install block.

    Args:
        packages: package state of the machine.
        policy: of the request.
        paused: as of find_other_patchers.
    """
    others = find_other_patchers(packages, paused=paused)
    for name, seconds in packages.auto_updaters:
        when = "at any time" if seconds is None else f"in {format_duration(max(0.0, seconds))}"
        is_pausable = name not in packages.unpausable_updaters
        if paused and is_pausable and seconds != 0:  # an updater that is active now causes a wait, so it warns
            yield build_good_finding(
                AUTO_UPDATER_CHECK, f"{name} would act by itself {when}; it is paused before anything is installed"
            )
            continue
        remedy = "Disable it, or move its time out of the window."
        remedy = (
            f"Let fleetpatch pause it (native_updaters: pause). {remedy}"
            if is_pausable
            else f"{remedy} No run pauses it."
        )
        if policy == "fail" and name in others:
            message = f"{name} may install updates by itself {when}, and the request refuses machines that others patch"
            remedy = f"{remedy} Or leave the machine to it (patched_by_others: skip)."
            yield build_blocker(AUTO_UPDATER_CHECK, message, remedy)
            continue
        yield build_warning(
            AUTO_UPDATER_CHECK, f"{name} may install updates or lock the package manager by itself {when}", remedy
        )
