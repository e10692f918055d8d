"""What is broken, what could not be read, who is at work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.errors import ManagerBusy, ManagerError, ProtocolViolation, RepositoryError
from tasks.machines.managers.apt.assessment import find_apt_updaters
from tasks.machines.managers.apt.dpkg_state import (
    DpkgProblems,
    block_dependent_updates,
    find_dpkg_problems,
    find_lasting_unmet_dependencies,
    find_unfinished_packages,
    parse_dpkg_packages,
    parse_failed_setups,
    parse_unpacking_failures,
)
from tasks.machines.managers.apt.output_parsers import AptSimulation
from tasks.machines.managers.apt.package_lists import read_refresh
from tasks.machines.managers.running_programs import describe_lock_holders
from tasks.machines.managers.script_output import ScriptSection
from tests.support.builders import make_update
from tests.unit.managers.recordings import section

HALF = "lab-failing:all\tinstall\tok\thalf-configured\t2.0\n"
FINE = AptSimulation()


def judge(
    packages: str = "",
    refusals: tuple[str, ...] = (),
    simulation: AptSimulation = FINE,
    setups: str = "",
    *,
    interrupted: bool = False,
) -> DpkgProblems:
    return find_dpkg_problems(
        parse_dpkg_packages(packages), refusals, simulation, parse_failed_setups(setups), interrupted=interrupted
    )


def test_a_half_configured_package_is_a_problem_that_others_can_be_installed_beside() -> None:
    assert judge(HALF) == DpkgProblems(
        ("lab-failing 2.0 is half-configured",), repairable=True, can_install_others=True
    )


def test_a_failed_package_is_told_with_its_words_and_since_when() -> None:
    setup = "lab-failing:all\t1763619180\t\t, \tinstalled lab-failing package failed (no room)\n"
    (message,) = judge(HALF, setups=setup).messages
    since = "since 2025-11-20 06:13 UTC: installed lab-failing package failed (no room)"
    assert message == f"lab-failing 2.0 is half-configured {since}"
    packages, setups = parse_dpkg_packages(HALF), parse_failed_setups(setup)
    (unfinished,) = find_unfinished_packages(packages, "amd64", setups)
    assert unfinished.failure == "installed lab-failing package failed (no room)"


def test_unpacked_packages_wait_for_a_failed_one_or_were_interrupted() -> None:
    packages = HALF + "a:all\tinstall\tok\tunpacked\t1\nb:amd64\tinstall\tok\tunpacked\t1\n"
    setups = "lab-failing:all\t\tvirtual (= 2)\t, \t\na:all\t\t\tx | virtual (>= 1), y\t\nb:amd64\t\t\tlibc6, a\t\n"
    problems = judge(packages, setups=setups)
    assert problems.can_install_others
    assert problems.messages[1:] == (
        "a 1 is unpacked: it waits for lab-failing",
        "b 1 is unpacked: it waits for a",
    )
    interrupted = judge(packages, setups=setups.replace("libc6, a", "libc6"))
    assert (interrupted.repairable, interrupted.can_install_others) == (True, False)


def test_an_interrupted_dpkg_may_be_mended() -> None:
    problems = judge(HALF, interrupted=True)
    assert problems.messages[0].startswith("dpkg was interrupted")
    assert (problems.repairable, problems.can_install_others) == (True, False)


def test_a_damaged_package_is_installed_anew_unless_apt_finds_no_archive_for_it() -> None:
    packages = HALF + "bad:amd64\tinstall\treinstreq\thalf-installed\t1\n"
    problems = judge(packages)
    assert problems.messages[-1] == "bad 1 is damaged and must be installed anew"
    assert (problems.repairable, problems.can_install_others) == (True, False)
    nowhere = AptSimulation(errors=("The package bad needs to be reinstalled, but I can't find an archive for it.",))
    assert not judge(packages, simulation=nowhere, interrupted=True).repairable


def test_unmet_dependencies_may_be_mended_and_other_complaints_of_apt_not() -> None:
    unmet = AptSimulation(unmet_dependencies={"a": "Depends: b"}, errors=("Unmet dependencies.",))
    assert judge(simulation=unmet) == DpkgProblems(("a has unmet dependencies: Depends: b",), repairable=True)
    assert not judge(HALF, simulation=unmet).can_install_others
    other = AptSimulation(errors=("The package x needs to be reinstalled",))
    assert judge(simulation=other) == DpkgProblems(("apt: The package x needs to be reinstalled",))


def test_what_cannot_be_unpacked_leaves_lasting_unmet_dependencies() -> None:
    packages = "app:all\tinstall\tok\tunpacked\t2\n"
    setups = "app:all\t\t\tlib (>= 2)\t\n"
    unmet = AptSimulation(unmet_dependencies={"app": "Depends: lib (>= 2) but 1 is installed", "old": "Depends: app"})
    words = "trying to overwrite '/x', which is also in package owner 1"
    failures = parse_unpacking_failures(f"app\t\nlib\t{words}\nold\t{words}\n")
    parsed = parse_dpkg_packages(packages), parse_failed_setups(setups)
    problems = find_dpkg_problems(parsed[0], "", unmet, parsed[1], interrupted=False, failures=failures)
    assert problems.can_install_others
    assert problems.messages == (
        f"app 2 is unpacked: lib could not be unpacked: {words}",
        f"old has unmet dependencies: old could not be unpacked: {words}",
    )
    (unfinished,) = find_unfinished_packages(
        parsed[0], "amd64", parsed[1], find_lasting_unmet_dependencies(unmet.unmet_dependencies, failures)
    )
    assert words in unfinished.failure
    interrupted = judge(packages, simulation=unmet, setups=setups)
    assert (interrupted.repairable, interrupted.can_install_others) == (True, False)


def test_holds_and_waiting_triggers_are_no_problem() -> None:
    text = "a:amd64\thold\tok\tinstalled\t1\nb:amd64\tinstall\tok\ttriggers-pending\t1\n"
    assert judge(text) == DpkgProblems()
    assert [package.is_held for package in parse_dpkg_packages(text)] == [True, False]


def test_what_dpkg_would_refuse_is_no_repair() -> None:
    assert judge(HALF, ("dpkg would refuse it",)) == DpkgProblems(
        ("lab-failing 2.0 is half-configured", "dpkg would refuse it")
    )


STATES = st.sampled_from(["unpacked", "half-configured", "half-installed", "triggers-awaited"])
NAMES = st.sampled_from(["a", "b", "c", "d"])


@given(st.dictionaries(NAMES, st.tuples(STATES, st.sets(NAMES))), st.booleans())
def test_apt_is_asked_to_work_only_beside_what_failed(
    world: dict[str, tuple[str, set[str]]], interrupted: bool
) -> None:
    packages = "".join(f"{name}:all\tinstall\tok\t{state}\t1\n" for name, (state, _) in world.items())
    setups = "".join(f"{name}:all\t\t\t{', '.join(needs)}\t\n" for name, (_, needs) in world.items())
    problems = judge(packages, setups=setups, interrupted=interrupted)
    explained = {name for name, (state, _) in world.items() if state == "half-configured"}
    for _ in world:
        explained |= {name for name, (state, needs) in world.items() if state == "unpacked" and needs & explained}
    broken = {name for name, (state, _) in world.items() if state != "triggers-awaited"}
    assert problems.can_install_others == (bool(broken) and broken == explained and not interrupted)


def block(depends: str, *, group: str = "needs", packages: str = HALF, setups: str = "") -> str:
    update = make_update(id="needs", name="needs", available="2.0", group=group)
    own = make_update(id="lab-failing", name="lab-failing", available="3.0", group="lab")
    stanzas = [{"Package": "needs", "Version": "2.0", "Depends": depends, "Pre-Depends": "dpkg"}]
    found = block_dependent_updates([update, own], stanzas, parse_dpkg_packages(packages), parse_failed_setups(setups))
    assert not found[1].blocked
    return found[0].blocked


def test_what_depends_on_a_failed_package_is_blocked() -> None:
    assert block("libc6, lab-failing (>= 1)") == "it depends on lab-failing, which is half-configured"
    assert block("libc6, x | virtual", setups="lab-failing:all\t\tvirtual\t\t\n")
    assert block("lab-failing", packages=HALF.replace("half-configured", "triggers-awaited"))
    assert not block("libc6, lab-failing-common")
    assert not block("lab-failing (= 3.0)", group="lab")  # it goes along with the update of the failed package
    assert not block("lab-failing", packages="")


def test_no_live_repository_is_an_error_though_apt_says_0() -> None:
    text = section("debian-12-unreachable.apt_assess", "update")
    with pytest.raises(RepositoryError) as caught:
        read_refresh(ScriptSection(0, text))
    assert caught.value.transient
    assert caught.value.hint


def test_a_malformed_source_is_no_passing_fault() -> None:
    with pytest.raises(ManagerError) as caught:
        read_refresh(ScriptSection(100, section("debian-12-malformed.apt_assess", "update")))
    assert not caught.value.transient
    assert "sources.list" in caught.value.message


def test_lists_that_others_read_are_busy() -> None:
    with pytest.raises(ManagerBusy, match=r"held by process 812 \(apt-get\)"):
        read_refresh(
            ScriptSection(100, "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 812 (apt-get)\n")
        )


def test_lock_holders_are_named_once() -> None:
    records = [
        {"kind": "lock", "path": "/var/lib/dpkg/lock", "pid": 7, "name": "apt-get\n"},
        {"kind": "lock", "path": "/var/lib/dpkg/lock-frontend", "pid": 7, "name": "apt-get"},
        {"kind": "lock", "path": "/var/lib/dpkg/lock", "pid": 0, "name": "a process outside"},
    ]
    assert describe_lock_holders(records) == "apt-get (pid 7), a process outside"
    assert describe_lock_holders([]) == ""
    with pytest.raises(ProtocolViolation):
        describe_lock_holders([{"kind": "lock", "name": "x", "pid": "seven"}])


TIMERS = (
    "NextElapseUSecRealtime=Sat 2026-11-21 05:26:00 UTC\nId=apt-daily.timer\nActiveState=active\n\n"
    "NextElapseUSecRealtime=\nId=apt-daily-upgrade.timer\nActiveState=active\n\n"
    "Id=apt-daily.service\nActiveState=inactive\n\nId=apt-daily-upgrade.service\nActiveState={}\n"
)
ON = 'APT::Periodic "";\nAPT::Periodic::Update-Package-Lists "1";\nAPT::Periodic::Unattended-Upgrade "1";\n'


def test_timers_tell_when_they_act() -> None:
    assert find_apt_updaters(TIMERS.format("inactive"), ON, 1795238660) == (
        ("apt-daily.timer", 100.0),
        ("apt-daily-upgrade.timer", None),
    )


def test_timers_whose_work_is_switched_off_do_nothing() -> None:
    assert find_apt_updaters(TIMERS.format("inactive"), "", 0) == ()
    assert find_apt_updaters(TIMERS.format("inactive"), ON + 'APT::Periodic::Enable "0";\n', 0) == ()


def test_an_updater_that_runs_now_acts_now_whatever_is_switched_on() -> None:
    assert find_apt_updaters(TIMERS.format("activating"), "", 0) == (("apt-daily-upgrade.service", 0.0),)


@given(st.text(), st.text(), st.text(), st.integers())
def test_garbage_raises_nothing_but_errors_of_the_manager(one: str, two: str, three: str, now: int) -> None:
    find_dpkg_problems(parse_dpkg_packages(one), two, FINE, parse_failed_setups(three), interrupted=False)
    find_apt_updaters(one, two, now)
    try:
        read_refresh(ScriptSection(0, three))
    except ManagerError as error:
        assert error.message  # noqa: PT017 (any text may, but need not, be an error)
