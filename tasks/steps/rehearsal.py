"""A rehearsal: a copy of a machine is started by its provider, patched by the same steps, and thrown away."""

from collections.abc import Set
from dataclasses import replace
from datetime import datetime

from inventory.machine import Machine, TransportKind
from tasks.domain.errors import FleetpatchError, ProviderError
from tasks.domain.model import Assessment, ErrorInfo, JobOutput, Outcome, RunInfo, RunReport, UpdateKey, Window
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.protocols.records import JournalEntry, Records
from tasks.domain.provided_machines import Overlay, PowerState, ProviderAct, ProviderOrder
from tasks.domain.states import OperationState, Step
from tasks.machines.transport.open_port import DEFAULT_PORT
from tasks.rules.machine_checks.findings import describe_blocking_findings
from tasks.rules.rehearsal import select_copy_checks
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_context import MachineInstances, RunContext
from tasks.steps.context.run_control import LoggingListener, ProgressListener
from tasks.steps.machine.provider_orders import check_identity, order_and_read, read_provided_machine, require_provider
from tasks.steps.machine.retry import MAX_POLL_SECONDS
from tasks.steps.outcome import build_outcome
from tasks.steps.pipeline import call_step_with_retries, find_settle_end, run_steps

_ACTS = (ProviderAct.START_OVERLAY, ProviderAct.DELETE_OVERLAY)


class CopyRecords:
    """Records for the work on a copy: they know the machine's past, and nothing of the copy is kept in them."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._entries: list[JournalEntry] = []

    def append_entry(self, entry: JournalEntry) -> None:
        """Keep it for this copy alone."""
        self._entries.append(entry)

    def read_entries(self, run_id: str, machine: str | None = None) -> tuple[JournalEntry, ...]:
        """Return those of this copy."""
        return tuple(e for e in self._entries if e.run_id == run_id and machine in {None, e.machine})

    def save(self, item: RunInfo | Assessment | Outcome | JobOutput | RunReport) -> None:
        """Do nothing: it is not the machine that this is about."""

    def read_measure(self, machine: str, measure: str) -> float | None:
        """Return that of the machine."""
        return self._records.read_measure(machine, measure)

    def read_last_assessment(self, machine: str) -> Assessment | None:
        """Return that of the machine."""
        return self._records.read_last_assessment(machine)

    def read_first_seen(self, updates: Set[UpdateKey]) -> dict[UpdateKey, datetime]:
        """Return those of the fleet."""
        return self._records.read_first_seen(updates)

    def with_lease(self, run_id: str, holder: LeaseHolder) -> Records:  # noqa: ARG002 - the protocol's
        """Return these records: nothing of them outlives the copy."""
        return self


class _CopyListener(LoggingListener):
    """Tells the ends of the steps on a copy as messages of the run: the machine itself has not begun.

    What is done on the copy now, or waited for, is the progress of the machine.
    """

    def __init__(self, listener: ProgressListener) -> None:
        self._listener = listener

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Tell it."""
        text = f"rehearsal on its copy: {step}: {message}" if message else f"rehearsal on its copy: {step}"
        self._listener.on_progress(machine, Step.ASSESS, fraction, text)

    def on_step_finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """Tell it."""
        text = f"{step}: {state}: {message}" if message else f"{step}: {state}"
        self._listener.on_message(f"rehearsal on a copy of {machine}: {text}")


def require_no_copy(context: MachineContext) -> None:
    """Raise FleetpatchError if a machine can't be copied, or has a copy already. Nothing is made."""
    if context.state.machine.transport is not TransportKind.SSH:
        raise ProviderError("only the copy of a machine that is reached by SSH can be rehearsed on")
    provider = require_provider(context, *_ACTS)
    before = read_provided_machine(context, provider)
    if refusal := describe_blocking_findings(check_identity(context, provided=before)):
        raise ProviderError(refusal)
    if before.overlay is not None:
        hint = "Wait for the run in its name. If that is over, delete the copy as the documentation on rehearsals says."
        raise ProviderError(f"there is a copy of it already: {before.overlay.id}", hint=hint)
    if before.power is not PowerState.RUNNING:
        raise ProviderError(f"it does not run, so there is nothing to copy ({before.power})")


