"""A machine whose packages are broken is not compliant, whatever updates it has."""

from dataclasses import replace

from tasks.domain.states import Compliance, FindingLevel
from tasks.reports.data.machine_reports import compute_compliance
from tasks.rules.runs.figures import UpdateCounts
from tests.support import builders as make

NO_UPDATES = UpdateCounts()
WHOLE = make.make_assessment(packages=make.make_package_state(updates=()))
BROKEN = make.make_assessment(packages=make.make_package_state(updates=(), problems=("vim 2.0 is half-configured",)))


def test_an_assessment_tells_broken_packages() -> None:
    assert (WHOLE.compliance, BROKEN.compliance) == (Compliance.COMPLIANT, Compliance.NON_COMPLIANT)
    assert compute_compliance(None, WHOLE, NO_UPDATES) is Compliance.COMPLIANT
    assert compute_compliance(None, BROKEN, NO_UPDATES) is Compliance.NON_COMPLIANT
    assert compute_compliance(None, make.make_failed_assessment(), NO_UPDATES) is Compliance.NOT_ASSESSED


def test_after_an_installation_its_validation_decides() -> None:
    repaired = make.make_outcome(updates=(), findings=())
    assert repaired.install is not None
    assert compute_compliance(repaired, WHOLE, NO_UPDATES) is Compliance.COMPLIANT
    assert (
        compute_compliance(repaired, BROKEN, NO_UPDATES) is Compliance.NON_COMPLIANT
    )  # others were installed beside it
    finding = make.make_finding(check="packages", level=FindingLevel.BLOCK)
    assert compute_compliance(replace(repaired, findings=(finding,)), WHOLE, NO_UPDATES) is Compliance.NON_COMPLIANT


def test_what_was_assessed_decides_where_nothing_was_installed() -> None:
    halted = make.make_outcome(updates=(), findings=(), install=None)
    assert compute_compliance(halted, BROKEN, NO_UPDATES) is Compliance.NON_COMPLIANT
    assert compute_compliance(halted, WHOLE, NO_UPDATES) is Compliance.COMPLIANT
