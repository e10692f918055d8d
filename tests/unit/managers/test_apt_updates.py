"""What is pending and how urgent it is, from what apt says."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import Update, UpdateResult
from tasks.domain.states import Classification, OperationState, UpdateState
from tasks.machines.managers.apt.assessment import find_unread_pro
from tasks.machines.managers.apt.output_parsers import AvailableVersion, PackageChange, PackagePolicy, Release
from tasks.machines.managers.apt.pending_updates import AptState, build_pending_updates, with_pro_updates
from tasks.machines.managers.apt.version_choice import (
    classify_releases,
    find_distributions_without_security,
    find_security_publishers,
)
from tasks.machines.managers.script_output import ScriptSection
from tasks.rules.runs.outcome import determine_outcome_state

SECURITY = Release("Debian", "Debian-Security", "12", "oldstable-security", "bookworm-security")
UPDATES = Release("Debian", "Debian", "12-updates", "stable-updates", "bookworm-updates")
JAMMY_UPDATES = Release("Ubuntu", "Ubuntu", "22.04", "jammy-updates", "jammy")
JAMMY_SECURITY = Release("Ubuntu", "Ubuntu", "22.04", "jammy-security", "jammy")
ESM = Release("UbuntuESM", "UbuntuESM", "20.04", "focal-infra-security", "focal")
ESM_UPDATES = Release("UbuntuESM", "UbuntuESM", "20.04", "focal-infra-updates", "focal")
DOCKER = Release("Docker", "Docker CE", "", "bookworm", "bookworm")

RELEASES = {"sec": SECURITY, "upd": UPDATES, "docker": DOCKER}


def know(*policies: PackagePolicy, **more: object) -> AptState:
    base = AptState(
        native_architecture="amd64", policies=policies, releases=RELEASES, held=frozenset(), stanzas=(), changes=()
    )
    return replace(base, **more)  # type: ignore[arg-type]


def policy(*newer: AvailableVersion, name: str = "x", candidate: str | None = None) -> PackagePolicy:
    return PackagePolicy(name, "1", candidate or newer[0].version, newer)


UBUNTU = Release("Ubuntu", "Ubuntu", "22.04", "jammy", "jammy")
ALL_SECURITY = (SECURITY, JAMMY_SECURITY, ESM)


@pytest.mark.parametrize(
    ("newer", "configured", "expected"),
    [
        ([SECURITY], ALL_SECURITY, Classification.SECURITY),
        ([UPDATES], ALL_SECURITY, Classification.OTHER),
        ([JAMMY_UPDATES, JAMMY_SECURITY], ALL_SECURITY, Classification.SECURITY),
        ([JAMMY_UPDATES], ALL_SECURITY, Classification.OTHER),
        ([ESM], ALL_SECURITY, Classification.SECURITY_ESM),
        ([ESM_UPDATES], ALL_SECURITY, Classification.OTHER),
        ([ESM, JAMMY_SECURITY], ALL_SECURITY, Classification.SECURITY),
        ([DOCKER], ALL_SECURITY, Classification.UNCLASSIFIED),
        ([], ALL_SECURITY, Classification.UNCLASSIFIED),
        ([Release(label="Debian-Security", version="12", archive="stable")], (), Classification.SECURITY),
        ([JAMMY_UPDATES], (ESM, SECURITY), Classification.UNCLASSIFIED),
        ([ESM_UPDATES], (JAMMY_SECURITY,), Classification.UNCLASSIFIED),
    ],
)
def test_a_publisher_vouches_for_itself_only(
    newer: list[Release], configured: tuple[Release, ...], expected: Classification
) -> None:
    assert classify_releases(newer, newer[:1], find_security_publishers(configured)) is expected


def test_a_distribution_without_its_security_archive_is_told() -> None:
    """With ESM attached, focal-infra-security is there, which does not have Ubuntu's own fixes."""
    assert find_distributions_without_security([UBUNTU, JAMMY_UPDATES, ESM, ESM_UPDATES]) == ("Ubuntu",)
    assert find_distributions_without_security([UBUNTU, JAMMY_SECURITY, ESM, DOCKER]) == ()
    assert find_distributions_without_security([DOCKER]) == ()


def test_a_security_fix_counts_though_something_newer_is_installed_instead() -> None:
    (update,) = build_pending_updates(know(policy(AvailableVersion("3", ("upd",)), AvailableVersion("2", ("sec",)))))
    assert update.classification is Classification.SECURITY
    assert update.available == "3"
    assert update.origins == ("Debian:12-updates/stable-updates", "Debian-Security:12/oldstable-security")


