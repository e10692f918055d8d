"""The processes that hold a package manager's locks, from the records that package_locks.sh writes. Pure."""

from collections.abc import Sequence

from tasks.domain.protocols.transport import ScriptRecord
from tasks.machines.managers.script_output import require_integer, require_text


def describe_lock_holders(records: Sequence[ScriptRecord]) -> str:
    """Return the processes that hold a lock: "name (pid N)", or "" for none."""
    holders: dict[str, None] = {}
    for record in records:
        name, pid = require_text(record, "name").strip() or "a process", require_integer(record, "pid")
        holders[f"{name} (pid {pid})" if pid else name] = None
    return ", ".join(holders)
