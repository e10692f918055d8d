"""Composition root: build inventory, records, transports and package managers for a run."""

import functools
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from flows.engine.progress_recorder import ProgressRecorder
from flows.engine.run_info import is_rollout_run
from flows.machine_providers.fleet_providers import FleetProviders
from flows.notify.audit_forwarding import forward_audit_log
from flows.notify.notifier import AppriseNotifier, open_notifier, to_credential_reference
from flows.notify.told_events import ToldEvents
from flows.ports.audit import find_flow_runs_of_run
from flows.ports.caller import Caller
from flows.ports.ports import DEFAULT_SHARD_SIZE, FreezeSource, Gate, GateDecision, Notifier, Ports
from flows.ports.shards import ShardRuns
from flows.prefect_api.connection import connect_prefect
from flows.report_process import write_report_apart
from flows.request import PatchRequest, RunRequest
from flows.request.automatic_request import AUTOMATIC_CONFIGURATION
from inventory.credentials import Credential, Secret, SecretSources, resolve_credential, resolve_own_secret
from inventory.loader import find_inventory, load_inventory
from inventory.machine import Inventory, Machine
from inventory.named_files import COMPONENTS_FILE, IMAGES_FILE
from inventory.secret_store import CertificateIssuer, SecretStore
from tasks.domain.components import Component
from tasks.domain.errors import CannotRun, CredentialError, RecordsError, RequestError
from tasks.domain.images import IMAGE_PREFIX
from tasks.domain.model import Hook, HookResult, PinnedUpdates, RunReport
from tasks.domain.protocols.clock import Clock, Deadline, SystemClock
from tasks.domain.protocols.transport import Transport
from tasks.domain.undo import UndoOrder
from tasks.machines.managers.registry import find_manager
from tasks.machines.transport.lockout_guard import LockoutGuard
from tasks.machines.transport.open_port import is_port_open
from tasks.records.audit.deployed_policies import read_deployed_policies
from tasks.records.audit.log import SqlAuditLog
from tasks.records.provided_machines import SqlProvidedMachines
from tasks.records.queries.history import History
from tasks.records.retention import apply_retention
from tasks.records.run_progress import SqlRunProgress
from tasks.records.scheduled_events import SqlScheduledEvents
from tasks.records.schema import metadata
from tasks.records.set_slots import SqlSetSlots
from tasks.records.setup import open_records
from tasks.records.snapshots import SqlSnapshots
from tasks.records.sql_records import SqlRecords
from tasks.records.storage.online_indexes import build_missing_indexes

if TYPE_CHECKING:
    from tasks.rules.automatic.progress import RolloutProgress

logger = logging.getLogger(__name__)

SHARD_SIZE_VARIABLE = "FLEETPATCH_SHARD_SIZE"
PRUNE_TIMEOUT_SECONDS = 10.0
"""The time limit of a finished run for the deletion of old history. The next run deletes the rest."""


def read_prefect_secret(block: str) -> str:
    """Return the value of a Prefect Secret block.

    Raises:
        CredentialError: the block does not exist, or Prefect can't be reached.
    """
    from prefect.blocks.system import Secret  # noqa: PLC0415 - loading Prefect takes a second that plain runs save

    try:
        connect_prefect()
    except CannotRun as error:
        raise CredentialError(
            f"Prefect secret block {block!r} can't be read: {error.message}", hint=error.hint
        ) from error
    try:
        loaded = Secret.load(block)
    except ValueError as error:
        hint = f"Create it: fleetpatch prefect block create secret, with the name {block!r}."
        raise CredentialError(f"there is no Prefect secret block {block!r}", hint=hint) from error
    if not isinstance(loaded, Secret):  # inside an event loop Prefect returns a coroutine
        raise CredentialError(f"Prefect secret block {block!r} can't be read from asynchronous code")
    return str(loaded.get())


@functools.cache
def _open_secret_sources() -> SecretSources:
    """Return the services that keep secrets. All runs of a process share a login there, and certificates."""
    return SecretSources(
        read_prefect_secret, _open_secret_store, CertificateIssuer(_open_secret_store, lambda: datetime.now(UTC))
    )


@functools.cache
def _open_secret_store() -> SecretStore:
    from tasks.machines.secret_stores.vault import open_vault  # noqa: PLC0415 - loads an HTTP client that most runs do not need

    return open_vault(os.environ)


def read_credential(reference: str) -> Credential:
    """Return the credential of a reference. Raise CredentialError if the reference leads to nothing."""
    return resolve_credential(reference, _open_secret_sources())


