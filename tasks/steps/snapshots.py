"""The snapshot of a machine before its first change: it is in the journal, taken once, and proven by the provider."""

from dataclasses import replace

from tasks.domain.errors import (
    DisksTakenBack,
    FleetpatchError,
    ManagerBusy,
    ProviderError,
    ProviderUnavailable,
    RecordsError,
)
from tasks.domain.model import Finding
from tasks.domain.provided_machines import ProviderAct, ProviderOrder, SnapshotResult, SnapshotState
from tasks.domain.rows.snapshots import SnapshotRow
from tasks.domain.states import FindingLevel, OperationState, Step
from tasks.rules.runs.snapshots import (
    PROVIDER_CHECK,
    SNAPSHOT_ACT,
    SNAPSHOT_CHECK,
    SnapshotPolicy,
    build_end_detail,
    build_snapshot_id,
    complete_result,
    describe_left_snapshots,
    explain_unusable,
)
from tasks.steps.context import journal
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.hooks import run_before_hooks
from tasks.steps.machine.provider_orders import (
    check_identity,
    describe_taken_back,
    order_and_read,
    read_provided_machine,
    require_provider,
)
from tasks.steps.machine.reboot_obstacles import find_transaction, wait_for_transactions
from tasks.steps.machine.retry import is_transient
from tasks.steps.start_checks import explain_no_start

_REMEDY = "Look at its provider, or allow patching without a snapshot (`snapshot.patch_without`)."


def check_snapshot(context: MachineContext) -> tuple[Finding, ...]:
    """Return whether a snapshot of the machine can be taken, for its pre-check. Without a request for one, nothing."""
    policy = context.options.snapshot
    if policy is None or context.state.snapshot is not None:
        return ()
    level = FindingLevel.WARN if policy.patches_without else FindingLevel.BLOCK
    try:
        provider = require_provider(context, *_list_acts(policy))
        machine = read_provided_machine(context, provider)
        if not machine.os_disks:
            raise ProviderError("the provider does not say which disk has the operating system")
        if machine.snapshot_obstacle:
            raise ProviderError(machine.snapshot_obstacle)
    except RecordsError:
        raise
    except DisksTakenBack as error:
        return (describe_taken_back(error),)
    except FleetpatchError as error:
        message = f"no snapshot of the machine can be taken: {error.message}"
        is_silent = is_transient(error)
        obstacle = Finding(PROVIDER_CHECK if is_silent else SNAPSHOT_CHECK, level, message, error.hint or _REMEDY)
        return (obstacle,) if is_silent else (obstacle, *check_identity(context, level))
    disks = ", ".join(disk.id for disk in machine.os_disks)
    good = Finding(SNAPSHOT_CHECK, FindingLevel.GOOD, f"its provider can take one of {disks}")
    return (
        good,
        *check_identity(context, level, machine),
        *describe_left_snapshots(machine, policy, context.clock.now()),
    )


def _list_acts(policy: SnapshotPolicy) -> tuple[ProviderAct, ...]:
    acts = (ProviderAct.TAKE_SNAPSHOT, ProviderAct.DELETE_SNAPSHOT)
    return (*acts, ProviderAct.REVERT) if policy.reverts_on_failure else acts


def prepare_first_change(context: MachineContext) -> bool:
    """Run the hooks before a machine, and take its snapshot, unless that is done. Return whether it may be changed.

    Call it just before the first change of the machine. If the machine may not be changed, it is halted.
    """
    return run_before_hooks(context) and take_snapshot(context)


