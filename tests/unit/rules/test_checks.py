from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import (
    Assessment,
    Disk,
    Facts,
    Finding,
    RebootNeed,
    RepositoryProblem,
    Services,
    UnfinishedPackage,
)
from tasks.domain.states import Classification, FindingLevel, YesNoUnknown
from tasks.machines.managers.registry import find_kernel_removal
from tasks.rules.machine_checks.packages import (
    FAILED_SCRIPT_REMEDY,
    REPAIR_REMEDY,
    check_given_up,
    check_packages,
)
from tasks.rules.machine_checks.precheck import (
    check_assessment,
    check_clock,
    check_default_routes,
    check_disk_space,
    check_mounts_writable,
    check_next_boot,
    find_relevant_settings,
)
from tasks.rules.machine_checks.services import check_services
from tests.support.builders import make_facts
from tests.unit.rules.examples import NOW, a_state, an_update

MIB = 1024**2
GOOD, REMARK, WARN, BLOCK = FindingLevel
KERNEL = an_update("linux-image-amd64", changes_boot=True)


def disk(role, free_mib=10_000, mount=None, inodes=100_000, read_only=False):
    return Disk(mount or f"/{role}", role, 20_000 * MIB, int(free_mib * MIB), inodes, read_only)


def facts(*disks):
    return Facts(
        os_id="debian", os_version="12", os_name="Debian 12", kernel="6.1", arch="amd64", boot_id="b", uptime_seconds=1,
        clock_skew_seconds=0, privilege="root", managers=("apt",), job_runner="systemd", can_reboot=True, disks=disks,
        services=Services(),
    )  # fmt: skip


def levels(findings):
    return [finding.level for finding in findings]


@pytest.mark.parametrize(
    ("disks", "updates", "expected"),
    [
        ([disk("packages"), disk("system"), disk("boot")], [KERNEL], [GOOD]),
        ([disk("packages", free_mib=319)], [an_update()], [BLOCK]),
        ([disk("packages", free_mib=321)], [an_update()], [GOOD]),
        ([disk("system", free_mib=199)], [an_update()], [BLOCK]),
        ([disk("boot", free_mib=149)], [KERNEL], [BLOCK]),
        ([disk("boot", free_mib=149)], [an_update("x", requires_reboot=True)], [BLOCK]),
        ([disk("boot", free_mib=1)], [an_update()], [GOOD]),
        ([disk("packages", inodes=999)], [an_update()], [BLOCK]),
        ([disk("packages", inodes=None)], [an_update()], [GOOD]),
        ([disk("system", read_only=True)], [an_update()], [BLOCK]),
        ([disk("boot", read_only=True)], [an_update()], [FindingLevel.REMARK]),
        ([disk("boot", read_only=True)], [KERNEL], [BLOCK]),
        ([disk("system", mount="/"), disk("system", mount="/usr", read_only=True)], [an_update()], [BLOCK]),
        ([disk("other", read_only=True)], [an_update()], [GOOD]),
        ([], [an_update()], [WARN]),
        ([disk("system", free_mib=0)], [], []),
    ],
)
def test_room_on_disks(disks, updates, expected):
    assert levels(check_disk_space(facts(*disks), 100 * MIB, updates)) == expected


def test_a_file_system_that_hooks_mount_writable_is_none_that_is_read_only():
    closed = facts(disk("system", mount="/usr", read_only=True), disk("boot", read_only=True))
    assert levels(check_disk_space(closed, 0, [KERNEL], remounted=("/usr", "/boot"))) == [GOOD]
    assert levels(check_disk_space(closed, 0, [KERNEL], remounted=("*",))) == [GOOD]
    (found,) = check_disk_space(closed, 0, [KERNEL], remounted=("/usr",))
    assert found.message == "/boot is mounted read-only"
    # doctor says it of a machine without pending updates, too
    told = check_assessment(Assessment("m", NOW, 1.0, facts=closed, packages=a_state()))
    assert [finding.message for finding in told if finding.level is BLOCK] == ["/usr is mounted read-only"]


