"""What people are told of a run, in words. Pure. Text that came from machines can neither act nor address anybody."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.model import Outcome, RunReport
from tasks.reporting.text import one_line, plural
from tasks.reporting.wording import say_cves, say_reboots, say_slowest
from tasks.rules.approval import command_to_approve, digest, shown
from tasks.rules.figures import plan_figures
from tasks.rules.window import describe
from tasks.states import Occasion, OperationState, RebootState, UpdateState

MOST_NAMES = 10
_REASON = 160  # characters of a machine's own words
_TAMED = str.maketrans("<>[]`&@", "()()'+\N{FULLWIDTH COMMERCIAL AT}")
"""Chats take these for markup, links and the names of people and rooms to be woken."""


@dataclass(frozen=True, slots=True)
class Tiding:
    """A message; ``bad`` when somebody should look."""

    title: str
    body: str
    bad: bool


_TITLES = {
    Occasion.PLANNED: "planned",
    Occasion.WAITING: "waits for your approval",
    Occasion.STARTED: "started",
    Occasion.FINISHED: "finished",
    Occasion.FAILED: "failed",
    Occasion.MISSED: "did not run in its window",
    Occasion.CANCELLED: "cancelled",
}
_BAD = frozenset({Occasion.FAILED, Occasion.MISSED})
_PLANS = frozenset({Occasion.PLANNED, Occasion.WAITING, Occasion.STARTED})


def tiding(occasion: Occasion, report: RunReport) -> Tiding:
    """Return what people are told at an occasion of a run, as far as its report has come."""
    run = report.run
    what = _tamed(str(run.request.get("configuration") or "") or run.scope or run.kind, 100)
    lines = [f"Run {run.id} for {_tamed(run.scope, 200)}"]
    if run.window is not None:
        lines.append(f"Window: {describe(run.window)}")
    lines += _plan(report) if occasion in _PLANS else _results(report, occasion)
    if occasion is Occasion.WAITING:
        lines += _how_to_approve(report)
    lines.append(f"More: fleetpatch show {run.id}")
    return Tiding(f"fleetpatch: {what}: {_TITLES[occasion]}", "\n".join(lines), occasion in _BAD)


def _plan(report: RunReport) -> list[str]:
    plans, figures = report.plans, plan_figures(report.plans)
    waves = f" in {plural(len(report.waves), 'wave')}" if report.waves else ""
    lines = [
        f"{plural(len(plans), 'machine')}{waves}: {plural(figures.updates, 'update')} to install, "
        f"{say_reboots(figures)} expected, {say_cves(figures.cves)}"
    ]
    slowest = say_slowest(figures)
    if slowest:
        lines.append(_tamed(f"{slowest[:1].upper()}{slowest[1:]}", 200))
    unknown = [each.machine for each in report.assessments if each.error is not None]
    return [*lines, f"Not assessed: {_names(unknown)}"] if unknown else lines


def _how_to_approve(report: RunReport) -> list[str]:
    waits, run = report.run.message, report.run.id
    command = command_to_approve(run, digest(shown(report.plans)))
    how = f"Approve: {command}, or the form of its flow run in the Prefect UI"
    return [*([f"It {_tamed(waits, 300)}"] if waits else []), how, f"Refuse: fleetpatch reject {run}"]


def _results(report: RunReport, occasion: Occasion) -> list[str]:
    lines = [_tamed(report.run.message, 600)] if report.run.message else []
    outcomes = report.outcomes
    if not outcomes:
        return lines
    states = Counter(outcome.state for outcome in outcomes)
    counted = ", ".join(f"{states[state]} {state}" for state in OperationState if states[state])
    lines.append(f"{plural(len(outcomes), 'machine')}: {counted}")
    lines.append(_done(outcomes))
    lines += _failures(outcomes)
    idle = [outcome for outcome in outcomes if outcome.state is OperationState.NOT_STARTED]
    if idle and occasion is not Occasion.FINISHED:
        lines.append(f"Not begun: {_names([outcome.machine for outcome in idle])}")
        lines.append(f"  {_tamed(idle[0].reason, _REASON)}")
    return lines


def _done(outcomes: Sequence[Outcome]) -> str:
    installed = sum(outcome.count(UpdateState.INSTALLED) for outcome in outcomes)
    failed = sum(outcome.count(UpdateState.FAILED) for outcome in outcomes)
    rebooted = sum(outcome.reboot is RebootState.COMPLETED for outcome in outcomes)
    due = sum(outcome.reboot is RebootState.REQUIRED for outcome in outcomes)
    parts = [f"{plural(installed, 'update')} installed", f"{failed} failed" if failed else ""]
    parts += [
        f"{plural(rebooted, 'machine')} rebooted" if rebooted else "",
        f"{due} still to be rebooted" if due else "",
    ]
    return ", ".join(part for part in parts if part)


def _failures(outcomes: Sequence[Outcome]) -> list[str]:
    failed = [outcome for outcome in outcomes if outcome.state is OperationState.FAILED]
    lines = [f"Failed: {_tamed(each.machine, 80)}: {_tamed(each.reason, _REASON)}" for each in failed[:MOST_NAMES]]
    more = len(failed) - MOST_NAMES
    return [*lines, f"Failed: {more} more"] if more > 0 else lines


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(_tamed(name, 80) for name in names[:MOST_NAMES])
    more = len(names) - MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _tamed(text: str, limit: int) -> str:
    """Return text on one line, harmless on a screen and in a chat."""
    return one_line(text, limit).translate(_TAMED).replace("://", ": //")
