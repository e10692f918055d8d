"""apt takes the versions that its own policy allows: pins, vendors, phases, and the kernels that a version needs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.request.patch_request import UpdatesRequest
from tasks.domain.model import Outcome, UpdateResult
from tasks.domain.states import Classification, OperationState, UpdateState
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import Lab, LabHost
from tests.lab.packages import DEBIAN, DEBIAN_SECURITY, DebRepository

VENDOR = {"Origin": "LowOrg", "Label": "LowOrg", "Suite": "stable", "Codename": "stable"}
UPDATES = {**DEBIAN, "Suite": "stable-updates", "Codename": "bookworm-updates"}
EVERYTHING = UpdatesRequest(classifications=list(Classification))


def publish(host: LabHost, place: Path, **repositories: dict[str, object]) -> None:
    """Make repositories the only sources of a host: name -> release and packages with their versions."""
    host.sh("rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*", root=True)
    for name, wanted in repositories.items():
        repository = DebRepository(place / name, wanted["release"])  # type: ignore[arg-type]
        for package, version, control in wanted["packages"]:  # type: ignore[attr-defined]
            repository.add(package, version, control=control)
        repository.publish(host)
    host.sh("apt-get -qq update", root=True)


def pin(host: LabHost, text: str) -> None:
    (host.root / "etc/apt/preferences.d/lab").write_text(text)


def install(host: LabHost, *words: str) -> None:
    host.sh(f"apt-get -qq -y --allow-downgrades install {' '.join(words)}", root=True)


def patch(host: LabHost, place: Path, **fields: object) -> Outcome:
    return outcome_of(Fleet([host], place).patch(reboot="Never", **fields), host)  # type: ignore[arg-type]


def versions_of(outcome: Outcome, name: str) -> dict[str, UpdateResult]:
    return {result.update.available: result for result in outcome.updates if result.update.name == name}


PINS = """Package: made-apart
Pin: release o=LowOrg
Pin-Priority: 900

Package: made-never
Pin: release l=Debian-Security
Pin-Priority: -1

