"""Puts a machine on which the run has failed back to the snapshot of before, and looks whether it is as it was.

The provider does it: the machine itself need not answer. The journal has the order before it is given. A run that is
resumed completes a revert that has begun, and does nothing else on the machine.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from tasks.domain.errors import FleetpatchError, ManagerBusy, ProviderError, RecordsError
from tasks.domain.model import Finding, StepRecord, UpdateResult, ValidationResult
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.machine_provider import MachineProvider
from tasks.domain.provided_machines import PowerState, ProviderAct, ProviderOrder, SnapshotResult, SnapshotState
from tasks.domain.states import FindingLevel, OperationState, Step
from tasks.rules.machine_checks.findings import describe_blocking_findings
from tasks.rules.runs.snapshots import (
    CARRIED_OUT_ACT,
    REVERT_ACT,
    SNAPSHOT_CHECK,
    RevertProgress,
    build_end_detail,
    explain_unusable,
    find_revert_reason,
    list_version_differences,
    mark_doubtful,
    mark_reverted,
    read_revert_progress,
)
from tasks.rules.undo import describe_loss
from tasks.steps.checkpoint import save_checkpoint
from tasks.steps.context import journal
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.provider_orders import (
    give_order,
    read_provided_machine,
    require_provider,
    start_if_stopped,
)
from tasks.steps.machine.reboot_obstacles import (
    MAX_TRANSACTION_SECONDS,
    TRANSACTION_POLL_SECONDS,
    find_transaction,
    require_machine_alone,
    wait_for_transactions,
)
from tasks.steps.machine.reboot_watch import read_boot_id, wait_for_boot_id
from tasks.steps.machine.retry import (
    LONGEST_PAUSE_SECONDS,
    build_retry_deadline,
    close_before_pause,
    is_transient,
    retry_transient,
)
from tasks.steps.outcome import build_outcome
from tasks.steps.snapshots import save_snapshot_row
from tasks.steps.validate import validate

_MAX_ORDERS = 3

logger = logging.getLogger(__name__)


def is_revert_begun(snapshot: SnapshotResult | None) -> bool:
    """Return whether the machine may have been put back already: nothing else is done on it then. Pure."""
    return snapshot is not None and bool(snapshot.revert_reason)


def settle_snapshot(context: MachineContext) -> None:
    """Put a machine back that failed, if the policy says so; else tell how a person can. Raises nothing.

    Neither a request to stop nor the window's end keeps the way back away: the machine would stay broken. If another
    process has taken the run over, that process does it.
    """
    snapshot, policy = context.state.snapshot, context.options.snapshot
    if snapshot is None or snapshot.taken_at is None or snapshot.revert_note or context.stop_token.is_lease_lost:
        return
    try:
        reason = snapshot.revert_reason or _find_reason(context)
        if not reason:
            return
        if not snapshot.revert_reason and (policy is None or not policy.reverts_on_failure):
            _tell_way_back(context, snapshot)
            return
        _revert_and_record(context, snapshot, reason)
    except RecordsError as error:
        context.record_failed_records(error)


def _find_reason(context: MachineContext) -> str:
    entries = context.records.read_entries(context.run.id, context.name)
    return find_revert_reason(build_outcome(context), entries)


def _tell_way_back(context: MachineContext, snapshot: SnapshotResult) -> None:
    until = f"until {snapshot.expires_at:%Y-%m-%d %H:%M} UTC" if snapshot.expires_at else "until it is deleted"
    message = f"the machine as it was before the run is in the snapshot {snapshot.id}, {until}"
    context.add_finding(Finding(SNAPSHOT_CHECK, FindingLevel.WARN, message, _find_way_back(context)))


def _find_way_back(context: MachineContext) -> str:
    """Return how a person puts the machine back. Not every provider can do it for fleetpatch."""
    try:
        require_provider(context, ProviderAct.REVERT)
    except FleetpatchError as error:
        return f"To put it back, use the console of its provider: {error.message}."
    return f"To put it back: fleetpatch undo {context.run.id} {context.name} --by snapshot"


def _revert_and_record(context: MachineContext, snapshot: SnapshotResult, reason: str) -> None:
    """Raises: RecordsError: the order could not be recorded, and was not given; or its end could not be."""
    began, progress = context.clock.now(), find_progress(context, snapshot.id)
    if not snapshot.revert_reason:
        if refusal := wait_for_others(context, require_machine_alone):
            _finish(context, f"not reverted: {refusal}", reason, began)
            return
        snapshot = replace(snapshot, revert_reason=reason, boots_before=list_boots(context))
    detail: dict[str, object] = {"reason": reason, "boots_before": list(snapshot.boots_before)}
    journal.record_start(context, Step.VALIDATE, REVERT_ACT, snapshot.id, detail)
    context.state = replace(context.state, snapshot=snapshot)
    context.report_progress(Step.VALIDATE, f"it goes back to its snapshot: {reason}")
    taken, policy = f"{snapshot.taken_at:%Y-%m-%d %H:%M:%S} UTC", context.options.snapshot
    with_data_disks = policy is not None and policy.with_data_disks
    loss = describe_loss(snapshot.taken_at or snapshot.ordered_at, began, with_data_disks=with_data_disks)
    try:
        revert(context, snapshot, progress, Step.VALIDATE)
        context.state = replace(context.state, snapshot=date_revert(context, snapshot, progress, began))
        differences = _compare(context, f"reverted to the snapshot of {taken}: {reason}")
        note = f"reverted to the snapshot of {taken}: " + (differences or "the machine is as it was before")
        note += f"; {loss}"
    except RecordsError:
        raise
    except FleetpatchError as error:
        logger.info("%s: the revert has failed: %s", context.name, error.message)
        answered = context.state.snapshot is not None and context.state.snapshot.reverted_at is not None
        note = f"reverted to the snapshot of {taken}, and could not be looked at: {error.message}; {loss}"
        if not answered and isinstance(error, NotReverted):
            note = f"not reverted: {error.message}"
        elif not answered:
            note = f"{_doubt(context, error)}: {error.message}; if it was, {loss}"
    _finish(context, note, reason, began)


def wait_for_others(
    context: MachineContext, wait: Callable[[MachineContext, str], None] = wait_for_transactions
) -> str:
    """Wait until no other process changes packages. Return "", or an error message if that takes too long.

    With ``require_machine_alone``, one that does not answer is reverted from outside. Else FleetpatchError is raised.
    """
    try:
        wait(context, "the revert")
    except ManagerBusy as error:
        return error.message
    return ""


def _finish(context: MachineContext, note: str, reason: str, began: datetime) -> None:
    snapshot = context.state.snapshot
    assert snapshot is not None  # noqa: S101 - for the type checker
    remedy = "Look at the machine."
    if snapshot.reverted_at is None:
        remedy += f" {_find_way_back(context)}"
    finding = Finding(SNAPSHOT_CHECK, FindingLevel.BLOCK, f"{note}; because: {reason}", remedy)
    validation = context.state.validation or ValidationResult(())
    validation = replace(validation, findings=(*validation.findings, finding))
    snapshot = replace(snapshot, revert_note=note)
    record = StepRecord(Step.VALIDATE, began, context.clock.now(), OperationState.FAILED, note)
    steps = (*context.state.steps, record)
    context.state = replace(context.state, validation=validation, snapshot=snapshot, steps=steps)
    if snapshot.reverted_at is not None:
        save_snapshot_row(context, snapshot, SnapshotState.REVERTED)
    save_checkpoint(context, Step.VALIDATE)
    if snapshot.revert_reason:
        journal.record_end(context, Step.VALIDATE, REVERT_ACT, snapshot.id, build_end_detail(snapshot))
    context.listener.on_step_finished(context.name, Step.VALIDATE, OperationState.FAILED.value, note)


def list_boots(context: MachineContext) -> tuple[str, ...]:
    """Return the ids of all boots of the machine so far that are known. It need not answer."""
    state = context.state
    known = [state.baseline.boot_id] if state.baseline is not None else []
    for result in state.reboots:
        known += [result.boot_id_before, result.boot_id_after]
    try:
        known.append(read_boot_id(context) or "")
    except FleetpatchError as error:
        logger.info("%s: its boot before the revert is not known: %s", context.name, error.message)
    return tuple(dict.fromkeys(filter(None, known)))


class NotReverted(ProviderError):
    """The machine was certainly not put back."""


def find_progress(context: MachineContext, snapshot_id: str) -> RevertProgress:
    """Return how far the revert to a snapshot has come in this run. Read it before the journal gets its next order."""
    return read_revert_progress(context.records.read_entries(context.run.id, context.name), snapshot_id)


def date_revert(
    context: MachineContext, snapshot: SnapshotResult, progress: RevertProgress, began: datetime
) -> SnapshotResult:
    """Return the result of a revert that has ended now. How long one took is not known if it was taken up again."""
    now = context.clock.now()
    seconds = None if progress.has_begun else (now - began).total_seconds()
    return replace(snapshot, reverted_at=now, revert_seconds=seconds)


def revert(context: MachineContext, snapshot: SnapshotResult, progress: RevertProgress, step: Step) -> None:
    """Put the OS disks back, unless that was done already, and wait until the machine answers in another boot.

    Args:
        context: of the machine.
        snapshot: the snapshot, with the boots before.
        progress: from before the journal got the order that is given now.
        step: in which it is done.

    Raises:
        NotReverted: it was not put back. Its cause says why.
        FleetpatchError: it is not known whether it was, or it does not answer.
    """
    try:
        provider = require_provider(context, ProviderAct.REVERT)
    except FleetpatchError as error:
        raise _refuse(progress, error.message) from error
    if not progress.is_carried_out:
        _order_once(context, provider, snapshot, progress)
        journal.record_end(context, step, CARRIED_OUT_ACT, snapshot.id)
    if ProviderAct.START in provider.acts:
        refusal = start_if_stopped(context, provider, read_provided_machine(context, provider))
        if (power := read_provided_machine(context, provider).power) is not PowerState.RUNNING:
            reason = refusal.message if refusal is not None else "no reason was given"
            raise ProviderError(f"it is {power} after the order to start: {reason}")
    if not wait_for_boot_id(context, lambda boot: boot is not None and boot not in snapshot.boots_before):
        raise ProviderError(f"it did not answer in a new boot in {context.coming_up_seconds:.0f} s after the revert")


def _order_once(
    context: MachineContext, provider: MachineProvider, snapshot: SnapshotResult, progress: RevertProgress
) -> None:
    """Have the OS disks put back. An order without an answer is given again only if it was not carried out.

    Raises:
        FleetpatchError: as ``revert`` says.
    """
    for orders_left in reversed(range(_MAX_ORDERS)):
        if progress.has_begun and _was_put_back(context, provider, progress):
            return
        unanswered = _order(context, provider, snapshot, progress)
        if unanswered is None:
            return
        if not orders_left:
            raise unanswered
        logger.info("%s: the revert was not answered: %s", context.name, unanswered.message)
        now = context.clock.now()
        context.report_silence(now, now + timedelta(seconds=LONGEST_PAUSE_SECONDS))
        context.clock.sleep(LONGEST_PAUSE_SECONDS)
        progress = RevertProgress(has_begun=True, boots_before=snapshot.boots_before)


def _refuse(progress: RevertProgress, message: str) -> ProviderError:
    """Return the error of an order that was not carried out. It may have been given before."""
    return ProviderError(message) if progress.has_begun else NotReverted(message)


def _was_put_back(context: MachineContext, provider: MachineProvider, progress: RevertProgress) -> bool:
    """Return whether a revert that was ordered is carried out: the machine is in a new boot.

    One that does not answer gets the time of a boot to do so, because a second revert would undo what happens in it.

    Raises:
        ProviderError: it answers, and which boot is new is not known.
        FleetpatchError: the provider does not say how it is, or another machine answers.
    """
    boots: list[str] = []

    def answers(boot: str | None) -> bool:
        boots.extend(filter(None, [boot]))
        return boot is not None

    machine = read_provided_machine(context, provider)
    if machine.power is not PowerState.RUNNING or not wait_for_boot_id(context, answers):
        return False
    if not progress.boots_before:
        raise ProviderError(
            "it answers again, and whether the revert that was ordered was carried out is not known, because it did "
            "not answer before",
            hint="Look at the machine. To put it back from where it is now, order another undo.",
        )
    return boots[-1] not in progress.boots_before


def _order(
    context: MachineContext, provider: MachineProvider, snapshot: SnapshotResult, progress: RevertProgress
) -> FleetpatchError | None:
    """Give the order once. Return why it is not known whether it was carried out, or None: it was."""
    policy = context.options.snapshot
    try:
        machine = read_provided_machine(context, provider)
    except FleetpatchError as error:  # nothing was ordered yet
        raise _refuse(progress, error.message) from error
    if fault := explain_unusable(machine, snapshot.id):
        raise _refuse(progress, f"the snapshot {snapshot.id} can't be used: {fault}")
    # others may have begun since, while the provider did not answer
    if busy := wait_for_others(context, require_machine_alone):
        raise _refuse(progress, busy)
    context.transport.close()
    with_data = policy is not None and policy.with_data_disks
    order = ProviderOrder(ProviderAct.REVERT, snapshot.id, with_data_disks=with_data)
    refusal = give_order(context, provider, order, Deadline(context.clock.now()))
    if refusal is not None and not is_transient(refusal):
        raise _refuse(progress, f"the provider did not do it: {refusal.message}")
    return refusal


def _compare(context: MachineContext, reason: str) -> str:
    """Validate a machine that was put back. Return what is not as before, or ""."""
    context.report_progress(Step.VALIDATE, "it was put back: its packages, services and probes are looked at")
    install = context.state.install
    results = install.results if install is not None else ()
    versions, at_work = _read_whole_versions(context, results)
    others = f"packages were being changed by {at_work}" if at_work else ""
    if install is not None:
        reason = "; ".join(filter(None, [reason, others]))
        install = replace(install, results=mark_reverted(results, versions, reason))
    # what was read after the installation is past: the validation reads it again
    context.state = replace(context.state, install=install, packages_after=None, validation=None)
    context.state = retry_transient(context, lambda: validate(context), build_retry_deadline(context))
    validation = context.state.validation
    blocking = describe_blocking_findings(validation.findings) if validation is not None else "not validated"
    return "; ".join(filter(None, [others, *list_version_differences(results, versions), blocking]))


def _read_whole_versions(
    context: MachineContext, results: tuple[UpdateResult, ...]
) -> tuple[dict[str, str | None], str]:
    """Read the versions, and again while another process changes packages: half changed packages are soon whole.

    Returns:
        id -> version, and who still changes packages, or "".

    Raises:
        FleetpatchError: the machine does not answer.
    """
    began, deadline = context.clock.now(), Deadline.after(context.clock, MAX_TRANSACTION_SECONDS)
    while True:
        until = build_retry_deadline(context)
        versions = retry_transient(context, lambda: _read_versions(context, results), until)
        at_work = retry_transient(context, lambda: find_transaction(context), until)
        if not at_work or deadline.has_passed(context.clock):
            return versions, at_work
        context.report_wait(f"its packages are looked at again: {at_work}", began, deadline.expires_at, Step.VALIDATE)
        close_before_pause(context, TRANSACTION_POLL_SECONDS)
        context.clock.sleep(TRANSACTION_POLL_SECONDS)


def _doubt(context: MachineContext, error: FleetpatchError) -> str:
    """Say that it is not known whether a machine was put back. Its results tell what is there now, if it says.

    Raises:
        RecordsError: the run must not go on.
    """
    doubt, install = "it may have been reverted", context.state.install
    if install is None:
        return doubt
    try:
        versions = retry_transient(
            context, lambda: _read_versions(context, install.results), build_retry_deadline(context)
        )
    except RecordsError:
        raise
    except FleetpatchError as unread:
        logger.info("%s: what is there now is not known: %s", context.name, unread.message)
        versions = None
    results = mark_doubtful(install.results, versions, f"{doubt} to its snapshot: {error.message}")
    context.state = replace(context.state, install=replace(install, results=results), packages_after=None)
    return doubt


def _read_versions(context: MachineContext, results: tuple[UpdateResult, ...]) -> dict[str, str | None]:
    if not results:
        return {}
    updates = [result.update for result in results]
    deadline = context.build_package_deadline()
    return dict(context.manager.read_installed_versions(context.transport, updates, deadline=deadline))
