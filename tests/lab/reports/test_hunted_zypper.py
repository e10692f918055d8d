"""More public reports of SUSE's zypper: what it leaves unsaid, and what must not be taken for a fault."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.domain.model import Outcome, RunReport
from tasks.domain.states import Classification, Compliance, OperationState, UpdateState
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import BootHosts, Lab, LabHost
from tests.lab.packages import RpmRepository

REPOSITORIES = "etc/zypp/repos.d"
OFFERED = ("a-between", "a-low", "a-mixed", "a-conflict", "a-other")
EXPIRE = '<suseinfo xmlns="http://linux.duke.edu/metadata/repo"><expire>1</expire></suseinfo>'


def add_repository(host: LabHost, name: str, url: str, enabled: str = "1") -> None:
    text = f"[{name}]\nname={name}\nbaseurl={url}\n enabled = {enabled}\ngpgcheck=0\n"
    (host.root / REPOSITORIES / f"{name}.repo").write_text(text)


def patch_nothing(host: LabHost, place: Path) -> RunReport:
    return Fleet([host], place).patch("nothing-has-this-name", reboot="Never")


def judge(report: RunReport, host: LabHost) -> tuple[OperationState, Compliance]:
    return outcome_of(report, host).state, report.assessments[-1].compliance


@pytest.mark.public_report("https://github.com/openSUSE/zypper/issues/463")
@pytest.mark.public_report("https://www.suse.com/documentation/sles11/book_sle_admin/data/cha_onlineupdate_you.html")
@pytest.mark.public_report("https://github.com/SUSE/suse-migration-services/pull/218")
def test_only_repositories_that_may_hide_fixes_leave_the_judgement_open(hosts: BootHosts, tmp_path: Path) -> None:
    (host,) = hosts(1, "zypper")
    host.sh(f"rm /{REPOSITORIES}/*", root=True)
    good = RpmRepository(tmp_path / "good")
    good.add("a-good", "1.0", advisory="security")
    good.publish(host)
    host.sh("touch -d '2 days ago' /srv/good/repodata/*", root=True)  # a folder of packages may be old
    add_repository(host, "dead", "http://127.0.0.1:9/x", enabled="no")
    add_repository(host, "disc", "cd:/?devices=/dev/sr0")
    assert judge(patch_nothing(host, tmp_path), host) == (OperationState.SUCCEEDED, Compliance.COMPLIANT)

    stale = RpmRepository(tmp_path / "stale")
    stale.add("a-stale", "1.0", advisory="security")
    stale.publish(host)
    (tmp_path / "suseinfo.xml").write_text(EXPIRE)
    words = [
        "modifyrepo_c",
        "--mdtype",
        "suseinfo",
        str(tmp_path / "suseinfo.xml"),
        str(host.root / "srv/stale/repodata"),
    ]
    subprocess.run(words, check=True, capture_output=True)
    time.sleep(2)
    report = patch_nothing(host, tmp_path)
    assert judge(report, host) == (OperationState.COMPLETED_WITH_WARNINGS, Compliance.NOT_ASSESSED)
    assert "stale" in outcome_of(report, host).reason

    host.sh(f"rm /{REPOSITORIES}/*", root=True)
    bare = RpmRepository(tmp_path / "bare")
    bare.add("a-bare", "1.0")
    bare.add("a-bare", "2.0")
    bare.publish(host)
    bare.install(host, "a-bare", "1.0")
    report = patch_nothing(host, tmp_path)
    assert judge(report, host) == (OperationState.COMPLETED_WITH_WARNINGS, Compliance.NOT_ASSESSED)
    assert "no enabled repository has patches" in outcome_of(report, host).reason
    assert "these repositories have no patches" not in outcome_of(report, host).reason, "one cause, one finding"


@pytest.fixture(scope="module")
def mixed(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LabHost, Outcome]]:
    """A machine after a run of security updates, each in another difficulty."""
    place = tmp_path_factory.mktemp("mixed")
    (host,) = lab.up(1, "zypper")
    made = RpmRepository(place / "made")
    for name in ("a-ptf", "a-over", "a-vendor", "libodd++6", "0ad", "a-self"):
        made.add(name, "1.0", spec="Vendor: Packman" if name == "a-vendor" else "Vendor: SUSE")
    made.add("ptf-1", "1.0", spec="Requires: a-ptf = 1.0\nProvides: ptf()")
    made.add("a-ptf", "2.0", spec="Vendor: SUSE", advisory="security")
    made.add("a-over", "1.5", spec="Vendor: SUSE", advisory="security")
    made.add("a-over", "2.0", spec="Vendor: SUSE\nRequires: a-new", advisory="recommended")
    made.add("a-new", "2.0", spec="Vendor: SUSE")
    made.add("a-vendor", "2.0", spec="Vendor: SUSE", advisory="security")
    made.add("libodd++6", "2.0", spec="Vendor: SUSE", advisory="security")
    made.add("0ad", "2.0", spec="Vendor: SUSE", advisory="security")
    made.add(
        "a-self", "2.0", spec="Vendor: SUSE\nObsoletes: a-self < 2.0\nConflicts: a-self < 2.0", advisory="security"
    )
    for name in OFFERED:
        made.add(name, "1.0")
    made.add("a-between", "1.5", advisory="bugfix")
    made.add("a-between", "2.0", spec="Requires: not-there", advisory="security", severity="Critical")
    made.add("a-conflict", "2.0", spec="Conflicts: a-other", advisory="security", severity="Important")
    made.add("a-mixed", "2.1", advisory="bugfix")
    low = RpmRepository(place / "low")
    low.add("a-low", "2.0", advisory="security", severity="Critical")
    low.add("a-mixed", "2.0", advisory="security", severity="Critical")
    host.sh(f"rm /{REPOSITORIES}/*", root=True)
    made.publish(host)
    low.publish(host, options="priority=120")
    host.sh("rpm -U /srv/made/noarch/*-1.0-1.noarch.rpm", root=True)
    yield host, outcome_of(Fleet([host], place).patch(reboot="Never"), host)
    host.drop()


@pytest.mark.public_report("https://github.com/openSUSE/zypper/issues/430")
def test_offers_that_zypper_does_not_take_are_blocked_with_why(mixed: tuple[LabHost, Outcome]) -> None:
    host, outcome = mixed
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    blocked = {each.update.name: each.reason for each in outcome.updates if each.state is UpdateState.BLOCKED}
    assert "nothing provides not-there needed by a-between-2.0-1.noarch" in blocked["LAB-a-between-2.0"]
    assert "a-conflict-2.0-1.noarch conflicts with a-other" in blocked["a-conflict"]
    assert "a repository with a lower priority" in blocked["LAB-a-low-2.0"]
    assert host.package_versions(*OFFERED) == {
        "a-between": "1.0-1",  # a bug fix
        "a-low": "1.0-1",
        "a-mixed": "2.1-1",  # what zypper itself takes, and not the fix in the repository of lower priority
        "a-conflict": "1.0-1",
        "a-other": "1.0-1",
    }
    assert result_of(outcome, "LAB-a-between-2.0").update.classification is Classification.CRITICAL


@pytest.mark.public_report("https://www.uyuni-project.org/uyuni-docs/en/uyuni/administration/ptfs.html")
def test_a_temporary_fix_of_the_publisher_stays(mixed: tuple[LabHost, Outcome]) -> None:
    host, outcome = mixed
    result = result_of(outcome, "a-ptf")
    assert result.state is UpdateState.BLOCKED
    assert "ptf-1-1.0-1.noarch requires a-ptf = 1.0" in result.reason
    assert host.package_versions("a-ptf", "ptf-1") == {"a-ptf": "1.0-1", "ptf-1": "1.0-1"}
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS


@pytest.mark.public_report("https://bugzilla.suse.com/show_bug.cgi?id=1218575")
def test_of_overlapping_patches_the_security_fix_is_installed(mixed: tuple[LabHost, Outcome]) -> None:
    host, outcome = mixed
    assert result_of(outcome, "a-over").state is UpdateState.INSTALLED
    assert host.package_versions("a-over", "a-new") == {"a-over": "1.5-1"}


@pytest.mark.public_report("https://bugzilla.opensuse.org/show_bug.cgi?id=1203088")
def test_a_package_of_another_vendor_stays(mixed: tuple[LabHost, Outcome]) -> None:
    host, _ = mixed
    assert host.package_versions("a-vendor") == {"a-vendor": "1.0-1"}


@pytest.mark.public_report("http://lists.opensuse.org/opensuse-packaging/2017-03/msg00140.html")
def test_a_package_that_replaces_itself_is_an_update(mixed: tuple[LabHost, Outcome]) -> None:
    host, outcome = mixed
    assert result_of(outcome, "a-self").state is UpdateState.INSTALLED
    assert host.package_versions("a-self") == {"a-self": "2.0-1"}


@pytest.mark.parametrize("name", ["libodd++6", "0ad"])
def test_odd_names(mixed: tuple[LabHost, Outcome], name: str) -> None:
    host, outcome = mixed
    assert result_of(outcome, name).state is UpdateState.INSTALLED
    assert host.package_versions(name) == {name: "2.0-1"}
