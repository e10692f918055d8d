"""apt's output as data: real recordings, what Ubuntu adds, and garbage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.machines.managers.apt import output_parsers
from tasks.machines.managers.apt.output_parsers import (
    AvailableVersion,
    PackageChange,
    Release,
    parse_apt_simulation,
    parse_policy,
    parse_releases,
)
from tests.unit.managers.recordings import section

UBUNTU = """\
openssl:
  Installed: 3.0.2-0ubuntu1.10
  Candidate: 3.0.2-0ubuntu1.18
  Version table:
     3.0.2-0ubuntu1.18 500 (phased 30%)
        500 http://deb.example/ubuntu jammy-updates/main amd64 Packages
        500 http://deb.example/ubuntu jammy-security/main amd64 Packages
     3.0.2-0ubuntu1.12 500
        500 http://deb.example/ubuntu jammy-security/main amd64 Packages
 *** 3.0.2-0ubuntu1.10 100
        100 /var/lib/dpkg/status
     3.0.2-0ubuntu1 500
        500 http://deb.example/ubuntu jammy/main amd64 Packages
libc6:i386:
  Installed: 2.35-0ubuntu3
  Candidate: 2.35-0ubuntu3.8
  Version table:
     2.35-0ubuntu3.8 500
        500 http://deb.example/ubuntu jammy-updates/main i386 Packages
 *** 2.35-0ubuntu3 100
        100 /var/lib/dpkg/status
gone:
  Installed: (none)
  Candidate: 1.0
  Version table:
     1.0 500
        500 http://deb.example/ubuntu jammy/main amd64 Packages
"""


def test_policy_of_a_real_machine() -> None:
    by_name = {policy.name: policy for policy in parse_policy(section("debian-12.apt_assess", "policy"))}
    assert len(by_name) == 30
    source = "http://deb.example bookworm-{}/main amd64 Packages"
    assert by_name["lab-sec"].installed == "1.0"
    assert by_name["lab-sec"].candidate == "2.1"
    assert by_name["lab-sec"].newer_versions == (
        AvailableVersion("2.1", (source.format("updates"),)),
        AvailableVersion("2.0", (source.format("security"),)),
    )


def test_policy_with_phases_several_sources_and_a_foreign_architecture() -> None:
    openssl, libc6, gone = parse_policy(UBUNTU)
    assert [offer.version for offer in openssl.newer_versions] == ["3.0.2-0ubuntu1.18", "3.0.2-0ubuntu1.12"]
    assert len(openssl.newer_versions[0].index_files) == 2
    assert [(offer.priority, offer.phased) for offer in openssl.newer_versions] == [(500, 30), (500, None)]
    assert openssl.older_versions[0].priority == 100
    assert libc6.name == "libc6:i386"
    assert gone.installed is None
    assert gone.newer_versions == ()


def test_releases_of_a_real_machine() -> None:
    releases = parse_releases(section("debian-12.apt_assess", "releases"))
    assert set(map(str, releases.values())) == {
        "Debian-Security:12/oldstable-security",
        "Debian:12-updates/oldstable-updates",
    }


def test_a_label_may_hold_a_comma() -> None:
    text = " 500 http://deb.example x/main amd64 Packages\n     release v=1,o=Acme, Inc.,a=stable,l=Acme, Inc.,c=main\n"
    (release,) = parse_releases(text).values()
    assert release == Release(origin="Acme, Inc.", label="Acme, Inc.", version="1", archive="stable")


def test_simulation_of_a_real_machine() -> None:
    simulation = parse_apt_simulation(section("debian-12.apt_assess", "upgrade"))
    assert len(simulation.changes) == 29
    assert simulation.removals == ("lab-plain",)
    assert simulation.errors == ()
    changes = {change.name: change for change in simulation.changes}
    assert changes["nginx-common"] == PackageChange(
        "nginx-common", "all", "1.22.1-9+deb12u9", "1.22.1-9+deb12u10", ("Debian-Security:12/oldstable-security",)
    )


def test_simulation_with_new_packages_many_origins_and_none() -> None:
    simulation = parse_apt_simulation(
        "The following NEW packages will be installed:\n  x\n"
        "Inst linux-image-6.1.0-41-amd64 (6.1.150-1 Debian-Security:12/stable-security [amd64])\n"
        "Inst libx:i386 [1] (2 Ubuntu:22.04/jammy-updates, Ubuntu:22.04/jammy-security [i386]) []\n"
        "Inst local [1.0] (2.0 [amd64])\n"
    )
    kernel, foreign, local = simulation.changes
    assert kernel.old_version is None
    assert foreign.name == "libx:i386"
    assert foreign.origins == ("Ubuntu:22.04/jammy-updates", "Ubuntu:22.04/jammy-security")
    assert local == PackageChange("local", "amd64", "1.0", "2.0")


def test_refusals_of_a_real_machine() -> None:
    conflict = parse_apt_simulation(section("debian-12-conflict.apt_simulate", "simulation"))
    assert conflict.unmet_dependencies == {"lab-removes": "Conflicts: lab-plain but 2.0 is to be installed"}
    assert conflict.errors == ("Unable to correct problems, you have held broken packages.",)
    unknown = parse_apt_simulation(section("debian-12-unknown.apt_simulate", "simulation"))
    assert unknown.unknown_packages == ("lab-plain", "nosuch")


def test_unmet_dependencies_over_several_lines() -> None:
    simulation = parse_apt_simulation(
        "The following packages have unmet dependencies:\n"
        " a : Depends: b (= 2) but 1 is to be installed\n"
        "     Depends: c but it is not going to be installed\n"
        " d : Breaks: a (< 3) but 2 is to be installed\n"
        "E: Unable to correct problems, you have held broken packages.\n"
    )
    assert simulation.unmet_dependencies["a"].count("Depends") == 2
    assert list(simulation.unmet_dependencies) == ["a", "d"]


# github.com/ROCm/ROCm, an issue of 2025-11-21 (Debian 13, apt 3.0)
APT_3 = """Solving dependencies... Error!
Some packages could not be installed. This may mean that you have
requested an impossible situation or if you are using the unstable
distribution that some required packages have not yet been created
or been moved out of Incoming.
The following information may help to resolve the situation:

