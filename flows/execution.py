"""Execute or resume a run, with a run lease and with records that are retried."""

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace

from flows.composition import open_ports
from flows.engine.fleet_run import FleetRun
from flows.engine.resume_state import ResumeState, parse_recorded_request, require_resumable
from flows.engine.retrying_records import RetryingEvents, RetryingRecords, build_retrying_appender
from flows.engine.run_info import build_request_window, build_run_id, select_machines
from flows.engine.run_lease import LeaseRenewer, build_component_lease, build_holder, release_component_lease
from flows.engine.shard_state import read_left_state, read_shard_state, require_shard
from flows.holding.application import applies_package, register_application
from flows.policy.enforcement import build_starter, enforce_policy, read_policy_freezes
from flows.policy.fleet_freezes import RereadFreezes, load_fleet_freezes
from flows.policy.policy_file import load_policy_if_deployed
from flows.ports.audit import build_entry, record_act, record_end
from flows.ports.caller import Caller, find_actor, find_starter_name
from flows.ports.ports import FreezeSource, Ports, Runner
from flows.request import PatchRequest, RunRequest
from inventory.sites import SITE_VARIABLE, find_site
from tasks.domain.errors import Frozen, PolicyRefused, RequestError, SealBroken, SealKeyMissing
from tasks.domain.model import RunReport
from tasks.domain.protocols.clock import Clock, SystemClock
from tasks.domain.rows.audit import AuditResult
from tasks.domain.run_errors import RunBegun
from tasks.domain.states import OperationState
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.reports.report_directory import require_writable_directory
from tasks.rules.calendar.freezes import Freeze

RunnerFactory = Callable[[RunRequest, Ports], Runner]


def execute_run(
    run: RunRequest | str,
    caller: Caller,
    build_runner: RunnerFactory,
    *,
    ports: Ports | None = None,
    flow_run_id: str = "",
) -> RunReport:
    """Begin the run of a request, or resume a run by its id. Return at the end of the run.

    A resumed run keeps its window. The machines are read first: the run waits for jobs that still run, reads finished
    jobs and compares boot ids. Only then it begins something new. If the caller's ``stop_token`` is already stopped,
    the run is finalized: nothing new begins, it waits for jobs that run, and it records each machine's state.

    Args:
        run: a request, or the id of a run, or a unique prefix of the id.
        caller: the caller.
        build_runner: returns the runner: Prefect's or the local one.
        ports: the connections to the outside; the real ones by default.
        flow_run_id: Prefect's id of this attempt.

    Raises:
        InventoryError: the inventory, the scope or the policy is not usable.
        LeaseHeld: another process has the lease of the run, or another run upgrades the same component.
        PolicyRefused: the policy forbids the run. A run that is resumed is finalized instead: it begins nothing more.
        RecordsError: the run does not exist, or the records are not usable.
        SealBroken: the recorded run was changed in the database. Nothing of it is done. If the run is to be finalized,
            it ends without a look at any machine instead.
        SealKeyMissing: another controller has sealed the run. With the caller's ``ends_without_key`` it ends in the
            same way instead.
        ReportError: the report directory of the request is not writable. Nothing has begun.
        RunBegun: another process of the same flow run has begun this run already.
        RequestError: the run to resume is over, or it only assessed machines, or it belongs to another site.
    """
    if not isinstance(run, str):
        if run.report_directory is not None:
            require_writable_directory(run.report_directory)
        with nullcontext(ports) if ports is not None else open_ports(run, caller) as opened:
            source = opened.inventory.source
            if source is not None:  # a process that resumes the run uses the same inventory
                run = run.model_copy(update={"inventory": source.absolute()})
            run_id = caller.run_id or build_run_id(opened.clock.now())
            read_state: Callable[[], ResumeState | None] | None = None
            if run.shard:
                run_id, read_state = run.shard, functools.partial(_read_shard, run, caller, opened.clock, flow_run_id)
            connected = opened if flow_run_id else replace(opened, open_shard_runs=None)
            with open_run(run, caller, build_runner, connected, run_id, flow_run_id, read_state) as fleet_run:
                return fleet_run.execute()
    with open_records(caller.records_url) as records:
        try:
            history = History(records, require_seals=True)
            recorded_run = history.find_run(run)
            request, run_id = parse_recorded_request(recorded_run), recorded_run.id
            if recorded_run.site != (site := find_site()):
                message = f"run {run_id} belongs to the site {recorded_run.site}, and this process to the site {site}"
                raise RequestError(message, hint=f"Resume it at its site ({SITE_VARIABLE}); reconcile-fleet does that.")
            read_state = functools.partial(read_left_state, history, run_id)
            with (
                nullcontext(ports) if ports is not None else open_ports(request, caller) as opened,
                open_run(
                    request,
                    caller,
                    build_runner,
                    opened,
                    run_id,
                    flow_run_id,
                    read_state,
                    is_resumed=True,
                ) as fleet_run,
            ):
                return fleet_run.execute()
        except (SealBroken, SealKeyMissing) as error:
            may_end = caller.stop_token.is_stopping if isinstance(error, SealBroken) else caller.ends_without_key
            if not may_end:
                raise
            return _end_unreadable_run(run, records, caller, error.message)


