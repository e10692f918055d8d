"""Further public reports about apt: several situations share a host, and where they can, a run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetpatch.cli.runtime.exit_codes import ExitCode, to_run_exit_code
from flows.request.patch_request import UpdatesRequest
from tasks.domain.model import Outcome, RunReport, UpdateResult
from tasks.domain.states import Classification, Compliance, OperationState, RebootState, UpdateState
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import Lab, LabHost
from tests.lab.packages import DEBIAN, DEBIAN_SECURITY, DebRepository

EVERYTHING = UpdatesRequest(classifications=list(Classification))
MIRROR = {"Origin": ". aptly", "Label": ". aptly", "Suite": "own", "Codename": "own"}
SAME = "Multi-Arch: same"
ESSENTIAL = "Essential: yes"
FAILS = '[ "$1" != configure ] || { echo "The new file does not exist!" >&2; exit 1; }'


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Iterator[LabHost]:
    """The host of all tests here: with i386 beside amd64, and without package sources."""
    (host,) = lab.up(1)
    host.sh("rm -f /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apt/apt.conf.d/00architectures", root=True)
    host.sh("dpkg --add-architecture i386", root=True)
    yield host
    host.drop()


def install_all(host: LabHost, repository: DebRepository) -> None:
    repository.publish(host)
    host.sh(f"dpkg --force-overwrite -i /srv/{repository.folder.name}/*.deb", root=True)


def forget(host: LabHost, *names: str) -> None:
    """Leave nothing of a test's packages and sources."""
    host.sh(f"rm -f /etc/apt/sources.list.d/*; dpkg -P --force-all {' '.join(names)}", root=True)


def patch(host: LabHost, place: Path, **fields: object) -> tuple[Outcome, RunReport]:
    report = Fleet([host], place).patch(**{"reboot": "Never", **fields})  # type: ignore[arg-type]
    return outcome_of(report, host), report


def compliance_of(report: RunReport, host: LabHost) -> Compliance:
    (after,) = [each for each in report.assessments if each.machine == host.name]
    return after.compliance


@pytest.fixture(scope="module")
def ran(machine: LabHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LabHost, Outcome, RunReport]]:
    """One run with many situations."""
    place = tmp_path_factory.mktemp("many")
    security, mirror = DebRepository(place / "security"), DebRepository(place / "mirror", MIRROR)
    for name in ("x-rebuilt", "X_Odd", "x-daemon", "x-breaks", "x-broken-by", "x-free"):
        security.add(name, "1.0", control="Depends: lab-plain" if name == "x-rebuilt" else "")
    for arch in ("amd64", "i386"):
        security.add("x-lib", "1.0", control=SAME, architecture=arch)
    install_all(machine, security)
    mirror.add("x-mirrored", "1.0")
    install_all(machine, mirror)
    security.add("x-rebuilt", "1.0")  # the same version with other content
    security.add("X_Odd", "2.0")
    security.add("x-daemon", "2.0", scripts={"postinst": "nohup sleep 300 & exit 0"})
    security.add("x-breaks", "2.0", control="Breaks: x-broken-by (<< 2.0)")
    security.add("x-free", "2.0")
    security.add("x-lib", "2.0+b", control=SAME, architecture="amd64")
    security.add("x-lib", "2.0+a", control=SAME, architecture="i386")
    security.publish(machine)
    mirror.add("x-mirrored", "2.0")
    mirror.publish(machine)
    yield (machine, *patch(machine, place))
    names = ("x-rebuilt", "x_odd", "x-daemon", "x-breaks", "x-broken-by", "x-free", "x-lib:amd64", "x-lib:i386")
    forget(machine, *names, "x-mirrored")


@pytest.mark.public_report("https://github.com/Debian/apt/issues/23")
@pytest.mark.public_report("https://github.com/ScopeCreep-zip/open-sesame/issues/2")
def test_other_content_of_the_installed_version_is_no_update(ran: tuple[LabHost, Outcome, RunReport]) -> None:
    host, outcome, report = ran
    assert "Inst x-rebuilt [1.0] (1.0" in host.sh("apt-get -s dist-upgrade", root=True)
    assert all(result.update.name != "x-rebuilt" for result in outcome.updates)
    (after,) = [each for each in report.assessments if each.machine == host.name]
    assert after.packages is not None
    assert "x-rebuilt 1.0: a repository has other content" in str(after.packages.remarks)


