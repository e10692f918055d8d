"""dnf 5's advisories: JSON from a machine, which may be anything."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.machines.managers.rpm.advisories import parse_dnf5_advisories
from tasks.machines.managers.rpm.dnf.holds import parse_dnf5_holds
from tests.unit.managers.test_apt import JSON

ENTRY: dict[str, Any] = {
    "Name": "FEDORA-2018-318f184000",
    "Type": "security",
    "Severity": "Important",
    "Issued": 1547683200,
    "references": [{"Id": "222", "Type": "bugzilla"}, {"Id": "CVE-2018-0001", "Type": "cve"}],
    "collections": {"packages": ["bind-32:9.16.23-1.fc29.x86_64", "bind-libs-32:9.16.23-1.fc29.x86_64"]},
}


def test_an_advisory() -> None:
    (advisory,) = parse_dnf5_advisories(json.dumps([ENTRY]))
    assert (advisory.id, advisory.is_security, advisory.severity) == ("FEDORA-2018-318f184000", True, "Important")
    assert advisory.cves == ("CVE-2018-0001",)
    assert advisory.packages["bind", "x86_64"] == ("32:9.16.23-1.fc29",)
    assert advisory.published == datetime(2019, 1, 17, tzinfo=UTC)


def test_the_time_of_older_releases_is_text() -> None:
    (advisory,) = parse_dnf5_advisories(json.dumps([ENTRY | {"Issued": "2019-01-17 00:00:00"}]))
    assert advisory.published == datetime(2019, 1, 17, tzinfo=UTC)


def test_several_collections_are_read() -> None:
    collections = [{"packages": ["a-1-1.noarch"]}, {"modules": ["m"]}, {"packages": ["b-2-1.noarch"]}]
    (advisory,) = parse_dnf5_advisories(json.dumps([ENTRY | {"collections": collections}]))
    assert set(advisory.packages) == {("a", "noarch"), ("b", "noarch")}


@pytest.mark.parametrize("text", ["", "{}", "null", "[", "[" * 100_000, '"x"'])
def test_what_is_no_list_is_no_answer(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_dnf5_advisories(text)


@given(st.lists(JSON, max_size=3), st.dictionaries(st.sampled_from(sorted(ENTRY)), JSON, max_size=4))
def test_odd_entries_do_no_harm(others: list[Any], odd: dict[str, Any]) -> None:
    found = parse_dnf5_advisories(json.dumps([*others, ENTRY | odd, ENTRY]))
    assert found[-1].id == ENTRY["Name"]


def test_locked_names_are_held() -> None:
    text = (
        '/etc/dnf/versionlock.toml:name = "bash"               # name of the package\n'
        "/etc/dnf/versionlock.toml:name = 'vim-*'\n/etc/dnf/dnf.conf:excludepkgs=kernel*,foo\n"
    )
    assert parse_dnf5_holds(text).excluded == ("bash", "vim-*", "kernel*", "foo")
