"""What is broken, what could not be read, who is at work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import ManagerBusy, ManagerError, ProtocolViolation, RepositoryError
from tasks.managers.apt.auto_updaters import find_auto_updaters
from tasks.managers.apt.dpkg_state import find_problems, parse_packages
from tasks.managers.apt.output_parsers import AptSimulation
from tasks.managers.apt.package_lists import find_refresh_problems
from tasks.managers.lock_holders import describe_lock_holders
from tasks.managers.script_output import ScriptSection
from tests.unit.managers.recordings import section

HALF = "lab-failing:all\tinstall\tok\thalf-configured\t2.0\n"
FINE = AptSimulation()


def test_a_half_configured_package_is_a_problem_that_may_be_mended() -> None:
    problems, repairable = find_problems(parse_packages(HALF), "half configured …", FINE, interrupted=False)
    assert problems == ("lab-failing 2.0 is half-configured",)
    assert repairable


def test_an_interrupted_dpkg_may_be_mended() -> None:
    problems, repairable = find_problems((), "", FINE, interrupted=True)
    assert problems[0].startswith("dpkg was interrupted")
    assert repairable


def test_a_damaged_package_is_installed_anew_unless_apt_finds_no_archive_for_it() -> None:
    packages = parse_packages(HALF + "bad:amd64\tinstall\treinstreq\thalf-installed\t1\n")
    problems, repairable = find_problems(packages, "", FINE, interrupted=True)
    assert problems[-1] == "bad 1 is damaged and must be installed anew"
    assert repairable
    nowhere = AptSimulation(errors=("The package bad needs to be reinstalled, but I can't find an archive for it.",))
    assert not find_problems(packages, "", nowhere, interrupted=True)[1]


def test_unmet_dependencies_may_be_mended_and_other_complaints_of_apt_not() -> None:
    unmet = AptSimulation(unmet_dependencies={"a": "Depends: b"}, errors=("Unmet dependencies.",))
    assert find_problems((), "", unmet, interrupted=False) == (("a has unmet dependencies: Depends: b",), True)
    other = AptSimulation(errors=("The package x needs to be reinstalled",))
    assert find_problems((), "", other, interrupted=False) == (("apt: The package x needs to be reinstalled",), False)


def test_holds_and_waiting_triggers_are_no_problem() -> None:
    packages = parse_packages("a:amd64\thold\tok\tinstalled\t1\nb:amd64\tinstall\tok\ttriggers-pending\t1\n")
    assert find_problems(packages, "b: triggers pending", FINE, interrupted=False) == ((), False)
    assert [package.is_held for package in packages] == [True, False]


def test_audits_that_nothing_else_explains_are_told() -> None:
    problems, repairable = find_problems((), "The following packages lack\n md5sums: x\n", FINE, interrupted=False)
    assert problems == ("dpkg --audit: The following packages lack md5sums: x",)
    assert not repairable


def test_a_real_refresh_without_trouble() -> None:
    assert find_refresh_problems(ScriptSection(0, section("debian-12.apt_assess", "update"))) == ()


def test_one_dead_repository_is_a_warning() -> None:
    (problem,) = find_refresh_problems(ScriptSection(0, section("debian-12-partial.apt_assess", "update")))
    assert "Failed to fetch" in problem.message
    assert "route, firewall, proxy" in problem.remedy


def test_apts_words_have_their_remedies_and_no_passwords() -> None:
    login = "bob:secret"
    text = (
        "Hit:1 http://deb.example stable InRelease\n"
        f"E: Failed to fetch https://{login}@esm.example/dists/x/InRelease?token=secret  401  Unauthorized\n"
        "W: GPG error: http://third.example x InRelease: The following signatures couldn't be verified because the "
        "public key is not available: NO_PUBKEY 0123456789ABCDEF\n"
        "E: The repository 'http://old.example x Release' does not have a Release file.\n"
        "E: Failed to fetch http://x.example/Packages  Hash Sum mismatch\n"
        "E: Release file for http://snap.example/InRelease is expired (invalid since 3d). Updates …\n"
        "W: Some index files failed to download. They have been ignored, or old ones used instead.\n"
    )
    problems = find_refresh_problems(ScriptSection(100, text))
    words = ["refuses", "fingerprint", "no longer published", "damaged", "clock"]
    assert [word in problem.remedy for word, problem in zip(words, problems, strict=True)] == [True] * 5
    assert "secret" not in str(problems)


def test_no_live_repository_is_an_error_though_apt_says_0() -> None:
    text = section("debian-12-unreachable.apt_assess", "update")
    with pytest.raises(RepositoryError) as caught:
        find_refresh_problems(ScriptSection(0, text))
    assert caught.value.transient
    assert caught.value.hint


def test_a_malformed_source_is_no_passing_fault() -> None:
    with pytest.raises(ManagerError) as caught:
        find_refresh_problems(ScriptSection(100, section("debian-12-malformed.apt_assess", "update")))
    assert not caught.value.transient
    assert "sources.list" in caught.value.message


def test_lists_that_others_read_are_busy() -> None:
    with pytest.raises(ManagerBusy, match=r"held by process 812 \(apt-get\)"):
        find_refresh_problems(
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
    assert find_auto_updaters(TIMERS.format("inactive"), ON, 1795238660) == (
        ("apt-daily.timer", 100.0),
        ("apt-daily-upgrade.timer", None),
    )


def test_timers_whose_work_is_switched_off_do_nothing() -> None:
    assert find_auto_updaters(TIMERS.format("inactive"), "", 0) == ()
    assert find_auto_updaters(TIMERS.format("inactive"), ON + 'APT::Periodic::Enable "0";\n', 0) == ()


def test_an_updater_that_runs_now_acts_now_whatever_is_switched_on() -> None:
    assert find_auto_updaters(TIMERS.format("activating"), "", 0) == (("apt-daily-upgrade.service", 0.0),)


@given(st.text(), st.text(), st.text(), st.integers())
def test_garbage_raises_nothing_but_errors_of_the_manager(one: str, two: str, three: str, now: int) -> None:
    find_problems(parse_packages(one), two, FINE, interrupted=False)
    find_auto_updaters(one, two, now)
    try:
        find_refresh_problems(ScriptSection(0, three))
    except ManagerError as error:
        assert error.message  # noqa: PT017 (any text may, but need not, be an error)
