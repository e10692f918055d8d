"""A plan as it is shown to whoever is to approve it: Markdown and a table for the Prefect UI. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from tasks.model import Plan, RunReport, Update, UpdateResult
from tasks.reporting.markdown import Cell, escape
from tasks.reporting.text import NOT_KNOWN, NOTHING, plural
from tasks.reporting.wording import say_basis, say_cves, say_predicted, say_reboots, say_slowest
from tasks.rules.approval import command_to_approve
from tasks.rules.figures import REBOOT_WORDS, cves_of, plan_figures, reboot_of
from tasks.rules.window import describe
from tasks.states import URGENT

MOST_GROUPS = 20
MOST_UPDATES = 100
MOST_REASONS = 20
MOST_NAMES = 12


def headline(planned: RunReport) -> str:
    """Return a plan in a sentence: how much, how urgent, what it fixes, reboots, and the longest machine."""
    figures = plan_figures(planned.plans)
    parts = (
        f"{plural(figures.updates, 'update')} on {plural(figures.machines, 'machine')} "
        f"({figures.urgent} critical or security, {say_cves(figures.cves)})",
        say_reboots(figures),
        say_slowest(figures),
    )
    return "; ".join(filter(None, parts))


def restarts(planned: RunReport) -> dict[str, tuple[str, ...]]:
    """Return the services of each machine that already run on files which were replaced under them."""
    found = {each.machine: each.packages.services_to_restart for each in planned.assessments if each.packages}
    return {machine: services for machine, services in found.items() if services}


def alike(plans: Iterable[Plan]) -> list[tuple[list[str], Plan]]:
    """Return plans with the names of all machines that have the same: the machines of a fleet are often twins."""
    groups: dict[tuple[object, ...], tuple[list[str], Plan]] = {}
    for plan in plans:
        groups.setdefault((plan.chosen, plan.skipped, plan.notes), ([], plan))[0].append(plan.machine)
    return list(groups.values())


def by_reason(skipped: Iterable[UpdateResult]) -> dict[str, list[str]]:
    """Return the names of updates that are not installed, by why."""
    groups: dict[str, list[str]] = defaultdict(list)
    for result in skipped:
        groups[f"{result.state}: {result.reason}"].append(result.update.name)
    return {reason: sorted(names) for reason, names in groups.items()}


def names_of(names: Sequence[str], most: int = MOST_NAMES) -> str:
    """Return the first few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def plan_markdown(planned: RunReport, digest: str, until: str) -> str:
    """Return the whole plan as Markdown that shows every text of a machine as it is.

    Args:
        planned: the run with its plans.
        digest: of what would be installed.
        until: when nobody may approve it any more, in words.
    """
    run = planned.run
    lines = [f"## Plan of run {escape(run.id)}", "", headline(planned), ""]
    lines += [f"- Machines: {escape(run.scope)}", f"- Started by {escape(run.started_by)}"]
    lines += [f"- Window {escape(describe(run.window))}"] if run.window else []
    lines += [f"- Can be approved until {escape(until)}", f"- Plan {digest[:12]}", ""]
    lines += [f"- To approve: `{escape(command_to_approve(run.id, digest))}`, or the form of this flow run", ""]
    groups = alike(planned.plans)
    for names, plan in groups[:MOST_GROUPS]:
        lines += _group(names, plan)
    if len(groups) > MOST_GROUPS:
        lines += [
            f"and {len(groups) - MOST_GROUPS} more groups of machines: see the table, or `fleetpatch approvals`",
            "",
        ]
    for machine, services in restarts(planned).items():
        lines.append(f"- {escape(machine)} already runs on replaced files: {escape(names_of(services))}")
    without = [each for each in planned.assessments if each.error is not None]
    lines += [f"- {escape(each.machine)} has no plan: {escape(each.error.message)}" for each in without if each.error]
    return "\n".join(lines) + "\n"


def machine_table(planned: RunReport) -> list[dict[str, Cell]]:
    """Return a row a machine, in the order of the waves."""
    plans = {plan.machine: plan for plan in planned.plans}
    return [
        {
            "Wave": wave.number,
            "Machine": escape(name),
            "Updates": len(plans[name].chosen),
            "Critical or security": sum(update.classification in URGENT for update in plans[name].chosen),
            "CVEs": count_or_not_known(plans[name]),
            "Minutes": say_predicted(plans[name]) if plans[name].chosen else NOTHING,
            "Reboot": REBOOT_WORDS[reboot_of(plans[name])],
            "Skipped": len(plans[name].skipped),
        }
        for wave in planned.waves
        for name in wave.machines
        if name in plans
    ]


def count_or_not_known(plan: Plan) -> Cell:
    """Return how many CVEs a machine's plan fixes."""
    fixed = cves_of(plan.chosen)
    return NOT_KNOWN if fixed is None else len(fixed)


def _group(names: list[str], plan: Plan) -> list[str]:
    took = f"about {say_predicted(plan)} ({say_basis(plan.prediction.basis)}), "
    took += f"reboot: {REBOOT_WORDS[reboot_of(plan)]}"
    lines = [f"### {escape(names_of(names))}: {plural(len(plan.chosen), 'update')}, {took}", ""]
    if plan.chosen:
        lines += ["| Update | Class | From | To | CVEs |", "|---|---|---|---|---|"]
    for update in sorted(plan.chosen, key=lambda each: (each.classification not in URGENT, each.name))[:MOST_UPDATES]:
        cells = (update.name, update.classification, update.installed or "new", update.available, _cves(update))
        lines.append("| " + " | ".join(escape(cell) for cell in cells) + " |")
    if len(plan.chosen) > MOST_UPDATES:
        lines += ["", f"and {len(plan.chosen) - MOST_UPDATES} more"]
    lines.append("")
    reasons = by_reason(plan.skipped)
    lines += [
        f"- skipped, {escape(why)}: {escape(names_of(each))}" for why, each in list(reasons.items())[:MOST_REASONS]
    ]
    lines += [f"- and {len(reasons) - MOST_REASONS} more reasons"] if len(reasons) > MOST_REASONS else []
    lines += [f"- note: {escape(note)}" for note in plan.notes]
    return [*lines, ""]


def _cves(update: Update) -> str:
    return NOT_KNOWN if update.cves is None else names_of(update.cves, 5)
