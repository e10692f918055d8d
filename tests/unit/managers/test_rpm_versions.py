"""RPM's order of versions."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.machines.managers.versions import RpmVersion

# pairs from rpm's own test suite (tests/rpmvercmp.at), and whole versions of distributions
ASCENDING = (
    ("1.0~rc1", "1.0", "1.0^", "1.0^git1", "1.0^git2", "1.0.1"),
    ("1.0~rc1~git123", "1.0~rc1", "1.0~rc2", "1.0"),
    ("1.0^git1~pre", "1.0^git1", "1.01"),
    ("a", "1", "1.a", "1.1"),
    ("5.5p1", "5.5p2", "5.5p10", "5.6p1"),
    ("10xyz", "10.1xyz"),
    ("xyz10", "xyz10.1"),
    ("20101121", "20101122"),
    ("2_0", "3.0"),
    ("4.999.9", "5.0"),
    ("5.14.0-427.13.1.el9_4", "5.14.0-427.16.1.el9_4", "5.14.0-503.el9", "1:1.0-1"),
)
EQUAL = (("2.0", "2_0"), ("1.0", "1.00"), ("1..0", "1.0"), ("fc4", "fc.4"), ("0:1.0-1", "1.0-1"), ("1.0^", "1.0^"))


@pytest.mark.parametrize("versions", ASCENDING)
def test_newer_versions_are_greater(versions: tuple[str, ...]) -> None:
    for older, newer in pairwise(versions):
        assert RpmVersion(older) < RpmVersion(newer), (older, newer)
        assert not RpmVersion(newer) < RpmVersion(older)


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_separators_and_leading_zeros_make_no_difference(one: str, other: str) -> None:
    assert RpmVersion(one) == RpmVersion(other)
    assert hash(RpmVersion(one)) == hash(RpmVersion(other))


TEXTS = st.text("019ab.~^-:_+", max_size=12) | st.text(max_size=8)


@given(st.lists(TEXTS, min_size=3, max_size=3))
def test_any_text_has_its_place(texts: list[str]) -> None:
    first, second, third = (RpmVersion(text) for text in texts)
    assert (first < second) + (second < first) + (first == second) == 1
    if first <= second <= third:
        assert first <= third


def test_a_number_of_any_length_is_read() -> None:
    assert RpmVersion("1" * 100_000) > RpmVersion("2")
