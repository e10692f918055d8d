"""The id, kind, window and machines of a run, before anything begins; and the record of a run that did not begin."""

import functools
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from flows.engine.retrying_records import build_retrying_saver
from flows.ports.ports import Ports
from flows.request.order_request import OrderRequest
from flows.request.patch_request import PatchRequest
from flows.request.read_requests import AssessRequest
from inventory.errors import EmptyScopeError
from inventory.machine import Inventory, Machine
from inventory.scope import Scope
from inventory.sites import explain_other_site, find_site
from tasks.domain.components import Component
from tasks.domain.errors import OtherSite, RequestError
from tasks.domain.model import ErrorInfo, Outcome, PinnedUpdates, RunInfo, Window
from tasks.domain.protocols.records import ROLLOUT_PREFIX
from tasks.domain.states import OperationState, RebootPolicy, WindowStatus
from tasks.machines.managers.registry import find_typical_work
from tasks.reports.formatting import format_count
from tasks.rules.timing.admission import check_patch_owner
from tasks.rules.timing.maintenance_window import build_window, describe_shortage
from tasks.steps.context.run_context import PatchOptions

_MAX_NAMES_LENGTH: Final = 1500
"""Characters of a scope that names machines. Lists of runs show it, and automatic patching names hundreds."""


def build_run_id(now: datetime) -> str:
    """Return a new unique id that sorts by time."""
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def find_run_kind(request: PatchRequest | AssessRequest) -> str:
    """Return the kind of the run: assess, plan, stage or patch. Pure."""
    if isinstance(request, AssessRequest):
        return "assess"
    if request.dry_run:
        return "plan"
    return "stage" if request.download_only else "patch"


def describe_machines(request: PatchRequest | AssessRequest) -> str:
    """Return which machines a request selects, as a scope: a run of two named machines is none of all machines. Pure.

    If there are too many names for a scope, it is a text with their number.
    """
    names = request.only_machines
    if not names:
        return request.scope
    scope = f"name={'|'.join(names)}"
    return scope if len(scope) <= _MAX_NAMES_LENGTH else f"{format_count(len(names), 'machine')} of {request.scope}"


def build_options(
    request: PatchRequest | AssessRequest, ports: Ports, pinned_updates: PinnedUpdates | None, window: Window | None
) -> PatchOptions:
    """Return the options of the steps.

    Raises:
        RequestError: the request names a component, a version of it, or a run to take back, that there is not.
    """
    if isinstance(request, AssessRequest):
        return PatchOptions(refresh=request.refresh)
    options = request.to_patch_options(pinned_updates, window)
    if request.undo_of:
        require_undo_limits(request)
        found = ports.find_undo_order(request.undo_of)
        undo_order = replace(
            found,
            way=request.undo_by,
            must_be_approved=request.approval.required,
            takes_unanswering=request.undo_unreachable,
        )
        return replace(options, undo_order=undo_order, snapshot=None)
    if not request.component:
        return options
    order = ports.find_component_order(request.component, request.component_version)
    require_component_limits(request, order.component)
    image = order.component.image
    rolls_back = request.roll_back and (image is None or image.rolls_back)
    return replace(options, component_order=replace(order, rolls_back=rolls_back))


def require_undo_limits(request: PatchRequest) -> None:
    """Refuse an undo that would do more than that.

    Raises:
        RequestError: a field of the request is wrong; the error names it.
    """
    wrong = {
        "component must be empty": bool(request.component),
        "download_only must be off": request.download_only,
        "remove_unused_kernels must be off": request.remove_unused_kernels,
        "updates.as_in_run must be empty": bool(request.updates.as_in_run),
        "maintenance must be empty": request.maintenance is not None,
    }
    for rule, is_broken in wrong.items():
        if is_broken:
            raise RequestError(f"the undo of a run: {rule}", hint="Start it with `fleetpatch undo RUN`.")


