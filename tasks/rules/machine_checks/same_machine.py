"""The check for a machine that the inventory has under two names. Pure.

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

    Args:
        other_name: that name, or "".
        changes_machines: whether the run changes machines, so that the second name has to be left out.
    """
    if not other_name:
        return ()
    build = build_blocker if changes_machines else build_warning
    return (build(SAME_MACHINE_CHECK, describe_same_machine(other_name), SAME_MACHINE_REMEDY),)
