"""A plan for the pages of approvals: small, also for thousands of machines, because most have identical plans."""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

from flows.approval.plan_rendering import (
    count_fixed_cves,
    describe_plan,
    find_service_restarts,
    group_by_reason,
    group_identical_plans,
)
from inventory.data_class import dataclass
from inventory.name_lists import join_first_names
from tasks.domain.model import MachinePlan, RunReport, Update
from tasks.records.approvals import Approval
from tasks.records.queries.history import History
from tasks.reports.formatting import (
    NO_FIGURE,
    describe_cves,
    describe_prediction,
    describe_prediction_basis,
    describe_reboots,
)
from tasks.reports.sanitizing import sanitize_to_one_line
from tasks.rules.runs.approval import compute_report_digest
from tasks.rules.runs.figures import REBOOT_LABELS, compute_plan_figures, explain_reboot, predict_reboot

MAX_NAMES = 12
MAX_SKIPPED_NAMES = 40
MAX_WARNINGS = 200
UPDATES_IN_CHUNK = 400
"""A group with more updates is shown in several parts, so that no page is larger than 1 MB."""
UPDATES_IN_PART = 1200


@dataclass(frozen=True, slots=True)
class PlannedMachine:
    """One machine of the plan."""

    wave: int | None
    is_canary: bool
    name: str
    plan: int  # number of its plan among the different plans, from 1; 0: it has none
    updates: int = 0
    urgent: int = 0
    cves: str = ""
    minutes: str = NO_FIGURE
    reboot: str = ""
    skipped: int = 0
    reason: str = ""  # why it has no plan, or ""


@dataclass(frozen=True, slots=True)
class PlannedUpdate:
    """One update that is going to be installed."""

    name: str
    title: str
    classification: str
    is_urgent: bool
    installed: str
    available: str
    cves: str


