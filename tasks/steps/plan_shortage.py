"""Whether anything of a plan would begin in its window: the calculation of the installation, made for the plan."""

from collections.abc import Iterable

from tasks.rules.timing.time_fit import describe_shortage
from tasks.rules.updates.transaction_planning import find_shortest_installation
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.other_patchers import explain_left_out


def describe_plan_shortage(context: MachineContext) -> str:
    """Return why nothing of a machine's plan would begin in the window, with the numbers; "" if something would.

    The calculation is the one by which the installation is divided into transactions.
    """
    plan = context.plan
    if not plan.chosen:
        return ""
    installation, seconds = find_shortest_installation(plan.chosen, context.rates, plan.prediction.stage)
    now, policy = context.clock.now(), context.options.reboot
    return describe_shortage(context.window, now, installation, seconds, policy, context.reboot_reserve_seconds)


def describe_plans_shortage(contexts: Iterable[MachineContext]) -> str:
    """Return why no machine of a plan would begin anything in the window; "" if one would, or none has anything to do.

    Of several machines, the one that needs the least time is named.
    """
    planned = [context for context in contexts if context.state.plan is not None and context.state.error is None]
    planned = [
        context
        for context in planned
        if context.plan.chosen and not context.plan.refusals and not explain_left_out(context)
    ]
    reasons = {context: describe_plan_shortage(context) for context in planned}
    if not reasons or not all(reasons.values()):
        return ""
    least = min(planned, key=_compute_needed_seconds)
    others = f", which needs the least time of {len(planned)} machines" if len(planned) > 1 else ""
    return f"{reasons[least]} ({least.name}{others})"


def _compute_needed_seconds(context: MachineContext) -> float:
    _, seconds = find_shortest_installation(context.plan.chosen, context.rates, context.plan.prediction.stage)
    return seconds + context.reboot_reserve_seconds
