"""Carries out a request for hotpatches on many machines: assess, decide, lock, change, assess again, record."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Protocol

from flows.hotpatch.licences import Licence, LicenceProvider
from flows.orders.carrying_out import ChangeResult, Order, carry_out_order, refuse_other_owners
from flows.orders.locked_machine import LockedMachine
from flows.ports.ports import Ports
from inventory.data_class import dataclass
from inventory.machine import Machine
from tasks.domain.errors import FleetpatchError, ScriptFailed
from tasks.domain.model import HotpatchEnrolment
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.domain.states import ChangeState, HotpatchStatus, Step
from tasks.machines.managers.live_patch_enrolment import find_enrolment_commands
from tasks.machines.managers.windows_update.manager import PACKAGE as WINDOWS_PACKAGE
from tasks.rules.hotpatch import (
    BaselineCalendar,
    ChangePlan,
    EnrolmentRequest,
    HotpatchAction,
    find_first_day,
    find_hotpatch_status,
    plan_change,
)
from tasks.steps.assess import assess
from tasks.steps.context.machine_context import MachineContext

PROVIDER_SECONDS = 180.0
"""How long all requests to a licence provider for one machine may take together."""


class EnrolmentStore(Protocol):
    """Where the last request of each machine is kept."""

    def read_requests(self, machines: Sequence[str]) -> Mapping[str, EnrolmentRequest]:
        """Return the last request of each of these machines that has one."""

    def save_request(self, machine: str, request: EnrolmentRequest, status: HotpatchStatus | None) -> None:
        """Store the request of a machine."""


@dataclass(frozen=True, slots=True)
class EnrolmentOrder:
    """What is asked for, and by what means."""

    action: HotpatchAction
    order: Order
    store: EnrolmentStore
    calendar: BaselineCalendar  # the baselines, for machines that were unenrolled
    provider: LicenceProvider | None = None  # the licence provider, if one was named


def change_enrolments(
    machines: Sequence[Machine], ports: Ports, enrolment_order: EnrolmentOrder
) -> tuple[ChangeResult, ...]:
    """Carry out a request on machines, see ``carry_out_order``."""
    earlier = enrolment_order.store.read_requests([machine.name for machine in machines])

    def change(context: MachineContext) -> ChangeResult:
        return _EnrolmentChange(context, enrolment_order, earlier.get(context.name)).carry_out()

    return carry_out_order(machines, ports, enrolment_order.order, change, refuse_other_owners)


class _EnrolmentChange:
    """One request on one machine."""

    def __init__(self, context: MachineContext, order: EnrolmentOrder, previous: EnrolmentRequest | None) -> None:
        self._context = context
        self._machine = context.state.machine
        self._order = order
        self._previous = previous
        self._clock = context.clock

    def carry_out(self) -> ChangeResult:
        enrolment = self._read()
        build = enrolment.product if enrolment is not None and enrolment.provider == "hotpatch" else ""
        first_day = None
        if build:
            following = self._order.calendar.find_next(self._today(), build).day
            first_day = find_first_day(self._order.action, self._previous, following)
        plan = plan_change(
            self._order.action,
            enrolment,
            has_provider=self._order.provider is not None,
            commands=find_enrolment_commands(enrolment, self._order.action),
            first_day=first_day,
        )
        prerequisites = enrolment.prerequisites if enrolment else ()
        if plan.refusal:
            return self._build_result(ChangeState.REFUSED, enrolment, self._previous, plan.refusal, plan.remedy)
        request = EnrolmentRequest(self._order.action, self._clock.now(), self._order.order.by, first_day)
        if self._order.order.dry_run:
            result = self._build_result(ChangeState.PLANNED, enrolment, self._previous, plan.note)
            return replace(result, steps=plan.steps, prerequisites=prerequisites)
        if not plan.steps:
            self._save(request, enrolment)
            return self._build_result(ChangeState.UNCHANGED, enrolment, request, "it was so already")
        return self._change(plan, request, enrolment)

    def _change(self, plan: ChangePlan, request: EnrolmentRequest, enrolment: HotpatchEnrolment | None) -> ChangeResult:
        # first the request: if this process ends in between, the status tells that something was asked for
        self._save(request, enrolment)
        licence = None
        try:
            machine = LockedMachine(self._context, self._order.order.by)
            with machine.hold_lock():
                self._change_machine(plan, machine)
                if plan.asks_provider and self._order.provider is not None:
                    deadline = Deadline.after(self._clock, PROVIDER_SECONDS)
                    licence = self._order.provider.change_licence(self._machine, request.action, deadline=deadline)
            enrolment = self._read()
        except FleetpatchError as error:
            failed_request = replace(request, failure=error.message)
            self._save(failed_request, enrolment)
            result = self._build_result(ChangeState.FAILED, enrolment, failed_request, error.message, error.hint)
            return replace(result, steps=plan.steps)
        enrolment = apply_licence(enrolment, licence)
        self._save(request, enrolment)
        result = self._build_result(ChangeState.CHANGED, enrolment, request, plan.note)
        return replace(result, steps=plan.steps)

    def _change_machine(self, plan: ChangePlan, machine: LockedMachine) -> None:
        self._context.listener.on_progress(self._context.name, Step.INSTALL, None, "changing")
        if plan.registry_values:
            params = {"values": tuple(plan.registry_values)}
            script = Script("enrol_hotpatch", params, read_only=False, package=WINDOWS_PACKAGE)
            failed = [record for record in machine.run_script(script) if record.get("kind") == "failed"]
            if failed:
                faults = "; ".join(f"{record.get('value')}: {record.get('why')}" for record in failed)
                raise ScriptFailed(
                    f"registry values could not be set: {faults}", exit_code=0, machine=self._context.name
                )
        if plan.runs_job:
            hotpatch = self._context.packages.hotpatch
            script = Script(
                "enrol_live_patches",
                {
                    "provider": hotpatch.provider if hotpatch else "",
                    "action": self._order.action.value,
                    "product": hotpatch.product if hotpatch else "",
                },
                read_only=False,
                package=self._context.manager.script_package,
            )
            _require_success(machine.run_job(script, "enrol"), self._context.name)

    def _read(self) -> HotpatchEnrolment | None:
        """Assess the machine, and return what it says now. The assessment is recorded, as any other."""
        self._context.forget_assessment()
        self._context.state = assess(self._context)
        return self._context.packages.hotpatch

    def _save(self, request: EnrolmentRequest, enrolment: HotpatchEnrolment | None) -> None:
        status = find_hotpatch_status(enrolment, request, self._today())
        self._order.store.save_request(self._context.name, request, status)

    def _today(self) -> date:
        return self._clock.now().date()

    def _build_result(
        self,
        state: ChangeState,
        enrolment: HotpatchEnrolment | None,
        request: EnrolmentRequest | None,
        message: str = "",
        remedy: str = "",
    ) -> ChangeResult:
        status = find_hotpatch_status(enrolment, request, self._today())
        prerequisites = enrolment.prerequisites if enrolment else ()
        return ChangeResult(self._context.name, state, status, message, remedy, prerequisites=prerequisites)


def apply_licence(enrolment: HotpatchEnrolment | None, licence: Licence | None) -> HotpatchEnrolment | None:
    """Return an enrolment with what the licence provider says, which the machine itself learns later. Pure."""
    if enrolment is None or licence is None:
        return enrolment
    receives = licence.is_enrolled and licence.is_enabled is not False and not licence.is_changing
    return replace(enrolment, enrolled=licence.is_enrolled, receives=receives and enrolment.receives is not False)


def read_licences(
    machines: Sequence[Machine], provider: LicenceProvider, build_deadline: Callable[[], Deadline]
) -> Mapping[str, Licence | FleetpatchError]:
    """Return what a licence provider says of machines, one after the other; the error of those it can't tell."""
    licences: dict[str, Licence | FleetpatchError] = {}
    for machine in machines:
        try:
            licences[machine.name] = provider.read_licence(machine, deadline=build_deadline())
        except FleetpatchError as error:
            licences[machine.name] = error
    return licences


def _require_success(records: Sequence[ScriptRecord], machine: str) -> None:
    ended = next((record for record in records if record.get("kind") == "enrolment_ended"), {})
    code = ended.get("exit_code")
    if code != 0:
        step = next(
            (record.get("command") for record in reversed(records) if record.get("kind") == "enrolment_step"), ""
        )
        message = f"{step} failed (exit code {code}): {ended.get('error') or 'no message'}"
        raise ScriptFailed(message, exit_code=code if isinstance(code, int) else 1, machine=machine)