The following packages have unmet dependencies:
 mesa-amdgpu-vulkan-drivers : Depends: libdisplay-info1 (>= 0.1.1) but it is not installable
E: Unable to correct problems, you have held broken packages.
E: The following information from --solver 3.0 may provide additional context:
   Unable to satisfy dependencies. Reached two conflicting decisions:
   1. mesa-amdgpu-vulkan-drivers:amd64=1:25.3.0.70100-2238427.24.04 is selected for install
   2. mesa-amdgpu-vulkan-drivers:amd64 Depends libdisplay-info1 (>= 0.1.1)
      but none of the choices are installable:
      [no choices]
"""
# apt's own test/integration/test-apt-get-install-deb (3.1): the new solver says nothing else, as in Ubuntu 25.10
SOLVER_3 = """Reading package lists...
Building dependency tree...
Solving dependencies...
E: Unable to satisfy dependencies. Reached two conflicting decisions:
   1. pkg-last-line-parse:amd64=0 is selected for install
   2. pkg-last-line-parse:amd64 PreDepends pkg-as-it-should-be
      but none of the choices are installable:
      [no choices]
W: another line
   which is no error
"""


def test_refusals_of_apt_3() -> None:
    lacks = "Depends: libdisplay-info1 (>= 0.1.1) but it is not installable"
    own_words = APT_3.replace("The following packages have unmet dependencies:", "Unsatisfied dependencies:")
    for text in (APT_3, own_words.replace("E: ", "Error: ")):  # the words of "apt", which apt-get can be told to use
        simulation = parse_apt_simulation(text)
        assert simulation.unmet_dependencies == {"mesa-amdgpu-vulkan-drivers": lacks}
        assert len(simulation.errors) == 2
        assert simulation.errors[1].endswith("but none of the choices are installable: [no choices]")


def test_a_refusal_of_the_new_solver_alone() -> None:
    simulation = parse_apt_simulation(SOLVER_3)
    (error,) = simulation.errors
    assert simulation.unmet_dependencies == {"pkg-last-line-parse": error}
    assert error.endswith("PreDepends pkg-as-it-should-be but none of the choices are installable: [no choices]")


# github.com, a session on Ubuntu 24.10 (apt 2.9.8), shortened: tables that "apt upgrade" prints since 2.9
TABLES = """Upgrading:
  libblockdev-swap3         linux-headers-generic  systemd-timesyncd

Installing dependencies:
  linux-headers-6.11.0-29          linux-modules-6.11.0-29-generic
  linux-image-6.11.0-29-generic    linux-tools-6.11.0-29-generic

Not upgrading yet due to phasing:
  gzip

Summary:
  Upgrading: 71, Installing: 6, Removing: 0, Not Upgrading: 1
58 standard LTS security updates
  Download size: 172 MB
  Space needed: 243 MB / 100 GB available
  └─ in /boot:  56.4 MB / 807 MB available

Inst linux-image-6.11.0-29-generic (6.11.0-29.29 Ubuntu:24.10/oracular-updates [arm64])
Inst systemd-timesyncd [256.5-2ubuntu3.1] (256.5-2ubuntu3.3 Ubuntu:24.10/oracular-updates [arm64])
Conf linux-image-6.11.0-29-generic (6.11.0-29.29 Ubuntu:24.10/oracular-updates [arm64])
"""


def test_the_tables_of_apt_3_are_no_changes() -> None:
    simulation = parse_apt_simulation(TABLES)
    assert [change.name for change in simulation.changes] == ["linux-image-6.11.0-29-generic", "systemd-timesyncd"]
    assert simulation.changes[0].old_version is None
    assert (simulation.removals, simulation.errors, simulation.unmet_dependencies) == ((), (), {})


def test_uris_of_a_real_machine() -> None:
    files = output_parsers.parse_download_sizes(section("debian-12.apt_simulate", "uris"))
    assert files["lab-dep-a_2.0_all.deb"] == 20672
    assert len(files) == 4


PARSERS = [
    output_parsers.parse_policy,
    output_parsers.parse_releases,
    output_parsers.parse_apt_simulation,
    output_parsers.parse_stanzas,
    output_parsers.parse_download_sizes,
    output_parsers.parse_origin,
]
LINE = st.sampled_from(
    [*UBUNTU.splitlines(), "Inst a [", "Inst a (", "E: ", " release ,=", "'u' f 9" * 2, ":", "Package: ", "Remv "]
)
GARBLED = st.lists(LINE | st.text(), max_size=30).map("\n".join)


@pytest.mark.parametrize("parse", PARSERS)
@given(text=GARBLED)
def test_garbage_raises_nothing(parse: object, text: str) -> None:
    assert callable(parse)
    assert parse(text) is not None