@pytest.mark.parametrize(
    ("manager", "version", "remedy"),
    [
        ("apt", "12", "Remove kernels that are no longer used: apt-get autoremove."),
        ("dnf", "9", "Remove kernels that are no longer used: dnf remove --oldinstallonly."),
        ("zypper", "15.6", "Remove kernels that are no longer used: zypper purge-kernels."),
        ("zypper", "12.5", "Remove kernels that are no longer used."),
        ("image", "9", "Remove kernels that are no longer used."),
    ],
)
def test_a_full_boot_has_the_managers_own_remedy(manager, version, remedy):
    machine = replace(facts(disk("boot", free_mib=40)), managers=(manager,), os_version=version)
    (finding,) = check_disk_space(machine, 0, [KERNEL], kernel_removal=find_kernel_removal(machine))
    assert finding.message == "/boot has 40 MiB free; installing linux-image-amd64 needs 150 MiB"
    assert finding.remedy == f"{remedy} Or enlarge that file system."


def test_needs_of_one_file_system_add_up():
    roles = [disk(role, free_mib=469, mount="/") for role in ("packages", "system", "boot")]
    (found,) = check_disk_space(facts(*roles), 100 * MIB, [KERNEL])
    assert found.level is BLOCK
    assert "/ has 469 MiB free" in found.message
    assert "needs 270 MiB and a reserve of 200 MiB" in found.message
    assert "installing linux-image-amd64 and downloading the updates and unpacking the updates" in found.message
    enough = [disk(role, free_mib=471, mount="/") for role in ("packages", "system", "boot")]
    assert levels(check_disk_space(facts(*enough), 100 * MIB, [KERNEL])) == [GOOD]


@pytest.mark.parametrize(
    ("package_bytes", "reserve_mib"),
    [(784, 32), (8 * MIB, 32), (20 * MIB, 80), (50 * MIB, 200), (5000 * MIB, 200), (None, 200)],
)
def test_the_reserve_follows_the_size_of_the_packages(package_bytes, reserve_mib):
    updates = [an_update(size_bytes=package_bytes)]
    assert levels(check_disk_space(facts(disk("system", free_mib=reserve_mib)), 0, updates)) == [GOOD]
    (found,) = check_disk_space(facts(disk("system", free_mib=reserve_mib - 1)), 0, updates)
    assert found.level is BLOCK
    assert found.message == (
        f"/system has {reserve_mib - 1} MiB free; unpacking the updates needs a reserve of {reserve_mib} MiB"
    )


def test_a_small_package_is_told_beside_the_reserve():
    (found,) = check_disk_space(facts(disk("packages", free_mib=25)), 784, [an_update(size_bytes=784)])
    assert found.message == "/packages has 25 MiB free; downloading the updates needs 941 bytes and a reserve of 32 MiB"


def test_known_sizes_stand_in_for_an_unknown_download():
    updates = [an_update("a", size_bytes=100 * MIB), an_update("b")]
    assert levels(check_disk_space(facts(disk("packages", free_mib=310)), None, updates)) == [BLOCK]


@pytest.mark.parametrize(
    ("skew", "error", "level", "words"),
    [
        (0, 0, GOOD, "agrees"),
        (-5, 0, GOOD, "agrees"),
        (-5, 4, GOOD, "agrees"),
        (-8, 4, GOOD, "agrees with the controller's to 12 s, as exactly as a slow answer tells"),
        (6, 0, WARN, "6 s ahead of"),
        (-90, 0, WARN, "behind"),
        (-90, 80, WARN, "1 min 30 s behind"),
        (301, 0, BLOCK, "too far"),
        (301, 2, WARN, "5 min 1 s ahead of"),
        (0, 400, WARN, "can't be compared with the controller's: the machine took 13 min 20 s to answer"),
    ],
)
def test_the_clock(skew, error, level, words):
    found = check_clock(skew, error)
    assert found.level is level
    assert words in found.message
    if level is WARN and error < 300:
        assert "corrected by that" in found.message


def the(check, findings):
    return [finding for finding in findings if finding.check == check]


def test_a_healthy_package_manager_is_good():
    assert levels(check_packages(a_state(an_update()), repair_allowed=False)) == [GOOD]


@pytest.mark.parametrize(
    ("repairable", "allowed", "level"),
    [(False, False, BLOCK), (False, True, BLOCK), (True, False, BLOCK), (True, True, REMARK)],
)
def test_broken_packages_block_unless_they_may_be_repaired(repairable, allowed, level):
    state = a_state(problems=("half-configured: vim",), repairable=repairable)
    (found,) = check_packages(state, allowed)
    assert found.level is level
    assert "half-configured: vim" in found.message
    assert found.remedy


