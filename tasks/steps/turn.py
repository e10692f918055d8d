"""Whether a machine's turn is worth it, and may still begin: the run goes on, and the window holds something."""

from datetime import datetime

from tasks.rules.restarts import restartable
from tasks.rules.window import cut_off, fit, why_cut_off
from tasks.states import Answer, RebootPolicy
from tasks.steps.context import MachineRun, PatchOptions, Work


def held_back(work: Work) -> str:
    """Return why nothing may be begun on a machine any more, or ""."""
    return asked_to_stop(work) or no_time_left(work)


def asked_to_stop(work: Work) -> str:
    """Return that the run was asked to stop, with the reason, or ""."""
    control = work.context.control
    return f"the run was asked to stop: {control.reason}" if control.stopping else ""


def no_time_left(work: Work) -> str:
    """Return the arithmetic that shows that not even the shortest installation fits into the window, or ""."""
    options, window = work.context.options, work.context.window
    check = fit(
        work.context.clock.now(),
        work.rates.transaction_seconds,
        over_at(work),
        "the shortest installation",
        why_cut_off(window, options.reboot, work.reboot_reserve),
        zone=window.zone,
    )
    return "" if check.fits else check.arithmetic


def over_at(work: Work) -> datetime:
    """Return the moment by which installing must be over."""
    return cut_off(work.context.window, work.context.options.reboot, work.reboot_reserve)


def worth_a_visit(run: MachineRun, options: PatchOptions) -> bool:
    """Whether there is anything to do on a machine that was planned for."""
    if run.plan is None:
        return False
    packages = run.assessment.packages if run.assessment else None
    broken = packages is not None and bool(packages.problems)
    return (
        bool(run.plan.chosen or broken or options.reboot is RebootPolicy.ALWAYS)
        or pending_goes_first(run, options)
        or _restarts_something(run, options)
    )


def _restarts_something(run: MachineRun, options: PatchOptions) -> bool:
    packages = run.assessment.packages if run.assessment else None
    wanted = options.restart_services == "IfRequired" and not options.download_only
    return wanted and bool(restartable(packages, options.restart_services_exclude))


def pending_goes_first(run: MachineRun, options: PatchOptions) -> bool:
    """Whether a reboot that was pending before we came is taken before anything is installed."""
    packages = run.assessment.packages if run.assessment else None
    pending = packages is not None and packages.reboot.answer is Answer.YES
    return pending and options.reboot_pending_first and options.reboot is not RebootPolicy.NEVER
