"""Readiness checks: whether a machine can be patched in its present state. They change nothing."""

import contextvars
import functools
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from flows.ports.ports import Ports
from inventory.errors import InventoryError
from inventory.machine import Machine, PrivilegeMethod
from tasks.domain.errors import (
    AuthenticationFailed,
    BrokenPackages,
    CannotRun,
    CredentialError,
    FleetpatchError,
    HostKeyMismatch,
    HostKeyUnknown,
    InternalError,
    ListsUnread,
    ManagerBusy,
    ManagerError,
    PrivilegeError,
    ProtocolViolation,
    RepositoryError,
    TransportError,
    Unreachable,
)
from tasks.domain.model import Assessment, ErrorInfo, Facts, Finding, PackageState, RunInfo
from tasks.domain.states import FindingLevel, OperationState, Step
from tasks.rules.machine_checks.findings import PRIVILEGE_CHECK, SETTINGS_CHECK, describe_blocking_findings
from tasks.rules.machine_checks.packages import PACKAGE_LOCK_CHECK
from tasks.rules.machine_checks.precheck import check_clock, check_machine_state
from tasks.steps.assess import assess
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.machine_state import MachineState
from tasks.steps.context.patch_options import PatchOptions
from tasks.steps.context.run_context import RunContext
from tasks.steps.machine.custom_checks import run_all_checks
from tasks.steps.machine.facts import read_facts
from tasks.steps.machine.health import check_health

logger = logging.getLogger(__name__)


PACKAGE_LISTS_CHECK = "package lists"
"""The check whether the machine has ever read its package lists. The checks after it need them."""

CUSTOM_CHECK_PREFIX = "own: "
"""The prefix of the names of checks that the machine's owner wrote."""

CHECK_NAMES = (
    "reach",
    "host key",
    "login",
    PRIVILEGE_CHECK,
    "facts",
    "clock",
    SETTINGS_CHECK,
    PACKAGE_LISTS_CHECK,
    "disk",
    "packages",
    "repositories",
    PACKAGE_LOCK_CHECK,
    "pending-reboot",
    "auto-updater",
    "held",
)
"""All checks of a machine. Each check needs the ones before it."""

_CHECKS_BY_ERROR: tuple[tuple[type[FleetpatchError], str], ...] = (
    (Unreachable, "reach"),
    (HostKeyMismatch, "host key"),
    (HostKeyUnknown, "host key"),
    (AuthenticationFailed, "login"),
    (CredentialError, "login"),
    (CannotRun, "reach"),  # a library is missing here: nothing was sent
    (InventoryError, "reach"),  # a file that the inventory names can't be used
    (PrivilegeError, "privilege"),
    (TransportError, "reach"),
    (ManagerBusy, PACKAGE_LOCK_CHECK),
    (ListsUnread, PACKAGE_LISTS_CHECK),
    (RepositoryError, "repositories"),
    (BrokenPackages, "packages"),
    (ManagerError, "packages"),
)
_PASSED_MESSAGES = {
    "reach": "it answers",
    "host key": "it is the machine that it should be",
    "login": "the login works",
    "privilege": "the login may do what is needed",
    "facts": "it says what it is",
}
_PRIVILEGE_METHODS = ", ".join(
    each for each in PrivilegeMethod if each not in {PrivilegeMethod.AUTO, PrivilegeMethod.NONE}
)
_NO_PRIVILEGE_FINDING = Finding(
    "privilege",
    FindingLevel.WARN,
    "the inventory says privilege: none, so it can only be read",
    f"Set privilege: auto (or {_PRIVILEGE_METHODS}) in the inventory to patch it.",
)
_CHECKS_BY_ERROR_KIND = {kind.__name__: check for kind, check in _CHECKS_BY_ERROR}


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


def find_worst_level(findings: Sequence[Finding]) -> FindingLevel:
    """Return the worst level among findings, or GOOD if there are none."""
    levels = {finding.level for finding in findings}
    order = (FindingLevel.BLOCK, FindingLevel.WARN)
    return next((level for level in order if level in levels), FindingLevel.GOOD)


def check_machines(
    machines: Sequence[Machine], ports: Ports, *, at_once: int, refresh: bool = False
) -> tuple[Readiness, ...]:
    """Check machines in parallel.

    Args:
        machines: the machines to check.
        ports: the connection to them; its listener is called after each machine.
        at_once: how many machines are checked at the same time.
        refresh: whether they refresh their package lists first. This is the only change that the check can make.
    """
    run = RunInfo(id="", kind="doctor", started_at=ports.clock.now(), state=OperationState.IN_PROGRESS)
    run_context = RunContext(
        run=run,
        options=PatchOptions(refresh=refresh),
        clock=ports.clock,
        records=ports.records,
        connect=ports.connect,
        find_manager=ports.find_manager,
        listener=ports.listener,
        stop_token=ports.stop_token,
    )
    with ThreadPoolExecutor(max(1, min(at_once, len(machines))), thread_name_prefix="doctor") as pool:
        look = functools.partial(_check_machine, run_context)
        futures = [pool.submit(contextvars.copy_context().run, look, machine) for machine in machines]
        return tuple(future.result() for future in futures)