def test_what_is_not_newer_is_not_pending() -> None:
    assert build_pending_updates(know(PackagePolicy("x", "1", "1", ()), PackagePolicy("y", None, "1", ()))) == ()


def test_a_candidate_that_is_older_is_no_update() -> None:
    assert build_pending_updates(know(policy(AvailableVersion("2", ("upd",)), candidate="0.5"))) == ()


def test_a_hold_is_told_and_the_update_stays() -> None:
    (update,) = build_pending_updates(know(policy(AvailableVersion("2", ("upd",))), held=frozenset({"x"})))
    assert update.held


def test_without_any_security_repository_nothing_is_called_harmless() -> None:
    (update,) = build_pending_updates(know(policy(AvailableVersion("2", ("upd",))), releases={"upd": UPDATES}))
    assert update.classification is Classification.UNCLASSIFIED


def test_size_source_and_architecture_come_from_the_version_that_is_installed() -> None:
    stanzas = (
        {"Package": "x", "Architecture": "all", "Version": "2", "Source": "src (2.0)", "Size": "123"},
        {"Package": "x", "Architecture": "amd64", "Version": "1"},
        {"Package": "x", "Architecture": "i386", "Version": "2", "Size": "9"},
    )
    native, foreign = build_pending_updates(
        know(
            policy(AvailableVersion("2", ("upd",))),
            policy(AvailableVersion("2", ("upd",)), name="x:i386"),
            stanzas=stanzas,
        )
    )
    assert (native.arch, native.group, native.size_bytes) == ("all", "src", 123)
    assert (foreign.id, foreign.name, foreign.arch, foreign.size_bytes) == ("x:i386", "x", "i386", 9)


def kernel_knowledge() -> AptState:
    """A metapackage's update brings a kernel, which brings its modules; the metapackage is a security update."""
    meta, image, modules = "linux-image-amd64", "linux-image-6.1.0-41-amd64", "linux-modules-6.1.0-41"
    return know(
        policy(AvailableVersion("6.1.150-1", ("sec",)), name=meta),
        policy(AvailableVersion("2", ("upd",)), name="other"),
        stanzas=(
            {"Package": meta, "Version": "6.1.150-1", "Source": "linux-signed", "Depends": f"{image} (= 6.1.150-1)"},
            {
                "Package": image,
                "Version": "6.1.150-1",
                "Source": "linux",
                "Depends": f"kmod, a | {modules}",
                "Size": "7",
            },
            {"Package": "other", "Version": "2", "Recommends": "newcomer"},
        ),
        changes=(
            PackageChange(modules, "amd64", None, "6.1.150-1", ("Debian:12-updates/stable-updates",)),
            PackageChange(image, "amd64", None, "6.1.150-1", ("Debian-Security:12/stable-security",)),
            PackageChange("newcomer", "all", None, "1", ("Debian-Security:12/stable-security",)),
            PackageChange(meta, "amd64", "1", "6.1.150-1", ()),
        ),
    )


def test_a_new_kernel_goes_with_the_metapackage_that_brings_it() -> None:
    updates = {update.name: update for update in build_pending_updates(kernel_knowledge())}
    image, modules = updates["linux-image-6.1.0-41-amd64"], updates["linux-modules-6.1.0-41"]
    assert image.installed is None
    assert image.classification is modules.classification is Classification.SECURITY
    assert {image.group, modules.group, updates["linux-image-amd64"].group} == {"linux-signed"}
    assert (image.needed_by, modules.needed_by) == ("linux-image-amd64", image.id)
    assert image.requires_reboot is updates["linux-image-amd64"].requires_reboot is True
    assert image.changes_boot is updates["linux-image-amd64"].changes_boot is True
    assert updates["other"].changes_boot is False


def test_a_new_package_is_only_as_urgent_as_what_brings_it() -> None:
    updates = {update.name: update for update in build_pending_updates(kernel_knowledge())}
    assert updates["newcomer"].classification is Classification.OTHER