def _read_shard(request: RunRequest, caller: Caller, clock: Clock, flow_run_id: str) -> ResumeState | None:
    """Return the state from which a shard's run begins; None if it only plans or assesses.

    Raises:
        RequestError: the whole run does not want it.
        RecordsError: the records can't be read, or were changed.
    """
    with open_records(caller.records_url) as records:
        history = History(records, require_seals=True)
        whole = require_shard(history, request, flow_run_id)
        if not isinstance(request, PatchRequest) or request.dry_run:
            return None
        return read_shard_state(history, request, whole, clock.now())


def _end_unreadable_run(run: str, records: SqlRecords, caller: Caller, fault: str) -> RunReport:
    """End a run whose record may have been changed. Its inventory may be another one, so no machine is contacted.

    Raises:
        LeaseHeld: another process executes the run.
        RequestError: the run is over.
    """
    changed = require_resumable(History(records).find_run(run))
    holder = build_holder(find_starter_name(caller))
    message = f"{fault}. It was ended without a look at its machines: jobs may still run there. Assess them."
    ended = replace(
        changed,
        state=OperationState.FAILED,
        request={},
        ended_at=SystemClock().now(),
        message=message,
        notes_publication=False,  # the request had the targets of notifications, so no process can publish this end
    )
    with LeaseRenewer(records.leases, changed.id, caller.stop_token, holder):
        records.with_lease(changed.id, holder).save(ended)
    return RunReport(ended, ())


@contextmanager
def open_run(
    request: RunRequest,
    caller: Caller,
    build_runner: RunnerFactory,
    ports: Ports,
    run_id: str,
    flow_run_id: str = "",
    read_state: Callable[[], ResumeState | None] | None = None,
    *,
    is_resumed: bool = False,
) -> Iterator[FleetRun]:
    """Build the environment of a run, in this one place: its lease, its policy, its records, its runner.

    It is in the audit log from here to the end of the block. ``read_state`` returns what an earlier process left, for a
    run that is resumed; or what the whole run has planned, for that of a shard. See ``execute_run`` for the errors.
    """
    starter, actor = find_starter_name(caller), find_actor(caller)
    with ExitStack() as stack:
        records, holder = ports.records, None
        still_holds_lease: Callable[[], bool] = lambda: True  # noqa: E731 - a run that only looks needs no lease
        if isinstance(request, PatchRequest) and not request.dry_run:
            holder = build_holder(starter)
            if not is_resumed:
                ports.leases.require_known_stops()
            if request.component:  # before the lease of the run, which then has the last word
                release_component_lease(ports.leases, run_id, request.component)
                lease = build_component_lease(request.component)
                stack.enter_context(LeaseRenewer(ports.leases, lease, ports.stop_token, holder))
            lease_renewer = LeaseRenewer(ports.leases, run_id, ports.stop_token, holder)
            still_holds_lease = stack.enter_context(lease_renewer).still_holds_lease
            records = records.with_lease(run_id, holder)
            if not is_resumed and flow_run_id:
                # Another process of this flow run may have begun and ended the run since this one looked for it.
                with open_records(caller.records_url) as looked_up:
                    begun = History(looked_up).find_run_by_flow_run(flow_run_id)
                if begun is not None and begun.id == run_id:
                    raise RunBegun(f"another process of this flow run has begun run {run_id}")
        stack.enter_context(ports.progress.record_run(run_id, holder))
        # Read the state with the lease held: no other process changes the run then.
        resume_state = read_state() if read_state is not None else None
        window = (
            resume_state.run.window if resume_state is not None else build_request_window(request, ports.clock.now())
        )
        until = window.end if window is not None else None
        detail = _describe_start(request, starter, flow_run_id, is_resumed=is_resumed)
        try:
            request = _enforce_policy(request, caller, ports, starter, resume_state)
        except PolicyRefused as refused:
            refusal = build_entry(actor, ports.clock, "run", run_id, detail, AuditResult.REFUSED, refused.message)
            record_end(ports.append_audit, refusal)
            raise
        if not is_resumed and isinstance(request, PatchRequest) and window is not None and applies_package(request):
            with open_records(caller.records_url) as opened:
                register_application(
                    opened.database,
                    request,
                    run_id,
                    starter,
                    window,
                    ports.clock.now(),
                    is_scheduled=caller.source == "schedule",
                    flow_run_id=flow_run_id,
                )
        declared_freezes, overridden_freezes = _find_freezes(request, ports, resume_state)
        environment = replace(
            ports,
            records=RetryingRecords(records, ports.clock, until, ports.listener, still_holds_lease),
            events=None
            if ports.events is None
            else RetryingEvents(ports.events, ports.clock, until, ports.listener, still_holds_lease),
            read_declared_freezes=declared_freezes,
            read_overridden_freezes=overridden_freezes,
            handle_report_error=ports.handle_report_error
            if caller.report_errors is None
            else caller.report_errors.__setitem__,
        )
        fleet_run = FleetRun(
            request,
            environment,
            build_runner(request, environment),
            run_id=run_id,
            flow_run_id=flow_run_id,
            started_by=starter,
            role_scope=caller.scope,
            resume_state=resume_state,
        )
        append = build_retrying_appender(ports.append_audit, ports.clock, until)
        with record_act(append, actor, ports.clock, "run", run_id, detail) as act:
            yield fleet_run
            ended = fleet_run.info
            act.message = f"{ended.state}: {ended.message}" if ended.message else ended.state.value
            if ended.state is OperationState.FAILED:
                act.result = AuditResult.FAILED


