"""Fixtures for tests with virtual machines."""

import os
from collections.abc import Callable, Iterator

import pytest

from tests.lab.vm.machines import Vm, VmLab

BootVms = Callable[..., list[Vm]]


@pytest.fixture(scope="session")
def vm_lab() -> Iterator[VmLab]:
    """The session's own lab of virtual machines: down at the end, and first when a session before crashed."""
    name = os.environ.get("FLEETPATCH_LAB", "") + "pytest" + os.environ.get("PYTEST_XDIST_WORKER", "")
    lab = VmLab(name)
    reason = lab.reason_it_cannot_run()
    if reason:
        why = f"virtual machines can't run here: {reason}"
        if os.environ.get("CI") == "true":  # a skipped lab must not look like a passed one
            pytest.fail(why)
        pytest.skip(why)
    lab.down()
    yield lab
    lab.down()


@pytest.fixture
def vms(vm_lab: VmLab) -> Iterator[BootVms]:
    """``vms(n)`` makes n fresh machines (see ``VmLab.boot``); they are gone after the test."""
    before = {vm.number for vm in vm_lab.machines()} if vm_lab.is_up() else set()
    yield vm_lab.boot
    for vm in vm_lab.machines() if vm_lab.is_up() else []:
        if vm.number not in before:
            vm.drop()
