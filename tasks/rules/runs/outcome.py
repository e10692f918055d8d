"""Decides the state of one machine and of a run, with the reason in words."""

from collections import Counter
from collections.abc import Sequence

from inventory.name_lists import format_count, join_first_names
from tasks.domain.model import ErrorInfo, Finding, Outcome, RebootResult, UpdateResult, ValidationResult
from tasks.domain.states import (
    PRESENT_UPDATE_STATES,
    SUBSCRIPTION_REQUIRED,
    Classification,
    FindingLevel,
    OperationState,
    RebootState,
    UpdateState,
)
from tasks.rules.calendar.local_time import format_duration
from tasks.rules.machine_checks.packages import PENDING_REBOOT_CHECK

_MAX_NAMES_SHOWN = 3
_REBOOT_REPORTED_STATES = frozenset({RebootState.COMPLETED, RebootState.REQUIRED, RebootState.STARTED})


def determine_outcome_state(
    *,
    results: Sequence[UpdateResult] = (),
    findings: Sequence[Finding] = (),
    hooks: Sequence[Finding] = (),
    reboot: RebootResult | None = None,
    validation: ValidationResult | None = None,
    error: ErrorInfo | None = None,
    window_exceeded_seconds: float = 0.0,
) -> tuple[OperationState, str]:
    """Return the final state of one machine and the reason.

    Failed: an error, a blocking finding (before or after), a failed update, a failed setup of a package that decides
    the next boot, or a failed reboot. CompletedWithWarnings: an update was not attempted, the setup of an update
    failed, a selected update is blocked that is critical, security or of unknown classification (unless it is for
    subscribers, and the machine has no subscription), a reboot is still
    required (unless live patches mitigate it, and the request lets it wait), the window was exceeded, or a finding
    warns. Succeeded: all other cases, also when there was nothing to do.
    """
    later = validation.findings if validation else ()
    faults = _find_faults(results, findings, later, reboot, error)
    faults += [str(finding) for finding in hooks if finding.level is FindingLevel.BLOCK]
    if faults:
        return OperationState.FAILED, "; ".join(faults)
    work = _describe_work_done(results, reboot)
    warnings = _find_warnings(results, (*findings, *later, *hooks), reboot, window_exceeded_seconds)
    if warnings:
        return OperationState.COMPLETED_WITH_WARNINGS, "; ".join([work, *warnings])
    return OperationState.SUCCEEDED, work


def determine_run_state(outcomes: Sequence[Outcome]) -> OperationState:
    """Return the state of a run. It is Failed when one machine is Failed (as in Azure) or Unknown."""
    states = {outcome.state for outcome in outcomes}
    if OperationState.IN_PROGRESS in states:
        return OperationState.IN_PROGRESS
    if states & {OperationState.FAILED, OperationState.UNKNOWN}:
        return OperationState.FAILED
    if states <= {OperationState.NOT_STARTED}:
        return OperationState.NOT_STARTED
    if states == {OperationState.SUCCEEDED}:
        return OperationState.SUCCEEDED
    return OperationState.COMPLETED_WITH_WARNINGS  # also when some machines did not begin


def _find_faults(
    results: Sequence[UpdateResult],
    before: Sequence[Finding],
    after: Sequence[Finding],
    reboot: RebootResult | None,
    error: ErrorInfo | None,
) -> list[str]:
    faults = [error.message] if error else []
    faults += [f"pre-check {finding}" for finding in before if finding.level is FindingLevel.BLOCK]
    failed = [result for result in results if result.state is UpdateState.FAILED]
    if failed:
        faults.append(f"{format_count(len(failed), 'update')} failed: {_join_updates_with_reasons(failed)}")
    not_set_up = [result for result in results if result.state is UpdateState.SETUP_FAILED]
    unbootable = [result for result in not_set_up if result.update.changes_boot]
    if unbootable:
        reasons = _join_updates_with_reasons(unbootable)
        faults.append(f"the setup of packages that decide the next boot failed: {reasons}")
    if reboot and reboot.state is RebootState.FAILED:
        faults.append(f"the reboot failed: {reboot.reason}" if reboot.reason else "the reboot failed")
    faults += [f"validation {finding}" for finding in after if finding.level is FindingLevel.BLOCK]
    return faults


