"""Who publishes an update: the newest version of a security origin is known, and a change of vendor is told."""

from tasks.domain.model import PackageState, RebootNeed, Selection, Update
from tasks.domain.states import Classification, YesNoUnknown
from tasks.machines.managers.apt.output_parsers import parse_policy, parse_releases
from tasks.machines.managers.apt.pending_updates import AptState, build_pending_updates
from tasks.rules.machine_checks.packages import check_vendor_changes
from tasks.rules.updates.selection import select_updates

RELEASES = """Package files:
 100 /var/lib/dpkg/status
     release a=now
 500 http://deb/ bookworm/main amd64 Packages
     release v=12,o=Debian,a=stable,n=bookworm,l=Debian,c=main
 500 http://sec/ bookworm-security/main amd64 Packages
     release v=12,o=Debian,a=stable-security,n=bookworm-security,l=Debian-Security,c=main
 500 http://vendor/ stable/main amd64 Packages
     release o=Vendor,a=stable,n=stable,l=Vendor,c=main
"""
POLICY = """web:
  Installed: 1.0
  Candidate: 9.0
  Version table:
     9.0 500
        500 http://vendor/ stable/main amd64 Packages
     1.1 500
        500 http://sec/ bookworm-security/main amd64 Packages
 *** 1.0 500
        500 http://deb/ bookworm/main amd64 Packages
        100 /var/lib/dpkg/status
"""
GONE = POLICY.replace("        500 http://deb/ bookworm/main amd64 Packages\n", "")


def update_of(policy: str) -> Update:
    (update,) = build_pending_updates(
        AptState("amd64", parse_policy(policy), parse_releases(RELEASES), frozenset(), ())
    )
    return update


def chosen(**selection: object) -> Update:
    state = PackageState("apt", (update_of(POLICY),), RebootNeed(YesNoUnknown.NO))
    ((update,), _) = select_updates(state, Selection(**selection))  # type: ignore[arg-type]
    return update


def test_the_newest_version_of_a_security_origin_is_known() -> None:
    update = update_of(POLICY)
    assert (update.available, update.security_version, update.classification) == ("9.0", "1.1", Classification.SECURITY)


def test_who_wants_security_fixes_gets_none_from_elsewhere() -> None:
    assert (chosen().available, chosen().vendor_change) == ("1.1", "")
    assert check_vendor_changes([chosen()]) == ()


def test_the_newest_of_all_is_a_choice() -> None:
    every = frozenset({Classification.SECURITY, Classification.OTHER})
    assert chosen(newest=True).available == "9.0"
    assert chosen(include=("web",)).available == "9.0"
    assert chosen(classifications=every).available == "9.0"


def test_a_change_of_vendor_is_told() -> None:
    assert update_of(POLICY).vendor_change == "Debian -> Vendor"
    (told,) = check_vendor_changes([chosen(newest=True)])
    assert "web 9.0 (Debian -> Vendor)" in told.message


def test_where_nobody_publishes_what_is_installed_nothing_is_claimed() -> None:
    assert update_of(GONE).vendor_change == ""


def test_an_update_of_the_same_vendor_is_no_change() -> None:
    update = update_of(POLICY.replace("http://vendor/ stable", "http://deb/ bookworm"))
    assert update.vendor_change == ""
