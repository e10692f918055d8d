"""The order of the steps, as a pure function of what is known of a machine."""

import pytest

from tasks.domain.model import InstallResult, RebootNeed, RebootResult, ValidationResult
from tasks.domain.states import OperationState, RebootPolicy, RebootState, Step, YesNoUnknown
from tasks.steps.context.machine_context import MachineState
from tasks.steps.context.run_context import PatchOptions
from tasks.steps.pipeline import find_next_step
from tasks.steps.start_checks import is_visit_needed
from tests.support.builders import (
    make_assessment,
    make_error,
    make_facts,
    make_machine,
    make_package_state,
    make_plan,
)

INSTALLED = InstallResult(())
BOOTED = RebootResult(RebootState.COMPLETED, count=1)
STUCK = RebootResult(RebootState.FAILED, count=1)
PENDING_REBOOT = make_assessment(packages=make_package_state(reboot=RebootNeed(YesNoUnknown.YES, ("kernel",))))
FIRST = PatchOptions(reboot_pending_first=True)


def run(**known: object) -> MachineState:
    planned = {"assessment": make_assessment(), "plan": make_plan()}
    return MachineState(make_machine(), **(planned | known))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("known", "options", "step"),
    [
        (run(assessment=None, plan=None), PatchOptions(), Step.ASSESS),
        (run(plan=None), PatchOptions(), Step.ASSESS),
        (run(), PatchOptions(), Step.PRECHECK),
        (run(error=make_error()), PatchOptions(), Step.REPORT),
        (run(halted="no room"), PatchOptions(), Step.REPORT),
        (run(plan=make_plan(chosen=())), PatchOptions(), Step.REPORT),
        (run(plan=make_plan(chosen=())), PatchOptions(reboot=RebootPolicy.ALWAYS), Step.PRECHECK),
        (run(baseline=make_facts()), PatchOptions(), Step.INSTALL),
        (run(baseline=make_facts()), FIRST, Step.INSTALL),
        (run(baseline=make_facts(), assessment=PENDING_REBOOT), PatchOptions(), Step.INSTALL),
        (run(baseline=make_facts(), assessment=PENDING_REBOOT), FIRST, Step.REBOOT),
        (
            run(baseline=make_facts(), assessment=PENDING_REBOOT),
            PatchOptions(reboot=RebootPolicy.NEVER, reboot_pending_first=True),
            Step.INSTALL,
        ),
        (run(baseline=make_facts(), assessment=PENDING_REBOOT, early_reboot=BOOTED), FIRST, Step.INSTALL),
        (run(baseline=make_facts(), assessment=PENDING_REBOOT, early_reboot=STUCK), FIRST, Step.REPORT),
        (run(baseline=make_facts(), install=INSTALLED), PatchOptions(), Step.REBOOT),
        (run(baseline=make_facts(), install=INSTALLED, reboot=BOOTED), PatchOptions(), Step.VALIDATE),
        (run(baseline=make_facts(), install=INSTALLED, reboot=STUCK), PatchOptions(), Step.REPORT),
        (
            run(baseline=make_facts(), install=INSTALLED, reboot=BOOTED, validation=ValidationResult(())),
            PatchOptions(),
            Step.REPORT,
        ),
    ],
)
def test_what_comes_next(known: MachineState, options: PatchOptions, step: Step) -> None:
    assert find_next_step(known, options) is step


def test_a_machine_with_broken_packages_is_visited_even_when_nothing_is_chosen() -> None:
    broken = make_assessment(packages=make_package_state(updates=(), problems=("half-configured",)))
    assert is_visit_needed(run(assessment=broken, plan=make_plan(chosen=())), PatchOptions())


def test_a_machine_that_was_not_planned_for_is_not_visited() -> None:
    assert not is_visit_needed(run(plan=None), PatchOptions(reboot=RebootPolicy.ALWAYS))


def test_a_halted_machine_is_not_begun_whatever_is_known_of_it() -> None:
    known = run(baseline=make_facts(), halted="asked to stop", halted_as=OperationState.NOT_STARTED)
    assert find_next_step(known, FIRST) is Step.REPORT