@pytest.mark.parametrize(("interrupted", "remedy"), [(False, FAILED_SCRIPT_REMEDY), (True, REPAIR_REMEDY)])
def test_what_failed_warns_and_a_repair_is_advised_only_where_it_may_help(interrupted, remedy):
    package = UnfinishedPackage("vim", "vim", "amd64", "2", "half-configured")
    state = a_state(
        problems=("vim",), repairable=True, can_install_others=True, unfinished=(package,), interrupted=interrupted
    )
    (found,) = check_packages(state, repair_allowed=False)
    assert (found.level, found.remedy) == (WARN, remedy)
    (found,) = check_packages(state, repair_allowed=True)
    assert (found.level, "repaired first" in found.remedy) == (REMARK, True)


@pytest.mark.parametrize("repairable", [True, False])
def test_no_repair_is_advised_where_nothing_was_interrupted(repairable):
    """An unreadable database or a dependency that somebody removed: a repair is allowed, and not promised to help."""
    state = a_state(problems=("rpm can't read its database: error: db5",), repairable=repairable)
    (found,) = check_packages(state, repair_allowed=False)
    assert (found.level, "--repair" in found.remedy) == (BLOCK, False)
    (found,) = check_packages(state, repair_allowed=True)
    assert (found.level, "--repair" in found.remedy) == (REMARK if repairable else BLOCK, False)


def test_a_lock_warns():
    state = a_state(lock_holder="packagekitd (pid 7)")
    assert levels(check_packages(state, repair_allowed=False)) == [WARN]


def test_updaters_that_act_by_themselves_are_told():
    state = a_state(auto_updaters=(("soon", 60.0), ("later", 9000.0), ("whenever", None)))
    said = [finding.message for finding in the("auto-updater", check_packages(state, repair_allowed=False))]
    assert len(said) == 3
    assert "in 1 min" in said[0]
    assert "at any time" in said[2]


def test_a_pending_reboot_and_warnings_are_passed_on():
    found = check_packages(
        a_state(answer=YesNoUnknown.YES, warnings=("repository x can't be read",)), repair_allowed=False
    )
    assert {finding.check for finding in found} == {"repositories", "pending-reboot"}
    assert levels(found) == [WARN, WARN]


def test_each_repository_that_can_not_be_read_warns_with_its_own_remedy():
    problems = (
        RepositoryProblem("baseos", "403", "Renew it."),
        RepositoryProblem("", "no enabled repositories", "Add one."),
    )
    found = the("repositories", check_packages(a_state(repository_problems=problems), repair_allowed=False))
    assert [(each.message, each.remedy) for each in found] == [
        ("not read (what it fixes is not known): baseos: 403", "Renew it."),
        ("fixes are not seen: no enabled repositories", "Add one."),
    ]
    assert levels(found) == [WARN, WARN]


def test_a_pending_reboot_says_why_when_the_machine_does():
    state = replace(a_state(), reboot=RebootNeed(YesNoUnknown.YES, ("a new kernel", "a new libc")))
    (found,) = check_packages(state, repair_allowed=False)
    assert found.message == "a reboot is pending already (a new kernel; a new libc)"
    (found,) = check_packages(a_state(answer=YesNoUnknown.YES), repair_allowed=False)
    assert found.message == "a reboot is pending already"


def test_a_hold_without_an_update_is_still_told():
    (found,) = the("held", check_packages(a_state(held=("f", "e", "d", "c", "b", "a")), repair_allowed=False))
    assert (found.level, found.message) == (REMARK, "on hold, so not updated: a, b, c, d, e and 1 more")
    (found,) = the("held", check_packages(a_state(held=("a", "b", "c", "d", "e")), repair_allowed=False))
    assert found.message.endswith("c, d, e")


def test_a_hold_is_told_and_no_warning():
    other = an_update("vim", classification=Classification.OTHER, held=True)
    assert levels(the("held", check_packages(a_state(other, held=("vim", "old")), repair_allowed=False))) == [REMARK]
    (found,) = the("held", check_packages(a_state(an_update(), held=("openssl",)), repair_allowed=False))
    assert (found.level, found.message) == (REMARK, "on hold although security updates are available: openssl")


def test_a_security_fix_that_is_given_up_warns_unless_it_is_tried_again():
    state = a_state(an_update("vim", classification=Classification.OTHER, given_up="why"), an_update(given_up="why"))
    (found,) = check_given_up(state, ())
    assert (found.level, "openssl" in found.message, "vim" in found.message) == (WARN, True, False)
    assert "name it in include" in found.remedy
    assert list(check_given_up(state, state.updates)) == []


NAMES = st.frozensets(st.sampled_from(("a.service", "b.service", "tcp/22", "tcp/80")))


