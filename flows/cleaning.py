"""Removes what fleetpatch has left on machines: several at once, first looking, then removing."""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from enum import StrEnum
from typing import Final

from flows.machine_visits import visit_machines
from flows.ports.ports import Ports
from inventory.data_class import dataclass
from inventory.machine import Machine
from tasks.domain.errors import FleetpatchError, TransportError
from tasks.domain.states import UNFINISHED_RUN_STATES, OperationState, Step
from tasks.machines.transport.broker.signing import read_public_key
from tasks.records.queries.runs import read_run_states
from tasks.records.storage.database import Database
from tasks.steps.machine.cleaning import Remains, read_remains, remove_remains

logger = logging.getLogger(__name__)


class CleanState(StrEnum):
    """What became of a machine."""

    CLEANED = "Cleaned"
    NOTHING_FOUND = "NothingFound"
    TO_BE_CLEANED = "ToBeCleaned"
    """It was only looked at."""
    INCOMPLETE = "Incomplete"
    """Some of it could not be removed."""
    REFUSED = "Refused"
    """Nothing was removed: a job, a run, another controller, or its owner."""
    NOT_REACHED = "NotReached"
    FAILED = "Failed"


BAD_STATES: Final = frozenset({CleanState.INCOMPLETE, CleanState.NOT_REACHED, CleanState.FAILED})
"""The states of machines on which something may be left."""


@dataclass(frozen=True, slots=True)
class CleanResult:
    """What became of a machine."""

    machine: str
    state: CleanState
    message: str = ""
    remedy: str = ""  # what a person can do
    remains: Remains | None = None  # what the machine has answered; None: nothing


@dataclass(frozen=True, slots=True)
class CleanOrder:
    """What is asked for."""

    database: Database  # the records, which know whose runs left something
    takes_unknown_runs: bool = False  # also remove jobs of runs that these records do not know
    at_once: int = 20


def look_at_machines(machines: Sequence[Machine], ports: Ports, order: CleanOrder) -> tuple[CleanResult, ...]:
    """Return what would be removed from each machine, or why nothing would."""
    look = functools.partial(_act_safely, ports, functools.partial(_look, ports, order))
    return visit_machines(machines, order.at_once, look)


def clean_machines(
    seen: Mapping[str, CleanResult], machines: Sequence[Machine], ports: Ports, order: CleanOrder
) -> tuple[CleanResult, ...]:
    """Remove what was seen on machines. Machines in another state keep their result."""
    clean = functools.partial(_act_safely, ports, functools.partial(_clean, ports, seen))
    return visit_machines(machines, order.at_once, clean)


def _act_safely(ports: Ports, act: Callable[[Machine], CleanResult], machine: Machine) -> CleanResult:
    try:
        result = act(machine)
    except TransportError as error:
        result = CleanResult(machine.name, CleanState.NOT_REACHED, error.message, error.hint)
    except FleetpatchError as error:
        result = CleanResult(machine.name, CleanState.FAILED, error.message, error.hint)
    except Exception as error:  # an unexpected error of one machine must not hide the results of the others
        logger.exception("%s: cleaning failed unexpectedly", machine.name)
        result = CleanResult(machine.name, CleanState.FAILED, f"{type(error).__name__}: {error}", "--debug shows more.")
    is_bad = result.state in BAD_STATES
    state = OperationState.FAILED if is_bad else OperationState.SUCCEEDED
    ports.listener.on_step_finished(machine.name, Step.ASSESS, state.value, result.message if is_bad else "")
    return result


def _look(ports: Ports, order: CleanOrder, machine: Machine) -> CleanResult:
    if not machine.owner.is_patchable:
        message = f"fleetpatch may not change it: its owner is {machine.owner}"
        return CleanResult(machine.name, CleanState.REFUSED, message, "Set owner in the inventory.")
    ports.listener.on_progress(machine.name, Step.ASSESS, None, "looking")
    with closing(ports.connect(machine)) as transport:
        remains = read_remains(machine.name, transport, ports.clock, read_public_key())
    name = machine.name
    if remains.refusal:
        remedy = f"Wait for its end; then look again. A lock that a dead run left: fleetpatch unlock {name}"
        return CleanResult(name, CleanState.REFUSED, remains.refusal, remedy, remains)
    states = read_run_states(order.database, remains.runs)
    unfinished = [run for run in remains.runs if states.get(run) in UNFINISHED_RUN_STATES]
    if unfinished:
        message = f"run {unfinished[0]} is not over, and needs what its jobs have left"
        remedy = f"fleetpatch resume {unfinished[0]}, or with --finalize"
        return CleanResult(name, CleanState.REFUSED, message, remedy, remains)
    unknown = [run for run in remains.runs if run not in states]
    if unknown and not order.takes_unknown_runs:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        message = f"these records do not know run {unknown[0]}{more}: another controller may patch this machine"
        remedy = "Ask its owner. If there is none, or the history was deleted: add --unknown-runs."
        return CleanResult(name, CleanState.REFUSED, message, remedy, remains)
    state = CleanState.TO_BE_CLEANED if remains.found else CleanState.NOTHING_FOUND
    return CleanResult(name, state, remains=remains)


def _clean(ports: Ports, seen: Mapping[str, CleanResult], machine: Machine) -> CleanResult:
    before = seen[machine.name]
    if before.state is not CleanState.TO_BE_CLEANED or before.remains is None:
        return before
    ports.listener.on_progress(machine.name, Step.ASSESS, None, "removing")
    with closing(ports.connect(machine)) as transport:
        remains = remove_remains(machine.name, before.remains, transport, ports.clock, read_public_key())
    if remains.refusal or remains.has_changed:
        message = remains.refusal or "something has changed there since it was looked at"
        return CleanResult(machine.name, CleanState.REFUSED, message, "Look again.", remains)
    if remains.failed:
        first = remains.failed[0]
        message = f"{first.path} could not be removed: {first.why}"
        return CleanResult(machine.name, CleanState.INCOMPLETE, message, "Mend that, and repeat it.", remains)
    return CleanResult(machine.name, CleanState.CLEANED, remains=remains)
