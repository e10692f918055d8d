"""Debian's order of versions: the policy's own examples, the laws of an order, and dpkg's word."""

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.machines.managers.versions import DebianVersion

VERSIONS = st.from_regex(r"\A([0-9]{1,2}:)?[0-9][0-9a-c.+~]{0,6}(-[0-9a-c.+~]{1,4})?\Z", fullmatch=True)
DPKG = shutil.which("dpkg")

ASCENDING = [
    # Debian Policy 5.6.12: "~~", "~~a", "~", the empty part, "a"
    ("1~~", "1~~a", "1~", "1", "1a"),
    ("1.0~rc1-1", "1.0-1", "1.0-1+deb12u1", "1.0-1+deb12u2", "1.0-1+deb12u10", "1.0.1-1", "1:0.1-1"),
    ("2.36-9+deb12u9", "2.36-9+deb12u10"),
    ("20230311+deb12u1", "20250419~deb12u2"),
    ("6.1.0-9-amd64", "6.1.0-28-amd64"),
]


@pytest.mark.parametrize("versions", ASCENDING)
def test_known_orders(versions: tuple[str, ...]) -> None:
    backwards = list(reversed(versions))
    backwards.sort(key=DebianVersion)
    assert backwards == list(versions)


@pytest.mark.parametrize(("one", "other"), [("1.0", "1.00"), ("0:1", "1"), ("1", "1-0"), ("1.", "1.0")])
def test_equal_though_written_differently(one: str, other: str) -> None:
    assert DebianVersion(one) == DebianVersion(other)
    assert hash(DebianVersion(one)) == hash(DebianVersion(other))


@given(VERSIONS, VERSIONS, VERSIONS)
def test_is_a_total_order(a: str, b: str, c: str) -> None:
    x, y, z = sorted((DebianVersion(a), DebianVersion(b), DebianVersion(c)))
    assert x <= y <= z
    assert x <= z
    assert (x < y) + (y < x) + (x == y) == 1


@given(st.text(), st.text())
def test_garbage_is_ordered_too(a: str, b: str) -> None:
    one, other = DebianVersion(a), DebianVersion(b)
    assert (one < other) + (other < one) + (one == other) == 1


@pytest.mark.slow
@pytest.mark.skipif(DPKG is None, reason="dpkg is not here to be asked")
@settings(max_examples=30, deadline=None)
@given(VERSIONS, VERSIONS)
def test_dpkg_agrees(a: str, b: str) -> None:
    relation = "lt" if DebianVersion(a) < DebianVersion(b) else "eq" if DebianVersion(a) == DebianVersion(b) else "gt"
    done = subprocess.run([str(DPKG), "--compare-versions", a, relation, b], capture_output=True, check=False)
    assert done.returncode == 0, f"dpkg says that {a} {relation} {b} is wrong"