@given(NAMES, NAMES, NAMES, NAMES)
def test_only_what_got_worse_blocks(failed_before, failed_after, open_before, open_after):
    before = Services(tuple(failed_before), tuple(open_before))
    after = Services(tuple(failed_after), tuple(open_after))
    found = check_services(before, after)
    assert bool(the("ports", found)) == bool(open_before - open_after)
    worse = [finding for finding in the("services", found) if finding.level is BLOCK]
    assert bool(worse) == bool(failed_after - failed_before)
    assert found
    for name in open_before - open_after:
        assert name in the("ports", found)[0].message


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([disk("system")], [disk("system")], []),
        ([disk("system")], [disk("system", read_only=True)], ["/system"]),
        ([disk("system", read_only=True)], [disk("system", read_only=True)], []),
        ([disk("system", read_only=True)], [disk("system")], []),
        ([disk("boot")], [disk("boot", read_only=True)], ["/boot"]),
        # one file system, all roles: said once
        ([disk("a", mount="/"), disk("b", mount="/")], [disk(r, mount="/", read_only=True) for r in "ab"], ["/"]),
        # a mount point of its own since: its role was played by a file system that was writable
        ([disk("packages", mount="/")], [disk("packages", mount="/var", read_only=True)], ["/var"]),
        # its mount is gone since: what is below it was read-only before
        (
            [disk("packages"), disk("system", mount="/", read_only=True)],
            [disk("packages", mount="/", read_only=True)],
            [],
        ),
        ([], [disk("system", read_only=True)], []),
        ([disk("system")], [], []),
    ],
)
def test_a_file_system_that_has_become_read_only_blocks(before, after, expected):
    found = check_mounts_writable(before, after)
    assert levels(found) == [BLOCK] * len(expected)
    assert [f.message for f in found] == [f"{m} is mounted read-only, and was writable before" for m in expected]
    assert all(each.remedy for each in found)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (("IPv4", "IPv6"), ("IPv6",), "no default route any more (IPv4)"),
        (("IPv4", "IPv6"), (), "no default route any more (IPv4 and IPv6)"),
        (("IPv4",), ("IPv4", "IPv6"), ""),
        (None, (), ""),
        ((), (), ""),
        (("IPv4",), None, "could not be read"),
    ],
)
def test_a_default_route_that_is_gone_is_told(before, after, expected):
    found = check_default_routes(make_facts(default_routes=before), make_facts(default_routes=after))
    assert levels(found) == [WARN] * bool(expected)
    assert all(expected in each.message and each.remedy for each in found)


def test_services_that_can_not_be_told_warn():
    assert levels(check_services(Services(known=False), Services())) == [WARN]


@given(st.floats(-1000, 1000), st.floats(0, 1000), st.booleans(), st.booleans(), st.integers(0, 500))
def test_whatever_must_be_handled_has_a_remedy(skew, error, repairable, allowed, free):
    state = a_state(
        an_update(held=True), problems=("p",), repairable=repairable, lock_holder="x", auto_updaters=(("y", None),),
        warnings=("w",), answer=YesNoUnknown.YES,
    )  # fmt: skip
    found = [
        check_clock(skew, error),
        *check_packages(state, allowed),
        *check_disk_space(facts(disk("packages", free), disk("boot", read_only=True)), None, [KERNEL]),
        *check_services(Services((), ("tcp/1",)), Services(("u",), ())),
    ]
    assert all(finding.remedy for finding in found if finding.level.is_problem)


def test_a_run_is_told_of_settings_that_matter_to_it():
    stop = Finding("settings", BLOCK, "no task can be started", "Start the service.")
    later, small = Finding("settings", WARN, "a certificate expires soon"), Finding("disk", BLOCK, "1 GiB is free")
    boot = Finding("next boot", WARN, "the kernel 6.1 in /boot has no initramfs")
    machine = replace(facts(), findings=(stop, later, small, boot))
    assert find_relevant_settings(machine, [an_update()]) == [stop, boot]
    assert find_relevant_settings(machine, [KERNEL]) == [stop, small, boot]


def test_a_next_boot_that_has_become_impossible_blocks_and_one_that_was_is_told_once():
    boot = Finding("next boot", WARN, "the kernel 6.1 in /boot has no initramfs")
    good, bad = facts(), replace(facts(), findings=(boot,))
    assert check_next_boot(good, bad) == check_next_boot(None, bad) == [replace(boot, level=BLOCK)]
    assert check_next_boot(bad, bad) == check_next_boot(bad, good) == []
