"""Which versions zypper itself would take, and why it leaves out the others: from a recording, and of any versions."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.states import Classification
from tasks.machines.managers.rpm.packages import VersionedPackage
from tasks.machines.managers.rpm.repositories import parse_repository_priorities
from tasks.machines.managers.rpm.zypper.assessment import parse_zypper_assessment
from tasks.machines.managers.rpm.zypper.offers import (
    ZypperOffer,
    choose_security_offer,
    parse_zypper_offers,
)
from tasks.machines.managers.versions import RpmVersion
from tests.unit.managers.recordings import recorded

UPDATES = {
    update.id: update
    for update in parse_zypper_assessment(recorded("sles-15-left-out.rpm_assess", family="zypper")).updates
}
LOWER = "There is an update candidate for '{}', but it comes from a repository with a lower priority"


def test_a_fix_behind_a_version_between_is_pending_and_blocked_with_why() -> None:
    assert (UPDATES["case-c"].available, UPDATES["case-c"].classification) == ("1.5-1", Classification.OTHER)
    fix = UPDATES["patch:Z-c20"]
    assert (fix.classification, fix.blocked) == (
        Classification.CRITICAL,
        "nothing provides not-there needed by case-c-2.0-1.noarch",
    )


def test_an_update_that_can_not_be_installed_says_why() -> None:
    assert UPDATES["e-pkg"].blocked == "e-pkg-2.0-1.noarch conflicts with f-pkg provided by f-pkg-1.0-1.noarch"
    assert (UPDATES["k-locked"].blocked, UPDATES["k-locked"].held) == ("", True)


def test_a_patch_that_only_a_repository_of_lower_priority_fulfils_is_blocked_with_that_reason() -> None:
    assert UPDATES["patch:Z-p"].blocked == LOWER.format("p-pkg")
    assert "p-pkg" not in UPDATES


def test_a_patch_of_two_packages_is_not_fulfilled_by_one_of_them() -> None:
    assert UPDATES["t-a"].advisories == ("Z-t",)
    assert UPDATES["patch:Z-t"].blocked == LOWER.format("t-b")


def test_a_patch_without_a_package_says_so() -> None:
    assert UPDATES["patch:Z-u"].blocked == "no repository has u-pkg 2.0-1 or newer"


def test_a_security_version_is_one_that_zypper_itself_would_take() -> None:
    assert (UPDATES["q-pkg"].available, UPDATES["q-pkg"].security_version) == ("2.1-1", "")
    assert (UPDATES["s-pkg"].available, UPDATES["s-pkg"].security_version) == ("2.1-1", "2.0-1")


def test_what_only_a_later_version_needs_is_no_security_update() -> None:
    assert UPDATES["n-new"].classification is Classification.OTHER


def offer(version: str, alias: str = "updates", vendor: str = "SUSE") -> ZypperOffer:
    return ZypperOffer(VersionedPackage("a", "noarch", version), alias, vendor, 1)


WANTED = VersionedPackage("a", "noarch", "9-1")
OFFERS = st.lists(
    st.builds(offer, st.sampled_from(["1-1", "2-1", "9-1"]), st.sampled_from("xyz"), st.sampled_from(["SUSE", "Other"]))
)


@given(OFFERS, st.sets(st.sampled_from(["1-1", "2-1", "9-1"])), st.dictionaries(st.sampled_from("xyz"), st.just(50)))
def test_a_chosen_version_is_as_good_as_the_wanted_one(
    offers: list[ZypperOffer], versions: set[str], priorities: dict[str, int]
) -> None:
    chosen = choose_security_offer(versions, WANTED, offers, priorities)
    best = [each for each in offers if each.package == WANTED]
    if chosen and best:
        assert chosen in versions
        assert any(
            each.package.version == chosen
            and each.vendor == top.vendor
            and priorities.get(each.alias) == priorities.get(top.alias)
            for each in offers
            for top in best
        )
    if not best:
        assert chosen == max(versions, key=RpmVersion, default="")


def test_versions_of_another_vendor_are_not_chosen() -> None:
    offers = [offer("2-1", vendor="Other"), offer("1-1"), offer("9-1")]
    assert choose_security_offer(["1-1", "2-1"], WANTED, offers, {}) == "1-1"


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    parse_zypper_offers(text)
    parse_repository_priorities(text)