def start_copy(context: MachineContext, overlay_id: str) -> Overlay:
    """Start the copy of a machine, and return it. Raise FleetpatchError: a part of one may exist."""
    provider = require_provider(context, *_ACTS)
    after, refusal = order_and_read(context, provider, ProviderOrder(ProviderAct.START_OVERLAY, overlay_id))
    overlay = after.overlay
    if overlay is None or overlay.id != overlay_id or overlay.power is not PowerState.RUNNING or not overlay.address:
        raise ProviderError(f"its copy did not start: {_explain(refusal)}")
    return overlay


def delete_copy(context: MachineContext, overlay_id: str) -> None:
    """Delete the copy of a machine, if it is there. One of another rehearsal stays. Raise FleetpatchError."""
    provider = require_provider(context, *_ACTS)
    after, refusal = order_and_read(context, provider, ProviderOrder(ProviderAct.DELETE_OVERLAY, overlay_id))
    if after.overlay is not None and after.overlay.id == overlay_id:
        raise ProviderError(f"it could not be deleted: {_explain(refusal)}")


def _explain(refusal: FleetpatchError | None) -> str:
    return refusal.message if refusal is not None else "its provider does not say why"


def patch_copy(context: MachineContext, overlay: Overlay) -> Outcome:
    """Patch the copy of a machine by the same steps as the machine, and return its outcome. Errors are part of it."""
    machine = build_copy_machine(context.state.machine, overlay)
    run_context = _build_run_context(context)
    try:
        transport = run_context.connect(machine)
    except FleetpatchError as error:
        info = ErrorInfo.from_error(error)
        return Outcome(context.run.id, context.name, OperationState.FAILED, info.message, error=info)
    copy = MachineContext(run_context, transport, MachineState(machine))
    copy.is_retry_disabled = True
    began, until_up = copy.clock.now(), Deadline.after(copy.clock, context.coming_up_seconds)
    while True:  # what it lacks in the end is in its state
        run_steps(copy, call_step_with_retries, last=Step.ASSESS)
        failure, left = copy.state.error, until_up.remaining_seconds(copy.clock)
        if failure is None or not failure.transient or left <= 0 or copy.stop_token.is_stopping:
            break
        booting = f"it boots, or can't be assessed yet ({failure.message})"
        copy.report_wait(booting, began, until_up.expires_at, Step.ASSESS)
        copy.clock.sleep(min(MAX_POLL_SECONDS, left))
        copy.forget_assessment()
    run_steps(copy, call_step_with_retries)
    while (until := find_settle_end(copy)) is not None:
        copy.clock.sleep((until - copy.clock.now()).total_seconds())
        run_steps(copy, call_step_with_retries)
    return build_outcome(copy)


def build_copy_machine(machine: Machine, overlay: Overlay) -> Machine:
    """Return how the copy of a machine is reached: by its original's login and host keys."""
    return replace(
        machine,
        address=overlay.address,
        port=overlay.port,
        jump=(overlay.through,) if overlay.through else (),
        host_keys_of=(machine.address, machine.port or DEFAULT_PORT),
        pre_checks=select_copy_checks(machine.pre_checks)[0],
        probes=select_copy_checks(machine.probes)[0],
        wake=None,
        guests=None,
        mirror="",
        hypervisor="",
        provider="",
    )


def _build_run_context(context: MachineContext) -> RunContext:
    """Return the run of a copy: as long a window that is open now, nobody who is told, and no hooks of the owner."""
    run, window, now = context.run, context.window, context.clock.now()
    return replace(
        context.run_context,
        run=replace(run, window=Window(now, now + (window.end - window.start), window.zone)),
        options=replace(context.options, hooks=(), announce=None, snapshot=None),
        records=CopyRecords(context.records),
        listener=_CopyListener(context.listener),
        explain_spent_budget=lambda: "",
        instances=MachineInstances(),
        attempts={},
        events=None,
        open_provider=lambda _machine: None,
    )
