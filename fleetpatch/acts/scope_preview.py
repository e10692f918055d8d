"""Which machines a scope selects now, before a run starts. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from fleetpatch.machines.machine_list import build_entry
from fleetpatch.machines.snapshot import FleetSnapshot
from fleetpatch.machines.standing import NOT_READY
from inventory.errors import InventoryError
from inventory.scope import Scope
from tasks.domain.states import Compliance

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
    entries = [build_entry(snapshot.rows[each.name], snapshot.at) for each in machines if each.name in snapshot.rows]
    mine = [each for each in entries if each.row.machine.owner.is_patchable]
    return ScopePreview(
        total=len(entries),
        names=tuple(each.name for each in entries[:SHOWN_NAMES]),
        foreign=len(entries) - len(mine),
        not_ready=tuple((each.name, each.readiness.reason) for each in mine if each.readiness.word == NOT_READY),
        urgent=sum(1 for each in mine if each.answer is not None and each.answer.critical + each.answer.security),
        unassessed=sum(1 for each in mine if each.compliance is Compliance.NOT_ASSESSED),
        digest=_digest_names(each.name for each in mine),
    )


def _digest_names(names: Iterable[str]) -> str:
    return blake2b("\0".join(sorted(names)).encode("utf-8", "replace"), digest_size=8).hexdigest()