def check_assessment(assessment: Assessment) -> tuple[Finding, ...]:
    """Return the findings of an assessment. Pure: an old assessment works too."""
    if assessment.error is not None or assessment.facts is None or assessment.packages is None:
        error = assessment.error or ErrorInfo.from_error(ProtocolViolation("the machine did not answer completely"))
        return _build_failure_findings(_CHECKS_BY_ERROR_KIND.get(error.kind, "facts"), error)
    return _drop_contradicted((*_build_passed_findings("clock"), *_check_state(assessment.facts, assessment.packages)))


def _check_machine(run_context: RunContext, machine: Machine) -> Readiness:
    run_context.listener.on_progress(machine.name, Step.ASSESS, None, "looking")
    findings = _assess_and_check(run_context, machine)
    if not machine.owner.is_patchable:
        words = f"it is patched by its owner ({machine.owner}); fleetpatch only looks at it"
        findings = (*findings, Finding("owner", FindingLevel.GOOD, words))
    blocking = describe_blocking_findings(findings)
    state = OperationState.FAILED if blocking else OperationState.SUCCEEDED
    run_context.listener.on_step_finished(machine.name, Step.ASSESS, state.value, blocking)
    return Readiness(machine.name, findings)


def _assess_and_check(run_context: RunContext, machine: Machine) -> tuple[Finding, ...]:
    try:
        transport = run_context.connect(machine)
    except FleetpatchError as error:
        return _build_failure_findings(_find_failed_check(error), ErrorInfo.from_error(error))
    context = MachineContext(run_context, transport, MachineState(machine))
    try:
        try:
            context.state = assess(context)  # checks get the environment of its package manager
            own = tuple(replace(each, check=f"{CUSTOM_CHECK_PREFIX}{each.check}") for each in run_all_checks(context))
            own = (*check_health(context), *own)
        except ManagerError as error:
            return _build_manager_findings(context, error)
    except FleetpatchError as error:
        return _build_failure_findings(_find_failed_check(error), ErrorInfo.from_error(error))
    except Exception as error:  # an unexpected error of one machine must not hide the findings of the others
        logger.exception("%s: the check failed unexpectedly", machine.name)
        hint = "This is a fault in fleetpatch; --debug shows more."
        return _build_failure_findings(
            "facts", ErrorInfo.from_error(InternalError(f"{type(error).__name__}: {error}", hint=hint))
        )
    finally:
        transport.close()
    if context.state.assessment is None:
        return _build_failure_findings("facts", ErrorInfo.from_error(ProtocolViolation("the machine did not answer")))
    without_rights = machine.privilege is PrivilegeMethod.NONE
    found = (*check_assessment(context.state.assessment), *own, *([_NO_PRIVILEGE_FINDING] if without_rights else []))
    return _drop_contradicted(found)


def _build_manager_findings(context: MachineContext, error: ManagerError) -> tuple[Finding, ...]:
    """Return the findings of a machine whose package manager can't be asked: the cause may be one of its settings."""
    if isinstance(error, ListsUnread):
        return _build_unread_findings(context, error)
    failure = _build_failure_findings(_find_failed_check(error), ErrorInfo.from_error(error))
    return _drop_contradicted((*failure, *_read_settings(context)))


def _build_unread_findings(context: MachineContext, error: ListsUnread) -> tuple[Finding, ...]:
    """Return the findings of a machine that has never read its package lists. This is a warning, not a failure."""
    facts = read_facts(context.transport, context.run_context.clock, context.build_read_deadline())
    remark = Finding(PACKAGE_LISTS_CHECK, FindingLevel.WARN, error.message, error.hint)
    passed = (*_build_passed_findings("clock"), check_clock(facts.clock_skew_seconds, facts.clock_error_seconds))
    return _drop_contradicted((*passed, *facts.findings, remark))


def _read_settings(context: MachineContext) -> tuple[Finding, ...]:
    """Return what the machine says of its settings; nothing, if it no longer answers."""
    try:
        return read_facts(context.transport, context.run_context.clock, context.build_read_deadline()).findings
    except FleetpatchError:
        return ()


def _drop_contradicted(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings, without good ones of a check that another finding says something else of."""
    bad = {each.check for each in findings if each.level is not FindingLevel.GOOD}
    return tuple(each for each in findings if each.level is not FindingLevel.GOOD or each.check not in bad)


def _find_failed_check(error: FleetpatchError) -> str:
    return next((check for kind, check in _CHECKS_BY_ERROR if isinstance(error, kind)), "facts")


def _build_failure_findings(check: str, error: ErrorInfo) -> tuple[Finding, ...]:
    """Return good findings for the checks before the failed one, and a blocking finding for the failed one."""
    return (*_build_passed_findings(check), Finding(check, FindingLevel.BLOCK, error.message, error.hint))


def _build_passed_findings(failed_check: str) -> tuple[Finding, ...]:
    """Return good findings for the checks before the given one. That it could be done proves that they passed."""
    names = CHECK_NAMES[: CHECK_NAMES.index(failed_check)]
    return tuple(Finding(name, FindingLevel.GOOD, _PASSED_MESSAGES[name]) for name in names if name in _PASSED_MESSAGES)


def _check_state(facts: Facts, packages: PackageState) -> tuple[Finding, ...]:
    found = check_machine_state(facts, packages, packages.updates)
    found += [each for each in facts.findings if each not in found]
    if not facts.can_reboot:
        remedy = "Restart it from its host when an update asks for that, and patch it with --reboot Never."
        found.append(Finding("pending-reboot", FindingLevel.WARN, "it can't reboot itself: its host has to", remedy))
    return tuple(found)
