"""The validate step: assess the machine again, and compare it with the plan and the results."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from inventory.credential_references import KEY_REFERENCES, parse_reference
from tasks.domain.errors import (
    LOGIN_REFUSALS,
    DeadlineExceeded,
    ManagerError,
    RepositoryError,
    ScriptFailed,
)
from tasks.domain.model import (
    Assessment,
    Facts,
    Finding,
    PackageState,
    RebootResult,
    UpdateResult,
    ValidationResult,
    WaitingFixes,
)
from tasks.domain.protocols.clock import Deadline
from tasks.domain.services import Settling
from tasks.domain.states import (
    INSTALLED_UPDATE_STATES,
    PRESENT_UPDATE_STATES,
    FindingLevel,
    RebootState,
    Step,
    YesNoUnknown,
)
from tasks.rules.machine_checks.packages import PACKAGES_CHECK, check_concurrent_changes, get_repair_remedy
from tasks.rules.machine_checks.precheck import (
    check_default_routes,
    check_mounts_writable,
    check_next_boot,
    keep_true_boot_warnings,
)
from tasks.rules.machine_checks.services import check_outdated_services, check_services, find_late_services
from tasks.rules.machine_checks.units import (
    check_runs,
    find_loops,
    find_missing_services,
    find_missing_units,
    find_restarted_services,
    find_starting_units,
)
from tasks.rules.runs.reboot_decision import is_boot
from tasks.rules.updates.effect import find_waiting_fixes
from tasks.rules.updates.follow_up import FOLLOW_UP_CHECK
from tasks.rules.updates.results import check_installed_versions, find_lost_updates, find_rolled_back_updates, mark_lost
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.follow_up import plan_follow_up
from tasks.steps.machine.auto_updaters import list_paused_units
from tasks.steps.machine.custom_checks import run_check
from tasks.steps.machine.facts import read_facts
from tasks.steps.machine.health import check_health_since, read_service_states, read_unit_states
from tasks.steps.machine.next_boot import keep_ended_by_reboot
from tasks.steps.machine.package_state import (
    build_package_wait_deadline,
    date_reboot,
    read_package_state,
    wait_for_idle_packages,
)
from tasks.steps.unused_kernels import remove_unused_kernels, resume_kernel_removal

POLL_SECONDS = 2.0
REFRESH_PAUSE_SECONDS = 60.0
"""The pause before an update server that did not answer is asked again."""
LATE_POLL_SECONDS = 10.0  # for services that the system starts minutes later: each poll reads all facts
LOGIN_TRIES = 3  # with a key: what a login needs may be starting. Refused passwords lock accounts


def validate(context: MachineContext) -> MachineState:
    """Assess the machine again, and check versions, services, boot and the probes of the inventory."""
    clock, machine_state = context.clock, context.state
    facts, findings = _log_in_and_look(context)
    context.run_context.instances.meet(facts, context.name)
    began = clock.now()
    rebooted = any(result.state is RebootState.COMPLETED for result in machine_state.reboots)
    packages = machine_state.packages_after
    unread: Sequence[Finding] = ()
    results = machine_state.install.results if machine_state.install else ()
    has_installed = any(result.state in PRESENT_UPDATE_STATES for result in results)
    is_asked_again = context.manager.offers_more_later and (rebooted or has_installed)
    blocks = any(finding.level is FindingLevel.BLOCK for finding in findings)
    if (
        blocks
        or packages is None
        or packages.at_work
        or packages.problems
        or rebooted
        or is_asked_again
        or machine_state.restarts is not None
    ):
        packages, unread = _read_packages(context, refresh=is_asked_again)
        changed_by_others = False
        if packages.at_work:
            packages, changed_by_others = _wait_for_unchanging_packages(context), True
        if blocks:  # perhaps another process upgraded these services, and ended while packages were read
            facts, findings = _wait_for_services(context, context.options.come_back_seconds if changed_by_others else 0)
    packages = date_reboot(packages, facts, None, clock.now())  # it may have been rebooted since they were read
    packages = replace(packages, waiting=_find_waiting_fixes(machine_state, packages, facts))
    seconds = (clock.now() - began).total_seconds()
    facts_to_keep = facts.without_active_units()
    assessment = Assessment(context.name, began, seconds, facts=facts_to_keep, packages=packages, run_id=context.run.id)
    context.records.save(assessment)
    installed, lost = _check_versions(context, packages)
    findings += [*installed, *unread]
    findings += _check_boot(context, facts)
    findings += check_next_boot(context.state.baseline, facts)
    findings += check_concurrent_changes(packages)
    findings += _check_package_problems(packages, context.packages)
    reboot_reasons = packages.reboot.explanation if packages.reboot.answer is YesNoUnknown.YES else None
    reboot = machine_state.reboot
    may_wait = context.options.may_reboot_wait(packages.reboot)
    if rebooted and reboot_reasons is not None:
        findings.append(
            Finding("reboot", FindingLevel.WARN, f"it asks for a reboot again: {reboot_reasons}", "Look at its boot.")
        )
    elif reboot_reasons is not None and reboot is not None and reboot.state is RebootState.NOT_NEEDED:
        reboot = RebootResult(
            RebootState.REQUIRED,
            f"the machine began to ask for a reboot after that was decided: {reboot_reasons}",
            mitigated_by=packages.reboot.mitigated_by if may_wait else "",
        )
    elif reboot_reasons is not None and reboot is not None and reboot.mitigated_by and not may_wait:
        reboot = RebootResult(RebootState.REQUIRED, f"live patches mitigate it no longer: {reboot_reasons}")
    findings += check_outdated_services(packages, context.options.restart_services_exclude)
    findings += _ask_health(context)
    validation = ValidationResult(tuple(findings), assessment)
    earlier = keep_ended_by_reboot(context, machine_state.findings, rebooted=rebooted)
    return replace(
        machine_state,
        findings=keep_true_boot_warnings(earlier, facts),
        packages_after=packages,
        reboot=reboot,
        install=mark_lost(machine_state.install, lost),
        validation=validation,
        settling=_find_settling(context, facts, has_changed=rebooted or has_installed)
        if validation.is_healthy
        else None,
    )


def _log_in_and_look(context: MachineContext) -> tuple[Facts, list[Finding]]:
    """Compare services over a new login: an update may have broken it, and the open connection does not show that.

    Raises:
        LOGIN_REFUSALS: it is refused.
    """
    context.transport.close()
    seconds, reference = context.options.come_back_seconds, context.state.machine.credential
    tries = LOGIN_TRIES if parse_reference(reference).kind in KEY_REFERENCES else 1
    for _ in range(1, tries):
        try:
            return _wait_for_services(context, seconds)
        except LOGIN_REFUSALS:
            context.transport.close()
            context.clock.sleep(seconds / tries)
    return _wait_for_services(context, seconds)


def _ask_health(context: MachineContext) -> list[Finding]:
    return [*check_health_since(context), *(run_check(context, probe) for probe in context.state.machine.probes)]


def _find_settling(context: MachineContext, facts: Facts, *, has_changed: bool) -> Settling | None:
    """Return how long the machine waits for its second look; None: no service was started since the baseline.

    Where it is not known which services were started, each change counts.
    """
    before, now = context.state.baseline, context.clock.now()
    is_watched = context.options.component_order is not None  # its soak looks more often
    if before is None or is_watched or not context.options.settle_seconds:
        return None
    names = find_restarted_services(before.services, facts.services)
    if not names and not (has_changed and (not facts.services.runs or facts.boot_id != before.boot_id)):
        return None
    ages = [run.age_seconds or 0.0 for run in facts.services.runs if run.name in names]
    until = now + timedelta(seconds=context.options.settle_seconds - max(0.0, min(ages, default=0.0)))
    return Settling(now, until, facts.services.runs)


def look_again(context: MachineContext) -> MachineState:
    """Look at a changed machine a second time: at its services, ports, file systems and probes."""
    machine_state, settling, before = context.state, context.state.settling, context.state.baseline
    validation = machine_state.validation
    if settling is None or before is None or validation is None:
        return replace(machine_state, settling=None)
    facts, findings = _log_in_and_look(context)
    seconds = (context.clock.now() - settling.looked_at).total_seconds()
    first = replace(before.services, runs=settling.runs)
    findings += check_runs(before.services, first, facts.services, seconds)
    findings += [*_check_boot(context, facts), *_ask_health(context)]
    repeated = {finding.check for finding in findings}
    kept = (finding for finding in validation.findings if finding.check not in repeated)
    return replace(machine_state, settling=None, validation=replace(validation, findings=(*kept, *findings)))


def _find_waiting_fixes(machine_state: MachineState, packages: PackageState, facts: Facts) -> WaitingFixes | None:
    """Return the fixes that are not in effect. What ran when the installation began is in the boot of the baseline."""
    assessment, baseline, install = machine_state.assessment, machine_state.baseline, machine_state.install
    before = replace(assessment, facts=baseline) if assessment is not None and baseline is not None else assessment
    results = install.results if install is not None else ()
    installed = [result.update for result in results if result.state in PRESENT_UPDATE_STATES]
    return find_waiting_fixes(packages, facts, before, installed)


def _read_packages(context: MachineContext, *, refresh: bool) -> tuple[PackageState, Sequence[Finding]]:
    """Read the package state. If the refresh fails, read what is known without it, and return a warning."""
    if not refresh:
        return read_package_state(context), ()
    try:
        return _refresh_packages(context), ()
    except (ManagerError, ScriptFailed, DeadlineExceeded) as error:
        message = f"whether more is offered since the installation is not known: {error.message}"
        remedy = error.hint or "Assess the machine again."
        return read_package_state(context), (Finding.warn(FOLLOW_UP_CHECK, message, remedy),)


def _refresh_packages(context: MachineContext) -> PackageState:
    """Read the package state with a refresh, once more if the server does not answer: the network may just begin."""
    try:
        return read_package_state(context, refresh=True)
    except RepositoryError:
        context.clock.sleep(REFRESH_PAUSE_SECONDS)
        return read_package_state(context, refresh=True)


def _check_package_problems(packages: PackageState, before: PackageState) -> Sequence[Finding]:
    """Return a blocking finding if packages are broken. The pre-check has told of those that failed before."""
    failed_before = {package.id for package in before.unfinished}
    is_known = packages.can_install_others and all(package.id in failed_before for package in packages.unfinished)
    if not packages.problems or is_known:
        return ()
    message = "; ".join(packages.problems)
    return (Finding(PACKAGES_CHECK, FindingLevel.BLOCK, message, get_repair_remedy(packages)),)


def _wait_for_unchanging_packages(context: MachineContext) -> PackageState:
    """Wait while another process changes packages, until the window's end or for come_back_seconds: the later one."""
    own = Deadline.after(context.clock, context.options.come_back_seconds)
    return wait_for_idle_packages(context, Step.VALIDATE, max(own, build_package_wait_deadline(context)))