def _find_warnings(
    results: Sequence[UpdateResult], findings: Sequence[Finding], reboot: RebootResult | None, exceeded: float
) -> list[str]:
    warnings: list[str] = []
    waiting = [result for result in results if result.state in (UpdateState.NOT_ATTEMPTED, UpdateState.PENDING)]
    if waiting:
        warnings.append(f"{format_count(len(waiting), 'update')} not attempted: {_join_updates_with_reasons(waiting)}")
    not_set_up = [result for result in results if result.state is UpdateState.SETUP_FAILED]
    unset = [result for result in not_set_up if not result.update.changes_boot]
    if unset:
        count = format_count(len(unset), "update")
        warnings.append(f"the setup of {count} failed: {_join_updates_with_reasons(unset)}")
    blocked = [
        result
        for result in results
        if result.state is UpdateState.BLOCKED
        and not result.update.goes_back  # the undo has a finding of its own
        and (result.update.classification.is_urgent or result.update.classification is Classification.UNCLASSIFIED)
        and not _needs_subscription(result)
    ]
    if blocked:
        count = format_count(len(blocked), "update")
        warnings.append(f"{count} can't be installed: {_join_updates_with_reasons(blocked)}")
    installed = any(result.state in PRESENT_UPDATE_STATES for result in results)
    if reboot and reboot.state in (RebootState.REQUIRED, RebootState.STARTED) and not reboot.mitigated_by:
        reboot_text = (
            "a reboot is still required" if reboot.state is RebootState.REQUIRED else "a reboot was only begun"
        )
        warnings.append(f"{reboot_text}: {reboot.reason}" if reboot.reason else reboot_text)
    elif reboot and reboot.state is RebootState.UNKNOWN and installed:
        warnings.append(reboot.reason or "whether a reboot is needed is not known")
    if exceeded > 0:
        warnings.append(f"the window was exceeded by {format_duration(exceeded)}")
    for finding in findings:
        is_reported_with_reboot = (
            finding.check == PENDING_REBOOT_CHECK and reboot is not None and reboot.state in _REBOOT_REPORTED_STATES
        )
        if finding.level is FindingLevel.WARN and not is_reported_with_reboot:
            warnings.append(str(finding))
    return warnings


def _needs_subscription(result: UpdateResult) -> bool:
    """Return whether an update is for subscribers. Its publisher offers it at each run: that is information."""
    return result.update.blocked.startswith(SUBSCRIPTION_REQUIRED)


def _describe_work_done(results: Sequence[UpdateResult], reboot: RebootResult | None) -> str:
    """Return the completed work as a sentence: "3 updates installed, 2 excluded, rebooted"."""
    counts = Counter(result.state for result in results)
    installed = counts[UpdateState.INSTALLED]
    waiting = counts[UpdateState.NOT_ATTEMPTED] + counts[UpdateState.PENDING]
    repaired = counts[UpdateState.REPAIRED]
    for_subscribers = sum(result.state is UpdateState.BLOCKED and _needs_subscription(result) for result in results)
    parts = [f"{format_count(repaired, 'package')} repaired"] if repaired else []
    parts.append(
        f"{format_count(installed, 'update')} installed"
        if installed or waiting or counts[UpdateState.SETUP_FAILED]
        else "nothing to install"
    )
    parts += [
        f"{counts[state]} {text}"
        for state, text in (
            (UpdateState.SETUP_FAILED, "installed, but not set up"),
            (
                UpdateState.BLOCKED,
                "blocked" + (f" ({for_subscribers} for subscribers only)" if for_subscribers else ""),
            ),
            (UpdateState.EXCLUDED, "excluded"),
            (UpdateState.NOT_SELECTED, "not selected"),
        )
        if counts[state]
    ]
    if reboot and reboot.state is RebootState.COMPLETED:
        parts.append("rebooted")
    elif reboot and reboot.mitigated_by:
        parts.append(f"a required reboot waits: {reboot.reason}")
    return ", ".join(parts)


def _join_updates_with_reasons(results: Sequence[UpdateResult]) -> str:
    """Return the first few updates with their reasons. A common reason appears once."""
    if len({result.reason for result in results}) == 1:
        names = join_first_names([result.update.name for result in results], _MAX_NAMES_SHOWN)
        return f"{names} ({results[0].reason})" if results[0].reason else names
    return join_first_names(
        [f"{result.update.name} ({result.reason or 'no reason given'})" for result in results], _MAX_NAMES_SHOWN
    )
