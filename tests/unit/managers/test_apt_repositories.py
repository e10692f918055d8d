"""Repositories that apt could not read, and what it only remarks: which, why, and one remedy for each cause."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.errors import RepositoryError
from tasks.machines.managers.apt.output_parsers import Release
from tasks.machines.managers.apt.package_lists import (
    find_frozen_archives,
    find_missing_security,
    find_stale_lists,
    read_refresh,
)
from tasks.machines.managers.repository_problems import MAX_PROBLEMS
from tasks.machines.managers.script_output import ScriptSection
from tests.unit.managers.recordings import DATA

RECORDING = (DATA / "repositories" / "apt-2.6.1.txt").read_text(encoding="utf-8")
"""Each begins with "=== NAME" and ends with "rc=CODE". Another repository, which was read, is left out."""
KNOWN = {
    name: ScriptSection(int(code), f"Hit:99 http://other.example y InRelease\n{text}")
    for name, text, code in re.findall(r"^=== (.*)\n((?:.*\n)*?)rc=(\d+)$", RECORDING, re.MULTILINE)
}
SEC, HW, CODES = "http://192.0.2.1:8297/sec x", "http://192.0.2.1:8297/hw x", "http://192.0.2.1:8331"
UNREAD = {
    "expired": (SEC, "is expired (invalid since", "no longer updated"),
    "changed-suite": (SEC, "changed its 'Codename' value from 'x' to 'y'", "--allow-releaseinfo-change"),
    "changed-back": (SEC, "changed its 'Codename' value from 'y' to 'x'", "--allow-releaseinfo-change"),
    "404-with-old-lists": (SEC, "404  File not found", "no longer published"),
    "404-without-lists": (SEC, "404  File not found", "no longer published"),
    "no-key-without-lists": (SEC, "NO_PUBKEY", "fingerprint"),
    "401": (f"{CODES}/401/x stable", "401  Unauthorized", "asks for a login"),
    "407": (f"{CODES}/407/x stable", "407  Proxy", "The proxy asks for a login"),
    "429": (f"{CODES}/429/x stable", "429  Too Many", "too many requests"),
    "403": (f"{CODES}/403/x stable", "403  Forbidden", "No certain remedy"),
    "503": (f"{CODES}/503/x stable", "503  Service", "has a fault"),
    "page": (f"{CODES}/page/x stable", "does the network require", "a proxy's page"),
    "proxy407": (HW, "407  Proxy", "The proxy asks for a login"),
    "component": (HW, "doesn't have the component 'other'", "No certain remedy"),
    "key-gone-with-old-lists-hit": (HW, "NO_PUBKEY", "fingerprint"),
    "key-gone-with-old-lists": (HW, "NO_PUBKEY", "fingerprint"),
    "dns": ("http://no.such.invalid/hw x", "Temporary failure resolving", "DNS"),
    "refused": ("http://192.0.2.1:1/hw x", "Could not connect", "route, firewall, proxy"),
}
READ = {
    "good": "",
    "all hit": "",
    "architecture": "",
    "twice": "is configured multiple times",
    "deb-src": "main/source/Sources",
    "legacy": "legacy trusted.gpg",
}


def test_all_recordings_are_judged() -> None:
    assert KNOWN.keys() == UNREAD.keys() | READ.keys()


@pytest.mark.parametrize("name", UNREAD)
def test_a_repository_that_was_not_read_is_told_once_with_its_one_remedy(name: str) -> None:
    repository, words, remedy = UNREAD[name]
    (problem,), _ = read_refresh(KNOWN[name])
    assert (problem.repository, problem.hides_fixes) == (repository, True)
    assert words in problem.message
    assert remedy in problem.remedy
    assert "subscription-manager" not in problem.remedy


@pytest.mark.parametrize("name", READ)
def test_what_apt_only_remarks_is_no_problem(name: str) -> None:
    problems, remarks = read_refresh(KNOWN[name])
    assert problems == ()
    assert len(remarks) == bool(READ[name])
    assert all(READ[name] in remark for remark in remarks)


@pytest.mark.parametrize("suite", ["bookworm-backports", "bookworm-backports-sloppy", "bookworm-debug"])
def test_a_repository_that_never_has_security_fixes_hides_none(suite: str) -> None:
    text = KNOWN["404-without-lists"].text.replace("/sec x ", f"/sec {suite} ")
    (problem,), _ = read_refresh(ScriptSection(100, text))
    assert not problem.hides_fixes


def test_sources_that_can_not_be_fetched_hide_no_fixes() -> None:
    text = (
        "Hit:1 http://deb.example stable InRelease\nErr:2 http://deb.example stable/main Sources\n  404  Not Found\n"
        "E: Failed to fetch http://deb.example/dists/stable/main/source/Sources  404  Not Found\n"
        "E: Some index files failed to download. They have been ignored, or old ones used instead.\n"
    )
    (problem,), _ = read_refresh(ScriptSection(100, text))
    assert not problem.hides_fixes
    (problem,), _ = read_refresh(ScriptSection(100, text.replace("Sources", "Packages")))
    assert problem.hides_fixes


def test_a_hook_that_fails_after_all_was_read_hides_no_fixes() -> None:
    text = (
        "Hit:1 http://deb.example stable InRelease\n"
        "E: Problem executing scripts APT::Update::Post-Invoke-Success 'test -x /usr/bin/x'\n"
        "E: Sub-process returned an error code\n"
    )
    (problem,), _ = read_refresh(ScriptSection(100, text))
    assert ("Post-Invoke" in problem.message, problem.hides_fixes) == (True, False)


@pytest.mark.parametrize("words", ["E: something new\n", "W: Some index files failed to download. They …\n", ""])
def test_a_failure_in_unknown_words_is_one_of_all_repositories(words: str) -> None:
    (problem,), _ = read_refresh(ScriptSection(100, f"Hit:1 http://deb.example stable InRelease\n{words}"))
    assert (problem.repository, problem.hides_fixes) == ("", True)


SOURCES = (
    "'http://a.example/d/dists/x/InRelease' a.example_d_dists_x_InRelease 0 \n"
    "'http://b.example/d/dists/y/InRelease' b.example_d_dists_y_InRelease 0 \n"
    "'http://c.example/d/./InRelease' c.example_d_._InRelease 0 \n"
)


def test_a_reading_that_was_ended_names_the_slow_repository_first() -> None:
    text = "Get:1 http://c.example/d ./ InRelease [1 B]\nHit:2 http://a.example/d x InRelease\n"
    partial = "b.example_d_dists_y_main_binary-amd64_Packages.xz\n"
    problems, _ = read_refresh(ScriptSection(124, text), SOURCES, partial)
    assert [problem.repository for problem in problems] == ["http://b.example/d y", "http://c.example/d ./"]
    assert "too slow" in problems[0].message
    assert ["another mirror" in problem.remedy for problem in problems] == [True, False], "the other may be fast"
    with pytest.raises(RepositoryError, match=r"b\.example"):
        read_refresh(ScriptSection(137, ""), SOURCES, partial)


NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("until", "validity", "expected"),
    [
        ("", "", []),
        ("Fri, 15 Jan 2027 08:00:00 UTC", "", []),  # NOW is that day, 10 minutes before
        ("Thu, 14 Jan 2027 08:00:00 UTC", "", ["http://a.example/d x"]),
        ("Thu, 14 Jan 2027 08:00:00 UTC", 'Acquire::Check-Valid-Until "false";', []),
        ("nonsense", "", []),
    ],
)
def test_lists_past_their_date_tell_nothing(until: str, validity: str, expected: list[str]) -> None:
    lists = f"a.example_d_dists_x_InRelease\t{until}\nb.example_d_dists_y_Release\t\nc.example_d_._InRelease\t\n"
    found = find_stale_lists(SOURCES, lists, validity, lists_at=NOW - 600, now=NOW - 600)
    assert [problem.repository for problem in found] == expected


@pytest.mark.parametrize(
    ("until", "made", "label", "suite", "is_frozen"),
    [
        ("Sat, 16 Jan 2027 08:00:00 UTC", "Sat, 09 Jan 2027 08:00:00 UTC", "Debian-Security", "stable-security", False),
        ("Thu, 14 Jan 2027 07:59:00 UTC", "Thu, 07 Jan 2027 07:59:00 UTC", "Debian-Security", "stable-security", True),
        ("", "Thu, 31 Dec 2026 08:00:00 UTC", "Debian-Security", "oldstable-security", False),
        ("", "Thu, 10 Dec 2026 08:00:00 UTC", "Debian-Security", "oldstable-security", True),
        ("", "Thu, 31 Dec 2026 08:00:00 UTC", "Ubuntu", "jammy-security", False),
        ("", "Thu, 10 Dec 2026 08:00:00 UTC", "Ubuntu", "jammy-security", True),
        ("", "Thu, 21 Apr 2022 17:16:08 UTC", "Ubuntu", "jammy", False),  # a release, which never changes
        ("", "Thu, 10 Dec 2026 08:00:00 UTC", "Debian", "stable", False),
        ("", "Thu, 10 Dec 2026 08:00:00 UTC", "Vendor", "x-security", False),  # who knows how often it has fixes
        ("", "nonsense", "Ubuntu", "jammy-security", False),
    ],
)
def test_a_security_archive_that_nobody_renews_tells_nothing(
    until: str, made: str, label: str, suite: str, is_frozen: bool
) -> None:
    lists = f"a.example_d_dists_x_Release\t{until}\t{made}\t{label}\t{suite}\n"
    found = find_frozen_archives(SOURCES, lists, NOW)
    assert [each.repository for each in found] == ["http://a.example/d x"] * is_frozen
    attached = "b.example_d_dists_y_InRelease\t\t\tUbuntuESM\tjammy-infra-security\n"
    assert bool(find_frozen_archives(SOURCES, lists + attached, NOW)) == (is_frozen and label != "Ubuntu")


def test_lists_that_were_never_read_or_long_ago_tell_nothing() -> None:
    lists = "a.example_d_dists_x_InRelease\t\nb.example_d_dists_y_InRelease\t\n"
    found = find_stale_lists(SOURCES, lists, "", lists_at=NOW - 8 * 86_400, now=NOW)
    assert [(each.repository, each.message) for each in found] == [
        ("http://c.example/d ./", "its lists were never read"),
        ("", "the machine's copy of it was last read 8 days ago"),
    ]
    assert all(each.remedy.startswith("Read the package lists: `fleetpatch assess") for each in found)


def test_a_debian_release_without_its_security_repository_is_told() -> None:
    stable = Release(origin="Debian", label="Debian", archive="stable", codename="bookworm")
    security = Release(
        origin="Debian", label="Debian-Security", archive="stable-security", codename="bookworm-security"
    )
    (problem,) = find_missing_security([stable])
    assert problem.hides_fixes
    assert find_missing_security([stable, security]) == ()
    assert find_missing_security([Release(origin="Debian", label="Debian", archive="unstable")]) == ()
    buster = replace(stable, archive="oldoldstable", codename="buster")
    assert find_missing_security([buster, replace(buster, label="Debian-Security")]) == ()


def test_the_security_repository_of_another_release_does_not_count() -> None:
    old = Release(origin="Debian", label="Debian", version="11.11", archive="oldstable", codename="bullseye")
    new = replace(old, version="12.8", archive="stable", codename="bookworm")
    old_security = replace(old, label="Debian-Security", archive="oldstable-security", codename="bullseye-security")
    (problem,) = find_missing_security([new, old_security])
    assert problem.repository == "Debian-Security of bookworm"
    assert [each.repository for each in find_missing_security([old, new, old_security])] == [problem.repository]
    # a newer release that only serves single packages
    assert find_missing_security([old, replace(new, priority=100), old_security]) == ()


def test_an_ubuntu_release_without_its_fixes_is_told() -> None:
    release = Release(origin="Ubuntu", label="Ubuntu", version="22.04", archive="jammy", codename="jammy")
    esm = Release(origin="UbuntuESM", label="UbuntuESM", archive="jammy-infra-security", codename="jammy")
    (problem,) = find_missing_security([release, esm])
    assert problem.repository == "jammy-security"
    assert problem.hides_fixes
    for suite in ("jammy-security", "jammy-updates"):
        assert find_missing_security([release, replace(release, archive=suite)]) == ()


@given(st.lists(st.sampled_from(RECORDING.splitlines()), max_size=100), st.sampled_from([0, 100, 124]))
def test_any_order_of_lines_is_never_silent_about_a_failure(lines: list[str], code: int) -> None:
    text = "\n".join(["Hit:99 http://other.example y InRelease", *lines])
    problems, _ = read_refresh(ScriptSection(code, text), SOURCES)
    assert len(problems) <= MAX_PROBLEMS
    assert problems or (code == 0 and not any(line.startswith(("E: ", "Err:", "W: Failed")) for line in lines))
    assert all(problem.remedy and problem.message for problem in problems)
