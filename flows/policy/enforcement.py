"""Enforces the policy: the one function through which every run goes before it changes anything.

``flows.execution`` calls it for every door. The doors themselves call it earlier, so that people learn at once.
"""

import os
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from flows.engine.run_info import build_request_window, select_machines
from flows.policy.fleet_freezes import enforce_freezes
from flows.policy.policy_file import load_policy, load_policy_if_deployed
from flows.request.patch_request import PatchRequest
from flows.request.read_requests import AssessRequest
from inventory.machine import Inventory, Machine
from inventory.scope import Scope
from tasks.domain.errors import PolicyRefused
from tasks.domain.model import Window
from tasks.domain.states import UndoWay
from tasks.rules.calendar.freezes import Freeze
from tasks.rules.policy.decision import DeployedPolicy, check_act, check_role_scope, decide_run, describe_refusal
from tasks.rules.policy.model import Policy, PolicyDecision, Refusal, RiskyOption, RunDemands, Starter
from tasks.rules.runs.approval import is_starter_known


def build_starter(name: str, scope: str = "") -> Starter:
    """Return who starts a run, for the rules.

    ``name`` is as in the records. ``scope`` is that of the person's role ``run``; "": it is not limited.

    Raises:
        InventoryError: the scope is not valid.
    """
    return Starter(name, is_starter_known(name), Scope.parse(scope) if scope else None)


def build_demands(request: PatchRequest, window: Window, inventory: Inventory) -> RunDemands:
    """Return what a request asks for, as far as rules are about it. Pure."""
    options = {
        RiskyOption.ALLOW_REMOVALS: request.allow_removals,
        RiskyOption.REMOVE_UNUSED_KERNELS: request.remove_unused_kernels,
        RiskyOption.ACCEPT_LICENCES: request.accept_licences,
        RiskyOption.REPAIR: request.repair,
        RiskyOption.HOOKS: bool(request.hooks.to_hooks()),
        RiskyOption.INCLUDE: bool(request.updates.include),
        RiskyOption.NEWEST: request.updates.newest,
        RiskyOption.OUTSIDE_WINDOW: request.outside_window,
        RiskyOption.GO_ON_AFTER_FAILED_CANARY: request.waves.go_on_after_failed_canary,
        RiskyOption.REBOOT_PENDING_FIRST: request.reboot_pending_first,
        RiskyOption.RESTART_SERVICES: request.restart_services != "Never",
        RiskyOption.PAUSE_UPDATERS: request.native_updaters != "leave",
        RiskyOption.PATCHED_BY_OTHERS: request.patched_by_others == "patch",
        RiskyOption.NO_REFRESH: not request.refresh,
        RiskyOption.NO_STAGE: not request.stage,
        RiskyOption.REVERT: (bool(request.undo_of) and request.undo_by is UndoWay.SNAPSHOT)
        or (request.snapshot.take != "never" and request.snapshot.revert_on_failure),
        RiskyOption.OVERRIDE_FREEZE: bool(request.override_freeze),
    }
    return RunDemands(
        window=window,
        lead_minutes=request.window.lead_minutes if request.hooks.before_run and not request.download_only else 0,
        is_download=request.download_only,
        options=frozenset(option for option, is_used in options.items() if is_used),
        hooks=frozenset(hook.target for hook in request.hooks.to_hooks()),
        classifications=frozenset(request.updates.classifications),
        reboot=request.reboot,
        failure_budget_count=request.waves.failure_budget_count,
        failure_budget_percent=request.waves.failure_budget_percent,
        unreachable_percent=request.waves.unreachable_percent,
        inventory=os.path.realpath(inventory.source) if inventory.source is not None else "",
    )


def decide_request(
    request: PatchRequest,
    machines: Sequence[Machine],
    inventory: Inventory,
    starter: Starter,
    now: datetime,
    *,
    policy: Policy,
    window: Window | None = None,
) -> PolicyDecision:
    """Return what the policy says about a request that changes machines, whether it is a dry run or not.

    ``machines`` are those that the run would change. ``window`` is that of a run that is resumed; None: of the request.

    Raises:
        RequestError: the window or a freeze is not valid.
    """
    window = window or build_request_window(request, now)
    assert window is not None  # noqa: S101 - for the type checker: a patch request has one
    demands = build_demands(request, window, inventory)
    return decide_run(policy, demands, machines, inventory.machines, starter, now)


