"""How far a machine has come, in the journal: so that another process can go on from there.

After each step the parts of the machine's run that it filled in are stored. What was assessed and planned stands in the
records once for all machines, before the first wave, and is stored here only when it was planned anew in its own turn.
"""

from dataclasses import dataclass, fields, replace

from pydantic import TypeAdapter, ValidationError

from tasks.errors import RecordsError
from tasks.model import (
    ErrorInfo,
    Facts,
    Finding,
    InstallResult,
    PackageState,
    Plan,
    RebootResult,
    RestartResult,
    StepRecord,
    Validation,
)
from tasks.seams.records import JournalEntry, JournalMark
from tasks.states import OperationState
from tasks.steps.context import MachineRun
from tasks.steps.journal import BEGINNING_ACTS
from tasks.steps.updaters import ACT as PAUSE

ACT = "step"
"""The act of journal entries that hold progress; their key is the step."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The parts of a MachineRun that steps fill in once it has a plan. Names and meanings are MachineRun's.

    Attributes:
        anew: what it was planned anew with, and the plan; None: the plan in the records stands.
    """

    baseline: Facts | None = None
    findings: tuple[Finding, ...] = ()
    install: InstallResult | None = None
    packages_after: PackageState | None = None
    early_reboot: RebootResult | None = None
    reboot: RebootResult | None = None
    restarts: RestartResult | None = None
    validation: Validation | None = None
    steps: tuple[StepRecord, ...] = ()
    halted: str = ""
    halted_as: OperationState = OperationState.FAILED
    error: ErrorInfo | None = None
    anew: tuple[PackageState, Plan] | None = None


_CODEC = TypeAdapter(Progress)
_NAMES = tuple(each.name for each in fields(Progress) if each.name != "anew")


def progress_of(run: MachineRun) -> dict[str, object]:
    """Return a machine's progress as JSON data."""
    progress = Progress(**{name: getattr(run, name) for name in _NAMES}, anew=_anew(run))
    data: dict[str, object] = _CODEC.dump_python(progress, mode="json", exclude_defaults=True)
    return data


def _anew(run: MachineRun) -> tuple[PackageState, Plan] | None:
    packages = run.assessment.packages if run.assessment else None
    return (packages, run.plan) if run.planned_anew and packages is not None and run.plan is not None else None


def recalled(run: MachineRun, entries: tuple[JournalEntry, ...]) -> MachineRun:
    """Return a machine's run as far as its journal tells, from its last completed step. Pure.

    An error or a halt that ended the walk is left out: whoever resumes a run wants the machine looked at again, and a
    pre-check that halted it is asked anew.

    Args:
        run: with its assessment and its plan.
        entries: of this machine in this run, oldest first.

    Raises:
        RecordsError: an entry makes no sense.
    """
    begun = any(entry.mark is JournalMark.BEFORE and entry.act in BEGINNING_ACTS for entry in entries)
    paused = any(entry.mark is JournalMark.BEFORE and entry.act == PAUSE for entry in entries)
    run = replace(run, begun=begun, paused=paused, claimed=True)
    told = [entry for entry in entries if entry.act == ACT and entry.mark is JournalMark.AFTER]
    if not told:
        return run
    try:
        progress = _CODEC.validate_python(told[-1].detail, strict=False)
    except ValidationError as error:
        raise RecordsError(
            f"the journal of run {told[-1].run_id} can't be understood at {told[-1].at:%Y-%m-%d %H:%M:%S}: {error}",
            machine=run.machine.name,
            hint="It was written by another version; finish the run with that one.",
        ) from error
    parts = {name: getattr(progress, name) for name in _NAMES}
    if progress.halted:
        parts |= {"baseline": None, "findings": ()}
    if progress.anew is not None:
        packages, plan = progress.anew
        assessment = replace(run.assessment, packages=packages) if run.assessment else None
        run = replace(run, assessment=assessment, plan=plan, planned_anew=True)
    return replace(run, **{**parts, "halted": "", "error": None})