def require_component_limits(request: PatchRequest, component: Component) -> None:
    """Refuse the run of a component that would do more than upgrade it, in larger batches, or with reboots.

    Raises:
        RequestError: a field of the request is wrong; the error names it.
    """
    waves, percent, is_image = request.waves, component.limits.batch, component.image is not None
    wrong = {
        "reboot must be Never": request.reboot is not RebootPolicy.NEVER,
        "reboot_pending_first must be off": request.reboot_pending_first,
        "download_only must be off": request.download_only,
        "remove_unused_kernels must be off": request.remove_unused_kernels,
        f"waves.percent must be at most {percent}": waves.percent > percent,
        "waves.round_down must be on": not waves.round_down,
        "waves.size must be empty": waves.size is not None,
        "rehearse must be off": request.rehearse.on_copies,
        "snapshot must be off: the OS disk before is kept": is_image
        and request.snapshot.to_snapshot_policy() is not None,
        "announce must be off: a new OS disk is not announced": is_image
        and request.announce.to_event_notice() is not None,
    }
    for rule, is_broken in wrong.items():
        if is_broken:
            raise RequestError(f"the run of a component: {rule}", hint=f"Start it with `{component.command}`.")


def require_one_process(request: PatchRequest | AssessRequest, *, is_divided: bool) -> None:
    """Refuse a run that must be one process, and whose machines several processes would carry out.

    Each would count the health of its own machines, and rehearse for them alone.

    Raises:
        RequestError: it is such a run.
    """
    if is_divided and isinstance(request, PatchRequest) and rehearses(request):
        raise RequestError(
            "a run that rehearses is one process, and these machines need several",
            hint="Patch one site at a time, with at most 500 machines, or leave `rehearse` out.",
        )
    if is_divided and isinstance(request, PatchRequest) and request.component:
        raise RequestError(
            "the run of a component is one process, and these machines need several",
            hint="Upgrade the component at one site at a time, with at most 500 machines.",
        )


def build_request_window(request: PatchRequest | AssessRequest, now: datetime) -> Window | None:
    """Return the window of a request; None if it only reads machines."""
    if isinstance(request, AssessRequest):
        return None
    return build_window(request.window.start, request.window.minutes, request.window.zone, now)


def build_unstarted_run(
    request: PatchRequest,
    window: Window,
    run_id: str,
    refusal: WindowStatus,
    reason: str,
    now: datetime,
    started_by: str,
    flow_run_id: str,
    site: str,
) -> RunInfo:
    """Return the record of a run of a site that did not begin, with the reason."""
    return RunInfo(
        id=run_id,
        kind="patch",
        started_at=now,
        state=OperationState.NOT_STARTED,
        request=request.model_dump(mode="json"),
        window=window,
        scope=describe_machines(request),
        ended_at=now,
        started_by=started_by,
        flow_run_id=flow_run_id,
        message=reason,
        site=site,
        refusal=refusal,
    )


