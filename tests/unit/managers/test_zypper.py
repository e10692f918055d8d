"""zypper's assessment, from recordings of real machines and of what others published."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tasks.domain.errors import ManagerError, ProtocolViolation, RepositoryError
from tasks.domain.model import PackageState, Update
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.package_manager import JobKind, Transaction
from tasks.domain.protocols.transport import ScriptResult
from tasks.domain.states import Classification, YesNoUnknown
from tasks.machines.managers.registry import MANAGER_TYPES
from tasks.machines.managers.rpm.manager import ZYPPER, RpmManager
from tasks.machines.managers.rpm.zypper.assessment import parse_zypper_assessment
from tasks.machines.managers.rpm.zypper.offers import ZypperRepository
from tests.support.builders import make_update
from tests.unit.managers.recordings import describe, recorded, wanted
from tests.unit.managers.test_apt import Replay

FAMILY = "zypper"
MACHINES = ("sles-15", "sles-15-troubled", "sles-12-sp5", "sles-15-sp6", "leap-15.6", "tumbleweed")


def assessed(machine: str) -> PackageState:
    return parse_zypper_assessment(recorded(f"{machine}.rpm_assess", family=FAMILY))


def updates_of(machine: str) -> dict[str, Update]:
    return {update.id: update for update in assessed(machine).updates}


def changed(machine: str, section: str, **fields: Any) -> ScriptResult:
    """A recording with other values in one of its sections."""
    result = recorded(f"{machine}.rpm_assess", family=FAMILY)
    records = [{**each, **fields} if each.get("name") == section else each for each in result.records]
    return replace(result, records=tuple(records))


@pytest.mark.parametrize("machine", MACHINES)
def test_what_a_machine_says(machine: str) -> None:
    state = replace(assessed(machine), updater_units=())  # the same for all systems with RPM packages
    assert describe(state) == wanted(f"{machine}.rpm_assess", family=FAMILY)


def test_it_is_registered() -> None:
    assert MANAGER_TYPES["zypper"]().name == "zypper"


class TestPatches:
    def test_an_update_has_the_patches_it_fulfils(self) -> None:
        update = updates_of("sles-15")["lab-sec"]
        assert update.advisories == ("LAB-2026:2", "LAB-2026:1")
        assert update.cves == ("CVE-2026-0001", "CVE-2026-0002")
        assert update.classification is Classification.SECURITY
        assert (update.available, update.security_version) == ("2.1-1", "2.0-1")

    def test_patches_that_wait_for_the_update_of_zypper_are_not_lost(self) -> None:
        """zypper lists them apart, as long as its own parts have an update."""
        found = updates_of("sles-15-sp6")
        assert found["bind-utils"].classification is Classification.CRITICAL
        assert {name for name, update in found.items() if update.updates_manager} == {"libzypp", "zypper"}

    def test_a_patch_that_needs_a_reboot_is_not_left_out(self) -> None:
        assert updates_of("sles-15")["lab-reboot"].requires_reboot is True

    def test_a_needed_patch_that_no_update_fulfils_is_reported_by_itself(self) -> None:
        update = updates_of("sles-15-sp6")["patch:SUSE-SLE-Module-Basesystem-15-SP6-2024-3111"]
        assert update.blocked == "no repository has samba-client 4.19.8-150600.3.9.1 or newer"
        assert update.classification is Classification.SECURITY
        assert update.cves == ("CVE-2024-9999",)

    def test_an_optional_patch_is_not(self) -> None:
        text = str(recorded("sles-15-sp6.rpm_assess", family=FAMILY).records)
        assert 'status="optional"' in text
        named = [name for name in updates_of("sles-15-sp6") if name.startswith("patch:")]
        assert named == ["patch:SUSE-SLE-Module-Basesystem-15-SP6-2024-3111"]

    def test_without_the_packages_of_patches_nothing_is_told(self) -> None:
        """Else security fixes would look like other updates."""
        with pytest.raises(ProtocolViolation, match="which packages its patches fix"):
            parse_zypper_assessment(changed("sles-15", "patch_details", text=""))


class TestPendingUpdates:
    def test_locked_packages_are_reported_as_held(self) -> None:
        state = assessed("sles-15-troubled")
        found = {update.id: update for update in state.updates}
        assert found["lab-locked"].held
        assert found["lab-locked"].classification is Classification.SECURITY
        assert "lab-locked" in state.held

    def test_locks_of_an_old_zypper_are_masks(self) -> None:
        text = "<stream><locks><lock><name>lab-s*</name><type>package</type></lock></locks></stream>"
        result = recorded("sles-15.rpm_assess", family=FAMILY)
        locks = {"kind": "section", "name": "locks", "text": text, "exit_code": 0, "stderr": ""}
        state = parse_zypper_assessment(replace(result, records=(*result.records, locks)))
        assert {update.id for update in state.updates if update.held} == {"lab-sec", "lab-slow", "lab-stack"}

    def test_a_locked_patch_holds_its_packages(self) -> None:
        state = assessed("sles-15-troubled")
        assert [update.id for update in state.updates if "LAB-2026-3" in update.advisories and update.held]
        assert "LAB-2026-3" in state.held

    def test_zypper_changes_no_vendor_so_such_a_version_is_not_pending(self) -> None:
        text = str(recorded("sles-15-troubled.rpm_assess", family=FAMILY).records)
        assert 'name="lab-vendor" edition="2.0-1"' in text
        assert "lab-vendor" not in updates_of("sles-15-troubled")

    def test_where_the_machine_allows_another_vendor_it_is_told(self) -> None:
        result = recorded("sles-15-troubled.rpm_assess", family=FAMILY)
        sections = {each.get("name"): str(each.get("text")) for each in result.records}
        third = '<solvable type="package" name="lab-third" edition="2.0-1" arch="noarch"/>'
        upgrade = sections["upgrade"].replace(
            "</install-summary>", f"<to-change-vendor>{third}</to-change-vendor></install-summary>"
        )
        installed = sections["installed"].replace("THIRD", "FIRST")
        result = changed("sles-15-troubled", "upgrade", text=upgrade)
        records = [{**each, "text": installed} if each.get("name") == "installed" else each for each in result.records]
        state = parse_zypper_assessment(replace(result, records=tuple(records)))
        told = {update.id: update.vendor_change for update in state.updates if update.vendor_change}
        assert told == {"lab-third": "FIRST -> THIRD"}

    def test_an_update_that_can_not_be_installed_now_is_pending_too(self) -> None:
        assert {"lab-broken", "lab-removes"} <= updates_of("sles-15-troubled").keys()

    def test_a_licence_that_nobody_accepted_must_be_accepted_for_its_package_alone(self) -> None:
        found = updates_of("sles-15-troubled")
        assert [name for name, update in found.items() if update.needs_licence] == ["lab-lic"]
        assert not any(update.blocked for update in found.values())

    @pytest.mark.parametrize("needs", [False, True])
    def test_zypper_accepts_licences_only_for_an_update_that_needs_it(self, *, needs: bool) -> None:
        manager, wanted = RpmManager(ZYPPER), replace(updates_of("sles-15-troubled")["lab-lic"], needs_licence=needs)
        script = manager.build_job_script(JobKind.INSTALL, [Transaction(0, (wanted,), 1.0, 1.0)])
        assert script.params["accept_licences"] == ("yes" if needs else "")

    def test_a_licence_that_zypper_does_not_ask_for_needs_nothing(self) -> None:
        result = recorded("sles-15-troubled.rpm_assess", family=FAMILY)
        (upgrade,) = [each for each in result.records if each.get("name") == "upgrade"]
        text = str(upgrade["text"]).replace("In order to install", "Automatically agreeing with")
        state = parse_zypper_assessment(changed("sles-15-troubled", "upgrade", text=text, exit_code=0))
        assert not any(update.needs_licence for update in state.updates)

    def test_a_new_package_goes_with_the_one_that_needs_it(self) -> None:
        found = updates_of("sles-15-sp6")
        assert found["libjson-c5"].installed is None
        assert found["libjson-c5"].group == found["bind-utils"].group == "bind"
        assert found["libjson-c5"].classification is found["bind-utils"].classification

    def test_a_kernel_is_compared_with_the_newest_one_installed(self) -> None:
        kernel = updates_of("sles-15-sp6")["kernel-default"]
        assert (kernel.installed, kernel.changes_boot) == ("6.4.0-150600.23.7.3", True)

    def test_updates_of_a_repository_without_patches_are_unclassified(self) -> None:
        state = assessed("leap-15.6")
        found = {update.id: update for update in state.updates}
        assert found["vlc"].classification is Classification.UNCLASSIFIED
        assert found["vlc"].cves is None
        assert found["aaa_base"].classification is Classification.OTHER
        assert any("Packman Repository" in remark for remark in state.remarks)

    def test_a_rolling_distribution_is_only_reported(self) -> None:
        found = updates_of("tumbleweed")
        assert set(found) == {"bash", "curl"}
        assert all(update.blocked.startswith("ROLLING") for update in found.values())

    def test_if_the_solver_finds_no_way_all_updates_are_still_known(self) -> None:
        problem = (
            "<stream><prompt id='1'><description>Problem: nothing goes\n Solution 1: x</description></prompt></stream>"
        )
        state = parse_zypper_assessment(changed("sles-15", "upgrade", text=problem, exit_code=4))
        assert "lab-sec" in {update.id for update in state.updates}
        assert any("nothing goes" in warning for warning in state.warnings)


class TestRepositories:
    @pytest.mark.parametrize(
        ("name", "named"),
        [("Main", "Main"), ("SUSE $releasever ($basearch)", "SUSE 15.6 (x86_64)"), ("Other", "alias")],
    )
    def test_zypper_calls_it_by_its_name_with_the_values_of_variables_or_by_its_alias(
        self, name: str, named: str
    ) -> None:
        assert ZypperRepository("alias", name, is_read=True, has_patches=True).is_named(named)

    @pytest.mark.parametrize("named", ["", "SUSE 15.6 (aarch64", "Leap 15.6 (x86_64)"])
    def test_it_calls_no_other_one_so(self, named: str) -> None:
        assert not ZypperRepository("alias", "SUSE ${releasever} ($basearch)", is_read=True, has_patches=True).is_named(
            named
        )

    def test_a_damaged_copy_of_its_data_is_told_once_with_the_remedy(self) -> None:
        said = (
            '<stream><message type="error">Error building the cache:\n[|] Failed to cache repo (1).\nHistory:\n'
            " - 'repo2solv' '-X' '/var/cache/zypp/raw/lab'\n</message>"
            "<message type=\"error\">Skipping repository 'Lab 15' because of the above error.</message></stream>"
        )
        result = changed("sles-15", "update", text=said, exit_code=4)
        records = [
            {**each, "text": "dead\tLab $releasever\tno\tno\n" + str(each["text"])}
            if each.get("name") == "repositories"
            else each
            for each in result.records
        ]
        (problem,) = parse_zypper_assessment(replace(result, records=tuple(records))).repository_problems
        assert (problem.repository, problem.message) == ("Lab 15", "Error building the cache:")
        assert "zypper clean --all" in problem.remedy


class TestFaults:
    def test_a_dead_repository_is_a_problem_and_the_others_count(self) -> None:
        state = assessed("sles-15-troubled")
        assert [problem.repository for problem in state.repository_problems] == ["Dead one"]
        assert state.updates

    def test_a_key_that_nobody_has_accepted_is_not_accepted(self) -> None:
        (problem,) = assessed("sles-15-bad-key").repository_problems
        assert (problem.repository, problem.message) == ("Bad key", "Signature verification failed for repomd.xml")
        assert "No certain remedy" in problem.remedy

    @pytest.mark.parametrize("machine", ["sles-15-unreachable", "sles-15-unread"])
    def test_without_any_data_nothing_is_told(self, machine: str) -> None:
        with pytest.raises(RepositoryError, match="Dead one: Connection failed"):
            assessed(machine)

    def test_no_repository_is_an_error(self) -> None:
        with pytest.raises(RepositoryError, match="no package repository"):
            assessed("sles-15-no-repositories")

    def test_while_another_has_the_lock_the_data_of_the_last_read_are_used(self) -> None:
        state = assessed("sles-15-busy")
        assert any("could not read its repositories again" in warning for warning in state.warnings)
        assert "zypper" in state.lock_holder
        assert state.updates

    def test_without_a_refresh_a_machine_is_read_while_zypper_works(self) -> None:
        state = assessed("sles-15-working")
        assert "zypper" in state.lock_holder
        assert "rpm" in state.at_work
        assert state.updates

    def test_a_list_that_zypper_could_not_make_is_an_error(self) -> None:
        text = '<stream><message type="error">Target initialization failed:\nno rpm</message></stream>'
        with pytest.raises(ManagerError, match="Target initialization failed: no rpm"):
            parse_zypper_assessment(changed("sles-15", "updates", text=text, exit_code=4))

    def test_an_unreadable_database_is_a_problem_not_a_list_of_updates(self) -> None:
        broken = changed("sles-15", "installed", text="", exit_code=1, stderr="error: cannot open Packages database")
        state = parse_zypper_assessment(broken)
        assert state.problems
        assert state.updates == ()

    def test_the_reboot_flag_counts(self) -> None:
        assert assessed("sles-15-sp6").reboot.answer is YesNoUnknown.YES


def test_recordings_are_whole() -> None:
    for machine in MACHINES:
        result = recorded(f"{machine}.rpm_assess", family=FAMILY)
        assert json.dumps(result.records).count('"kind": "state"') == 1


def test_installed_versions_are_those_of_packages() -> None:
    """A needed patch is reported beside the packages, but rpm's database has no patches."""
    updates = [make_update(id=name, name=name) for name in ("lab-sec", "lab-gone", "kernel-default")]
    updates.append(make_update(id="patch:LAB-2026:1", name="LAB-2026:1"))
    replay = Replay(recorded("sles-15.rpm_installed", family=FAMILY))
    found = RpmManager(ZYPPER).read_installed_versions(replay, updates, deadline=Deadline.after(SystemClock(), 60))
    assert found == {"lab-sec": "1.0-1", "kernel-default": "5.14.1-1"}
    assert replay.asked[0].params["packages"] == ("lab-sec", "lab-gone", "kernel-default")