def read_own_secret(reference: str) -> Secret:
    """Return the secret that an option of a command names. It may be one of the controller's own.

    Raises:
        CredentialError: the reference leads to no password or token.
    """
    return resolve_own_secret(reference, _open_secret_sources())


def open_run_notifier(request: RunRequest, caller: Caller) -> AbstractContextManager[AppriseNotifier]:
    """Return a context manager of a request's notifier. On exit it waits some seconds for unsent messages."""
    requested = request.notify if isinstance(request, PatchRequest) else ()
    return open_notifier(requested, read_credential, caller.listener.on_message)


def require_readable_targets(request: RunRequest, events: Collection[str]) -> None:
    """Require that this process can notify each target of one of these events.

    Raises:
        CredentialError: the address or the key of a target can't be read here.
    """
    for target in request.notify if isinstance(request, PatchRequest) else ():
        if not set(target.on).isdisjoint(events):
            for reference in filter(None, (target.to, target.key)):
                read_credential(to_credential_reference(reference))


def _build_freeze_source(request: RunRequest, caller: Caller, clock: Clock) -> FreezeSource:
    if not isinstance(request, PatchRequest):
        return tuple
    # The deployment of automatic patching has the tag of a configuration of this name, which no other may have.
    configuration = request.configuration or (AUTOMATIC_CONFIGURATION if is_rollout_run(request) else "")
    if not configuration:
        return tuple
    from flows.prefect_api.deployment_changes import DeclaredFreezes  # noqa: PLC0415 - loads Prefect: one second

    return DeclaredFreezes(configuration, request.window.zone, caller.listener.on_message, clock)


@contextmanager
def open_ports(request: RunRequest, caller: Caller) -> Iterator[Ports]:
    """Open the ports of a run on real machines. At the end of the block, close the records.

    If the block raised nothing, history that is past its retention is deleted before that, for some seconds at most.

    Raises:
        InventoryError: the inventory can't be found or used.
        RecordsError: the records can't be opened.
    """
    inventory = load_inventory(find_inventory(request.inventory))
    clock, logins = SystemClock(), LockoutGuard()

    def connect(machine: Machine) -> Transport:
        from tasks.machines.transport.session_factory import build_session  # noqa: PLC0415 - loads paramiko: not for readers

        return build_session(machine, inventory, clock=clock, resolve_credential=read_credential, lockout_guard=logins)

    with (
        open_records(caller.records_url) as records,
        forward_audit_log(records.database, read_own_secret),
        open_run_notifier(request, caller) as tell,
    ):

        def open_shard_runs() -> ShardRuns:
            from flows.prefect_runtime.shard_runs import PrefectShardRuns  # noqa: PLC0415 - loads Prefect: one second

            return PrefectShardRuns(records, clock, request)

        def call_hook(hook: Hook, report: RunReport, subject: str, deadline: Deadline) -> HookResult:
            from flows.hooks.dispatch import build_hook_dispatcher  # noqa: PLC0415 - most runs have no hooks

            call = build_hook_dispatcher(clock, caller.stop_token, records.leases.request_stop, audit.append)
            return call(hook, report, subject, deadline)

        audit = SqlAuditLog(records.database)
        component_ports = _open_components(records, inventory, request, caller, clock)
        recorder = ProgressRecorder(caller.listener, SqlRunProgress(records.database), clock)
        provided_machines = SqlProvidedMachines(records.database, records.seals)
        yield Ports(
            inventory=inventory,
            clock=clock,
            records=records,
            leases=records.leases,
            connect=connect,
            is_port_open=is_port_open,
            find_manager=find_manager,
            listener=recorder,
            progress=recorder,
            stop_token=caller.stop_token,
            read_logs=lambda report: History(records).open_job_logs(report.run.id),
            notify=tell,
            wait_for_messages=tell.wait_until_sent,
            gate=_build_gate(request, records, clock, recorder, tell, audit),
            open_shard_runs=open_shard_runs,
            shard_size=read_shard_size(),
            write_report_apart=functools.partial(write_report_apart, records_url=caller.records_url),
            call_hook=call_hook,
            find_pinned_updates=functools.partial(_find_pinned_updates, records),
            find_undo_order=functools.partial(_find_undo_order, records),
            find_flow_runs=functools.partial(find_flow_runs_of_run, audit),
            read_declared_freezes=_build_freeze_source(request, caller, clock),
            set_slots=SqlSetSlots(records.database),
            events=ToldEvents(SqlScheduledEvents(records.database), tell.tell_event),
            read_rollout=functools.partial(_read_rollout, records, clock),
            append_audit=audit.append,
            read_deployed_policies=functools.partial(read_deployed_policies, audit),
            open_provider=FleetProviders(inventory, clock, connect, provided_machines).open,
            save_snapshot=SqlSnapshots(records.database, records.seals).save,
            **component_ports,
        )
        _prune_history(records, clock, caller)


