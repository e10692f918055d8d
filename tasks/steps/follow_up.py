"""Plans another round for a validated machine: updates that are offered only since others are installed.

Some package managers offer updates only when others are there (``PackageManager.offers_more_later``). What the request
selects of them is installed in the same run if the window has room. Else a warning names them.
"""

import logging
from dataclasses import replace

from inventory.name_lists import join_first_names
from tasks.domain.errors import FleetpatchError, RecordsError
from tasks.domain.model import MachinePlan, PackageState, Update
from tasks.domain.states import RebootPolicy, UpdateState, YesNoUnknown
from tasks.rules.machine_checks.findings import describe_blocking_findings
from tasks.rules.runs.approval import is_approval_required, is_rehearsal_required
from tasks.rules.updates.follow_up import MAX_FOLLOW_UPS, find_new_updates, select_new_updates, warn_of_new_updates
from tasks.steps.assess import plan_updates
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.machine.package_state import date_selection
from tasks.steps.start_checks import divide_into_transactions, explain_stop_request

logger = logging.getLogger(__name__)


def plan_follow_up(context: MachineContext) -> MachineState:
    """Return the state with the plan of another round, or with a warning that names what is offered only now.

    An approved plan, a required rehearsal and pinned updates are the limit: another round installs nothing that they do
    not have.
    """
    machine_state, packages = context.state, context.state.packages_after
    if packages is None or machine_state.install is None:
        return machine_state
    new = find_new_updates(context.packages, packages)
    selection = date_selection(context, packages)
    pinned = selection.pinned_updates
    included, unpinned = select_new_updates(packages, new, selection)
    findings = warn_of_new_updates(unpinned, f"run {pinned.run_id} has not installed them" if pinned else "")
    plan = None
    if included:
        why_not = _find_obstacle(context, packages, included)
        if not why_not:
            plan, why_not = _plan_round(context, packages, new)
        findings += warn_of_new_updates(included, why_not) if plan is None else ()
    validation = machine_state.validation
    if validation is not None and findings:
        validation = replace(validation, findings=(*validation.findings, *findings))
        machine_state = replace(machine_state, validation=validation)
    if plan is None or machine_state.assessment is None:
        return machine_state
    offered = replace(context.packages, updates=(*context.packages.updates, *new))
    return replace(
        machine_state.with_packages(offered),
        was_replanned=True,
        follow_up=plan,
        follow_up_count=machine_state.follow_up_count + 1,
    )


def _find_obstacle(context: MachineContext, packages: PackageState, included: tuple[Update, ...]) -> str:
    """Return why another round may not begin, or ""."""
    if is_approval_required(context.run):
        return "the approved plan does not have them"
    if is_rehearsal_required(context.run):
        return "no rehearsal has tried them"
    if context.state.follow_up_count >= MAX_FOLLOW_UPS:
        return f"a run has at most {MAX_FOLLOW_UPS + 1} rounds"
    return (
        explain_stop_request(context)
        or context.run_context.explain_spent_budget()
        or _find_trouble(context.state, packages)
        or _explain_no_reboot_left(context, included)
    )


def _find_trouble(machine_state: MachineState, packages: PackageState) -> str:
    """Return what the first round has left on the machine that another one must not build on, or ""."""
    results = machine_state.install.results if machine_state.install else ()
    failed = [result.update.name for result in results if result.state is UpdateState.FAILED]
    if failed:
        return f"the installation of {join_first_names(failed)} has failed"
    if machine_state.validation is None or not machine_state.validation.is_healthy:
        return "the validation has failed"
    if packages.at_work:
        return f"packages were being changed by {packages.at_work}"
    return "the machine waits for a reboot" if packages.reboot.answer is YesNoUnknown.YES else ""


def _explain_no_reboot_left(context: MachineContext, included: tuple[Update, ...]) -> str:
    rebooted = sum(result.count for result in context.state.reboots)
    may_reboot = any(update.requires_reboot is not False for update in included)
    if not may_reboot or context.options.reboot is RebootPolicy.NEVER or rebooted < context.max_reboots:
        return ""
    return f"they may need a reboot, and {rebooted} of {context.max_reboots} allowed reboots are used up"


def _plan_round(
    context: MachineContext, packages: PackageState, new: tuple[Update, ...]
) -> tuple[MachinePlan | None, str]:
    """Return the plan of another round with nothing but new updates, or why there is none."""
    before = context.state
    if before.assessment is None:
        return None, "the machine was not assessed"
    context.state = before.with_packages(replace(packages, updates=new))
    try:
        plan = plan_updates(context).plan
    except RecordsError:
        raise
    except FleetpatchError as error:
        logger.info("%s: another round can't be planned: %s", context.name, error.message)
        return None, f"their installation can't be planned: {error.message}"
    finally:
        context.state = before
    if plan is None or not plan.chosen:
        reasons = "; ".join(dict.fromkeys(result.reason for result in plan.skipped)) if plan else ""
        return None, f"none of them can be installed: {reasons}"
    if plan.refusals:
        return None, describe_blocking_findings(plan.refusals)
    parts, late = divide_into_transactions(context, plan.chosen, plan.prediction.stage)
    return (plan, "") if parts else (None, late[0].reason)  # the window has no room for even one transaction
