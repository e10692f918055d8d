"""Judges a machine by its newest answer: what counts, and whether fleetpatch can patch it. Pure."""

from dataclasses import dataclass
from datetime import datetime

from fleetpatch.machines.snapshot import MachineRow
from inventory.machine import PatchOwner
from tasks.domain import errors
from tasks.domain.assessment import ErrorInfo
from tasks.domain.compliance import is_answer_current, judge_present_compliance
from tasks.domain.states import Compliance
from tasks.records.queries.fleet.machine_states import MachineState
from tasks.reports.formatting import format_count

READY, NOT_READY, UNKNOWN = "Ready", "Not ready", "Unknown"


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether fleetpatch can patch a machine: READY, NOT_READY or UNKNOWN, and why."""

    word: str
    reason: str


def get_answer(row: MachineRow, now: datetime) -> MachineState | None:
    """Return the state of a machine if its answer is new enough to count."""
    state = row.state
    return state if state is not None and is_answer_current(state.answered_at, now, state.error_kind) else None


def find_compliance(row: MachineRow, now: datetime) -> Compliance:
    """Return whether a machine is compliant now."""
    state = row.state
    if state is None:
        return Compliance.NOT_ASSESSED
    return judge_present_compliance(Compliance(state.compliance), state.answered_at, now, state.error_kind)


def find_last_known(row: MachineRow, now: datetime) -> Compliance | None:
    """Return what a machine was by its last answer, if it is not known whether it is so now; else None."""
    state = row.state
    if state is None or state.answered_at is None or find_compliance(row, now) == state.compliance:
        return None
    return Compliance(state.compliance)


def is_unreachable(state: MachineState | None) -> bool:
    """Return whether the last try could not log in to the machine."""
    if state is None or not state.error_kind:  # nearly all of them; the classes of errors are many
        return False
    return ErrorInfo(state.error_kind, "").is_a(errors.TransportError)


def assess_readiness(row: MachineRow) -> Readiness:
    """Return whether fleetpatch can patch a machine."""
    state, owner = row.state, row.machine.owner
    if not owner.is_patchable:
        return Readiness(NOT_READY, f"patched {describe_patch_mode(row)}, so fleetpatch only assesses it")
    if state is None:
        return Readiness(UNKNOWN, "never assessed")
    if state.error_kind:
        return Readiness(NOT_READY, f"the last try failed: {state.error_message}")
    if state.problems:
        return Readiness(NOT_READY, f"{format_count(state.problems, 'problem')} of packages or repositories")
    return Readiness(READY, "")


def describe_patch_mode(row: MachineRow) -> str:
    """Return who patches a machine, and when, in a few words that follow on "patched"."""
    match row.machine.owner:
        case PatchOwner.FLEETPATCH:
            return "in its windows" if row.configurations else "when a person starts a run"
        case PatchOwner.MANAGED:
            return "automatically" if row.is_automatic else "when a person starts a run"
        case PatchOwner.OS:
            return "by its own updater"
        case PatchOwner.MANUAL:
            return "by people"
