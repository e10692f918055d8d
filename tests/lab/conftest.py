"""Fixtures for tests that need real machines. Everything in this folder carries the marker `lab`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.fleet import BootHosts, Kind, Lab, LabHost

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.lab)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The test session's own lab: down at the end, and first when a session before crashed."""
    name = os.environ.get("FLEETPATCH_LAB") or "pytest"  # two sessions in one checkout need a name each
    it = Lab(name + os.environ.get("PYTEST_XDIST_WORKER", ""))  # and so do processes that share the tests
    reason = it.reason_it_cannot_run()
    if reason:
        why = f"the lab can't run here: {reason}"
        if os.environ.get("CI") == "true":  # a skipped lab must not look like a passed one
            pytest.fail(why)
        pytest.skip(why)
    it.down()
    yield it
    it.down()


@pytest.fixture
def hosts(lab: Lab) -> Iterator[BootHosts]:
    """`hosts(n)` boots n fresh hosts, `hosts(n, "dnf")` of another kind; they are gone after the test."""
    with boot_hosts(lab) as boot:
        yield boot


@contextmanager
def boot_hosts(lab: Lab) -> Iterator[BootHosts]:
    """Give what boots hosts; they are gone after the block."""
    made: list[LabHost] = []

    def boot(count: int, flavour: Kind = "apt") -> list[LabHost]:
        new = lab.up(count, flavour)
        made.extend(new)
        return new

    try:
        yield boot
    finally:
        for host in made:
            if host.root.exists():  # the test may have dropped it itself
                host.drop()


@pytest.fixture
def host(hosts: BootHosts) -> LabHost:
    """One fresh host."""
    return hosts(1)[0]
