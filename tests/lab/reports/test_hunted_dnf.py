"""Public reports about dnf, played together on one host: fixes that nobody saw, and fixes that were left out."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.request.patch_request import UpdatesRequest
from tasks.domain.model import Outcome, RunReport, UpdateResult
from tasks.domain.states import Classification, Compliance, FindingLevel, OperationState, UpdateState
from tests.lab.engine import Fleet, outcome_of
from tests.lab.fleet import Lab, LabHost
from tests.lab.packages import Advisory, RpmRepository

DISTRIBUTION = "/root/distribution"
PROTECTOR = """
import dnf
class Protector(dnf.Plugin):
    name = "foreman-protector"
    def sack(self):
        self.base.sack.add_excludes(self.base.sack.query().available().filter(name="made-hidden"))
"""


@dataclass(frozen=True)
class Ending:
    """How a run ended on the host.

    Attributes:
        outcome: of the run.
        compliance: by its last assessment.
        versions: of all packages, after it.
    """

    outcome: Outcome
    compliance: Compliance | None
    versions: dict[str, str]

    def of(self, name: str, version: str) -> UpdateResult:
        """What became of a version."""
        (found,) = [
            each for each in self.outcome.updates if (each.update.name, each.update.available) == (name, version)
        ]
        return found


@pytest.fixture(scope="module")
def host(lab: Lab) -> Iterator[LabHost]:
    (booted,) = lab.up(1, "dnf")
    yield booted
    booted.drop()


@pytest.fixture(scope="module")
def patched(host: LabHost, tmp_path_factory: pytest.TempPathFactory) -> Ending:
    """The end of a run where all the situations are at once: it takes critical and security updates, and two others."""
    place = tmp_path_factory.mktemp("hunted")
    own, other = RpmRepository(place / "own"), RpmRepository(place / "other")
    for name in (
        "noarch",
        "old",
        "gone",
        "lost",
        "range",
        "elsewhere",
        "protected",
        "guard",
        "excluded",
        "epoch",
        "hidden",
        "silent",
        "behind",
        "newer",
    ):
        own.add(f"made-{name}", "1.0")
    own.add("made-noarch", "2.0", arch="x86_64", advisory="security")
    own.add("made-new", "2.0", spec="Obsoletes: made-old < 2", advisory="security", severity="Critical")
    own.add("made-gone", "1.5", advisory="bugfix")
    own.add("made-late", "1.0", spec="Epoch: 1")
    own.advisories += [Advisory("made-gone", "2.0"), Advisory("made-lost", "2.0", beside=("made-late", "2.0"))]
    own.add("made-range", "1.5", advisory="security")
    own.add("made-range", "2.0", advisory="security")
    own.add("made-elsewhere", "2.0", advisory="security")
    own.add("made-protected", "2.0", spec="Obsoletes: made-guard < 5", advisory="security")
    own.add("made-excluded", "1.9", advisory="bugfix")
    other.add("made-excluded", "1.5", advisory="security")
    own.add("made-epoch", "2.0", advisory="security")
    own.add("made-epoch", "1.5", spec="Epoch: 1", advisory="bugfix")
    own.add("made-hidden", "2.0", advisory="security")
    own.add("made-silent", "2.0")
    own.add("made-behind", "1.5", advisory="bugfix")
    own.add("made-behind", "2.0", spec="Requires: nowhere-to-be-found", advisory="security", severity="Critical")
    own.add("made-newer", "2.0", spec="Requires: made-fix", advisory="security")
    own.add("made-newer", "3.0", spec="Requires: made-feature", advisory="bugfix")
    own.add("made-fix", "1.1")
    own.add("made-feature", "1.1")
    vendor, theirs = RpmRepository(place / "vendor"), RpmRepository(place / "theirs")
    vendor.add("made-db", "1.0", spec="Vendor: Their")
    vendor.add("made-db", "1.5", spec="Vendor: Their", advisory="bugfix")
    theirs.add("made-db", "2.0", spec="Vendor: Ours", advisory="security", severity="Critical")
    vendor.publish(host, options="priority=10")
    theirs.publish(host)
    vendor.install(host, "made-db", "1.0")
    host.sh(f"mkdir {DISTRIBUTION}; mv /etc/yum.repos.d/lab.repo {DISTRIBUTION}", root=True)
    own.publish(host, options="exclude=made-excluded")
    other.publish(host)
    host.sh("cd /srv/own/noarch; rpm -U --oldpackage made-*-1.0-1.noarch.rpm", root=True)
    host.sh("echo made-guard > /etc/dnf/protected.d/made.conf", root=True)
    host.sh("sed -i 's,^locklist.*,locklist = /etc/locks,' /etc/dnf/plugins/versionlock.conf", root=True)
    host.sh("printf 'made-range-0:1.*\\nmade-elsewhere-0:1.0-1.*\\n' > /etc/locks", root=True)
    (host.root / "usr/lib/python3/dist-packages/dnf-plugins/protector.py").write_text(PROTECTOR)
    return play(host, place, updates=UpdatesRequest(include=["made-behind", "made-db"]))


def play(host: LabHost, place: Path, **fields: Any) -> Ending:
    report: RunReport = Fleet([host], place).patch(**fields)
    return Ending(outcome_of(report, host), report.assessments[-1].compliance, host.package_versions())


@pytest.mark.public_report("https://github.com/rpm-software-management/dnf5/issues/809")
def test_a_fix_of_another_architecture_is_a_fix(patched: Ending) -> None:
    result = patched.of("made-noarch", "2.0-1")
    assert (result.state, result.update.classification) == (UpdateState.INSTALLED, Classification.SECURITY)
    assert patched.versions["made-noarch"] == "2.0-1"


@pytest.mark.public_report("https://github.com/rpm-software-management/dnf/pull/1835")
def test_a_fix_that_has_a_new_name_is_pending(patched: Ending) -> None:
    result = patched.of("made-new", "2.0-1")
    assert (result.state, result.update.classification) == (UpdateState.BLOCKED, Classification.CRITICAL)
    assert "made-old" in result.reason


@pytest.mark.public_report("https://github.com/rpm-software-management/dnf5/issues/734")
def test_a_critical_fix_behind_an_installable_bug_fix_is_not_forgotten(patched: Ending) -> None:
    fix = patched.of("made-behind", "2.0-1")
    assert patched.of("made-behind", "1.5-1").state is UpdateState.INSTALLED
    assert (fix.state, fix.update.classification) == (UpdateState.BLOCKED, Classification.CRITICAL)
    assert "nothing provides nowhere-to-be-found" in fix.reason
    assert patched.versions["made-behind"] == "1.5-1"


@pytest.mark.public_report("https://github.com/manatools/dnfdaemon/issues/37")
def test_a_fix_of_a_repository_behind_another_one_is_not_forced(patched: Ending) -> None:
    fix = patched.of("made-db", "2.0-1")
    assert (patched.of("made-db", "1.5-1").state, fix.state) == (UpdateState.INSTALLED, UpdateState.BLOCKED)
    assert "lower priority than vendor" in fix.reason
    assert patched.versions["made-db"] == "1.5-1"


def test_new_packages_are_those_of_the_version_that_is_installed(patched: Ending) -> None:
    assert patched.versions["made-newer"] == "2.0-1"
    came, left = patched.of("made-fix", "1.1-1"), patched.of("made-feature", "1.1-1")
    assert (came.state, came.version_after, left.state) == (UpdateState.INSTALLED, "1.1-1", UpdateState.NOT_SELECTED)
    assert patched.versions.keys() & {"made-fix", "made-feature"} == {"made-fix"}


@pytest.mark.public_report("https://github.com/pulp/pulp_rpm/pull/611")
@pytest.mark.parametrize("name", ["made-gone", "made-lost"])
def test_a_fix_of_which_only_the_advisory_is_there_is_pending(patched: Ending, name: str) -> None:
    result = patched.of(name, "2.0-1")
    assert (result.state, result.update.classification) == (UpdateState.BLOCKED, Classification.CRITICAL)
    assert f"no enabled repository has this version, which LAB-{name}-2.0 names" in result.reason


@pytest.mark.public_report("https://github.com/rpm-software-management/dnf-plugins-core/pull/363")
def test_a_lock_of_a_major_version_lets_its_fixes_come(patched: Ending) -> None:
    assert patched.of("made-range", "1.5-1").state is UpdateState.INSTALLED
    assert patched.of("made-range", "2.0-1").state is UpdateState.EXCLUDED
    assert patched.versions["made-range"] == "1.5-1"


def test_locks_in_another_file_are_holds(patched: Ending) -> None:
    assert patched.of("made-elsewhere", "2.0-1").state is UpdateState.EXCLUDED
    assert patched.versions["made-elsewhere"] == "1.0-1"


@pytest.mark.public_report("https://github.com/linux-surface/linux-surface/issues/1163")
def test_an_update_that_would_replace_a_protected_package_costs_itself(patched: Ending) -> None:
    result = patched.of("made-protected", "2.0-1")
    assert (result.state, "protected packages: made-guard" in result.reason) == (UpdateState.BLOCKED, True), result
    assert patched.versions["made-guard"] == "1.0-1"


@pytest.mark.public_report("https://github.com/Open-Future-Belgium/PostgreSQL/issues/35")
def test_an_exclusion_of_one_repository_does_not_hold_the_fix_of_another(patched: Ending) -> None:
    assert patched.of("made-excluded", "1.5-1").state is UpdateState.INSTALLED
    assert patched.versions["made-excluded"] == "1.5-1"


@pytest.mark.public_report("https://rhokp.baronvonclack.com/solutions/4591281/")
def test_what_a_plugin_hides_is_held(patched: Ending) -> None:
    assert patched.of("made-hidden", "2.0-1").state is UpdateState.EXCLUDED
    assert patched.versions["made-hidden"] == "1.0-1"


def test_a_fix_before_a_change_of_the_epoch_is_a_fix(patched: Ending) -> None:
    assert patched.versions["made-epoch"] == "2.0-1"


def test_a_version_before_a_change_of_the_epoch_is_not_pending_for_ever(patched: Ending) -> None:
    assert "made-late" in patched.versions
    assert not [each for each in patched.outcome.updates if each.update.name == "made-late"]


def test_an_update_that_no_advisory_is_about_is_told(patched: Ending) -> None:
    assert patched.of("made-silent", "2.0-1").state is UpdateState.NOT_SELECTED
    (remark,) = [each for each in patched.outcome.findings if "no advisory is about" in each.message]
    assert (remark.level, "own: no advisory is about made-silent" in remark.message) == (FindingLevel.REMARK, True)


def test_what_is_left_out_ends_with_a_warning(patched: Ending) -> None:
    assert (patched.outcome.state, patched.compliance) == (
        OperationState.COMPLETED_WITH_WARNINGS,
        Compliance.NON_COMPLIANT,
    )


@pytest.mark.public_report("https://github.com/HariSekhon/Nagios-Plugins/issues/426")
@pytest.mark.public_report("https://github.com/furlongm/patchman/issues/863")
@pytest.mark.usefixtures("patched")
def test_repositories_of_others_alone_leave_the_judgement_open(host: LabHost, tmp_path: Path) -> None:
    third = RpmRepository(tmp_path / "third")
    third.add("bash", "1.0")
    third.publish(host)
    third.install(host, "bash", "1.0")
    (third.folder / "noarch/bash-1.0-1.noarch.rpm").unlink()
    third.add("made-third", "1.0", advisory="bugfix")
    third.publish(host)
    host.sh(f"cd /etc/yum.repos.d; mv own.repo other.repo vendor.repo theirs.repo {DISTRIBUTION}", root=True)

    ending = play(host, tmp_path)

    assert (ending.outcome.state, ending.compliance) == (
        OperationState.COMPLETED_WITH_WARNINGS,
        Compliance.NOT_ASSESSED,
    )
    (finding,) = [each for each in ending.outcome.findings if each.check == "repositories"]
    assert "no enabled repository has packages of the distribution itself (bash)" in finding.message
