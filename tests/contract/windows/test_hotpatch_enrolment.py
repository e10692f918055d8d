"""enrol_hotpatch.ps1 sets the registry values that Microsoft documents, and only under the machine lock."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from flows.hotpatch.changes import EnrolmentOrder, change_enrolments
from flows.orders.carrying_out import Order
from inventory.machine import Machine, OsFamily
from tasks.domain.model import HotpatchEnrolment
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import SHARED_SCRIPTS, Script, ScriptRecord, Transport
from tasks.domain.states import ChangeState, HotpatchStatus
from tasks.machines.managers.registry import find_manager
from tasks.machines.managers.windows_update.assessment import parse_windows_assessment
from tasks.machines.managers.windows_update.manager import PACKAGE
from tasks.machines.transport.script_library import load_windows_script
from tasks.rules.hotpatch import BaselineCalendar, EnrolmentRequest, HotpatchAction
from tests.contract.windows.warm_machine import CLOCK, WarmMachine
from tests.lab.windows.scenario import Scenario
from tests.support.fake_orders import FakeOrders
from tests.support.fleet import SimFleet

AZURE_EDITION = Scenario(edition="ServerTurbine", build=20348)
EVERYTHING = ("vbs", "table_size", "package")
REFUSED = "function New-ItemProperty { throw 'it is refused' }"


@pytest.fixture
def azure() -> Iterator[WarmMachine]:
    with WarmMachine.opened(AZURE_EDITION) as warm:
        yield warm


def soon() -> Deadline:
    return Deadline.after(CLOCK, 60)


def take_lock(host: Transport, run: str = "run-1", **params: str) -> None:
    until = f"{CLOCK.now().timestamp() + 600:.0f}"
    host.run_script(
        Script("machine_lock", {"run": run, "attempt": "1", "by": "me", "until": until, **params}), deadline=soon()
    )


def enrol(host: Transport, *values: str, run: str = "run-1") -> list[ScriptRecord]:
    order = {"lock_run": run, "lock_attempt": "1", "lock_until": "0"}
    script = Script("enrol_hotpatch", {"values": tuple(values), **order}, read_only=False, package=PACKAGE)
    return list(host.run_script(script, deadline=soon()).records)


def read(host: Transport) -> HotpatchEnrolment:
    state = parse_windows_assessment(host.run_script(Script("wua_assess", package=PACKAGE), deadline=soon()))
    assert state.hotpatch is not None
    return state.hotpatch


def test_the_documented_values_enrol_an_azure_edition(azure: WarmMachine) -> None:
    host = azure.open_host()
    assert read(host).enrolled is False
    take_lock(host)
    records: list[Any] = enrol(host, *EVERYTHING)
    assert [(each["kind"], each["value"], each["now"]) for each in records] == [
        ("set", "EnableVirtualizationBasedSecurity", "1"),
        ("set", "HotPatchTableSize", "4096"),
        ("set", "Name", "Hotpatch Enrollment Package"),
        ("set", "Version", "10.0.20348.1129"),
    ]
    found = read(host)
    assert (found.means, found.enrolled) == ("registry", True)
    assert "table size" not in {each.check for each in found.prerequisites}
    again = enrol(host, *EVERYTHING)
    assert {each["kind"] for each in again} == {"kept"}
    assert azure.windows.stand_in_errors() == []


def test_without_the_machine_lock_nothing_is_set(azure: WarmMachine) -> None:
    host = azure.open_host()
    (refused,) = enrol(host, *EVERYTHING)
    assert refused["kind"] == "refused"
    take_lock(host, run="another")
    (refused,) = enrol(host, *EVERYTHING)
    assert "another" in str(refused["why"])
    assert read(host).enrolled is False


def test_nothing_that_stands_for_a_licence_is_written() -> None:
    text = load_windows_script("enrol_hotpatch", PACKAGE)
    assert not [word for word in ("Azure Connected Machine", "Licenses", "AllowRebootlessUpdates") if word in text]


def test_what_cannot_be_set_is_told(azure: WarmMachine) -> None:
    def load(name: str, package: str = SHARED_SCRIPTS) -> str:
        text = load_windows_script(name, package)
        return f"{REFUSED}\n{text}" if name == "enrol_hotpatch" else text

    host = azure.open_host(azure.make_place(), script_loader=load)
    take_lock(host)
    records: list[Any] = enrol(host, "vbs", "table_size")
    assert [(each["kind"], each["value"]) for each in records] == [
        ("failed", "EnableVirtualizationBasedSecurity"),
        ("failed", "HotPatchTableSize"),
    ]
    assert "is refused" in records[1]["why"]


def test_the_command_enrols_a_machine_from_the_lock_to_the_assessment_after_it(azure: WarmMachine) -> None:
    host = azure.open_host(azure.make_place())
    store = Store()
    machine = Machine("win", "192.0.2.1", os=OsFamily.WINDOWS)
    fleet = SimFleet()
    ports = replace(fleet.ports(), clock=CLOCK, connect=lambda _: host, find_manager=find_manager)
    told = Order("o1", "hotpatch enroll", "anne", FakeOrders())
    order = EnrolmentOrder(HotpatchAction.ENROLL, told, store, BaselineCalendar())
    (first,) = change_enrolments([machine], ports, order)
    assert (first.state, first.status) == (ChangeState.CHANGED, HotpatchStatus.PENDING), first
    assert first.steps == ("set EnableVirtualizationBasedSecurity = 1, and restart the machine later",)
    (lock,) = host.run_script(Script("lock"), deadline=soon()).records
    assert lock["run"] == ""
    (request,) = store.requests.values()
    assert (request.by, request.failure) == ("anne", "")
    take_lock(host, run="20260310-010000-aaaaaa")
    (second,) = change_enrolments([machine], ports, order)
    assert second.state is ChangeState.FAILED
    assert "20260310-010000-aaaaaa" in second.message


class Store:
    """Requests in memory."""

    def __init__(self) -> None:
        self.requests: dict[str, EnrolmentRequest] = {}

    def read_requests(self, machines: Sequence[str]) -> Mapping[str, EnrolmentRequest]:
        return {name: self.requests[name] for name in machines if name in self.requests}

    def save_request(self, machine: str, request: EnrolmentRequest, status: HotpatchStatus | None) -> None:
        assert status is not None
        self.requests[machine] = request
