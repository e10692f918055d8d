"""A version is taken only if apt itself would take it, by the machine's own priorities."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import PackageState, RebootNeed, Selection, Update
from tasks.domain.states import Classification, UpdateState, YesNoUnknown
from tasks.machines.managers.apt.output_parsers import AvailableVersion, PackagePolicy, parse_policy, parse_releases
from tasks.machines.managers.apt.pending_updates import AptState, build_pending_updates
from tasks.machines.managers.apt.version_choice import choose_version
from tasks.rules.updates.selection import select_updates

RELEASES = """Package files:
 100 /var/lib/dpkg/status
     release a=now
 500 http://deb/ bookworm/main amd64 Packages
     release v=12,o=Debian,a=stable,n=bookworm,l=Debian,c=main
 500 http://deb/ bookworm-updates/main amd64 Packages
     release v=12-updates,o=Debian,a=stable-updates,n=bookworm-updates,l=Debian,c=main
 500 http://sec/ bookworm-security/main amd64 Packages
     release v=12,o=Debian,a=stable-security,n=bookworm-security,l=Debian-Security,c=main
 500 http://vendor/ stable/main amd64 Packages
     release o=Vendor,a=stable,n=stable,l=Vendor,c=main
"""
BY_INDEX = parse_releases(RELEASES)
DEB = "http://deb/ bookworm/main amd64 Packages"
UPD = "http://deb/ bookworm-updates/main amd64 Packages"
SEC = "http://sec/ bookworm-security/main amd64 Packages"
VENDOR = "http://vendor/ stable/main amd64 Packages"


def table(candidate: str, *versions: tuple[str, int, str]) -> str:
    """apt-cache policy of a package: version, priority and index file, newest first; 1.0 is installed."""
    lines = ["web:", "  Installed: 1.0", f"  Candidate: {candidate}", "  Version table:"]
    for version, priority, index in versions:
        lines += [f"{' *** ' if version == '1.0' else '     '}{version} {priority}", f"        500 {index}"]
        lines += ["        100 /var/lib/dpkg/status"] if version == "1.0" else []
    return "\n".join(lines) + "\n"


def updates_of(policy: str) -> tuple[Update, ...]:
    return build_pending_updates(AptState("amd64", parse_policy(policy), BY_INDEX, frozenset(), ()))


def select(updates: tuple[Update, ...], **selection: object) -> tuple[dict[str, str], dict[str, UpdateState]]:
    state = PackageState("apt", updates, RebootNeed(YesNoUnknown.NO))
    chosen, skipped = select_updates(state, Selection(**selection))  # type: ignore[arg-type]
    return (
        {update.name: update.available for update in chosen},
        {result.update.available: result.state for result in skipped},
    )


PREFERRED = table("2.0", ("3.0", 500, SEC), ("2.0", 900, VENDOR), ("1.0", 900, VENDOR))
FORBIDDEN = table("2.0", ("3.0", -1, SEC), ("2.0", 500, VENDOR), ("1.0", 500, VENDOR))
FIXED_TO = table("1.0", ("3.0", 500, SEC), ("2.0", 500, UPD), ("1.0", 1001, DEB))
NEVER = table("(none)", ("3.0", -1, SEC), ("1.0", -1, DEB))


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (PREFERRED, "apt prefers 2.0 (priority 900, Vendor:/stable) to 3.0 (priority 500, Debian-Security:12/stable-s"),
        (FORBIDDEN, "apt never takes 3.0 (priority -1, Debian-Security:12/stable-security)"),
        (FIXED_TO, "apt prefers 1.0 (priority 1001, Debian:12/stable) to 3.0 (priority 500, Debian-Security:12/st"),
        (NEVER, "apt never takes 3.0 (priority -1, Debian-Security:12/stable-security)"),
    ],
)
def test_a_pin_keeps_the_security_archive_away_and_that_is_seen(policy: str, words: str) -> None:
    updates = updates_of(policy)
    fix = updates[-1]
    assert fix.available == "3.0"
    assert fix.classification is Classification.SECURITY
    assert fix.blocked.startswith(f"PINNED: {words}")
    assert "apt-cache policy web" in fix.blocked
    assert not fix.held  # a hold is a person's wish to exclude it
    chosen, skipped = select(updates)
    assert chosen == {}
    assert skipped["3.0"] is UpdateState.BLOCKED


def test_beside_the_blocked_fix_is_what_apt_would_take() -> None:
    ours, fix = updates_of(PREFERRED)
    assert (ours.id, ours.available, ours.blocked) == ("web", "2.0", "")
    assert ours.classification is Classification.UNCLASSIFIED  # the vendor has no security archive
    assert (ours.security_version, ours.older_versions) == ("", ())
    assert fix.id == "web=3.0"
    every = frozenset(Classification)
    chosen, skipped = select((ours, fix), classifications=every)
    assert chosen == {"web": "2.0"}
    assert skipped == {"3.0": UpdateState.BLOCKED}


def test_a_fix_below_the_candidate_is_taken_only_with_the_same_priority() -> None:
    even = table("3.0", ("3.0", 500, UPD), ("2.0", 500, SEC), ("1.0", 500, DEB))
    (update,) = updates_of(even)
    assert update.previous_offered
    assert not updates_of(even.replace(DEB, "/var/lib/dpkg/status"))[0].previous_offered
    assert (update.available, update.security_version, update.older_versions) == ("3.0", "2.0", ("2.0",))
    assert select((update,))[0] == {"web": "2.0"}
    pinned = table("3.0", ("3.0", 990, UPD), ("2.0", 500, SEC), ("1.0", 500, DEB))
    (update,) = updates_of(pinned)
    assert (update.available, update.security_version, update.older_versions) == ("3.0", "", ())
    assert select((update,))[0] == {"web": "3.0"}  # apt's own choice, which includes the fix


def test_a_vendors_package_stays_the_vendors() -> None:
    """MariaDB.org's or Sury's, of which Debian's security archive has a version in between."""
    (update,) = updates_of(table("3.0", ("3.0", 500, VENDOR), ("2.0", 500, SEC), ("1.0", 500, VENDOR)))
    assert (update.security_version, update.older_versions, update.vendor_change) == ("", (), "")
    assert select((update,))[0] == {"web": "3.0"}


