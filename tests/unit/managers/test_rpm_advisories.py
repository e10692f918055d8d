"""What advisories say about an update."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.states import Classification
from tasks.machines.managers.rpm.advisories import Advisory, AdvisoryView, index_advisories, judge_update

KEY = ("a", "x86_64")
DAY = datetime(2026, 11, 1, tzinfo=UTC)


def about(version: str, kind: str = "security", severity: str = "Important", cve: str = "", **more: object) -> Advisory:
    cves = (cve,) if cve else ()
    return Advisory(f"ADV-{version}", kind, severity, cves, DAY, {KEY: (version,)}, **more)  # type: ignore[arg-type]


def judge(
    *advisories: Advisory, installed: str | None = "1-1", available: str = "3-1", has: bool = True
) -> AdvisoryView:
    index = index_advisories(advisories)
    return judge_update(index, KEY, installed=installed, available=available, repository_has_advisories=has)


def test_a_fix_in_a_version_between_counts() -> None:
    view = judge(about("3-1", "bugfix", ""), about("2-1", cve="CVE-2026-0001"))
    assert view.classification is Classification.SECURITY
    assert view.security_versions == {"2-1"}
    assert view.ids == ("ADV-3-1", "ADV-2-1")
    assert (view.cves, view.published) == (("CVE-2026-0001",), DAY)


def test_older_and_newer_versions_do_not_count() -> None:
    view = judge(about("1-1"), about("4-1"))
    assert (view.classification, view.ids) == (Classification.OTHER, ())


def test_the_worst_severity_counts() -> None:
    view = judge(
        about("2-1", severity="moderate"), about("3-1", severity="Critical"), about("2.5-1", "bugfix", "Critical")
    )
    assert (view.classification, view.severity) == (Classification.CRITICAL, "Critical")
    assert judge(about("2-1", "bugfix", "Critical")).classification is Classification.OTHER
    assert judge(about("2-1", severity="None")).severity == ""


def test_without_advisories_it_is_not_known_what_an_update_is() -> None:
    assert judge(has=False).classification is Classification.UNCLASSIFIED
    assert judge(about("2-1", "bugfix"), has=False).classification is Classification.OTHER


def test_a_version_without_an_epoch_has_that_of_the_update() -> None:
    assert judge(about("2-1", knows_epochs=False), installed="1:1-1", available="1:3-1").security_versions == {"1:2-1"}
    assert not judge(about("2-1"), installed="1:1-1", available="1:3-1").ids


def test_a_fix_before_a_change_of_the_epoch_counts() -> None:
    fix = about("2-1", knows_epochs=False)
    assert judge(fix, installed="1-1", available="1:1-1").security_versions == {"2-1"}


@pytest.mark.public_report("https://github.com/pulp/pulp_rpm/issues/2821")
def test_of_two_advisories_with_one_id_both_count() -> None:
    fix, other = about("2-1"), replace(about("0-1", "bugfix"), id="ADV-2-1")
    for pair in ((fix, other), (other, fix)):
        assert judge(*pair).classification is Classification.SECURITY


def test_for_a_new_package_only_its_own_version_counts() -> None:
    assert judge(about("2-1"), installed=None).ids == ()
    assert judge(about("3-1"), installed=None).classification is Classification.SECURITY


VERSIONS = st.builds(lambda major, minor: f"{major}.{minor}-1", st.integers(0, 3), st.integers(0, 3))


@given(st.lists(VERSIONS, max_size=5), VERSIONS, VERSIONS)
def test_only_versions_that_the_update_brings_count(versions: list[str], installed: str, available: str) -> None:
    view = judge(*(about(version) for version in versions), installed=installed, available=available)
    expected = {version for version in versions if installed < version <= available}  # single digits sort as text
    assert view.security_versions == expected
    assert bool(view.ids) == bool(expected)
