"""Ubuntu's phased updates, in the words of the apt of 22.04, 24.04 and 25.10: "phased" belongs to a version.

The transcripts are public, with the mirrors' addresses shortened; the tables of distro-info-data and gzip are made.
"""

from tasks.domain.model import PackageState, RebootNeed, Selection, Update
from tasks.domain.states import Classification, UpdateState, YesNoUnknown
from tasks.machines.managers.apt.output_parsers import parse_apt_simulation, parse_policy, parse_releases
from tasks.machines.managers.apt.pending_updates import AptState, build_pending_updates
from tasks.rules.updates.selection import select_updates

RELEASES = """Package files:
 100 /var/lib/dpkg/status
     release a=now
 500 http://a/ubuntu x-security/main amd64 Packages
     release v=1,o=Ubuntu,a=x-security,n=x,l=Ubuntu,c=main,b=amd64
 500 http://a/ubuntu x-updates/main amd64 Packages
     release v=1,o=Ubuntu,a=x-updates,n=x,l=Ubuntu,c=main,b=amd64
 500 http://a/ubuntu x/main amd64 Packages
     release v=1,o=Ubuntu,a=x,n=x,l=Ubuntu,c=main,b=amd64
"""

# unix.stackexchange.com/questions/713372: 22.04's words do not say why
JAMMY_APT = """apt:
  Installed: 2.4.6
  Candidate: 2.4.7
  Version table:
     2.4.7 500 (phased 20%)
        500 http://a/ubuntu x-updates/main amd64 Packages
 *** 2.4.6 100
        100 /var/lib/dpkg/status
     2.4.5 500
        500 http://a/ubuntu x/main amd64 Packages
"""
JAMMY_UPGRADE = """Reading package lists...
Building dependency tree...
Reading state information...
Calculating upgrade...
The following packages have been kept back:
  apt apt-transport-https apt-utils cryptsetup cryptsetup-bin cryptsetup-initramfs
  cryptsetup-run libapt-pkg6.0 libcryptsetup12
0 upgraded, 0 newly installed, 0 to remove and 9 not upgraded.
"""
# ubuntuforums.org, "Package update remains phased at 0%" (2023-08-29): stopped for weeks as it was faulty
JAMMY_STOPPED = """gjs:
  Installed: 1.72.2-0ubuntu2
  Candidate: 1.72.4-0ubuntu0.22.04.1
  Version table:
     1.72.4-0ubuntu0.22.04.1 500 (phased 0%)
        500 http://a/ubuntu x-updates/main amd64 Packages
 *** 1.72.2-0ubuntu2 100
        100 /var/lib/dpkg/status
     1.72.0-1 500
        500 http://a/ubuntu x/main amd64 Packages
"""
JAMMY_STOPPED_UPGRADE = JAMMY_UPGRADE.replace("  apt apt-transport-https", "  gjs libgjs0g")
# itsfoss.community/t/12046: 24.04 says it
NOBLE_UPGRADE = """Reading package lists...
Building dependency tree...
Reading state information...
Calculating upgrade...
The following packages were automatically installed and are no longer required:
  apturl-common python3-dateutil ubuntu-advantage-desktop-daemon
Use 'sudo apt autoremove' to remove them.
The following upgrades have been deferred due to phasing:
  distro-info-data
0 upgraded, 0 newly installed, 0 to remove and 1 not upgraded.
"""
NOBLE = """distro-info-data:
  Installed: 0.60build1
  Candidate: 0.60ubuntu0.3
  Version table:
     0.60ubuntu0.3 500 (phased 80%)
        500 http://a/ubuntu x-updates/main amd64 Packages
 *** 0.60build1 500
        500 http://a/ubuntu x/main amd64 Packages
        100 /var/lib/dpkg/status
"""
# a server with 26.04 (apt 3.2), and one with 24.10 (apt 2.9.8): apt's own words, where apt-get keeps the old ones
TABLES_UPGRADE = """Not upgrading yet due to phasing:
  gir1.2-packagekitglib-1.0  packagekit                   snapd                       ubuntu-kernel-accessories  gzip
  libpackagekit-glib2-18     python3-software-properties  software-properties-common  ubuntu-minimal

Summary:
  Upgrading: 0, Installing: 0, Removing: 0, Not Upgrading: 10
"""
GZIP = """gzip:
  Installed: 1.12-1.1ubuntu1
  Candidate: 1.12-1.1ubuntu1.1
  Version table:
     1.12-1.1ubuntu1.1 500 (phased 30%)
        500 http://a/ubuntu x-updates/main amd64 Packages
 *** 1.12-1.1ubuntu1 500
        500 http://a/ubuntu x/main amd64 Packages
        100 /var/lib/dpkg/status
"""
# it-sys-ce.de/blog/2024-03-23-packages-kept-back, one step earlier: the fix of -security is not installed yet
VIM = """vim:
  Installed: 2:8.2.3995-1ubuntu2.15
  Candidate: 2:8.2.3995-1ubuntu2.17
  Version table:
     2:8.2.3995-1ubuntu2.17 500 (phased 10%)
        500 http://a/ubuntu x-updates/main amd64 Packages
     2:8.2.3995-1ubuntu2.16 500
        500 http://a/ubuntu x-updates/main amd64 Packages
        500 http://a/ubuntu x-security/main amd64 Packages
 *** 2:8.2.3995-1ubuntu2.15 100
        100 /var/lib/dpkg/status
"""
VIM_DEFERRED = NOBLE_UPGRADE.replace("distro-info-data", "vim vim-common")
VIM_TAKEN = "Inst vim [2:8.2.3995-1ubuntu2.15] (2:8.2.3995-1ubuntu2.17 Ubuntu:1/x-updates [amd64])\n"