def _wait_for_services(context: MachineContext, seconds: float) -> tuple[Facts, list[Finding]]:
    """Compare services and file systems before and after. Missing ones have this many seconds to come back.

    For services that the system starts only some time after the boot, the seconds begin then.
    """
    clock = context.clock
    deadline = Deadline.after(clock, seconds)
    while True:
        facts = read_facts(
            context.transport, clock, context.build_read_deadline(), context.known_facts, with_units=True
        )
        before = context.state.baseline
        if before is None:
            return facts, []
        rebooted = not is_boot(before.boot_id, facts.boot_id) or any(result.count for result in context.state.reboots)
        paused = (*list_paused_units(context), *find_loops(before.services))
        units = read_unit_states(context, find_missing_units(before.services, facts.services, paused))
        services = read_service_states(context, find_missing_services(before.services, facts.services))
        lost_routes = check_default_routes(before, facts)
        findings = [
            *lost_routes,
            *check_services(before.services, facts.services, rebooted=rebooted, units=units, services=services),
            *check_mounts_writable(before.disks, facts.disks),
        ]
        starting = find_starting_units(units, before.services, facts.services, rebooted=rebooted)
        good = not (starting or lost_routes) and all(finding.level is not FindingLevel.BLOCK for finding in findings)
        late_until = facts.services.late_start_seconds + seconds
        is_late = facts.uptime_seconds < late_until and bool(find_late_services(before.services, facts.services))
        is_decided = good or deadline.has_passed(clock)
        if is_decided and not is_late:
            return facts, findings
        clock.sleep(LATE_POLL_SECONDS if is_decided else POLL_SECONDS)