@pytest.mark.public_report("https://github.com/percona/mongodb_exporter/issues/671")
@pytest.mark.public_report("https://github.com/thin-edge/thin-edge.io/issues/1552")
def test_a_name_that_only_dpkg_allows_is_updated_as_others(ran: tuple[LabHost, Outcome, RunReport]) -> None:
    host, outcome, _ = ran
    assert result_of(outcome, "x_odd").state is UpdateState.INSTALLED
    assert host.package_versions("x_odd", "x-free") == {"x_odd": "2.0", "x-free": "2.0"}


@pytest.mark.public_report("https://github.com/ansible/ansible/issues/8163")
def test_a_daemon_that_keeps_the_output_open_holds_nothing_up(ran: tuple[LabHost, Outcome, RunReport]) -> None:
    host, outcome, _ = ran
    assert result_of(outcome, "x-daemon").state is UpdateState.INSTALLED
    assert "sleep 300" in host.sh("pgrep -af 'sleep 300'")


@pytest.mark.public_report("https://github.com/mvo5/unattended-upgrades/issues/165")
def test_a_fix_that_breaks_an_installed_package_is_told(ran: tuple[LabHost, Outcome, RunReport]) -> None:
    host, outcome, report = ran
    fix = result_of(outcome, "x-breaks")
    assert fix.state is UpdateState.BLOCKED
    assert "x-broken-by" in fix.reason
    assert to_run_exit_code(report) is ExitCode.WARNINGS
    assert compliance_of(report, host) is Compliance.NON_COMPLIANT


@pytest.mark.public_report("https://github.com/oerdnj/deb.sury.org/issues/1394")
def test_architectures_that_do_not_go_together_cost_themselves(ran: tuple[LabHost, Outcome, RunReport]) -> None:
    _, outcome, _ = ran
    both: list[UpdateResult] = [each for each in outcome.updates if each.update.name == "x-lib"]
    assert {(each.update.id, each.state) for each in both} == {
        ("x-lib", UpdateState.BLOCKED),
        ("x-lib:i386", UpdateState.BLOCKED),
    }
    assert all("Breaks: x-lib" in each.reason for each in both)


@pytest.mark.public_report("https://github.com/aptly-dev/aptly/issues/306")
def test_a_mirror_under_its_own_name_vouches_for_nothing(ran: tuple[LabHost, Outcome, RunReport]) -> None:
    _, outcome, _ = ran
    mirrored = result_of(outcome, "x-mirrored")
    assert mirrored.update.classification is Classification.UNCLASSIFIED
    assert mirrored.state is UpdateState.NOT_SELECTED
    assert any("publishers without a security archive: " in each.message for each in outcome.findings)


@pytest.mark.public_report("https://github.com/mvo5/unattended-upgrades/issues/292")
def test_that_apt_cannot_upgrade_all_together_is_no_broken_machine(machine: LabHost, tmp_path: Path) -> None:
    repository = DebRepository(tmp_path / "world")
    repository.add("x-base", "1.0", control=ESSENTIAL, architecture="amd64")
    repository.add("x-two", "1.0", control=f"{SAME}\nDepends: x-tool", architecture="amd64")
    repository.add("x-two", "1.0", control=f"{SAME}\n{ESSENTIAL}", architecture="i386")
    for name in ("x-tool", "x-free"):
        repository.add(name, "1.0", architecture="amd64")
    install_all(machine, repository)
    repository.add("x-base", "2.0", control="Conflicts: x-tool", architecture="amd64")
    repository.add("x-two", "2.0", control=ESSENTIAL, architecture="amd64")
    repository.add("x-free", "2.0", architecture="amd64")
    repository.publish(machine)
    machine.sh("apt-get -qq update", root=True)
    assert "unmet dependencies" in machine.sh("apt-get -s dist-upgrade; apt-get -s check", root=True)

    outcome, report = patch(machine, tmp_path)
    assert result_of(outcome, "x-free").state is UpdateState.INSTALLED
    assert {result_of(outcome, name).state for name in ("x-base", "x-two")} == {UpdateState.BLOCKED}
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert compliance_of(report, machine) is Compliance.NON_COMPLIANT
    forget(machine, "x-base", "x-two:amd64", "x-two:i386", "x-tool", "x-free")


