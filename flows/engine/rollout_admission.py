"""Whether a run of automatic patching may still begin. It may have waited for a worker: people have acted meanwhile."""

from collections.abc import Callable, Sequence
from datetime import datetime

from flows.request.patch_request import PatchRequest
from inventory.errors import InventoryError
from inventory.machine import Machine
from inventory.scope import Scope
from tasks.records.automatic.opt_outs import OptOut, SqlOptOuts
from tasks.records.automatic.rollouts import SqlRollouts
from tasks.records.automatic.tries import ROLLOUT_PREFIX
from tasks.records.storage.database import Database
from tasks.rules.automatic.model import RolloutState


def find_opted_out(machines: Sequence[Machine], opt_outs: Sequence[OptOut]) -> dict[str, str]:
    """Return the words of each paused machine's opt-out; of several, the oldest counts."""
    reasons_by_machine: dict[str, str] = {}
    for opt_out in opt_outs:
        until = f", until {opt_out.until:%Y-%m-%d %H:%M} UTC" if opt_out.until is not None else ""
        reason = f": {opt_out.reason}" if opt_out.reason else ""
        scope = _parse_leniently(opt_out.scope)
        for machine in machines:
            if scope is None or scope.matches(machine):
                reasons_by_machine.setdefault(machine.name, f"paused by {opt_out.who}{until}{reason}")
    return reasons_by_machine


def _parse_leniently(scope: str) -> Scope | None:
    """Return a scope; None for one that can't be parsed: then it pauses every machine, as its writer wanted a pause."""
    try:
        return Scope.parse(scope)
    except InventoryError:
        return None


def limit_rollout_run(
    database: Database, request: PatchRequest, read_machines: Callable[[], Sequence[Machine]], now: datetime
) -> tuple[PatchRequest, str]:
    """Return the request of a rollout's run without machines that were paused meanwhile, or why it may not begin.

    Args:
        database: the database of the records.
        request: of a run whose machines are named in ``only_machines``.
        read_machines: returns those of the inventory; called only if anybody has paused something.
        now: the present time.

    Raises:
        RecordsError: the records can't be read.
    """
    rollout = SqlRollouts(database).find(request.updates.as_in_run.removeprefix(ROLLOUT_PREFIX).strip())
    if rollout is not None and rollout.state in {RolloutState.CANCELLED, RolloutState.FAULTED}:
        return request, f"{rollout.id} is {rollout.state}: {rollout.message}"
    opt_outs = SqlOptOuts(database).read_active(now)
    paused = find_opted_out(read_machines(), opt_outs) if opt_outs else {}
    left = [name for name in request.only_machines if name not in paused]
    if request.only_machines and not left:
        name = request.only_machines[0]
        return request, f"all its machines are paused; {name}: {paused[name]}"
    return request.model_copy(update={"only_machines": left}), ""