def _describe_start(request: RunRequest, starter: str, flow_run_id: str, *, is_resumed: bool) -> str:
    """Return what begins, for the audit log. All doors come here: the command, Python, forms, schedules, the pages."""
    kind, configuration = "assess", ""
    if isinstance(request, PatchRequest):
        kind, configuration = "plan" if request.dry_run else "patch", request.configuration
    started = {
        "kind": kind,
        "flow_run": flow_run_id,  # before long texts: recovery reads it, and the log cuts its end off
        "resumed": is_resumed,
        "scope": request.scope,
        "started_by": starter,
        "configuration": configuration,
        "override_freeze": request.override_freeze if isinstance(request, PatchRequest) else "",
    }
    return json.dumps({name: value for name, value in started.items() if value})


def _enforce_policy(
    request: RunRequest, caller: Caller, ports: Ports, starter: str, resume_state: ResumeState | None
) -> RunRequest:
    """Return the request as the policy allows it. That of a shard stays as it is: the rules are asked of the whole run.

    A run that is resumed may be under way on machines. If rules or the scope of its starter's role forbid it by now, it
    completes that, and no more. Who resumes it is held by the scope of the own role as well.

    Raises:
        InventoryError: the policy can't be read, so nothing may begin or go on.
        PolicyRefused: the policy forbids the run, or is not one that was deployed, or the scope of the caller's role
            forbids that the run is resumed.
    """
    earlier = resume_state.run if resume_state is not None else None
    judged_request = (resume_state.judged_request if resume_state is not None else None) or request
    enforce = functools.partial(
        enforce_policy,
        judged_request,
        ports.inventory,
        now=ports.clock.now(),
        window=earlier.window if earlier is not None else None,
        more_machines=_list_planned_machines(resume_state),
        read_policy=lambda: load_policy_if_deployed(ports.clock.now(), ports.read_deployed_policies()),
    )
    if earlier is None:
        allowed_request = enforce(build_starter(starter, caller.scope))
        return allowed_request if judged_request is request else request
    if caller.scope:
        enforce(build_starter(earlier.started_by, caller.scope))
    try:
        allowed_request = enforce(build_starter(earlier.started_by, earlier.role_scope))
    except PolicyRefused as refused:
        forbidding_rule = "a freeze" if isinstance(refused, Frozen) else "the policy"
        ports.stop_token.request_stop(f"{forbidding_rule} forbids that the run goes on: {refused.message}")
        return request
    return allowed_request if judged_request is request else request


def _find_freezes(
    request: RunRequest, ports: Ports, resume_state: ResumeState | None
) -> tuple[FreezeSource, FreezeSource]:
    """Return the sources of the declared freezes that hold for the run, and of those that it overrides.

    Those of the policy always hold. Those of the configurations' files and of Prefect hold unless it overrides them.
    """
    if not isinstance(request, PatchRequest):
        return ports.read_declared_freezes, ports.read_overridden_freezes
    scope = {machine.name for machine in select_machines(request, ports.inventory)}
    scope |= set(_list_planned_machines(resume_state))
    machines = [machine for machine in ports.inventory.machines if machine.name in scope]
    tell = ports.listener.on_message

    def read_files() -> tuple[Freeze, ...]:
        now = ports.clock.now()
        return load_fleet_freezes(now.date()).find(request, machines, now)

    file_freezes = RereadFreezes(
        read_files,
        "the freezes of the configurations can't be read, known ones hold",
        tell,
        ports.read_declared_freezes,
    )
    declared_freezes = RereadFreezes(
        lambda: read_policy_freezes(machines, ports.clock.now()),
        "the policy can't be read, and its known freezes hold",
        tell,
        tuple if request.override_freeze else file_freezes,
    )
    return declared_freezes, file_freezes if request.override_freeze else tuple


def _list_planned_machines(resume_state: ResumeState | None) -> list[str]:
    """Return the machines in the waves of a run that is resumed."""
    return [name for wave in resume_state.waves for name in wave.machines] if resume_state is not None else []