@functools.cache  # the whole description of the package is read for it, at each run
def find_package_version(name: str) -> str:
    """Return the version of an installed package; "" if it is not installed as one, so that it is not known."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def build_run_info(
    request: PatchRequest | AssessRequest,
    run_id: str,
    now: datetime,
    *,
    flow_run_id: str,
    started_by: str,
    role_scope: str,
    earlier_run: RunInfo | None,
) -> RunInfo:
    """Return a run that begins now. A run that is resumed keeps its id, its window, and who started it."""
    run = RunInfo(
        id=run_id,
        kind=find_run_kind(request),
        started_at=now,
        state=OperationState.IN_PROGRESS,
        request=request.model_dump(mode="json"),
        window=build_request_window(request, now),
        scope=describe_machines(request),
        started_by=started_by,
        flow_run_id=flow_run_id,
        role_scope=role_scope,
        site=find_site(),
        version=find_package_version("fleetpatch"),
        prefect_version=find_package_version("prefect"),
        notes_publication=find_run_kind(request) == "patch",
    )
    if earlier_run is None:
        return run
    return replace(
        run,
        id=earlier_run.id,
        started_at=earlier_run.started_at,
        window=earlier_run.window,
        started_by=earlier_run.started_by,
        role_scope=earlier_run.role_scope,
        # The first one: Prefect's retry of that flow run finds the run by it.
        flow_run_id=earlier_run.flow_run_id or flow_run_id,
    )


def select_machines(request: PatchRequest | AssessRequest | OrderRequest, inventory: Inventory) -> Sequence[Machine]:
    """Return the machines of the scope, or those of them that the request names in ``only_machines``.

    A named machine that has left the inventory or the scope meanwhile is not an error: the request may be older.

    Raises:
        InventoryError: no machine is left.
    """
    machines = Scope.parse(request.scope).select_machines(inventory)
    if not request.only_machines:
        return machines
    names = frozenset(request.only_machines)
    selected = [machine for machine in machines if machine.name in names]
    if not selected:
        raise EmptyScopeError(
            f"none of the machines in `only_machines` ({len(names)}) is in the scope {request.scope!r}",
            hint="Correct the names or the scope, or leave `only_machines` out.",
        )
    return selected


def count_machines(request: PatchRequest | AssessRequest, inventory: Inventory) -> int:
    """Return how many machines a run has. The run of a shard counts with the scope of the whole run.

    Raises:
        InventoryError: the scope is not usable.
    """
    if request.shard:
        request = request.model_copy(update={"only_machines": []})
    return len(select_machines(request, inventory))


def build_refused_outcomes(
    run_id: str,
    request: PatchRequest | AssessRequest,
    machines: Iterable[Machine],
    *,
    reaches_other_sites: bool = False,
) -> tuple[Outcome, ...]:
    """Return the outcomes of the machines that this run may not look at, each with the reason.

    They are those of other sites, unless it reaches them by other runs; and for a run that patches those whose owner
    does not allow it. One of another site has an error: nobody decided that it stays as it is, so the run has not done
    all that it should.
    """
    site, outcomes = find_site(), []
    for machine in machines:
        reason, error = "" if reaches_other_sites else explain_other_site(machine, site), None
        if reason:
            error = ErrorInfo.from_error(OtherSite(reason, machine=machine.name))
        elif isinstance(request, PatchRequest):
            reason = check_patch_owner(machine, request.configuration)
        if reason:
            outcomes.append(Outcome(run_id, machine.name, OperationState.NOT_STARTED, reason, error=error))
    return tuple(outcomes)


def describe_request_shortage(request: PatchRequest, machines: Iterable[Machine], window: Window, now: datetime) -> str:
    """Return why nothing can begin on any machine in a window, with the numbers; "" if something may.

    A plan knows more: what the machines lack, and how fast they are.
    """
    reasons: list[tuple[float, str]] = []
    for machine in machines:
        minutes = machine.limits.reboot_reserve_minutes
        reserve = 60 * (request.reboot_reserve_minutes if minutes is None else minutes)
        seconds = find_typical_work(machine.os)[0].transaction_seconds
        reason = describe_shortage(window, now, "the shortest installation", seconds, request.reboot, reserve)
        if not reason:
            return ""
        reasons.append((seconds + reserve, f"{reason} ({machine.name})"))
    return min(reasons)[1] if reasons else ""


def rehearses(request: PatchRequest) -> bool:
    """Return whether a run patches copies of its machines first."""
    return request.rehearse.on_copies and not request.dry_run and not request.download_only


def is_rollout_run(request: PatchRequest | AssessRequest) -> bool:
    """Return whether a run installs the frozen set of a rollout of automatic patching."""
    return isinstance(request, PatchRequest) and request.updates.as_in_run.startswith(ROLLOUT_PREFIX)


def build_step_ports(ports: Ports, window: Window | None) -> dict[str, Any]:
    """Return what the steps get of the ports as it is. Saving a snapshot waits for records that are away."""
    return {
        "send_magic_packet": ports.send_magic_packet,
        "is_port_open": ports.is_port_open,
        "list_components": ports.list_components,
        "open_provider": ports.open_provider,
        "save_snapshot": build_retrying_saver(ports.save_snapshot, ports.clock, window),
    }
