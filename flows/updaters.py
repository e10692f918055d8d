"""Switches the systems' own updaters on or off for good: assess, look, decide, lock, switch, assess again."""

from collections.abc import Sequence

from flows.orders.carrying_out import ChangeResult, Order, carry_out_order
from flows.orders.locked_machine import LockedMachine
from flows.ports.ports import Ports
from inventory.machine import Machine
from tasks.domain.errors import ScriptFailed
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.package_manager import UpdaterMeans
from tasks.domain.protocols.transport import Script, ScriptParameter, ScriptRecord
from tasks.domain.states import ChangeState, Step
from tasks.rules.own_updaters import (
    SwitchFacts,
    SwitchPlan,
    UnitFacts,
    UpdaterAction,
    UpdaterStatus,
    find_installing_updaters,
    find_updater_status,
    list_units_to_look_at,
    plan_switch,
    refuse_switch,
)
from tasks.steps.assess import assess
from tasks.steps.context.machine_context import MachineContext

LOOK_SECONDS = 60.0


def switch_updaters(
    action: UpdaterAction, machines: Sequence[Machine], ports: Ports, order: Order
) -> tuple[ChangeResult, ...]:
    """Switch the own updaters of machines, see ``carry_out_order``. Packages are never installed for that."""

    def change(context: MachineContext) -> ChangeResult:
        return _UpdaterSwitch(context, action, order).carry_out()

    return carry_out_order(machines, ports, order, change, lambda machine: refuse_switch(action, machine.owner))


class _UpdaterSwitch:
    """One switch on one machine."""

    def __init__(self, context: MachineContext, action: UpdaterAction, order: Order) -> None:
        self._context = context
        self._action = action
        self._order = order

    def carry_out(self) -> ChangeResult:
        plan = plan_switch(self._action, self._look())
        if self._order.dry_run and plan.steps:
            return self._build_result(ChangeState.PLANNED, plan, plan.note)
        if self._order.dry_run or plan.refusal:
            return self._build_idle_result(plan)
        machine = LockedMachine(self._context, self._order.by)
        with machine.hold_lock():
            if not plan.steps:  # a run that had paused them may have switched them on again since the look
                plan = plan_switch(self._action, self._look())
            if not plan.steps:
                return self._build_idle_result(plan)
            failed = self._switch(plan, machine)
        wanted = UpdaterStatus.ON if self._action is UpdaterAction.ON else UpdaterStatus.OFF
        status = find_updater_status(self._read_installing())
        if status is not wanted:
            reason = "; ".join(failed) or "the machine says so after all steps"
            return self._build_result(ChangeState.FAILED, plan, f"it is still {status.value.lower()}: {reason}")
        return self._build_result(ChangeState.CHANGED, plan, "; ".join(filter(None, [plan.note, *failed])))

    def _build_idle_result(self, plan: SwitchPlan) -> ChangeResult:
        """Return the result of a plan without steps."""
        if plan.refusal:
            return self._build_result(ChangeState.REFUSED, plan, plan.refusal)
        return self._build_result(ChangeState.UNCHANGED, plan, "it was so already")

    def _look(self) -> SwitchFacts:
        """Assess the machine, and ask about the units that a plan is about. The assessment is recorded."""
        installing = self._read_installing()
        manager = self._context.manager
        means = manager.updater_means
        if means is None or means.policy_on:  # a policy is set whatever it was
            return SwitchFacts(means, installing)
        params: dict[str, ScriptParameter] = {
            "units": list_units_to_look_at(means, installing),
            "program": means.program,
        }
        deadline = Deadline.after(self._context.clock, LOOK_SECONDS)
        records = self._context.transport.run_script(self._build_script("look", params), deadline=deadline).records
        return build_switch_facts(means, installing, records)

    def _read_installing(self) -> tuple[str, ...]:
        self._context.forget_assessment()
        self._context.state = assess(self._context)
        return find_installing_updaters(self._context.packages)

    def _switch(self, plan: SwitchPlan, machine: LockedMachine) -> list[str]:
        """Carry a plan out under the lock of the machine, which is held. Return which steps failed, in words."""
        self._context.listener.on_progress(self._context.name, Step.INSTALL, None, "switching")
        means = self._context.manager.updater_means
        params: dict[str, ScriptParameter] = {
            "enable": plan.enable,
            "disable": plan.disable,
            "file": means.file if means is not None and plan.file_text else "",
            "text": plan.file_text,
            "values": plan.policy_values,
        }
        records = machine.run_script(self._build_script("switch", params))
        if not any(record.get("kind") in {"switched", "failed"} for record in records):
            raise ScriptFailed("the machine did none of the steps", exit_code=0, machine=self._context.name)
        return [f"{record.get('step')}: {record.get('why')}" for record in records if record.get("kind") == "failed"]

    def _build_script(self, work: str, params: dict[str, ScriptParameter]) -> Script:
        package = self._context.manager.script_package
        return Script("switch_updaters", {"work": work, **params}, read_only=work == "look", package=package)

    def _build_result(self, state: ChangeState, plan: SwitchPlan, message: str) -> ChangeResult:
        status = find_updater_status(find_installing_updaters(self._context.packages))
        return ChangeResult(self._context.name, state, status, message, plan.remedy, plan.steps)


def build_switch_facts(means: UpdaterMeans, installing: Sequence[str], records: Sequence[ScriptRecord]) -> SwitchFacts:
    """Return what a machine says of its updaters. Pure. What is not as expected is not there."""
    units, program, unread = {}, None, ""
    for record in records:
        match record.get("kind"):
            case "unit":
                words = (str(record.get(key) or "") for key in ("load", "enabled", "active"))
                units[str(record.get("name"))] = UnitFacts(*words)
            case "program":
                program = record.get("present") is True
            case "nothing" | "refused":
                unread = str(record.get("why") or "systemd gives no answer")
    return SwitchFacts(means, tuple(installing), units, program, unread)
