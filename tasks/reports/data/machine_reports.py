"""Collects the data of each machine in a report: outcome, plan, assessment, update results and compliance. Pure."""

from collections.abc import Iterator

from inventory.data_class import dataclass
from tasks.domain.compliance import judge_compliance
from tasks.domain.model import (
    Assessment,
    ErrorInfo,
    Finding,
    MachinePlan,
    Outcome,
    PackageState,
    RunReport,
    UpdateResult,
    Wave,
)
from tasks.domain.states import Compliance, FindingLevel, OperationState, UpdateState
from tasks.rules.machine_checks.packages import PACKAGES_CHECK, check_known_faults, check_package_problems
from tasks.rules.runs.figures import UpdateCounts


@dataclass(frozen=True, slots=True)
class MachineReport:
    """All data of one machine in a report."""

    run_id: str
    machine: str
    wave: Wave | None
    outcome: Outcome | None
    plan: MachinePlan | None
    assessment: Assessment | None

    @property
    def packages(self) -> PackageState | None:
        """What the assessment says of packages; None without an answer."""
        return self.assessment.packages if self.assessment is not None else None

    @property
    def wave_number(self) -> int | None:
        """The number of the machine's wave, from the outcome or else from the plan; None without a wave."""
        if self.outcome is not None and self.outcome.wave is not None:
            return self.outcome.wave
        return self.wave.number if self.wave else None

    @property
    def state(self) -> OperationState:
        """The outcome's state. Without an outcome: the result of the assessment, or NotStarted."""
        if self.outcome is not None:
            return self.outcome.state
        if self.plan is not None or self.assessment is None:
            return OperationState.NOT_STARTED
        return OperationState.FAILED if self.assessment.error else OperationState.SUCCEEDED

    @property
    def error(self) -> ErrorInfo | None:
        """The error of the outcome, or of the assessment if there is no outcome; None without an error."""
        if self.outcome is not None:
            return self.outcome.error or (self.outcome.install.error if self.outcome.install else None)
        return self.assessment.error if self.assessment else None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The outcome's findings. If nothing was checked: what the assessment found broken or could not read."""
        if self.outcome is not None and self.outcome.findings:
            return self.outcome.findings
        if self.packages is None:
            return ()
        return (*check_package_problems(self.packages, repair_allowed=False), *check_known_faults(self.packages))


def build_machine_reports(report: RunReport) -> tuple[MachineReport, ...]:
    """Return all machines of a report in the report's order, machines with an outcome first."""
    plans = {plan.machine: plan for plan in report.plans}
    assessments = {assessment.machine: assessment for assessment in report.assessments}  # the last one is the newest
    waves = {name: wave for wave in report.waves for name in wave.machines}

    def build_machine_report(machine: str, outcome: Outcome | None) -> MachineReport:
        return MachineReport(
            run_id=report.run.id,
            machine=machine,
            wave=waves.get(machine),
            outcome=outcome,
            plan=plans.get(machine),
            assessment=assessments.get(machine),
        )

    done = {outcome.machine for outcome in report.outcomes}
    others = dict.fromkeys(name for name in (*waves, *plans, *assessments) if name not in done)
    return tuple(
        [build_machine_report(o.machine, o) for o in report.outcomes]
        + [build_machine_report(name, None) for name in others]
    )


def find_update_results(report: MachineReport) -> Iterator[tuple[UpdateResult, bool]]:
    """Yield each update of a machine, and whether it is planned: a plan chose it, and the plan was not executed."""
    outcome, plan = report.outcome, report.plan
    if outcome is not None and (outcome.updates or plan is None or outcome.install is not None):
        chosen = {update.id for update in plan.chosen} if plan is not None and outcome.install is None else set()
        for result in outcome.updates:
            yield result, result.state is UpdateState.PENDING and result.update.id in chosen
    elif plan is not None:
        yield from ((UpdateResult(update, UpdateState.PENDING, "planned"), True) for update in plan.chosen)
        yield from ((result, False) for result in plan.skipped)
    elif report.packages is not None:
        yield from ((UpdateResult(update, UpdateState.PENDING), False) for update in report.packages.updates)


def compute_compliance(outcome: Outcome | None, assessment: Assessment | None, found: UpdateCounts) -> Compliance:
    """Return whether a machine is compliant at the end of the run.

    Args:
        outcome: the machine's outcome, or None.
        assessment: the machine's newest assessment, or None.
        found: counts of its updates.
    """
    broken = _has_broken_packages(outcome, assessment)
    packages = assessment.packages if assessment is not None else None
    if packages is None and not (found.urgent or broken):
        return Compliance.NOT_ASSESSED
    return judge_compliance(
        urgent=found.urgent,
        unclassified=found.unclassified,
        broken=broken,
        problems=packages.repository_problems if packages is not None else (),
        waiting=packages.waiting.is_certain if packages is not None and packages.waiting is not None else None,
    )


def _has_broken_packages(outcome: Outcome | None, assessment: Assessment | None) -> bool:
    """Return whether packages are broken, by a check that blocks or by the newest assessment."""
    findings = outcome.findings if outcome else ()
    if any(finding.check == PACKAGES_CHECK and finding.level is FindingLevel.BLOCK for finding in findings):
        return True
    return assessment is not None and assessment.packages is not None and bool(assessment.packages.problems)
