"""Whether a machine needs a visit, and whether it may still begin: no stop is requested, and time is left."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from tasks.domain.model import MachinePlan, PackageState, Update, UpdateResult
from tasks.domain.protocols.package_manager import Transaction
from tasks.domain.states import RebootPolicy, YesNoUnknown
from tasks.rules.calendar.local_time import format_duration
from tasks.rules.machine_checks.services import find_restartable_services
from tasks.rules.timing.maintenance_window import (
    TimeFit,
    check_time_fit,
    compute_cut_off,
    describe_cut_off,
    describe_shortage,
)
from tasks.rules.undo import find_removals
from tasks.rules.updates.transaction_planning import find_shortest_installation, plan_transactions
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_context import PatchOptions


def explain_no_start(context: MachineContext) -> str:
    """Return why nothing more may begin on a machine, or ""."""
    return explain_stop_request(context) or explain_no_time_left(context)


def explain_stop_request(context: MachineContext) -> str:
    """Return that a stop was requested, with the reason, or ""."""
    stop_token = context.stop_token
    return f"the run was asked to stop: {stop_token.reason}" if stop_token.is_stopping else ""


def explain_no_time_left(context: MachineContext) -> str:
    """Return the calculation that shows that even the shortest installation does not fit into the window, or ""."""
    check = check_cut_off_fit(context, context.rates.transaction_seconds, "the shortest installation")
    return "" if check.fits else f"{check.explanation}{describe_time_taken(context)}"


def describe_time_taken(context: MachineContext) -> str:
    """Return, to follow "no time left", which process changed packages when last looked, or ""."""
    at_work = context.state.assessed_packages.at_work if context.state.assessed_packages else ""
    return f"; packages were being changed by {at_work}" if at_work else ""


def find_machine_cut_off(context: MachineContext) -> datetime:
    """Return the machine's cut-off."""
    cut_off = compute_cut_off(context.window, context.options.reboot, context.reboot_reserve_seconds)
    return cut_off - timedelta(seconds=sum(_list_reserves(context).values()))


def describe_machine_cut_off(context: MachineContext) -> str:
    """Return the source of the machine's cut-off in words."""
    source = describe_cut_off(context.window, context.options.reboot, context.reboot_reserve_seconds)
    reserves = _list_reserves(context).items()
    parts = (f", {format_duration(seconds)} kept for {purpose}" for purpose, seconds in reserves if seconds)
    return source + "".join(parts)


def _list_reserves(context: MachineContext) -> dict[str, float]:
    return {
        "its health and the way back": context.component_reserve_seconds,
        "the notice of a reboot": context.notice_reserve_seconds,
        "its snapshot": context.snapshot_reserve_seconds,
    }


def check_cut_off_fit(context: MachineContext, seconds: float, work: str) -> TimeFit:
    """Return whether work (a noun) that takes so long fits before the machine's cut-off if it begins now."""
    until, source = find_machine_cut_off(context), describe_machine_cut_off(context)
    return check_time_fit(context.clock.now(), seconds, until, work, source, zone=context.window.zone)


def check_window_fit(context: MachineContext, seconds: float, work: str) -> TimeFit:
    """Return whether work (a noun) that takes so long fits before the window's end if it begins now."""
    now, window = context.clock.now(), context.window
    return check_time_fit(now, seconds, window.end, work, "the end of the window", zone=window.zone)


def divide_into_transactions(
    context: MachineContext,
    updates: Sequence[Update],
    download_seconds: float,
    *,
    one_by_one: bool = False,
    first_number: int = 0,
) -> tuple[tuple[Transaction, ...], tuple[UpdateResult, ...]]:
    """Return transactions that fit before the machine's cut-off, and the updates that don't. See plan_transactions."""
    return plan_transactions(
        updates,
        rates=context.rates,
        now=context.clock.now(),
        cut_off=find_machine_cut_off(context),
        skew_seconds=context.facts.clock_skew_seconds,
        one_by_one=one_by_one,
        first_number=first_number,
        zone=context.window.zone,
        cut_off_reason=describe_machine_cut_off(context),
        download_seconds=download_seconds,
    )


def is_visit_needed(machine_state: MachineState, options: PatchOptions) -> bool:
    """Return whether there is anything to do on a planned machine."""
    plan = machine_state.plan
    return plan is not None and is_visit_needed_for_plan(plan, machine_state.assessed_packages, options)


def is_visit_needed_for_plan(plan: MachinePlan, packages: PackageState | None, options: PatchOptions) -> bool:
    """Return whether a plan, or the package state that was assessed for it, is a reason to visit the machine."""
    broken = packages is not None and bool(packages.problems)
    restarts_services = options.restart_services == "IfRequired" and not options.download_only
    return (
        bool(plan.chosen or plan.snapshot or broken or find_removals(plan.skipped))
        or options.reboot is RebootPolicy.ALWAYS
        or _is_early_reboot(packages, options)
        or (packages is not None and options.is_reboot_overdue(packages.reboot))
        or (restarts_services and bool(find_restartable_services(packages, options.restart_services_exclude)))
    )


def is_pending_reboot_first(machine_state: MachineState, options: PatchOptions) -> bool:
    """Return whether a reboot that was pending before the run is done before the installation."""
    return _is_early_reboot(machine_state.assessed_packages, options)


def _is_early_reboot(packages: PackageState | None, options: PatchOptions) -> bool:
    if packages is None or packages.reboot.answer is not YesNoUnknown.YES or options.may_reboot_wait(packages.reboot):
        return False
    return options.reboot_pending_first and options.reboot is not RebootPolicy.NEVER


def describe_time_shortage(context: MachineContext) -> str:
    """Return why nothing of a machine's plan would begin in the window, with the numbers; "" if something would.

    The calculation is the one by which the installation is divided into transactions.
    """
    plan = context.plan
    if not plan.chosen:
        return ""
    installation, seconds = find_shortest_installation(plan.chosen, context.rates, plan.prediction.stage)
    now, policy = context.clock.now(), context.options.reboot
    kept = timedelta(seconds=context.component_reserve_seconds + context.snapshot_reserve_seconds)
    window = replace(context.window, end=context.window.end - kept)
    return describe_shortage(window, now, installation, seconds, policy, context.reboot_reserve_seconds)