def impose(request: PatchRequest, decision: PolicyDecision) -> PatchRequest:
    """Return a request with the settings that the rules impose on it. A second time changes nothing. Pure."""
    changes: dict[str, object] = {}
    if decision.approvers:
        demanded = ["|".join(sorted(names)) for names in decision.approvers]
        by = list(dict.fromkeys((*request.approval.by, *demanded)))
        changes["approval"] = request.approval.model_copy(update={"required": True, "not_by_starter": True, "by": by})
    if decision.at_once is not None and request.waves.at_once > decision.at_once:
        changes["waves"] = request.waves.model_copy(update={"at_once": decision.at_once})
    return request.model_copy(update=changes) if changes else request


def build_refusal(refusals: Sequence[Refusal]) -> PolicyRefused:
    """Return the error for a request that rules refuse: each rule, and whom to ask."""
    return PolicyRefused(
        "; ".join(describe_refusal(refusal) for refusal in refusals),
        hint="`fleetpatch policy explain SCOPE` shows which rules hold for the machines of a scope.",
    )


def enforce_policy(
    request: PatchRequest | AssessRequest,
    inventory: Inventory,
    starter: Starter,
    now: datetime,
    *,
    window: Window | None = None,
    more_machines: Sequence[str] = (),
    read_policy: Callable[[], Policy] | None = None,
    configurations: Path | None = None,
) -> PatchRequest | AssessRequest:
    """Return the request as the policy and the fleet's freezes allow it, with what the rules impose.

    A run that changes nothing is held only by the scope of the starter's role.

    ``window`` and ``more_machines`` are of a run that is resumed: its window, and its machines beside those of its
    scope. ``read_policy`` returns by default the policy of this controller, and ``configurations`` are by default those
    that every command finds.

    Raises:
        Frozen: a freeze of the configurations touches the window, and the request does not override it.
        InventoryError: the policy can't be read, or no machine is in the scope.
        PolicyRefused: a rule or the scope of a role forbids it.
        RequestError: the window or a freeze is not valid.
    """
    names = frozenset(more_machines)
    machines = list(select_machines(request, inventory))
    selected = {machine.name for machine in machines}
    machines += [machine for machine in inventory.machines if machine.name in names - selected]
    if not isinstance(request, PatchRequest) or request.dry_run:
        if refusals := check_role_scope(starter, machines, "run"):
            raise build_refusal(refusals)
        return request
    policy = read_policy() if read_policy is not None else load_policy(now.date())
    decision = decide_request(request, machines, inventory, starter, now, policy=policy, window=window)
    if decision.refusals:
        raise build_refusal(decision.refusals)
    planned = window or build_request_window(request, now)
    assert planned is not None  # noqa: S101 - for the type checker: a patch request has one
    enforce_freezes(request, lambda: machines, planned, now, configurations)
    return impose(request, decision)


def enforce_act_policy(
    act: RiskyOption,
    machines: Sequence[Machine],
    inventory: Inventory,
    now: datetime,
    deployed: Sequence[DeployedPolicy],
    starter: Starter | None = None,
    configurations: Path | None = None,
) -> None:
    """Refuse a change of machines outside of runs that the policy of this controller or the starter's role forbids now.

    ``deployed`` are the policies of which one must hold here. ``starter`` is limited only where the door has roles.
    ``configurations`` are by default those that every command finds.

    Raises:
        InventoryError: the policy can't be read.
        PolicyRefused: a rule forbids it, or the policy here is not one that was deployed.
        RequestError: a freeze is not valid.
    """
    source = os.path.realpath(inventory.source) if inventory.source is not None else ""
    if refusals := check_act(
        load_policy_if_deployed(now, deployed, configurations), act, source, machines, starter or Starter(), now
    ):
        raise build_refusal(refusals)


def read_policy_freezes(machines: Sequence[Machine], now: datetime) -> tuple[Freeze, ...]:
    """Return the freezes of the policy for machines. Raise InventoryError if the policy can't be read."""
    return tuple(
        freeze
        for rule in load_policy(now.date()).rules
        if (members := rule.select_machines(machines))
        for freeze in rule.build_freezes({machine.zone for machine in members})
    )