def updates_of(policy: str, upgrade: str) -> tuple[Update, ...]:
    changes = parse_apt_simulation(upgrade).changes
    return build_pending_updates(
        AptState("amd64", parse_policy(policy), parse_releases(RELEASES), frozenset(), (), changes)
    )


def test_a_version_that_has_not_reached_the_machine_is_blocked_whatever_the_words() -> None:
    for policy, upgrade, percent in (
        (JAMMY_APT, JAMMY_UPGRADE, "(20 % of"),
        (JAMMY_STOPPED, JAMMY_STOPPED_UPGRADE, "(0 % of"),
        (NOBLE, NOBLE_UPGRADE, "(80 % of"),
        (GZIP, TABLES_UPGRADE, "(30 % of"),
    ):
        (update,) = updates_of(policy, upgrade)
        assert update.blocked.startswith("PHASED")
        assert percent in update.blocked
        assert (update.classification, update.id) == (Classification.OTHER, update.name)


def test_a_version_that_has_reached_the_machine_is_an_update_like_others() -> None:
    taken = "Inst apt [2.4.6] (2.4.7 Ubuntu:22.04/jammy-updates [amd64])\n"
    (update,) = updates_of(JAMMY_APT, taken)
    assert (update.available, update.blocked) == ("2.4.7", "")


def test_an_installed_phased_version_says_nothing_of_newer_ones() -> None:
    """blog.planethawleywood.com: the percentage stands at the installed version."""
    (update,) = updates_of(JAMMY_APT.replace(" (phased 20%)", "").replace("2.4.6 100", "2.4.6 100 (phased 40%)"), "")
    assert update.blocked == ""


def test_a_security_fix_is_installed_though_a_newer_version_is_held_back() -> None:
    for upgrade in (VIM_DEFERRED, JAMMY_UPGRADE):
        fix, newer = updates_of(VIM, upgrade)
        assert (fix.id, fix.available, fix.blocked) == ("vim", "2:8.2.3995-1ubuntu2.16", "")
        assert fix.classification is Classification.SECURITY
        assert (newer.id, newer.available) == ("vim=2:8.2.3995-1ubuntu2.17", "2:8.2.3995-1ubuntu2.17")
        assert newer.blocked.startswith("PHASED")
        state = PackageState("apt", (fix, newer), RebootNeed(YesNoUnknown.NO))
        chosen, (other,) = select_updates(state, Selection())
        assert chosen == (fix,)
        assert (newer.classification, other.state) == (Classification.OTHER, UpdateState.NOT_SELECTED)  # no warning


def test_apt_takes_a_phased_version_that_includes_a_security_fix() -> None:
    """pkgDepCache::PhasingApplied: a version with a fix of -security below it is not phased."""
    (update,) = updates_of(VIM, VIM_TAKEN)
    assert (update.available, update.security_version) == ("2:8.2.3995-1ubuntu2.17", "2:8.2.3995-1ubuntu2.16")
    ((chosen,), _) = select_updates(PackageState("apt", (update,), RebootNeed(YesNoUnknown.NO)), Selection())
    assert chosen.available == "2:8.2.3995-1ubuntu2.16"


def test_with_phase_policy_apt_gives_the_version_priority_1() -> None:
    """test/integration/test-phased-updates of apt: APT::Get::Phase-Policy."""
    text = JAMMY_APT.replace("2.4.7 500", "2.4.7 1").replace("Candidate: 2.4.7", "Candidate: 2.4.6")
    (update,) = updates_of(text, JAMMY_UPGRADE)
    assert update.blocked.startswith("PHASED")


def test_a_blocked_version_is_blocked_and_not_excluded() -> None:
    state = PackageState("apt", updates_of(NOBLE, NOBLE_UPGRADE), RebootNeed(YesNoUnknown.NO))
    _, (result,) = select_updates(state, Selection(include=("*",)))
    assert result.state is UpdateState.BLOCKED
