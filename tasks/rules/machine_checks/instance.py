"""Which machine answers, in which boot, and since when: so that one machine under two names is found. Pure.

Two names are one machine only if everything is equal: the id of the installation (machine-id(5), the MachineGuid of
Windows), the id of the boot, and on Linux also the start of the first process. A clone has the same id of the
installation, and another boot. Containers have their host's boot, and another start, whatever their ids are. An id
that can't be read says nothing.
"""

import hashlib
from typing import Final

from tasks.domain.model import Finding
from tasks.rules.machine_checks.findings import build_blocker, build_warning

SAME_MACHINE_CHECK: Final = "same machine"
"""The check for a machine with two names."""
SAME_MACHINE_REMEDY: Final = "Remove one of the two names from the inventory."


def build_instance_id(*parts: str) -> str:
    """Return the id of a machine in its present boot; "" if a part is not known.

    It is a hash, because the id of an installation must not be told to others (machine-id(5)).
    """
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32] if all(parts) else ""


def describe_same_machine(other_name: str) -> str:
    """Return in words that a machine is in the run under another name."""
    return f"the same machine as {other_name}, which this run has already"


def check_same_machine(other_name: str, *, changes_machines: bool) -> tuple[Finding, ...]:
    """Return a finding for a machine that the run has met under another name before; () without such a name.

    If the run changes machines, the second name has to be left out.
    """
    if not other_name:
        return ()
    build = build_blocker if changes_machines else build_warning
    return (build(SAME_MACHINE_CHECK, describe_same_machine(other_name), SAME_MACHINE_REMEDY),)


_DRIFT_SHARE: Final = 0.01
"""By how much of the time a counter may differ from the clock."""
_DRIFT_SECONDS: Final = 300.0


def find_uptime(counted: float | None, booted_at: float | None, now: float) -> float | None:
    """Return the seconds since a machine's boot; None when unknown.

    A counter drifts from the clock, by minutes in some months, and on a virtual machine it may not begin at 0. The time
    of the boot is wrong if somebody has set the clock since, unless the system has moved it along. So the time of the
    boot decides, and if the two differ by more than a drift, the shorter uptime: who has just booted needs patience.

    Args:
        counted: what a counter says, in seconds; None without one.
        booted_at: when it was booted, by its own clock, in seconds since the epoch; None when it does not say.
        now: its own clock, in seconds since the epoch.
    """
    since_boot = None if booted_at is None or booted_at > now else now - booted_at
    if since_boot is None or counted is None:
        return counted if since_boot is None else since_boot
    is_drift = abs(since_boot - counted) <= max(_DRIFT_SECONDS, counted * _DRIFT_SHARE)
    return since_boot if is_drift else min(since_boot, counted)
