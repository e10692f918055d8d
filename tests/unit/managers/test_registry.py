"""Which package manager a machine with several of them is patched with."""

import pytest

from tasks.machines.managers.registry import MANAGER_COMMANDS, rank_managers

NAMES = tuple(dict.fromkeys(command.split(":")[1] for command in MANAGER_COMMANDS))
DEBIAN, UBUNTU = ("debian",), ("ubuntu", "debian")
FEDORA, ROCKY, CENTOS_7 = ("fedora",), ("rocky", "rhel", "centos", "fedora"), ("centos", "rhel", "fedora")
SLES, LEAP = ("sles", "suse"), ("opensuse-leap", "suse", "opensuse")
TUMBLEWEED, MICRO_OS = ("opensuse-tumbleweed", "opensuse", "suse"), ("opensuse-microos", "suse", "opensuse")
UNKNOWN = ("plan9",)
APT, DNF, DNF5, OWN_YUM = {"apt": "apt-get"}, {"dnf": "dnf-3"}, {"dnf5": "dnf5"}, {"yum": "yum"}
NEW_DNF, YUM, ZYPPER = {"dnf": "dnf5"}, {"yum": "dnf-3"}, {"zypper": "zypper"}
FIRST = [
    (DEBIAN, APT | DNF | ZYPPER, "apt"),
    (UBUNTU, APT | DNF5 | NEW_DNF, "apt"),
    (FEDORA, APT | DNF5 | NEW_DNF | ZYPPER, "dnf5"),
    (FEDORA, DNF5 | DNF | YUM, "dnf"),  # dnf 5 as a preview
    (FEDORA, DNF5, "dnf5"),
    (ROCKY, APT | DNF | YUM, "dnf"),
    (ROCKY, DNF5 | DNF | YUM, "dnf"),
    (CENTOS_7, DNF | OWN_YUM, "yum"),
    (CENTOS_7, DNF5 | DNF | OWN_YUM, "yum"),
    (SLES, DNF | ZYPPER, "zypper"),
    (LEAP, APT | DNF5 | NEW_DNF | ZYPPER, "zypper"),
    (TUMBLEWEED, DNF5 | NEW_DNF | ZYPPER, "zypper"),
    (MICRO_OS, DNF | ZYPPER, "zypper"),
    (MICRO_OS, {"transactional-update": "transactional-update"}, "transactional-update"),
    (FEDORA, {"bootc": "bootc"}, "bootc"),
    (ROCKY, {"ostree": ""}, "ostree"),
    (ROCKY, APT, "apt"),  # the only one that there is
    (UNKNOWN, APT | DNF5 | NEW_DNF | YUM | ZYPPER, "apt"),
    (UNKNOWN, DNF5 | {"dnf": ""}, "dnf5"),
    ((), DNF5 | {"dnf": ""}, "dnf5"),
]


@pytest.mark.parametrize(("os_ids", "programs", "first"), FIRST)
def test_a_machine_is_patched_with_its_own_package_manager(
    os_ids: tuple[str, ...], programs: dict[str, str], first: str
) -> None:
    assert programs.keys() <= set(NAMES)
    found = rank_managers(programs, os_ids)
    assert (found[0], set(found)) == (first, set(programs))


def test_an_unknown_system_keeps_the_order_of_the_table() -> None:
    assert rank_managers(dict.fromkeys(NAMES, ""), UNKNOWN) == NAMES