Package: made-pinned
Pin: version 15.4*
Pin-Priority: 1001
"""
STOPPED = "Phased-Update-Percentage: 0"
SOURCES: dict[str, dict[str, object]] = {
    "base": {
        "release": DEBIAN,
        "packages": [
            ("made-pinned", "15.4-1", ""),
            ("linux-image-made", "1", "Depends: made-kernel-1"),
            ("made-kernel-1", "1", ""),
            ("made-staged", "1.0", ""),
            ("made-stopped", "1.0", ""),
        ],
    },
    "vendor": {
        "release": VENDOR,
        "packages": [
            *(("made-apart", version, "") for version in ("1.0", "2.0")),
            *(("made-never", version, "") for version in ("1.0", "2.0")),
            *(("made-vendors", version, "") for version in ("1.0", "3.0")),
        ],
    },
    "security": {
        "release": DEBIAN_SECURITY,
        "packages": [
            ("made-apart", "3.0", ""),
            ("made-never", "3.0", ""),
            ("made-vendors", "2.0", ""),
            ("made-pinned", "15.6-1", ""),
            ("linux-image-made", "2", "Depends: made-kernel-2"),
            ("made-kernel-2", "2", ""),
            ("made-staged", "2.0", ""),
        ],
    },
    "updates": {
        "release": UPDATES,
        "packages": [
            ("linux-image-made", "3", "Depends: made-kernel-3"),
            ("made-kernel-3", "3", ""),
            ("made-staged", "3.0", STOPPED),
            ("made-stopped", "3.0", STOPPED),
        ],
    },
}
FIRST = "linux-image-made=1 made-apart=1.0 made-never=1.0 made-vendors=1.0 made-pinned=15.4-1 made-staged=1.0"


@dataclass(frozen=True)
class Ending:
    """How a run ended: its outcome, and the versions of all packages after it."""

    outcome: Outcome
    versions: dict[str, str]


@pytest.fixture(scope="module")
def machine(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHost]:
    """A host with the first versions of the packages of all these sources."""
    (booted,) = lab.up(1)
    publish(booted, tmp_path_factory.mktemp("sources"), **SOURCES)
    install(booted, FIRST, "made-stopped=1.0")
    pin(booted, PINS)
    (booted.root / "etc/apt/apt.conf.d/99never").write_text('APT::Get::Never-Include-Phased-Updates "true";\n')
    yield booted
    booted.drop()


@pytest.fixture(scope="module")
def fixed(machine: LabHost, tmp_path_factory: pytest.TempPathFactory) -> Ending:
    """The end of a run of security updates."""
    return Ending(patch(machine, tmp_path_factory.mktemp("fixed")), machine.package_versions())


@pytest.fixture(scope="module")
def updated(machine: LabHost, fixed: Ending, tmp_path_factory: pytest.TempPathFactory) -> Ending:
    """The end of a run of all updates after it."""
    assert fixed.outcome.install is not None
    outcome = patch(machine, tmp_path_factory.mktemp("updated"), updates=EVERYTHING)
    return Ending(outcome, machine.package_versions())


@pytest.mark.public_report("https://github.com/MariaDB/server, https://deb.sury.org: vendors say to pin their archive")
@pytest.mark.parametrize(
    ("name", "words"),
    [("made-apart", "apt prefers 2.0 (priority 900"), ("made-never", "apt never takes 3.0 (priority -1")],
)
def test_a_pin_is_kept_and_the_fix_behind_it_is_seen(fixed: Ending, updated: Ending, name: str, words: str) -> None:
    fix = versions_of(fixed.outcome, name)["3.0"]
    assert fix.state is UpdateState.BLOCKED
    assert words in fix.reason
    assert fix.update.classification is Classification.SECURITY
    assert fixed.outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert fixed.versions[name] == "1.0"

    assert versions_of(updated.outcome, name)["2.0"].state is UpdateState.INSTALLED
    assert versions_of(updated.outcome, name)["3.0"].state is UpdateState.BLOCKED
    assert updated.versions[name] == "2.0"  # what apt itself installs


@pytest.mark.public_report("https://wiki.postgresql.org/wiki/Apt/FAQ: postgresql-15 kept at 15.4* with priority 1001")
def test_a_pinned_version_stays(updated: Ending) -> None:
    result = result_of(updated.outcome, "made-pinned")
    assert result.state is UpdateState.BLOCKED
    assert "apt prefers 15.4-1 (priority 1001" in result.reason
    assert updated.versions["made-pinned"] == "15.4-1"


@pytest.mark.public_report("https://mariadb.org: Debian's security archive has an older version than the vendor")
def test_a_vendors_package_stays_the_vendors(fixed: Ending) -> None:
    result = result_of(fixed.outcome, "made-vendors")
    assert result.state is UpdateState.INSTALLED
    assert result.update.vendor_change == ""
    assert fixed.versions["made-vendors"] == "3.0"


@pytest.mark.public_report("https://bugs.debian.org: linux-image-amd64 of bookworm-updates beside bookworm-security")
def test_a_security_run_brings_the_kernel_that_the_fix_needs_and_no_other(
    machine: LabHost, fixed: Ending, updated: Ending
) -> None:
    assert fixed.versions["linux-image-made"] == "2"
    assert fixed.versions.keys() & {"made-kernel-1", "made-kernel-2", "made-kernel-3"} == {
        "made-kernel-1",
        "made-kernel-2",
    }
    assert result_of(fixed.outcome, "linux-image-made").state is UpdateState.INSTALLED
    came, other = result_of(fixed.outcome, "made-kernel-2"), result_of(fixed.outcome, "made-kernel-3")
    assert (came.state, came.version_after) == (UpdateState.INSTALLED, "2")
    assert other.state is UpdateState.NOT_SELECTED
    assert "made-kernel-2" in machine.sh("apt-mark showauto").split()

    assert result_of(updated.outcome, "made-kernel-3").state is UpdateState.INSTALLED
    assert (updated.versions["linux-image-made"], updated.versions["made-kernel-3"]) == ("3", "3")


@pytest.mark.public_report("https://bugs.launchpad.net/bugs/1988819 and ubuntuforums.org: gjs stopped at 0 % for weeks")
def test_a_stopped_version_is_not_installed_and_a_fix_below_it_is(updated: Ending) -> None:
    stopped = result_of(updated.outcome, "made-stopped")
    assert stopped.state is UpdateState.BLOCKED
    assert "PHASED" in stopped.reason
    assert "(0 % of the machines now)" in stopped.reason
    assert updated.versions["made-stopped"] == "1.0"
    assert updated.versions["made-staged"] in {"2.0", "3.0"}  # apt itself takes 3.0, as it has the fix of 2.0


@pytest.mark.public_report(
    "https://ubuntu.com/pro: ESM attached, and the distribution's own security archive is missing"
)
def test_another_publishers_security_archive_vouches_for_nobody_else(host: LabHost, tmp_path: Path) -> None:
    esm = {"Origin": "UbuntuESM", "Label": "UbuntuESM", "Suite": "x-infra-security", "Codename": "x"}
    publish(
        host,
        tmp_path,
        updates={"release": UPDATES, "packages": [("made", "1.0", ""), ("made", "2.0", "")]},
        esm={"release": esm, "packages": [("other", "1.0", "")]},
    )
    install(host, "made=1.0")

    outcome = patch(host, tmp_path)
    assert result_of(outcome, "made").update.classification is Classification.UNCLASSIFIED
    assert host.package_versions("made") == {"made": "1.0"}


def test_a_hold_excludes_what_needs_the_held_package_and_is_no_warning(host: LabHost, tmp_path: Path) -> None:
    old = [("made-lib", "1.0", ""), ("made-app", "1.0", "Depends: made-lib"), ("made-free", "1.0", "")]
    new = [("made-lib", "2.0", ""), ("made-app", "2.0", "Depends: made-lib (= 2.0)"), ("made-free", "2.0", "")]
    publish(host, tmp_path, old={"release": DEBIAN_SECURITY, "packages": old})
    install(host, "made-app", "made-free")
    host.sh("apt-mark hold made-lib", root=True)
    publish(host, tmp_path, new={"release": DEBIAN_SECURITY, "packages": [*old, *new]})
    for pending in (True, False):  # the outcome does not depend on what else is to be done
        outcome = patch(host, tmp_path)
        assert outcome.state is OperationState.SUCCEEDED, outcome.reason
        states = {result.update.name: result.state for result in outcome.updates if result.update.name != "made-free"}
        assert states == {"made-lib": UpdateState.EXCLUDED, "made-app": UpdateState.EXCLUDED}
        (app,) = versions_of(outcome, "made-app").values()
        assert "made-lib: on hold on the machine" in app.reason
        assert pending == bool(versions_of(outcome, "made-free"))
