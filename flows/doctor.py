"""Readiness checks: whether a machine can be patched in its present state. They change nothing."""

import functools
import logging
from collections.abc import Sequence
from dataclasses import replace

from flows.engine.machine_work import connect_or_defer_error
from flows.machine_visits import build_visit_context, visit_machines
from flows.ports.ports import Ports
from inventory.data_class import dataclass
from inventory.machine import Machine, PrivilegeMethod
from tasks.domain.errors import FleetpatchError, InternalError, ListsUnread, ManagerError, ProtocolViolation
from tasks.domain.model import ErrorInfo, Finding
from tasks.domain.states import FindingLevel, OperationState, Step
from tasks.rules.machine_checks.findings import (
    PACKAGE_LISTS_CHECK,
    build_failure_findings,
    build_passed_findings,
    describe_blocking_findings,
    drop_contradicted,
    find_failed_check,
    find_worst_level,
)
from tasks.rules.machine_checks.precheck import check_assessment, check_clock
from tasks.rules.machine_identity import IDENTITY_CHECK
from tasks.steps.assess import assess
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_context import RunContext
from tasks.steps.machine.custom_checks import run_all_checks
from tasks.steps.machine.facts import read_facts
from tasks.steps.machine.health import check_health
from tasks.steps.machine.next_boot import survey_next_boot
from tasks.steps.machine.provider_orders import check_identity

logger = logging.getLogger(__name__)


CUSTOM_CHECK_PREFIX = "own: "
"""The prefix of the names of checks that the machine's owner wrote."""

_PRIVILEGE_METHODS = ", ".join(
    method for method in PrivilegeMethod if method not in {PrivilegeMethod.AUTO, PrivilegeMethod.NONE}
)
_NO_PRIVILEGE_FINDING = Finding(
    "privilege",
    FindingLevel.WARN,
    "the inventory says privilege: none, so it can only be read",
    f"Set privilege: auto (or {_PRIVILEGE_METHODS}) in the inventory to patch it.",
)


@dataclass(frozen=True, slots=True)
class Readiness:
    """The findings of one machine. A check that was not reached has no finding."""

    machine: str
    findings: tuple[Finding, ...]

    @property
    def level(self) -> FindingLevel:
        """The worst level of the findings."""
        return find_worst_level(self.findings)

    @property
    def has_unread_lists(self) -> bool:
        """Whether the machine has never read its package lists. The checks that need them were not done."""
        return any(finding.check == PACKAGE_LISTS_CHECK for finding in self.findings)


def check_machines(
    machines: Sequence[Machine], ports: Ports, *, at_once: int, refresh: bool = False
) -> tuple[Readiness, ...]:
    """Check machines in parallel.

    The listener is called after each machine. With ``refresh``, machines refresh their package lists first: the only
    change that the check can make.
    """
    run_context = build_visit_context(ports, "doctor", refresh=refresh)
    return visit_machines(machines, at_once, functools.partial(_check_machine, run_context))


def _check_machine(run_context: RunContext, machine: Machine) -> Readiness:
    run_context.listener.on_progress(machine.name, Step.ASSESS, None, "looking")
    context = MachineContext(run_context, connect_or_defer_error(run_context.connect, machine), MachineState(machine))
    try:
        findings = (*_assess_and_check(context), *_check_identity(context))
    finally:
        context.transport.close()
    if not machine.owner.is_patchable:
        message = f"it is patched by its owner ({machine.owner}); fleetpatch only looks at it"
        findings = (*findings, Finding("owner", FindingLevel.GOOD, message))
    blocking = describe_blocking_findings(findings)
    state = OperationState.FAILED if blocking else OperationState.SUCCEEDED
    run_context.listener.on_step_finished(machine.name, Step.ASSESS, state.value, blocking)
    return Readiness(machine.name, findings)


def check_identities(machines: Sequence[Machine], ports: Ports, *, at_once: int) -> tuple[Readiness, ...]:
    """Check whether machines are those that their providers mean. Machines without a provider are left out."""
    run_context = build_visit_context(ports, "providers")

    def check(machine: Machine) -> Readiness:
        run_context.listener.on_progress(machine.name, Step.ASSESS, None, "asking who it is")
        transport = connect_or_defer_error(run_context.connect, machine)
        findings = _check_identity(MachineContext(run_context, transport, MachineState(machine)))
        state = OperationState.FAILED if describe_blocking_findings(findings) else OperationState.SUCCEEDED
        run_context.listener.on_step_finished(machine.name, Step.ASSESS, state.value, "")
        return Readiness(machine.name, findings)

    return visit_machines([machine for machine in machines if machine.provider], at_once, check)


def _check_identity(context: MachineContext) -> tuple[Finding, ...]:
    try:
        return check_identity(context, FindingLevel.WARN)
    except FleetpatchError as error:  # of one machine; the others are checked all the same
        return (Finding(IDENTITY_CHECK, FindingLevel.BLOCK, error.message, error.hint),)


def _assess_and_check(context: MachineContext) -> tuple[Finding, ...]:
    machine = context.state.machine
    try:
        try:
            context.state = assess(context)  # checks get the environment of its package manager
            custom = [
                replace(finding, check=f"{CUSTOM_CHECK_PREFIX}{finding.check}") for finding in run_all_checks(context)
            ]
            machine_findings = (*check_health(context), *survey_next_boot(context), *custom)
        except ManagerError as error:
            return _build_manager_findings(context, error)
    except FleetpatchError as error:
        return build_failure_findings(find_failed_check(error), ErrorInfo.from_error(error))
    except Exception as error:  # an unexpected error of one machine must not hide the findings of the others
        logger.exception("%s: the check failed unexpectedly", machine.name)
        hint = "This is a fault in fleetpatch; --debug shows more."
        return build_failure_findings(
            "facts", ErrorInfo.from_error(InternalError(f"{type(error).__name__}: {error}", hint=hint))
        )
    if context.state.assessment is None:
        return build_failure_findings("facts", ErrorInfo.from_error(ProtocolViolation("the machine did not answer")))
    remarks = [_NO_PRIVILEGE_FINDING] if machine.privilege is PrivilegeMethod.NONE else []
    return drop_contradicted((*check_assessment(context.state.assessment), *machine_findings, *remarks))


def _build_manager_findings(context: MachineContext, error: ManagerError) -> tuple[Finding, ...]:
    """Return the findings of a machine whose package manager can't be asked: the cause may be one of its settings.

    A machine that has never read its package lists gets a warning, not a failure.
    """
    if isinstance(error, ListsUnread):
        facts = read_facts(context.transport, context.clock, context.build_read_deadline())
        remark = Finding(PACKAGE_LISTS_CHECK, FindingLevel.WARN, error.message, error.hint)
        passed = (*build_passed_findings("clock"), check_clock(facts.clock_skew_seconds, facts.clock_error_seconds))
        return drop_contradicted((*passed, *facts.findings, remark))
    failure = build_failure_findings(find_failed_check(error), ErrorInfo.from_error(error))
    try:
        settings = read_facts(context.transport, context.clock, context.build_read_deadline()).findings
    except FleetpatchError:
        settings = ()  # it no longer answers
    return drop_contradicted((*failure, *settings))