@dataclass(frozen=True, slots=True)
class PlanPart:
    """A plan that machines share, or a part of a very long one."""

    number: int  # number of the plan, from 1
    machines: int
    names: str  # the first machines, and how many others there are
    updates: tuple[PlannedUpdate, ...]
    total: int
    first: int  # position of its first update in the plan, from 1
    minutes: str
    basis: str
    reboot: str
    reboot_reason: str
    # Reason and names of updates that are not installed; only in the last part of a plan.
    skipped: tuple[tuple[str, int, str], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlanView:
    """A whole plan."""

    digest: str  # the digest of the plan as it is recorded: what the page shows
    sentence: str  # the plan in one sentence
    machines: int
    updates: int
    urgent: int
    cves: str
    reboots: str
    reboot_count: int
    slowest: str
    waves: int
    rows: tuple[PlannedMachine, ...]
    warnings: tuple[str, ...]  # what people should know before they approve
    parts: tuple[tuple[PlanPart, ...], ...]  # for each page: the plans on it


def build_plan_view(report: RunReport) -> PlanView:
    """Return the plan of a run."""
    figures = compute_plan_figures(report.plans)
    groups = group_identical_plans(report.plans)
    numbers = {name: number for number, (names, _) in enumerate(groups, start=1) for name in names}
    slowest = figures.slowest_plan
    return PlanView(
        digest=compute_report_digest(report),
        sentence=describe_plan(report),
        machines=figures.machines,
        updates=figures.updates,
        urgent=figures.urgent,
        cves=describe_cves(figures.cves),
        reboots=describe_reboots(figures),
        reboot_count=figures.reboots,
        slowest=describe_prediction(slowest) if slowest is not None else NO_FIGURE,
        waves=len(report.waves),
        rows=tuple(_iterate_machines(report, numbers)),
        warnings=tuple(_iterate_warnings(report)),
        parts=_divide([part for number, group in enumerate(groups, 1) for part in _iterate_parts(number, *group)]),
    )


def _iterate_machines(report: RunReport, numbers: dict[str, int]) -> Iterator[PlannedMachine]:
    plans = {plan.machine: plan for plan in report.plans}
    errors = {
        assessment.machine: assessment.error.message
        for assessment in report.assessments
        if assessment.error is not None
    }
    seen: set[str] = set()
    for wave in report.waves:
        for name in wave.machines:
            seen.add(name)
            yield _build_machine(name, plans.get(name), numbers, (wave.number, wave.canary), errors.get(name, ""))
    for name in [*plans, *errors]:
        if name not in seen:
            seen.add(name)
            yield _build_machine(name, plans.get(name), numbers, (None, False), errors.get(name, ""))


def _build_machine(
    name: str, plan: MachinePlan | None, numbers: dict[str, int], wave: tuple[int | None, bool], error: str
) -> PlannedMachine:
    if plan is None:
        return PlannedMachine(*wave, name, 0, reason=sanitize_to_one_line(error, 300) or "it has no plan")
    return PlannedMachine(
        *wave,
        name,
        numbers[name],
        updates=len(plan.chosen),
        urgent=sum(update.classification.is_urgent for update in plan.chosen),
        cves=str(count_fixed_cves(plan)),
        minutes=describe_prediction(plan) if plan.chosen else NO_FIGURE,
        reboot=REBOOT_LABELS[predict_reboot(plan)],
        skipped=len(plan.skipped),
    )


def _iterate_parts(number: int, names: list[str], plan: MachinePlan) -> Iterator[PlanPart]:
    ordered = sorted(plan.chosen, key=lambda update: (not update.classification.is_urgent, update.name))
    starts = range(0, max(1, len(ordered)), UPDATES_IN_CHUNK)
    for start in starts:
        is_last = start == starts[-1]
        yield PlanPart(
            number=number,
            machines=len(names),
            names=join_first_names(names, MAX_NAMES),
            updates=tuple(_build_update(update) for update in ordered[start : start + UPDATES_IN_CHUNK]),
            total=len(ordered),
            first=start + 1,
            minutes=describe_prediction(plan) if plan.chosen else "",
            basis=describe_prediction_basis(plan.prediction.basis) if plan.chosen else "",
            reboot=REBOOT_LABELS[predict_reboot(plan)],
            reboot_reason=sanitize_to_one_line(explain_reboot(plan), 400),
            skipped=_list_skipped(plan) if is_last else (),
            notes=plan.notes if is_last else (),
        )


def _build_update(update: Update) -> PlannedUpdate:
    cves = "" if update.cves is None else join_first_names(update.cves, MAX_NAMES)
    return PlannedUpdate(
        name=update.name,
        title=sanitize_to_one_line(update.title, 200),
        classification=update.classification.value,
        is_urgent=update.classification.is_urgent,
        installed=update.installed or "",
        available=update.available,
        cves=cves,
    )


def _list_skipped(plan: MachinePlan) -> tuple[tuple[str, int, str], ...]:
    groups = group_by_reason(plan.skipped).items()
    return tuple((reason, len(names), join_first_names(names, MAX_SKIPPED_NAMES)) for reason, names in groups)


def _iterate_warnings(report: RunReport) -> Iterator[str]:
    warnings = list(_collect_warnings(report))
    yield from (sanitize_to_one_line(warning, 400) for warning in warnings[:MAX_WARNINGS])
    if len(warnings) > MAX_WARNINGS:
        yield f"and {len(warnings) - MAX_WARNINGS} more warnings: the list of machines has them"


def _collect_warnings(report: RunReport) -> Iterator[str]:
    without = [assessment.machine for assessment in report.assessments if assessment.error is not None]
    if without:
        yield f"{join_first_names(without, MAX_NAMES)}: no plan, because the assessment failed"
    refusals: dict[str, list[str]] = {}
    for plan in report.plans:
        for refusal in plan.refusals:
            refusals.setdefault(refusal.message, []).append(plan.machine)
    for message, names in refusals.items():
        yield f"{join_first_names(names, MAX_NAMES)}: the pre-check would refuse it now: {message}"
    for machine, services in find_service_restarts(report).items():
        yield f"{machine} runs services with replaced files: {join_first_names(services, MAX_NAMES)}"
    yield from report.notes


def _divide(parts: Sequence[PlanPart]) -> tuple[tuple[PlanPart, ...], ...]:
    """Divide plans into pages."""
    pages: list[list[PlanPart]] = [[]]
    size = 0
    for part in parts:
        weight = len(part.updates) + 3 * len(part.skipped) + 5
        if pages[-1] and size + weight > UPDATES_IN_PART:
            pages.append([])
            size = 0
        pages[-1].append(part)
        size += weight
    return tuple(map(tuple, pages))


MAX_PLANS: Final = 12
MAX_AGE_SECONDS: Final = 30.0
"""A run that is resumed may record another plan at any time. A decision never relies on what is kept here."""


class PlanReader:
    """Plans by run and digest. All threads may share it."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], tuple[float, PlanView]] = {}

    def read(self, approval: Approval) -> PlanView:
        """Return the recorded plan of the run of an approval. Raise RecordsError if it can't be read."""
        key = (approval.run_id, approval.digest)
        with self._lock:
            cached_plan = self._kept.get(key)
            if cached_plan is not None and time.monotonic() - cached_plan[0] < MAX_AGE_SECONDS:
                return cached_plan[1]
            view = build_plan_view(self._history.read_report(approval.run_id))
            self._kept.pop(key, None)
            self._kept[key] = (time.monotonic(), view)
            while len(self._kept) > MAX_PLANS:
                self._kept.pop(next(iter(self._kept)))
            return view