def test_what_apt_itself_would_take_from_another_vendor_is_told() -> None:
    (update,) = updates_of(table("2.0", ("2.0", 500, SEC), ("1.0", 500, VENDOR)))
    assert (update.available, update.vendor_change, update.blocked) == ("2.0", "Vendor -> Debian", "")


def test_of_two_versions_of_one_name_the_preferred_one_counts() -> None:
    text = table("3.0", ("3.0", 500, UPD), ("3.0", 900, VENDOR), ("2.0", 500, SEC), ("1.0", 500, DEB))
    (update,) = updates_of(text)
    assert (update.available, update.security_version, update.vendor_change) == ("3.0", "", "Debian -> Vendor")


def test_other_content_of_the_installed_version_is_no_update() -> None:
    """apt lists it as newer; it stays offered where the repository's index differs from the package."""
    text = table("1.0", ("1.0", 500, SEC), ("1.0", 500, DEB)).replace(" *** 1.0", "     1.0", 1)
    (policy,) = parse_policy(text)
    assert policy.has_other_content
    assert updates_of(text) == ()


def test_a_release_that_is_preferred_keeps_the_security_archive_away() -> None:
    """APT::Default-Release "stable" gives 990 to its own archive, and not to stable-security."""
    (update,) = updates_of(table("1.0", ("2.0", 500, SEC), ("1.0", 990, DEB)))
    assert "apt prefers 1.0 (priority 990, Debian:12/stable) to 2.0 (priority 500" in update.blocked


def test_a_pin_that_keeps_no_security_fix_away_is_no_update() -> None:
    assert updates_of(table("1.0", ("2.0", 500, UPD), ("1.0", 1001, DEB))) == ()


def test_a_tested_version_that_apt_would_not_take_is_not_offered() -> None:
    text = table("4.0", ("4.0", 900, VENDOR), ("3.0", 500, UPD), ("2.0", 900, VENDOR), ("1.0", 900, VENDOR))
    (update,) = updates_of(text)
    assert update.older_versions == ("2.0",)


VERSIONS = st.lists(
    st.tuples(st.sampled_from([-1, 1, 100, 500, 900, 1001]), st.sampled_from([DEB, UPD, SEC, VENDOR])), max_size=5
)


@given(newer=VERSIONS, installed=st.sampled_from([-1, 100, 500, 900, 1001]))
def test_no_version_is_taken_that_apt_would_not_take(newer: list[tuple[int, str]], installed: int) -> None:
    """apt's rule, written a second time: the newest of those with the highest priority, if it is not the installed."""
    offers = tuple(AvailableVersion(f"{9 - n}", (index,), priority) for n, (priority, index) in enumerate(newer))
    current = AvailableVersion("1", (DEB,), installed)
    best = max((*offers, current), key=lambda offer: offer.priority)
    candidate = best.version if best.priority > 0 else None
    choice = choose_version(PackagePolicy("web", "1", candidate, offers, (current,)), BY_INDEX, None)
    assert (choice.wanted.version if choice.wanted else None) == (candidate if candidate != "1" else None)
    priorities = {offer.version: offer.priority for offer in offers}
    for version in (*choice.older, *filter(None, [choice.security_version])):
        assert priorities[version] == best.priority
        assert version < best.version
    fixes = [offer.version for offer in offers if SEC in offer.index_files]
    shown = {each.offer.version for each in choice.withheld}
    assert bool(shown) == bool(fixes and (choice.wanted is None or fixes[0] > choice.wanted.version))
    assert all(each.reason.startswith("PINNED") for each in choice.withheld)