def _open_components(
    records: SqlRecords, inventory: Inventory, request: RunRequest, caller: Caller, clock: Clock
) -> dict[str, Any]:
    """Return the ports of components, and of images; none if there is no file of them."""
    requested, say = request.component if isinstance(request, PatchRequest) else "", caller.listener.on_message
    is_image, path = requested.startswith(IMAGE_PREFIX), inventory.source
    sources: list[Any] = []
    enrolled: Mapping[str, tuple[str, ...]] = {}
    # for new OS disks, also without a file: what is enrolled would be lost
    if requested or COMPONENTS_FILE.is_used(path):
        from flows.components.fleet_components import FleetComponents  # noqa: PLC0415 - few fleets have components

        of_run = "" if is_image else requested
        components = FleetComponents(records, inventory, path, clock, say, of_run, replaces_disks=is_image)
        enrolled = components.enrolled
        sources.append(components)
    if is_image or IMAGES_FILE.is_used(path):
        from flows.images.fleet_images import FleetImages  # noqa: PLC0415 - few fleets have images

        sources.append(FleetImages(records, inventory, say, requested if is_image else "", enrolled))
    if not sources:
        return {}

    def list_components(machine: Machine) -> tuple[Component, ...]:
        return tuple(component for source in sources for component in source.list_components(machine))

    # that of the images is the last one
    source = sources[-1 if is_image else 0]
    return {
        "list_components": list_components,
        "find_component_order": source.find_order,
        "find_withdrawal": source.find_withdrawal,
    }


def read_shard_size() -> int:
    """Return how many machines one process carries out at most.

    Raises:
        RequestError: the variable is no such number.
    """
    text = os.environ.get(SHARD_SIZE_VARIABLE, "")
    if not text:
        return DEFAULT_SHARD_SIZE
    if not (text.isdecimal() and int(text)):
        raise RequestError(f"{SHARD_SIZE_VARIABLE}={text!r} is no number of machines", hint="Write a number from 1.")
    return int(text)


def _build_gate(
    request: RunRequest,
    records: SqlRecords,
    clock: Clock,
    recorder: ProgressRecorder,
    tell: Notifier,
    audit: SqlAuditLog,
) -> Gate:
    if not isinstance(request, PatchRequest):
        return lambda _report, _stop_token: GateDecision()
    if request.shard:
        from flows.engine.shard_state import ShardGate  # noqa: PLC0415 - an assessment needs none of them

        return ShardGate(History(records, require_seals=True), request)
    from flows.approval.gate import build_gate  # noqa: PLC0415 - the same
    from tasks.records.approvals import SqlApprovals  # noqa: PLC0415 - the same

    return build_gate(SqlApprovals(records.database), records, clock, recorder, tell, audit.append)


def _find_pinned_updates(records: SqlRecords, run_name: str) -> PinnedUpdates:
    from flows.engine.pinned_updates import find_pinned_updates  # noqa: PLC0415 - most runs choose their own updates

    return find_pinned_updates(History(records), run_name)


def _find_undo_order(records: SqlRecords, run_name: str) -> UndoOrder:
    from flows.engine.undo_orders import find_undo_order  # noqa: PLC0415 - few runs take others back

    find_snapshots = SqlSnapshots(records.database, records.seals).find_of_run
    return find_undo_order(History(records, require_seals=True), run_name, find_snapshots)


def _read_rollout(records: SqlRecords, clock: Clock, report: RunReport) -> "RolloutProgress | None":
    from tasks.records.automatic.rollouts import read_rollout_progress  # noqa: PLC0415 - only reports need it

    try:
        return read_rollout_progress(records.database, report, clock.now())
    except RecordsError as error:
        logger.warning("the report of run %s is without its rollout: %s", report.run.id, error)
        return None


def _prune_history(records: SqlRecords, clock: Clock, caller: Caller) -> None:
    """Delete history that is past its retention, and build missing indexes. The run is over: errors are only logged."""
    until = clock.now() + timedelta(seconds=PRUNE_TIMEOUT_SECONDS)
    try:
        pruned = apply_retention(records, clock.now(), lambda: clock.now() < until)
        build_missing_indexes(records.database, metadata)
    except RecordsError as error:
        logger.warning("the records could not be tidied: %s", error.message)
        return
    if pruned.runs or pruned.assessments:
        caller.listener.on_message(
            f"deleted {pruned.runs} old runs and {pruned.assessments} old assessments: "
            "`fleetpatch history` shows how long they are kept"
        )