@pytest.mark.public_report("https://github.com/deadsnakes/issues/issues/304")
def test_packages_that_waited_for_a_file_conflict_are_set_up(machine: LabHost, tmp_path: Path) -> None:
    file = {"/usr/share/x-python/site": "1"}
    repository = DebRepository(tmp_path / "conflict")
    repository.add("x-std", "1.0", files=file)
    repository.add("x-min", "1.0")
    repository.add("x-app", "1.0", control="Depends: x-min (= 1.0), x-std (= 1.0)")
    install_all(machine, repository)
    repository.add("x-std", "2.0", control="Depends: x-min (= 2.0)")
    repository.add("x-min", "2.0", files=file, control="Breaks: x-app (<< 2.0)")
    repository.add("x-app", "2.0", control="Depends: x-min (= 2.0), x-std (= 2.0)")
    repository.publish(machine)

    outcome, report = patch(machine, tmp_path)
    assert machine.package_versions("x-std", "x-min", "x-app") == dict.fromkeys(("x-std", "x-min", "x-app"), "2.0")
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS  # what dpkg said of the first try
    assert compliance_of(report, machine) is Compliance.COMPLIANT
    forget(machine, "x-std", "x-min", "x-app")


@pytest.mark.public_report("https://github.com/oerdnj/deb.sury.org/issues/315")
def test_what_waited_for_a_failed_package_is_set_up_with_its_next_version(machine: LabHost, tmp_path: Path) -> None:
    repository = DebRepository(tmp_path / "php")
    for name in ("x-cli", "x-fpm", "x-free"):
        repository.add(name, "1.0")
    install_all(machine, repository)
    repository.add("x-cli", "2.0", scripts={"postinst": FAILS})
    repository.add("x-fpm", "2.0", control="Depends: x-cli (>= 2.0)")
    repository.publish(machine)
    outcome, _ = patch(machine, tmp_path)
    assert outcome.state is OperationState.FAILED
    assert "unpacked" in machine.query_dpkg("-W", "-f", "${db:Status-Status}", "x-fpm")

    repository.add("x-cli", "2.1")
    repository.publish(machine)
    outcome, _ = patch(machine, tmp_path)
    assert result_of(outcome, "x-cli").state is UpdateState.INSTALLED
    assert machine.package_versions("x-cli", "x-fpm") == {"x-cli": "2.1", "x-fpm": "2.0"}

    repository.add("x-free", "2.0")
    repository.publish(machine)
    outcome, report = patch(machine, tmp_path)
    assert outcome.state is OperationState.SUCCEEDED
    assert compliance_of(report, machine) is Compliance.COMPLIANT
    forget(machine, "x-cli", "x-fpm", "x-free")


@pytest.mark.public_report("https://github.com/openmediavault/openmediavault/issues/1436")
def test_the_security_repository_of_another_release_is_none(machine: LabHost, tmp_path: Path) -> None:
    other = {**DEBIAN_SECURITY, "Suite": "oldstable-security", "Codename": "bullseye-security"}
    for name, release in (("old-security", other), ("main", DEBIAN)):
        repository = DebRepository(tmp_path / name, release)
        repository.add("x-none", "1.0")
        repository.publish(machine)
    outcome, report = patch(machine, tmp_path)
    assert compliance_of(report, machine) is Compliance.NOT_ASSESSED
    assert "Debian-Security of bookworm: it is not configured" in outcome.reason
    assert to_run_exit_code(report) is ExitCode.WARNINGS
    forget(machine, "x-none")


@pytest.mark.public_report("https://github.com/strongtz/i915-sriov-dkms/issues/196")
def test_a_kernel_of_proxmox_is_not_booted_after_an_error(machine: LabHost, tmp_path: Path) -> None:
    kernel, boot = "proxmox-kernel-6.8", machine.boot_id()
    repository = DebRepository(tmp_path / "pve")
    repository.add(kernel, "1.0")
    install_all(machine, repository)
    asks = f"touch /run/reboot-required; echo {kernel} >> /run/reboot-required.pkgs"
    repository.add(kernel, "2.0", scripts={"postinst": asks})
    repository.publish(machine)
    hook = machine.root / "etc/apt/apt.conf.d/99hook"
    hook.write_text('DPkg::Post-Invoke {"echo copying to the second disk failed; exit 1";};\n')

    outcome, _ = patch(machine, tmp_path, reboot="IfRequired")
    assert result_of(outcome, kernel).state is UpdateState.INSTALLED
    assert outcome.reboot is RebootState.REQUIRED
    assert f"a transaction changed {kernel}, and ended with an error" in outcome.reason
    assert machine.boot_id() == boot
    hook.unlink()