def test_of_several_kernels_the_newest_counts_and_not_the_one_that_was_installed_last() -> None:
    """An older kernel that somebody installs anew comes last in rpm's list. The update is not installed by that."""
    rows = ("5.14.21\t150500.55.9", "5.14.21\t150500.55.19", "5.14.21\t150500.55.7")
    text = "".join(f"kernel-default\t0\t{row}\tx86_64\t1795357225\tSUSE\n" for row in rows)
    section = {"kind": "section", "name": "packages", "text": text, "exit_code": 0, "stderr": ""}
    replay = Replay(ScriptResult(({"kind": "state", "native": "x86_64"}, section), 0))
    update = make_update(id="kernel-default", name="kernel-default", available="5.14.21-150500.55.28")
    found = RpmManager(ZYPPER).read_installed_versions(replay, [update], deadline=Deadline.after(SystemClock(), 60))
    assert found == {"kernel-default": "5.14.21-150500.55.19"}


def test_a_package_whose_transaction_has_not_ended_is_not_completely_installed() -> None:
    """The new version is in the database, and its last scripts have not run: the old one is still beside it."""
    rows = "a\t0\t1.0\t1\tnoarch\t5\tLAB\na\t0\t2.0\t1\tnoarch\t9\tLAB\nb\t0\t2.0\t1\tnoarch\t9\tLAB\n"
    texts = {"packages": rows, "duplicates": "a-2.0-1.noarch a-1.0-1.noarch\n"}
    sections = [
        {"kind": "section", "name": name, "text": text, "exit_code": 0, "stderr": ""} for name, text in texts.items()
    ]
    replay = Replay(ScriptResult(({"kind": "state", "native": "x86_64"}, *sections), 0))
    updates = [make_update(id=name, name=name, arch="noarch", available="2.0-1") for name in ("a", "b")]
    found = RpmManager(ZYPPER).read_installed_versions(replay, updates, deadline=Deadline.after(SystemClock(), 60))
    assert found == {"b": "2.0-1"}


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ('<message type="error">Target initialization failed: rpmdb at https://me:secret@x/ failed</message>', "rpmdb"),
        ("", "ended with 4"),
    ],
)
def test_repositories_that_were_not_read_again_are_told_also_for_an_unknown_reason(message: str, told: str) -> None:
    answer = changed("leap-15.6", "update", text=f"<stream>{message}</stream>", exit_code=4)
    (problem,) = parse_zypper_assessment(answer).repository_problems
    assert told in problem.message
    assert "secret" not in problem.message
    assert problem.hides_fixes
