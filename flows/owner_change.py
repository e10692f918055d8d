"""Changes who patches machines, in the files of the inventory: plan, policy, audit log, write, read back."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Final

from flows.policy.enforcement import build_refusal, enforce_act_policy
from flows.ports.audit import AuditAppender, record_act
from flows.ports.caller import Actor
from inventory.data_class import dataclass
from inventory.editing.file_replacement import replace_file
from inventory.editing.owner_plan import OwnerPlan, plan_owner_change
from inventory.editing.text_edits import FileEdit
from inventory.errors import FleetpatchError, InventoryError
from inventory.loader import load_inventory
from inventory.machine import Machine, PatchOwner
from tasks.domain.protocols.clock import Clock
from tasks.domain.rows.owner_changes import OwnerChangeRow
from tasks.domain.states import ChangeState
from tasks.rules.policy.decision import DeployedPolicy, check_role_scope
from tasks.rules.policy.model import RiskyOption, Starter

OWNER_ACT: Final = "set owner"
"""The act in the audit log, one for each file."""


@dataclass(frozen=True, slots=True)
class OwnerOrder:
    """What is asked for."""

    source: Path  # the inventory
    machines: tuple[str, ...]  # names of machines
    owner: PatchOwner
    actor: Actor
    append: AuditAppender
    clock: Clock
    # Who asks, with the scope of the role; a door without roles has no such scope.
    starter: Starter = field(default_factory=Starter)
    deployed: Sequence[DeployedPolicy] = ()  # the policies of which one must hold here
    configurations: Path | None = None  # those beside which the policy is; None: those that every command finds
    dry_run: bool = False  # tell what would be written. Only the scope of the role is asked, and nothing is written.


@dataclass(frozen=True, slots=True)
class OwnerReport:
    """What became of it."""

    rows: tuple[OwnerChangeRow, ...]  # of each machine, in the order of the request
    edits: tuple[FileEdit, ...]  # the changes of files, also those that could not be written: a person can write them

    def build_diff(self, context: int = 3) -> str:
        """Return all changes as one unified diff, with so many lines around each change."""
        return "".join(edit.build_diff(context) for edit in self.edits)


def change_owners(order: OwnerOrder) -> OwnerReport:
    """Write who patches machines into the inventory. Files are written one after the other, each as a whole.

    Rules of the policy hold for the machines as they are, and as they would be: a scope may ask for the owner.

    Raises:
        InventoryError: the inventory or the policy has problems, or a name is of no machine. Nothing was written.
        PolicyRefused: a rule or the scope of the role forbids it. Nothing was written.
        RecordsError: the audit log can't be written. Files without an entry were not written.
    """
    plan = plan_owner_change(order.source, order.machines, order.owner)
    machines = {machine.name: machine for machine in plan.inventory.machines}
    chosen = [machines[name] for name in dict.fromkeys(order.machines)]
    results = dict(_iterate_known_results(plan))
    if refusals := check_role_scope(order.starter, chosen, "run"):  # a preview shows lines of the inventory
        raise build_refusal(refusals)
    if order.dry_run:
        states = {name: ChangeState.PLANNED for edit in plan.edits for name in edit.machines}
        return _build_report(
            order, plan, chosen, {**{name: (state, None) for name, state in states.items()}, **results}
        )
    changed = [replace(machine, owner=order.owner) for machine in chosen]
    now = order.clock.now()
    for members in (chosen, changed):
        enforce_act_policy(
            RiskyOption.OWNER, members, plan.inventory, now, order.deployed, order.starter, order.configurations
        )
    for edit in plan.edits:
        error = _write(order, edit, machines)
        state = ChangeState.CHANGED if error is None else ChangeState.FAILED
        results |= dict.fromkeys(edit.machines, (state, error))
    return _build_report(order, plan, chosen, _compare(order, results))


def _iterate_known_results(plan: OwnerPlan) -> Iterator[tuple[str, tuple[ChangeState, FleetpatchError | None]]]:
    for name in plan.unchanged:
        yield name, (ChangeState.UNCHANGED, None)
    for name, error in plan.refused.items():
        yield name, (ChangeState.REFUSED, error)


def _write(order: OwnerOrder, edit: FileEdit, machines: Mapping[str, Machine]) -> FleetpatchError | None:
    """Write one file, with an entry in the audit log before and after. Return why it was not written, or None."""
    before = {name: machines[name].owner.value for name in edit.machines}
    detail = json.dumps({"owner": order.owner.value, "before": before}, sort_keys=True)
    try:
        with record_act(order.append, order.actor, order.clock, OWNER_ACT, str(edit.path), detail):
            replace_file(edit.path, edit.before, edit.after)
    except InventoryError as error:
        return error
    return None


Results = Mapping[str, tuple[ChangeState, FleetpatchError | None]]


def _compare(order: OwnerOrder, results: Results) -> Results:
    """Return the results by what the inventory says now. What was written is not yet what is read."""
    try:
        present = {machine.name: machine.owner for machine in load_inventory(order.source).machines}
    except InventoryError as error:
        return {
            name: (ChangeState.FAILED, error) if state is ChangeState.CHANGED else (state, problem)
            for name, (state, problem) in results.items()
        }
    message, hint = "the inventory says otherwise", "Another file or a stronger variable says who patches it."
    return {
        name: (ChangeState.FAILED, InventoryError(message, hint=hint))
        if state is ChangeState.CHANGED and present.get(name) is not order.owner
        else (state, problem)
        for name, (state, problem) in results.items()
    }


def _build_report(order: OwnerOrder, plan: OwnerPlan, chosen: Sequence[Machine], results: Results) -> OwnerReport:
    files = {name: str(edit.path) for edit in plan.edits for name in edit.machines}
    rows = tuple(
        OwnerChangeRow(
            machine=machine.name,
            result=results[machine.name][0],
            before=machine.owner,
            owner=order.owner,
            file=files.get(machine.name, ""),
            message=error.message if (error := results[machine.name][1]) is not None else "",
            remedy=error.hint if error is not None else "",
        )
        for machine in chosen
    )
    return OwnerReport(rows, plan.edits)
