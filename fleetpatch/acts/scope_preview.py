"""Which machines a scope selects now, before a run starts. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from fleetpatch.machines.snapshot import FleetSnapshot
from inventory.errors import InventoryError
from inventory.scope import Scope
from tasks.domain.states import Compliance, ReadinessState

SHOWN_NAMES = 20


@dataclass(frozen=True, slots=True)
class ScopePreview:
    """The machines of a scope.

    Attributes:
        total: how many there are.
        names: the first of them.
        foreign: how many somebody else patches: fleetpatch only assesses them.
        not_ready: which machines that fleetpatch may patch can't be patched now: name and reason.
        urgent: how many of those that fleetpatch may patch lack critical or security updates.
        unassessed: how many of those have no answer that counts.
        digest: of the names of all machines that fleetpatch may patch; "" if they are not known.
        error: why nothing is selected, or "".
        problems: what could not be read, or is old: the run may find other machines.
    """

    total: int = 0
    names: tuple[str, ...] = ()
    foreign: int = 0
    not_ready: tuple[tuple[str, str], ...] = ()
    urgent: int = 0
    unassessed: int = 0
    digest: str = ""
    error: str = ""
    hint: str = ""
    problems: tuple[str, ...] = ()

    @property
    def patchable(self) -> int:
        """How many machines fleetpatch may patch."""
        return self.total - self.foreign


def preview_scope(snapshot: FleetSnapshot, scope: str, only: Sequence[str] = ()) -> ScopePreview:
    """Return the machines that a scope selects now.

    Args:
        snapshot: the fleet.
        scope: the scope.
        only: of the scope, only these machines; empty: all.
    """
    return replace(_select(snapshot, scope, only), problems=snapshot.problems)


def _select(snapshot: FleetSnapshot, scope: str, only: Sequence[str]) -> ScopePreview:
    if snapshot.inventory is None:
        return ScopePreview(error="The inventory can't be read here", hint="The run reads its own when it starts.")
    try:
        machines = Scope.parse(scope).select_machines(snapshot.inventory)
    except InventoryError as error:
        return ScopePreview(error=error.message, hint=error.hint)
    if only:
        missing = sorted(set(only) - {each.name for each in machines})
        if missing:
            return ScopePreview(error=f"not in the scope: {', '.join(missing[:5])}", hint="Correct the names.")
        machines = tuple(each for each in machines if each.name in only)
    rows = [snapshot.machines[machine.name] for machine in machines if machine.name in snapshot.machines]
    own = [row for row in rows if row.owner is not None and row.owner.is_patchable]
    return ScopePreview(
        total=len(rows),
        names=tuple(row.name for row in rows[:SHOWN_NAMES]),
        foreign=len(rows) - len(own),
        not_ready=tuple((row.name, row.readiness_reason) for row in own if row.readiness is ReadinessState.NOT_READY),
        urgent=sum(row.is_current and bool(row.urgent) for row in own),
        unassessed=sum(row.compliance is Compliance.NOT_ASSESSED for row in own),
        digest=_digest_names(row.name for row in own),
    )


def _digest_names(names: Iterable[str]) -> str:
    return blake2b("\0".join(sorted(names)).encode("utf-8", "replace"), digest_size=8).hexdigest()
