"""Who has a machine lock: a run, under one name of the machine.

The inventory may have one machine under two names, by mistake. The two would pass for two machines, and a run would
reboot the one during the job of the other. So the lock is of a run and a name: one name of the run has the machine.
"""

from tasks.steps.context.machine_context import MachineContext

_SEPARATOR = "/"
"""It is in no id of a run."""


def build_lock_holder(context: MachineContext) -> str:
    """Return the holder of a lock that this run has on the machine under this name, as the machine stores it."""
    return f"{context.run.id}{_SEPARATOR}{context.name}"


def split_lock_holder(holder: object) -> tuple[str, str]:
    """Return the run's id and the machine's name of a holder. The name is "" where a holder has none."""
    run_id, _, name = holder.partition(_SEPARATOR) if isinstance(holder, str) else ("", "", "")
    return run_id, name
