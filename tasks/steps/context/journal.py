"""The journal: it stores what a run is about to do, before the run does it. A resumed run reads it."""

import hashlib
import re

from tasks.domain.errors import RecordsError
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.provided_machines import ProviderAct
from tasks.domain.states import Step
from tasks.steps.context.machine_context import MachineContext

REPLACE_ACT, RESTORE_ACT = ProviderAct.REPLACE_OS_DISK.value, ProviderAct.RESTORE_OS_DISK.value
MACHINE_CHANGING_ACTS = frozenset(
    {
        "stage",
        "install",
        "repair",
        "remove",
        "roll-back",
        "reboot",
        "restart",
        "guests",
        "revert",
        REPLACE_ACT,
        RESTORE_ACT,
    }
)
"""Acts that may have changed a machine if the journal has them."""
UNLOCK_ACT = "unlock"
"""The act of entries that say who removed a run's machine lock. The run itself has changed nothing then."""
DELETE_DISK_ACT = ProviderAct.DELETE_OS_DISK.value
"""The act of entries that say that the OS disk which a run replaced is kept no longer."""
SET_RELEASE_ACT = "set-release"
"""The act of entries that say who has brought back a member of a machine set that the run had left drained."""

_UNSAFE_ID_CHARACTERS = re.compile(r"[^A-Za-z0-9_-]+")


def build_job_id(run_id: str, machine: str, act: str, number: int) -> str:
    """Return the id of a job. The same work of the same run always has the same id.

    It has a readable part, then a digest: a machine's name may have characters that an id may not have.
    """
    digest = hashlib.sha256(f"{run_id}/{machine}/{act}/{number}".encode()).hexdigest()[:10]
    return f"{_UNSAFE_ID_CHARACTERS.sub('-', run_id)[:40]}-{act}-{number}-{digest}"


def build_unreadable_error(
    entry: JournalEntry, subject: str, fault: object, machine: str | None = None
) -> RecordsError:
    """Return the error for an entry that can't be understood. ``subject`` says what it is about."""
    return RecordsError(
        f"the journal of run {entry.run_id} can't be understood at {subject}: {fault}",
        machine=machine,
        hint="It was written by another version, or changed by hand: assess the machine, and look at it.",
    )


def record_start(
    context: MachineContext, step: Step, act: str, key: str, detail: dict[str, object] | None = None
) -> None:
    """Store that an act is about to begin. If this raises, the act must not begin."""
    _append_entry(context, step, JournalMark.BEFORE, act, key, detail)


def record_end(
    context: MachineContext, step: Step, act: str, key: str, detail: dict[str, object] | None = None
) -> None:
    """Store that an act has ended."""
    _append_entry(context, step, JournalMark.AFTER, act, key, detail)


def _append_entry(
    context: MachineContext, step: Step, mark: JournalMark, act: str, key: str, detail: dict[str, object] | None
) -> None:
    now = context.clock.now()
    entry = JournalEntry(context.run.id, context.name, step, mark, act, key, now, detail or {})
    context.records.append_entry(entry)