def take_snapshot(context: MachineContext) -> bool:
    """Take the snapshot that the request asks for. Return whether the machine may be changed; if not, it is halted.

    One that an earlier process of the run has ordered is the same one: it is not taken a second time.

    Raises:
        RecordsError: the order could not be recorded, and was not given.
    """
    policy, earlier = context.options.snapshot, context.state.snapshot
    if policy is None:
        return True
    if earlier is not None and (earlier.taken_at is not None or (earlier.failure and policy.patches_without)):
        return True
    if reason := explain_no_start(context):
        context.state = replace(context.state, halted=reason, halted_as=OperationState.NOT_STARTED)
        return False
    began = context.clock.now()
    result = earlier or SnapshotResult(build_snapshot_id(context.run.id, context.name), began)
    journal.record_start(context, Step.INSTALL, SNAPSHOT_ACT, result.id)
    save_snapshot_row(context, result, SnapshotState.UNKNOWN)  # early: one that is ordered is never forgotten
    passes = False
    try:
        result = _order_and_prove(context, replace(result, ordered_at=began), policy)
    except RecordsError:
        raise
    except DisksTakenBack as error:  # it is not changed, also not without a snapshot. A resumed run orders again.
        context.add_finding(describe_taken_back(error))
        halted = f"not changed: {error.message}"
        context.state = replace(context.state, halted=halted, halted_as=OperationState.FAILED)
        return False
    except FleetpatchError as error:
        result, passes = replace(result, failure=error.message), is_transient(error)
    context.state = replace(context.state, snapshot=result)
    save_snapshot_row(context, result, SnapshotState.UNKNOWN if result.failure else SnapshotState.TAKEN)
    journal.record_end(context, Step.INSTALL, SNAPSHOT_ACT, result.id, build_end_detail(result))
    return _judge(context, result, policy, passes=passes)


def save_snapshot_row(context: MachineContext, result: SnapshotResult, state: SnapshotState) -> None:
    """Store what is known of a snapshot. Raise RecordsError if that fails."""
    policy, now = context.options.snapshot or SnapshotPolicy(), context.clock.now()
    row = SnapshotRow(
        snapshot=result.id,
        machine=context.name,
        provider=context.state.machine.provider,
        run_id=context.run.id,
        ordered_at=result.ordered_at,
        expires_at=result.expires_at or policy.find_expiry(result.ordered_at),
        state=state,
        consistency=result.consistency,
        used_bytes=result.used_bytes,
        changed_at=now,
        note=result.failure,
    )
    context.run_context.save_snapshot(row)


def _judge(context: MachineContext, result: SnapshotResult, policy: SnapshotPolicy, *, passes: bool) -> bool:
    if not result.failure:
        until = f"{result.expires_at:%Y-%m-%d %H:%M} UTC" if result.expires_at else "it is deleted"
        message = f"{result.id} was taken before the first change: {result.consistency.value}, kept until {until}"
        context.add_finding(Finding(SNAPSHOT_CHECK, FindingLevel.GOOD, message))
        return True
    failure = f"no snapshot was taken: {result.failure}"
    if policy.patches_without:
        context.add_finding(Finding(SNAPSHOT_CHECK, FindingLevel.WARN, failure, _REMEDY))
        return True
    halted_as = OperationState.NOT_STARTED if passes else OperationState.FAILED
    context.add_finding(Finding(SNAPSHOT_CHECK, FindingLevel.BLOCK, failure, _REMEDY))
    context.state = replace(context.state, halted=f"not changed: {failure}", halted_as=halted_as)
    return False


def _order_and_prove(context: MachineContext, result: SnapshotResult, policy: SnapshotPolicy) -> SnapshotResult:
    """Order the snapshot, and return it as the provider has it. One that lacks a disk is deleted again.

    Raises:
        ProviderUnavailable: that can't be told now, or the provider did not answer, and has taken none.
        ManagerBusy: others change packages.
        FleetpatchError: there is none that the machine can be put back to, or that can't be told.
    """
    provider = require_provider(context, *_list_acts(policy))
    wait_for_transactions(context, "a snapshot")
    machine, refusal = order_and_read(context, provider, ProviderOrder(ProviderAct.TAKE_SNAPSHOT, result.id))
    snapshot, fault = machine.find_snapshot(result.id), explain_unusable(machine, result.id)
    others = find_transaction(context) if not fault else ""
    if others:
        fault = f"others began to change packages while it was taken: {others}"
    if snapshot is not None and not fault:
        return complete_result(result, snapshot, policy, context.clock.now())
    is_silent = snapshot is None and refusal is not None and is_transient(refusal)
    error_class = ManagerBusy if others else ProviderUnavailable if is_silent else ProviderError
    if snapshot is not None:
        machine, _ = order_and_read(context, provider, ProviderOrder(ProviderAct.DELETE_SNAPSHOT, result.id))
        fault += "; it could not be deleted" if machine.find_snapshot(result.id) else "; it is deleted again"
    raise error_class(f"{refusal.message}; {fault}" if refusal is not None else fault)
