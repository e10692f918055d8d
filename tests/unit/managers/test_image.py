"""Image-based systems: what their tools report becomes one update, the reason of a reboot, and warnings."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.errors import (
    FleetpatchError,
    ListsUnread,
    ManagerBusy,
    ProtocolViolation,
    RepositoryError,
    RequestError,
    UnsupportedSystem,
)
from tasks.domain.model import PackageState, Update
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.package_manager import JobKind, Transaction
from tasks.domain.protocols.transport import Script, ScriptResult
from tasks.domain.states import Classification, YesNoUnknown
from tasks.machines.managers.image.bootc.tool import BOOTC
from tasks.machines.managers.image.manager import ImageManager
from tasks.machines.managers.image.rpm_ostree.tool import RPM_OSTREE
from tasks.machines.managers.image.state import clean_image_text, find_image_digest, format_image_version
from tasks.machines.managers.image.transactional_update.tool import TRANSACTIONAL_UPDATE, parse_zypper_table
from tasks.machines.managers.registry import find_manager
from tasks.machines.transport.script_library import compose_script
from tests.support.builders import make_facts, make_update
from tests.unit.managers.recordings import recorded

DEADLINE = Deadline.after(SystemClock(), 60)
MANAGERS = {tool.name: ImageManager(tool) for tool in (BOOTC, RPM_OSTREE, TRANSACTIONAL_UPDATE)}


@dataclass
class Replay:
    """A transport that gives one recorded answer."""

    result: ScriptResult
    scripts: list[Script] = field(default_factory=list)

    def run_script(self, script: Script, *, deadline: Deadline) -> ScriptResult:
        self.scripts.append(script)
        return self.result


def replay(name: str) -> Any:
    return Replay(recorded(f"{name}.image_assess", family="image"))


def manager_of(name: str) -> ImageManager:
    system = name.split("-")[0:2]
    if system == ["rhel", "image"]:
        return MANAGERS["bootc"]
    return MANAGERS["transactional-update" if system[0] in {"sle", "opensuse"} else "rpm-ostree"]


def assess(name: str) -> PackageState:
    return manager_of(name).assess(replay(name), refresh=True, deadline=DEADLINE)


def installed(name: str, update: Update) -> str:
    return manager_of(name).read_installed_versions(replay(name), [update], deadline=DEADLINE)["deployment"]


def only(state: PackageState) -> Update:
    (update,) = state.updates
    return update


@pytest.mark.parametrize(
    ("name", "image", "before", "after"),
    [
        (
            "fedora-coreos-43-update",
            "fedora:fedora/x86_64/coreos/stable",
            "43.20260818.3.0 (a1b2a1b2a1b2)",
            "43.20260901.3.0 (c3d4c3d4c3d4)",
        ),
        (
            "rhel-image-mode-9-update",
            "registry.example/ops/rhel-bootc:9",
            "9.20260818.0 (0123456789ab)",
            "9.20260901.0 (fedcba987654)",
        ),
        (
            "container-desktop-43-update",
            "ostree-image-signed:docker://ghcr.example/ublue/desktop:stable",
            "43.20260820 (66ff66ff66ff)",
            "43.20260902 (newer image)",
        ),
    ],
)
def test_a_newer_image_is_one_update_that_needs_a_reboot(name: str, image: str, before: str, after: str) -> None:
    update = only(assess(name))
    assert (update.id, update.name, update.installed, update.available) == ("deployment", image, before, after)
    assert (update.requires_reboot, update.changes_boot) == (True, True)


@pytest.mark.parametrize("name", ["fedora-coreos-43-update", "rhel-image-mode-9-update", "opensuse-microos-update"])
def test_without_advisories_it_is_not_called_compliant(name: str) -> None:
    state = assess(name)
    assert only(state).classification is Classification.UNCLASSIFIED
    assert only(state).cves is None
    assert any("advisories" in warning for warning in state.warnings)


def test_advisories_of_rpm_ostree_classify_it() -> None:
    update = only(assess("fedora-silverblue-43-advisories"))
    assert (update.classification, update.severity) == (Classification.CRITICAL, "Critical")
    assert update.advisories == ("FEDORA-2026-5f6a7b8c9d", "FEDORA-2026-0a1b2c3d4e")
    assert update.cves == ("CVE-2026-10001", "CVE-2026-10002", "CVE-2026-10003", "CVE-2026-20001")


def test_layered_packages_are_told() -> None:
    state = assess("fedora-silverblue-43-advisories")
    assert any("htop, vim-enhanced" in remark for remark in state.remarks)
    assert only(state).installed == "43.20260820.0 (11aa11aa11aa) with local packages (33cc33cc33cc)"


def test_newer_layered_packages_alone_are_an_update() -> None:
    assert only(assess("fedora-silverblue-43-layered-only")).available == "43.20260820.0 (newer local packages)"


def test_a_container_image_has_the_version_that_was_announced_without_its_digest() -> None:
    update = only(assess("container-desktop-43-update"))
    assert installed("container-desktop-43-update", update) == update.installed
    assert installed("container-desktop-43-staged", update) == update.available
    assert installed("container-desktop-43-staged", replace(update, installed="43.20260902 (88ab88ab88ab)")) != (
        update.available
    )


def test_a_layered_system_at_the_new_image_has_the_update() -> None:
    update = only(assess("fedora-silverblue-43-advisories"))
    assert installed("fedora-silverblue-43-layered-updated", update) == update.available
    assert installed("fedora-silverblue-43-advisories", update) == update.installed


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("fedora-coreos-43-update", "fedora-coreos-43-staged"),
        ("rhel-image-mode-9-update", "rhel-image-mode-9-staged"),
        ("sle-micro-5.5-update", "sle-micro-5.5-staged"),
    ],
)
def test_a_staged_image_is_installed_and_waits_for_a_reboot(before: str, after: str) -> None:
    update, state = only(assess(before)), assess(after)
    assert state.updates == ()
    assert state.reboot.answer is YesNoUnknown.YES
    assert "staged for the next boot" in state.reboot.reasons[0]
    assert installed(after, update) == update.available
    assert installed(before, update) == update.installed


def test_an_image_that_was_only_downloaded_is_still_to_be_installed() -> None:
    state = assess("rhel-image-mode-9-downloaded")
    assert only(state).available == "9.20260901.0 (fedcba987654)"
    assert state.reboot.answer is YesNoUnknown.NO


def test_a_boot_that_fell_back_has_the_version_of_before() -> None:
    update, state = only(assess("fedora-coreos-43-update")), assess("fedora-coreos-43-fell-back")
    assert installed("fedora-coreos-43-fell-back", update) == update.installed
    assert state.reboot.answer is YesNoUnknown.NO, "another boot of the same image would fail again"
    assert any("fell back" in warning for warning in state.warnings)


def test_a_queued_rollback_is_told() -> None:
    (warning,) = assess("rhel-image-mode-9-rollback-queued").warnings
    assert "9.20260818.0" in warning


def test_bootc_can_not_update_a_system_with_layered_packages() -> None:
    assert "rpm-ostree" in only(assess("rhel-image-mode-9-layered")).blocked


def test_an_old_status_without_versions_is_understood() -> None:
    state = assess("rhel-for-edge-8")
    assert state.updates == ()
    assert state.reboot.answer is YesNoUnknown.NO


def test_patches_classify_the_packages_of_the_next_snapshot() -> None:
    update = only(assess("sle-micro-5.5-update"))
    assert (update.name, update.installed) == ("sle-micro-5.5", "snapshot 12")
    assert update.available.startswith("3 packages, 3 patches (")
    assert (update.classification, update.severity) == (Classification.SECURITY, "important")
    assert update.advisories[-1] == "SUSE-SLE-Micro-5.5-2026-2101"
    assert update.cves == ("CVE-2026-3001", "CVE-2026-3002", "CVE-2026-4001")


def test_the_same_pending_packages_have_the_same_version_on_all_machines() -> None:
    first = recorded("sle-micro-5.5-update.image_assess", family="image")
    text = json.dumps(first.records).replace("running=12", "running=30").replace("default=12", "default=30")
    other: Any = Replay(ScriptResult(tuple(json.loads(text)), 0))
    again = MANAGERS["transactional-update"].assess(other, refresh=False, deadline=DEADLINE)
    assert only(again).available == only(assess("sle-micro-5.5-update")).available
    assert only(again).installed == "snapshot 30"


def test_a_snapshot_with_the_update_runs_after_the_reboot() -> None:
    update = only(assess("sle-micro-5.5-update"))
    assert installed("sle-micro-5.5-current", update) == update.available


def change(name: str, *changes: tuple[str, str]) -> Any:
    """Return a machine that answers as recorded, except for this text of the sections."""
    records = [dict(record) for record in recorded(f"{name}.image_assess", family="image").records]
    for before, after in changes:
        assert any(before in str(record.get("text", "")) for record in records), before
        for record in records:
            if "text" in record:
                record["text"] = str(record["text"]).replace(before, after)
    return Replay(ScriptResult(tuple(records), 0))


def test_another_snapshot_in_which_something_is_pending_is_not_the_update() -> None:
    name, manager = "sle-micro-5.5-update", MANAGERS["transactional-update"]
    update = only(assess(name))
    others = change(name, ("default=12", "default=13"))  # and its packages are not those of the update
    assert manager.read_installed_versions(others, [update], deadline=DEADLINE) == {"deployment": "snapshot 13"}
    published = change(name, ("running=12", "running=13"), ("default=12", "default=13"), ("needed", "applied"))
    assert manager.read_installed_versions(published, [update], deadline=DEADLINE) == {"deployment": "snapshot 13"}


def test_a_snapshot_that_waits_with_none_of_the_packages_fulfils_none_of_the_patches() -> None:
    name, manager = "sle-micro-5.5-update", MANAGERS["transactional-update"]
    waiting = only(manager.assess(change(name, ("default=12", "default=13")), refresh=False, deadline=DEADLINE))
    assert waiting.classification is Classification.SECURITY
    assert waiting.available == only(assess(name)).available


def test_a_locked_deployment_is_not_what_the_next_boot_starts() -> None:
    name, manager = "fedora-coreos-43-staged", MANAGERS["rpm-ostree"]
    update = only(assess("fedora-coreos-43-update"))
    locked = change(name, ('"staged": true', '"staged": true, "finalization-locked": true'))
    state = manager.assess(locked, refresh=False, deadline=DEADLINE)
    assert state.reboot.answer is YesNoUnknown.NO
    assert manager.read_installed_versions(locked, [update], deadline=DEADLINE) == {"deployment": update.installed}
    assert only(state).available == update.available
    assert "finalize-deployment" in only(state).blocked
    assert any("locked" in warning for warning in state.warnings)


def test_what_bootc_found_before_the_coming_image_was_built_is_no_update() -> None:
    name, manager = "rhel-image-mode-9-update", MANAGERS["bootc"]
    update = only(assess(name))
    assert update.published is not None
    built = update.published.isoformat().replace("+00:00", "Z")
    stale = change(name, (built, "2020-01-01T00:00:00Z"))
    assert manager.assess(stale, refresh=False, deadline=DEADLINE).updates == ()
    unknown = change(name, (built, "2020-01-01T00:00:00"))  # no time zone
    assert only(manager.assess(unknown, refresh=False, deadline=DEADLINE)).available == update.available


@pytest.mark.parametrize("name", list(MANAGERS))
def test_their_updaters_can_be_paused(name: str) -> None:
    script = MANAGERS[name].updaters_script
    assert script is not None
    assert compose_script(script)
    assert ("zincati.service" in script.params["units"]) == (name == "rpm-ostree")


def test_an_agent_that_drives_the_updates_is_told() -> None:
    (warning,) = [each for each in assess("fedora-coreos-43-update").warnings if "Zincati" in each]
    assert "native_updaters" in warning
    assert not any("Zincati" in each for each in assess("fedora-coreos-43-fell-back").warnings)


def test_updaters_of_the_system_are_told() -> None:
    assert assess("fedora-coreos-43-update").auto_updaters == (("zincati.service", None),)
    assert assess("rhel-image-mode-9-update").auto_updaters == (("bootc-fetch-apply-updates.timer", 1400.0),)
    (timer,) = assess("sle-micro-5.5-update").auto_updaters
    assert timer[0] == "transactional-update.timer"
    assert "zincati.service" in assess("fedora-coreos-43-update").updater_units


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("fedora-coreos-43-busy", ManagerBusy, "Transaction in progress"),
        ("fedora-coreos-43-unreachable", RepositoryError, "mirror.invalid"),
        ("rhel-image-mode-9-unauthorized", RepositoryError, "unauthorized"),
        ("sle-micro-5.5-unreachable", RepositoryError, "updates.example"),
        ("sle-micro-5.5-unread", ListsUnread, "No repositories"),
    ],
)
def test_a_failed_check_says_why(name: str, kind: type[FleetpatchError], words: str) -> None:
    with pytest.raises(kind, match=words):
        assess(name)


def test_one_repository_of_several_that_fails_is_told_with_its_remedy() -> None:
    state = assess("sle-micro-5.5-one-unreachable")
    (problem,) = state.repository_problems
    assert problem.repository == "SLE-Micro-5.5-Updates"
    assert only(state).available == only(assess("sle-micro-5.5-update")).available


def test_a_process_that_changes_deployments_is_told_by_an_assessment() -> None:
    records = recorded("fedora-coreos-43-busy.image_assess", family="image").records[1:]
    busy: Any = Replay(ScriptResult(records, 0))
    state = MANAGERS["rpm-ostree"].assess(busy, refresh=False, deadline=DEADLINE)
    assert "/ostree/lock" in state.at_work
    assert state.lock_holder == state.at_work


def test_a_simulation_compares_with_what_is_offered_now() -> None:
    name, manager = "fedora-coreos-43-update", MANAGERS["rpm-ostree"]
    update = only(assess(name))
    assert manager.simulate(replay(name), [update], deadline=DEADLINE).changes == {"deployment": update.available}
    moved = manager.simulate(replay(name), [replace(update, available="1 (a1b2a1b2a1b2)")], deadline=DEADLINE)
    assert moved.changes == {}
    assert update.available in (moved.refused or {})["deployment"]


def test_a_job_gets_the_image_and_the_digest_that_was_chosen() -> None:
    update = only(assess("fedora-coreos-43-update"))
    script = MANAGERS["rpm-ostree"].build_job_script(JobKind.INSTALL, [Transaction(2, (update,), 100.9, 1.0, 50.2)])
    assert not script.read_only
    assert script.package == "tasks.machines.managers.image.rpm_ostree"
    assert script.params["tx_2_image"] == "fedora:fedora/x86_64/coreos/stable"
    assert script.params["tx_2_digest"] == "c3d4c3d4c3d4"
    assert (script.params["tx_2_latest_start"], script.params["tx_2_stop_at"]) == ("100", "50")


@pytest.mark.parametrize("name", ["--force", "a b", "", "a;reboot"])
def test_what_is_no_image_gets_no_job(name: str) -> None:
    update = make_update(id="deployment", name=name)
    with pytest.raises(RequestError):
        MANAGERS["bootc"].build_job_script(JobKind.INSTALL, [Transaction(0, (update,), 1.0, 1.0)])
    with pytest.raises(RequestError):
        MANAGERS["bootc"].build_job_script(JobKind.INSTALL, [])


def test_only_the_deployment_is_known() -> None:
    other, machine = make_update(id="bash", name="bash"), replay("rhel-for-edge-8")
    assert MANAGERS["rpm-ostree"].read_installed_versions(machine, [other], deadline=DEADLINE) == {}


@pytest.mark.parametrize("name", list(MANAGERS))
def test_they_are_found_by_their_names(name: str) -> None:
    assert find_manager(make_facts(managers=(name,))).name == name


def test_an_image_without_its_tool_is_said_to_be_one() -> None:
    with pytest.raises(UnsupportedSystem, match="root is an OSTree image"):
        find_manager(make_facts(managers=("ostree",)))


BROKEN: Mapping[str, str] = {
    "empty": "",
    "no object": "[]",
    "deep": "[" * 100_000,
    "no deployment": '{"deployments": []}',
    "none booted": '{"deployments": [{"checksum": "a"}]}',
    "huge number": '{"deployments": [], "cached-update": {"timestamp": 1' + "0" * 5000 + "}}",
    "no booted image": '{"status": {"booted": null}}',
}


@pytest.mark.parametrize("text", list(BROKEN.values()), ids=list(BROKEN))
@pytest.mark.parametrize("name", ["bootc", "rpm-ostree"])
def test_a_status_that_is_not_valid_is_a_violation(name: str, text: str) -> None:
    record = {"kind": "section", "name": "status", "text": text, "exit_code": 0}
    broken: Any = Replay(ScriptResult((record,), 0))
    with pytest.raises(ProtocolViolation):
        MANAGERS[name].assess(broken, refresh=False, deadline=DEADLINE)


@given(st.text())
def test_no_text_of_a_machine_breaks_a_table_or_a_name(text: str) -> None:
    assert all(isinstance(row, dict) for row in parse_zypper_table(text))
    assert "\n" not in clean_image_text(text)
    assert len(clean_image_text(text)) <= 200


@given(st.text(alphabet="0123456789abcdef", min_size=32, max_size=64))
def test_the_digest_of_a_version_is_found_again(digest: str) -> None:
    assert find_image_digest(format_image_version("41.1", f"sha256:{digest}")) == digest[:12]
    assert find_image_digest(format_image_version(None, digest)) == digest[:12]
    assert find_image_digest(format_image_version("41.1", "no digest")) == ""