PRO = """{"data": {"attributes": {"updates": [
 {"package": "x", "version": "2", "status": "upgrade_available", "provided_by": "standard-security",
  "related_cves": ["CVE-2026-1"]},
 {"package": "y", "version": "3+esm1", "status": "pending_attach", "provided_by": "esm-infra",
  "origin": "esm.ubuntu.com", "download_size": 77, "related_cves": []},
 {"package": "x", "version": "2+esm1", "status": "pending_enable", "provided_by": "esm-apps"},
 {"package": "z", "version": "1", "status": "upgrade_unavailable"}]}}, "result": "success"}"""


UNATTACHED = """{"data": {"attributes": {"updates": [
 {"download_size": 583928, "origin": "esm.ubuntu.com", "package": "bash", "provided_by": "esm-infra",
  "related_cves": ["CVE-2019-18276"], "status": "pending_attach", "version": "4.3-14ubuntu1.4+esm1"}]}}}"""


def test_fixes_for_subscribers_are_no_warning_on_a_machine_without_a_subscription() -> None:
    """The answer has the shape that ubuntu-pro-client's integration test of the endpoint has (xenial, unattached)."""
    (bash,) = with_pro_updates((), UNATTACHED, "amd64", {"bash": "4.3-14ubuntu1.4"})
    assert bash.cves == ("CVE-2019-18276",)
    state, _ = determine_outcome_state(results=[UpdateResult(bash, UpdateState.BLOCKED, bash.blocked)])
    assert state is OperationState.SUCCEEDED
    attached = UNATTACHED.replace("pending_attach", "pending_enable")
    (bash,) = with_pro_updates((), attached, "amd64", {"bash": "4.3-14ubuntu1.4"})
    state, _ = determine_outcome_state(results=[UpdateResult(bash, UpdateState.BLOCKED, bash.blocked)])
    assert state is OperationState.COMPLETED_WITH_WARNINGS


def test_pro_tells_cves_and_what_a_subscription_would_give() -> None:
    updates = build_pending_updates(know(policy(AvailableVersion("2", ("upd",)))))
    x, y, x_esm = with_pro_updates(updates, PRO, "amd64", {"y": "3"})
    assert x.cves == ("CVE-2026-1",)
    assert y.classification is x_esm.classification is Classification.SECURITY_ESM
    assert y.blocked.startswith("UA_ESM_REQUIRED")
    assert "pro attach" in y.blocked
    assert (y.installed, y.available, y.cves, y.size_bytes) == ("3", "3+esm1", (), 77)
    assert x_esm.blocked == "Ubuntu Pro (esm-apps) is not enabled on this machine; run: pro enable esm-apps"
    assert len({x.id, y.id, x_esm.id}) == 3


@pytest.mark.parametrize(
    ("text", "stderr", "said"),
    [
        (
            '{"errors": [{"code": "api-error", "title": "Unable to read the cache"}], "result": "failure"}',
            "",
            "Unable to read the cache",
        ),
        ("", "Traceback (most recent call last):\n  File\nImportError: no apt_pkg\n", "ImportError: no apt_pkg"),
        ("", "", "no answer"),
    ],
)
def test_a_client_that_fails_does_not_say_that_nothing_is_missing(text: str, stderr: str, said: str) -> None:
    (problem,) = find_unread_pro(ScriptSection(1, text, stderr))
    assert str(problem) == f"Ubuntu Pro: its client does not tell its updates: {said}"
    assert problem.hides_fixes
    assert find_unread_pro(ScriptSection(0, PRO)) == find_unread_pro(None) == ()


@given(answer=st.text() | st.sampled_from(["[]", '{"data": null}', '{"data": {"attributes": {"updates": [1, {}]}}}']))
def test_garbage_from_pro_changes_nothing(answer: str) -> None:
    updates = (Update("x", "x", "amd64", "1", "2", Classification.OTHER),)
    assert with_pro_updates(updates, answer, "amd64", {}) == updates


NAMES = st.sampled_from(["a", "b", "c", "d", "e:i386"])


@given(
    changes=st.lists(
        st.builds(PackageChange, NAMES, st.just("amd64"), st.none(), st.just("1")), unique_by=lambda c: c.name
    ),
    depends=st.dictionaries(NAMES, st.lists(NAMES).map(", ".join)),
)
def test_every_new_package_is_told_once_whatever_brings_it(
    changes: list[PackageChange], depends: dict[str, str]
) -> None:
    stanzas = tuple({"Package": name, "Version": "1", "Depends": text} for name, text in depends.items())
    updates = build_pending_updates(know(changes=tuple(changes), stanzas=stanzas))
    assert sorted(update.id for update in updates) == sorted(change.name for change in changes)