def _check_versions(context: MachineContext, packages: PackageState) -> tuple[list[Finding], Mapping[str, str | None]]:
    """Check that each update reported as installed is still installed at that version.

    Returns:
        the findings, and the updates that the machine has no more after its reboot: update id -> version now.
    """
    if context.state.install is None:
        return [], {}
    installed = [r for r in context.state.install.results if r.state in INSTALLED_UPDATE_STATES]
    if not installed:
        return [], {}
    wrong = _find_version_mismatches(context, installed)
    if wrong and not packages.at_work:  # another process may be changing just these packages; it may be over soon
        packages = _wait_for_unchanging_packages(context)
        wrong = _find_version_mismatches(context, installed)
        packages = read_package_state(context) if wrong else packages
        if wrong and packages.at_work:
            return list(check_concurrent_changes(packages)), {}
    if wrong and packages.at_work:
        return [], {}  # already reported
    reboot = context.state.reboot
    rebooted_since = reboot is not None and reboot.state is RebootState.COMPLETED
    lost = find_lost_updates(installed, wrong) if rebooted_since else {}
    rolled_back = find_rolled_back_updates(installed, lost)
    return check_installed_versions(installed, wrong, rolled_back), lost


def _find_version_mismatches(context: MachineContext, installed: Sequence[UpdateResult]) -> Mapping[str, str | None]:
    """Return the updates that are not at the version that was installed: id -> version now, None if not complete."""
    now = context.manager.read_installed_versions(
        context.transport, [r.update for r in installed], deadline=context.build_package_deadline()
    )
    return {r.update.id: now.get(r.update.id) for r in installed if now.get(r.update.id) != r.version_after}


