"""Windows: whether a machine is enrolled for hotpatches, and its prerequisites."""

from typing import Any

import pytest

from tasks.domain.model import HotpatchEnrolment
from tasks.domain.states import FindingLevel
from tasks.machines.managers.windows_update.assessment import parse_windows_assessment
from tests.unit.managers.windows_records import ENROLLED, NOW, assessment, history_record, system_record

AZURE_2022 = system_record(edition="ServerTurbine", build="20348")
AZURE_2025 = system_record(edition="ServerTurbineCor", build="26100")
STANDARD_2025 = system_record(edition="ServerStandard", build="26100", ubr=3981)
LCU = "2026-11 Cumulative Update for Microsoft server operating system version 24H2 (KB5000001)"
PLAIN = ENROLLED | {"enrolled": ""}


def find(system: dict[str, Any], record: dict[str, Any], *others: Any) -> HotpatchEnrolment | None:
    return parse_windows_assessment(assessment(system, record, *others)).hotpatch


@pytest.mark.parametrize(
    ("system", "record", "means", "enrolled", "receives"),
    [
        (AZURE_2022, ENROLLED, "registry", True, True),
        (AZURE_2022, ENROLLED | {"vbs_status": 1}, "registry", True, False),
        (AZURE_2022, PLAIN, "registry", False, False),
        (AZURE_2025, PLAIN, "registry", True, True),
        (AZURE_2025, PLAIN | {"vbs_status": 0}, "registry", True, False),
        (STANDARD_2025, ENROLLED | {"arc": True, "licence": 1}, "arc", True, True),
        (STANDARD_2025, PLAIN | {"arc": True, "licence": 1}, "arc", True, False),
        (STANDARD_2025, PLAIN | {"arc": True, "licence": 0}, "arc", False, False),
        (STANDARD_2025, PLAIN, "arc", None, False),
        (system_record(edition="ServerStandard"), PLAIN, "", None, None),
    ],
)
def test_edition_licence_and_package_decide(
    system: dict[str, Any], record: dict[str, Any], means: str, enrolled: bool | None, receives: bool | None
) -> None:
    found = find(system, record)
    assert found is not None
    assert (found.means, found.enrolled, found.receives, found.product) == (means, enrolled, receives, system["build"])


@pytest.mark.parametrize(
    "system",
    [
        system_record(build="17763"),
        system_record(installation_type="Client", build="26100"),
        system_record(build="unknown"),
    ],
)
def test_other_versions_of_windows_tell_nothing(system: dict[str, Any]) -> None:
    assert find(system, ENROLLED) is None


@pytest.mark.parametrize(
    ("system", "record", "check", "words"),
    [
        (system_record(edition="ServerStandard"), PLAIN, "edition", "from Windows Server 2025 on"),
        (system_record(edition="ServerSolution", build="26100"), PLAIN, "edition", "no hotpatches for the edition"),
        (STANDARD_2025 | {"ubr": 1}, PLAIN, "edition", "before the release"),
        (STANDARD_2025, PLAIN, "licence", "agent does not run"),
        (STANDARD_2025, PLAIN | {"arc": True}, "licence", "has no licence"),
        (AZURE_2022, PLAIN | {"vbs_status": 0, "vbs_configured": 0}, "vbs", "is off"),
        (AZURE_2022, PLAIN | {"vbs_status": 1}, "vbs", "does not run"),
        (AZURE_2022, PLAIN | {"vbs_status": None}, "vbs", "does not tell"),
        (AZURE_2022, PLAIN | {"secure_boot": 0}, "secure boot", "is off"),
        (AZURE_2022, PLAIN | {"table_size": None}, "table size", "is not set"),
    ],
)
def test_every_prerequisite_that_is_lacking_has_a_remedy(
    system: dict[str, Any], record: dict[str, Any], check: str, words: str
) -> None:
    found = find(system, record)
    assert found is not None
    (lacking,) = [each for each in found.prerequisites if each.check == check]
    assert lacking.level is not FindingLevel.GOOD
    assert words in lacking.message
    assert lacking.remedy


@pytest.mark.parametrize(
    ("title", "at", "level"),
    [
        (LCU, NOW, FindingLevel.GOOD),
        (LCU, NOW - 86_400 * 60, FindingLevel.WARN),
        ("2026-11 Hotpatch for Windows Server", NOW, FindingLevel.GOOD),
        ("Another update", NOW, None),
    ],
)
def test_the_last_baseline_is_looked_for_in_the_history(title: str, at: int, level: FindingLevel | None) -> None:
    found = find(AZURE_2022, ENROLLED, history_record(1, title=title, at=at))
    assert found is not None
    assert [each.level for each in found.prerequisites if each.check == "baseline"] == ([level] if level else [])
