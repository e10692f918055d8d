"""A run of an earlier version is resumed: its records lack what package managers say today."""

from dataclasses import replace
from typing import Any, cast
from unittest.mock import Mock

from tasks.machines.managers.apt.manager import AptManager
from tasks.rules.machine_checks.service_restarts import find_restartable_services
from tasks.rules.updates.installation_order import must_install_last
from tasks.steps.checkpoint import complete_recorded_state
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.machine_state import MachineState
from tests.support import builders as make


def make_context(state: MachineState) -> MachineContext:
    """Return the context of a machine that nothing reaches: only its package manager is known."""
    run_context = Mock(find_manager=lambda facts: AptManager())
    return MachineContext(cast("Any", run_context), cast("Any", None), state)


def test_boot_packages_and_updaters_are_known_again() -> None:
    shim, other = make.make_update(name="shim-signed"), make.make_update(name="openssl", id="openssl")
    services = ("unattended-upgrades.service", "nginx.service")
    packages = make.make_package_state(updates=(shim, other), services_to_restart=services)
    state = MachineState(
        make.make_machine(),
        assessment=make.make_assessment(packages=packages),
        plan=make.make_plan(chosen=(shim, other)),
        packages_after=packages,
    )
    context = make_context(state)

    complete_recorded_state(context)

    assert [must_install_last(update) for update in context.plan.chosen] == [True, False]
    assert [must_install_last(update) for update in context.packages.updates] == [True, False]
    assert find_restartable_services(context.state.packages_after) == ("nginx.service",)


def test_a_resumed_run_keeps_the_versions_that_were_chosen() -> None:
    """If only security fixes are selected, the version may be an older one than the newest that is offered."""
    offered = make.make_update(available="3.0.17-1", security_version="3.0.16-1~deb12u1")
    chosen = replace(offered, available="3.0.16-1~deb12u1", security_version="")
    packages = make.make_package_state(updates=(offered,))
    state = MachineState(
        make.make_machine(),
        assessment=make.make_assessment(packages=packages),
        plan=make.make_plan(chosen=(chosen,)),
    )
    context = make_context(state)

    complete_recorded_state(context)

    assert [update.available for update in context.plan.chosen] == ["3.0.16-1~deb12u1"]
    assert [update.available for update in context.packages.updates] == ["3.0.17-1"]


def test_a_machine_without_an_answer_stays_as_it_is() -> None:
    context = make_context(MachineState(make.make_machine()))

    complete_recorded_state(context)

    assert context.state == MachineState(make.make_machine())