def _check_boot(context: MachineContext, facts: Facts) -> list[Finding]:
    """Return a warning if the machine had a reboot that this run did not order."""
    if context.state.baseline is None:
        return []
    expected = {context.state.baseline.boot_id} | {result.boot_id_after for result in context.state.reboots}
    snapshot = context.state.snapshot
    was_reverted = snapshot is not None and snapshot.reverted_at is not None
    if was_reverted or any(is_boot(boot_id, facts.boot_id) for boot_id in expected):
        return []
    message = "the machine was rebooted, and not by this run"
    return [Finding("boot", FindingLevel.WARN, message, "Find out who or what rebooted it.")]


def validate_and_follow_up(context: MachineContext) -> MachineState:
    """Validate a machine. Then plan another round, or remove its unused kernels if the request says so."""
    may_have_begun = context.options.remove_unused_kernels or context.state.was_changed_before_resume
    is_resumed = may_have_begun and resume_kernel_removal(context)
    if context.state.settling is not None:
        context.state = look_again(context)
    else:
        context.state = validate(context)
        if context.manager.offers_more_later:
            context.state = plan_follow_up(context)
        if context.state.follow_up is not None:  # the next round ends with a look of its own
            context.state = replace(context.state, settling=None)
    if context.state.settling is not None:
        return context.state
    if context.options.remove_unused_kernels and not is_resumed and context.state.follow_up is None:
        remove_unused_kernels(context)
    return context.state
