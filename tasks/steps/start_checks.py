"""Whether a machine needs a visit, and whether it may still begin: no stop is requested, and time is left."""

from datetime import datetime

from tasks.domain.model import MachinePlan, PackageState
from tasks.domain.states import RebootPolicy, YesNoUnknown
from tasks.rules.machine_checks.services import find_restartable_services
from tasks.rules.timing.maintenance_window import check_time_fit, compute_cut_off, describe_cut_off
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_context import PatchOptions


def check_may_start(context: MachineContext) -> str:
    """Return why nothing more may begin on a machine, or ""."""
    return check_stop_requested(context) or check_time_left(context)


def check_stop_requested(context: MachineContext) -> str:
    """Return that a stop was requested, with the reason, or ""."""
    stop_token = context.stop_token
    return f"the run was asked to stop: {stop_token.reason}" if stop_token.is_stopping else ""


def check_time_left(context: MachineContext) -> str:
    """Return the calculation that shows that even the shortest installation does not fit into the window, or ""."""
    options, window = context.options, context.window
    check = check_time_fit(
        context.clock.now(),
        context.rates.transaction_seconds,
        find_machine_cut_off(context),
        "the shortest installation",
        describe_cut_off(window, options.reboot, context.reboot_reserve_seconds),
        zone=window.zone,
    )
    return "" if check.fits else f"{check.explanation}{describe_time_taken(context)}"


def describe_time_taken(context: MachineContext) -> str:
    """Return, to follow "no time left", which process changed packages when last looked, or ""."""
    assessment = context.state.assessment
    at_work = assessment.packages.at_work if assessment is not None and assessment.packages is not None else ""
    return f"; packages were being changed by {at_work}" if at_work else ""


def find_machine_cut_off(context: MachineContext) -> datetime:
    """Return the machine's cut-off."""
    return compute_cut_off(context.window, context.options.reboot, context.reboot_reserve_seconds)


def is_visit_needed(machine_state: MachineState, options: PatchOptions) -> bool:
    """Return whether there is anything to do on a planned machine."""
    packages = machine_state.assessment.packages if machine_state.assessment else None
    return machine_state.plan is not None and has_work(machine_state.plan, packages, options)


def has_work(plan: MachinePlan, packages: PackageState | None, options: PatchOptions) -> bool:
    """Return whether a plan, or the package state that was assessed for it, is a reason to visit the machine."""
    broken = packages is not None and bool(packages.problems)
    return (
        bool(plan.chosen or broken or options.reboot is RebootPolicy.ALWAYS)
        or _is_early_reboot(packages, options)
        or (packages is not None and options.is_reboot_overdue(packages.reboot))
        or _has_services_to_restart(packages, options)
    )


def _has_services_to_restart(packages: PackageState | None, options: PatchOptions) -> bool:
    restarts_services = options.restart_services == "IfRequired" and not options.download_only
    return restarts_services and bool(find_restartable_services(packages, options.restart_services_exclude))


def is_pending_reboot_first(machine_state: MachineState, options: PatchOptions) -> bool:
    """Return whether a reboot that was pending before the run is done before the installation."""
    return _is_early_reboot(machine_state.assessment.packages if machine_state.assessment else None, options)


def _is_early_reboot(packages: PackageState | None, options: PatchOptions) -> bool:
    if packages is None or packages.reboot.answer is not YesNoUnknown.YES or options.may_reboot_wait(packages.reboot):
        return False
    return options.reboot_pending_first and options.reboot is not RebootPolicy.NEVER
