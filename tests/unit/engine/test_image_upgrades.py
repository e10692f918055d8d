"""Runs that give machines new OS disks, with the real engine on a simulated fleet and a provider in memory."""

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from flows.engine.fleet_run import FleetRun
from flows.engine.resume_state import parse_recorded_request, read_resume_state
from flows.local_run import LocalRunner
from flows.request.patch_request import PatchRequest, WavesRequest, WindowRequest
from tasks.domain.components import Component
from tasks.domain.errors import ProviderUnavailable, RequestError
from tasks.domain.images import RollingUpgradeState
from tasks.domain.model import RunReport
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.domain.provided_machines import ImageVersion, PowerState, ProvidedMachine, ProviderAct, ProviderOrder
from tasks.domain.states import UNFINISHED_RUN_STATES, FindingLevel, OperationState, UpdateState
from tasks.rules.components.health import RolloutFault
from tasks.rules.images.history import build_upgrade_row
from tasks.steps.context.run_control import StopToken
from tests.support.fake_provider import FakeProvider, ProviderFault
from tests.support.fake_records import FakeHistory
from tests.support.fleet import outcome_of, result_of
from tests.support.image_fleet import MACHINE_ID, MODEL, NETWORK, NEW, OLD, PRIVATE_KEY, RUN, ImageFleet, make_group
from tests.support.mortal import Killed, Life, Mortal, choose_calls, mortal_machine, mortal_records
from tests.support.told_lines import ToldLines

UPDATE = "component:image:web"
REPLACE, RESTORE = ProviderAct.REPLACE_OS_DISK, ProviderAct.RESTORE_OS_DISK


@pytest.fixture
def fleet() -> ImageFleet:
    return ImageFleet()


def test_machines_get_their_new_disk_one_after_the_other(fleet: ImageFleet) -> None:
    report = fleet.upgrade()
    assert report.run.state is OperationState.SUCCEEDED, [outcome.reason for outcome in report.outcomes]
    assert fleet.versions == dict.fromkeys(("m1", "m2", "m3", "m4"), NEW)
    assert [wave.machines for wave in report.waves] == [("m1",), ("m2",), ("m3",), ("m4",)]
    assert fleet.ran == [(f"m{number}", "join the cluster") for number in (1, 2, 3, 4)]
    assert fleet.broken() == []
    result = result_of(outcome_of(report, "m1"), UPDATE)
    assert (result.state, result.update.installed, result.version_after) == (UpdateState.INSTALLED, OLD, NEW)


def test_the_new_disk_keeps_the_identity_and_no_record_has_its_secret(fleet: ImageFleet) -> None:
    report = fleet.upgrade()
    (order, *_) = [given.order for given in fleet.hypervisor.orders]
    config = json.loads(order.user_data.removeprefix("#cloud-config\n"))
    assert config["ssh_keys"]["ed25519_private"] == PRIVATE_KEY
    assert config["bootcmd"] == [f"echo {MACHINE_ID} >/etc/machine-id"]
    entries = [fleet.fleet.records.read_entries(RUN, name) for name in fleet.versions]
    assert "secret of the host" not in f"{entries} {report}"


def test_the_seed_is_written_again_without_the_keys_as_soon_as_a_login_works(fleet: ImageFleet) -> None:
    fleet.hypervisor.acts = frozenset(ProviderAct)
    assert fleet.upgrade().run.state is OperationState.SUCCEEDED
    first, second, *_ = [given.order for given in fleet.hypervisor.orders]
    assert (first.act, second.act, first.id) == (REPLACE, ProviderAct.REWRITE_SEED, second.id)
    before, after = (json.loads(order.user_data.removeprefix("#cloud-config\n")) for order in (first, second))
    assert (before.pop("ssh_keys")["ed25519_private"], after.pop("ssh_deletekeys")) == (PRIVATE_KEY, False)
    assert before == after, "cloud-init reads it at each boot"


def test_a_seed_that_keeps_its_keys_is_a_warning_and_no_failure(fleet: ImageFleet) -> None:
    fleet.hypervisor.acts = frozenset(ProviderAct)
    fleet.hypervisor.faults[ProviderAct.REWRITE_SEED] = [ProviderFault.REFUSED]
    report = fleet.upgrade()
    (warning,) = [one for one in outcome_of(report, "m1").findings if one.level is FindingLevel.WARN]
    assert "still has its private host keys" in warning.message
    assert fleet.versions["m1"] == NEW


def test_a_static_network_goes_with_the_order(fleet: ImageFleet) -> None:
    links = json.loads(str(NETWORK["links"]))
    links[0]["addr_info"][0]["dynamic"] = False
    fleet.network = NETWORK | {"links": json.dumps(links)}
    fleet.upgrade()
    (order, *_) = [given.order for given in fleet.hypervisor.orders]
    assert json.loads(order.network_config)["ethernets"]["eth0"]["addresses"] == ["192.0.2.9/24"]


@pytest.mark.parametrize("is_kept", [True, False])
def test_the_plan_leaves_a_machine_alone_whose_network_would_be_lost(fleet: ImageFleet, *, is_kept: bool) -> None:
    links = json.loads(str(NETWORK["links"]))
    fleet.network = NETWORK | {"links": json.dumps([links[0] | {"master": "bond0"}])}
    fleet.group = make_group(image=replace(MODEL, keeps_network=is_kept))
    report = fleet.upgrade()
    assert bool(fleet.orders_of("m1")) is not is_kept
    if is_kept:
        result = result_of(outcome_of(report, "m1"), UPDATE)
        assert result.state is UpdateState.BLOCKED
        assert "eth0 is a part of another interface" in result.reason
        assert "identity: {network: false}" in result.reason


def test_machines_with_the_version_are_not_touched(fleet: ImageFleet) -> None:
    fleet.upgrade()
    fleet.hypervisor.orders.clear()
    fleet.fleet.records = type(fleet.fleet.records)()
    report = fleet.upgrade()
    assert fleet.hypervisor.orders == []
    assert report.run.state is OperationState.SUCCEEDED


@pytest.mark.parametrize("how", ["unhealthy", "dies", "dies late", "loops", "dead", "script"])
def test_a_bad_image_is_taken_back_and_nobody_else_gets_it(fleet: ImageFleet, how: str) -> None:
    fleet.group = replace(fleet.group, soak_seconds=300.0)
    fleet.dies_after, fleet.loops = {"dies": 60.0, "dies late": 250.0}.get(how, 0.0), how == "loops"
    for name in fleet.versions:
        {"dead": fleet.dead, "script": set[tuple[str, str]]()}.get(how, fleet.bad).add((name, NEW))
    if how == "script":
        fleet.fails["m1"] = "no cluster"
    report = fleet.upgrade()
    assert set(fleet.versions.values()) == {OLD}
    assert [fleet.orders_of(name) for name in fleet.versions] == [[REPLACE, RESTORE], [], [], []]
    assert fleet.broken() == []
    first = outcome_of(report, "m1")
    assert (first.state, result_of(first, UPDATE).version_after) == (OperationState.FAILED, OLD)
    words = {"dead": "no login works", "script": "join failed", "loops": "app.service"}
    assert words.get(how, "the application is down") in result_of(first, UPDATE).reason
    assert "its disk before is back" in result_of(first, UPDATE).reason
    assert str(RolloutFault.UPGRADED) in outcome_of(report, "m2").reason


def test_a_manual_start_puts_nothing_back(fleet: ImageFleet) -> None:
    fleet.bad = {(name, NEW) for name in fleet.versions}
    report = fleet.upgrade(roll_back=False)
    assert fleet.versions == {"m1": NEW, "m2": OLD, "m3": OLD, "m4": OLD}
    assert fleet.orders_of("m1") == [REPLACE]
    assert "this run puts nothing back" in result_of(outcome_of(report, "m1"), UPDATE).reason


@pytest.mark.parametrize(("sick", "begins"), [(2, True), (3, False)])
def test_too_many_unhealthy_machines_keep_it_from_beginning(sick: int, begins: bool) -> None:
    fleet = ImageFleet(10)
    fleet.sick = {f"m{number}" for number in range(1, sick + 1)}
    report = fleet.upgrade()
    assert bool(fleet.hypervisor.orders) is begins
    if not begins:
        reason = outcome_of(report, "m9").reason
        assert "MaxUnhealthyInstancePercentExceededBeforeRollingUpgrade" in reason
        assert "3 of 10 machines" in reason


@pytest.mark.parametrize("fault", list(ProviderFault))
def test_a_provider_that_fails_once_loses_nothing(fleet: ImageFleet, fault: ProviderFault) -> None:
    fleet.hypervisor.faults[REPLACE] = [fault]
    report = fleet.upgrade()
    assert fleet.broken() == []
    is_refused = fault is ProviderFault.REFUSED
    assert fleet.versions["m1"] == (OLD if is_refused else NEW)
    assert (outcome_of(report, "m1").state is OperationState.FAILED) is is_refused
    if is_refused:
        assert "was refused" in result_of(outcome_of(report, "m1"), UPDATE).reason


def test_a_machine_whose_order_was_refused_was_not_upgraded() -> None:
    fleet = ImageFleet(5)
    fleet.hypervisor.faults[REPLACE] = [ProviderFault.REFUSED]
    report = fleet.upgrade()
    assert fleet.versions == {"m1": OLD, "m2": NEW, "m3": NEW, "m4": NEW, "m5": NEW}
    row = build_upgrade_row(report, {"m1"})
    assert (row.successful, row.failed, row.rolled_back, row.not_rolled_back) == (4, 1, 0, 0)
    assert (row.state, row.error) == (RollingUpgradeState.FAULTED, "InternalExecutionError")


def test_a_provider_that_refuses_all_orders_is_not_asked_for_every_machine() -> None:
    fleet = ImageFleet(10)
    fleet.hypervisor.faults[REPLACE] = [ProviderFault.REFUSED] * 10
    reason = outcome_of(fleet.upgrade(), "m10").reason
    assert len(fleet.hypervisor.orders) == 4
    assert "4 of 10 machines of the scope are unhealthy or have failed" in reason
    assert "(MaxUnhealthyInstancePercentExceededInRollingUpgrade)" in reason


class LateProvider(FakeProvider):
    """Does not answer the order to replace a disk, and carries it out when it was asked for the machine twice more."""

    late: ProviderOrder | None = None
    looks = 0

    def carry_out(self, order: ProviderOrder, *, deadline: Deadline) -> str:
        if order.act is not REPLACE:
            if order.act is RESTORE and self.late is not None:  # it waits for what is under way, as providers do
                self._do_late(deadline)
            return super().carry_out(order, deadline=deadline)
        LateProvider.late, LateProvider.looks = order, 0
        raise ProviderUnavailable("the hypervisor does not answer")

    def read_machine(self, *, deadline: Deadline) -> ProvidedMachine:
        machine = super().read_machine(deadline=deadline)
        if self.late is not None:
            LateProvider.looks += 1
            if self.looks > 2:
                self._do_late(deadline)
        return machine

    def _do_late(self, deadline: Deadline) -> None:
        late, LateProvider.late = self.late, None
        assert late is not None
        super().carry_out(late, deadline=deadline)


class HangingProvider(FakeProvider):
    """Answers a number of times, and then nothing any more."""

    answers = 0

    def read_machine(self, *, deadline: Deadline) -> ProvidedMachine:
        HangingProvider.answers -= 1
        if self.answers < 0:
            raise ProviderUnavailable("the hypervisor hangs")
        return super().read_machine(deadline=deadline)


@pytest.mark.parametrize("answers", [1, 2])
def test_a_provider_that_hangs_before_its_order_leaves_the_machine_not_started(answers: int) -> None:
    fleet, HangingProvider.answers = ImageFleet(1), answers
    fleet.hypervisor.open = lambda _machine: HangingProvider(fleet.hypervisor, "m1")  # type: ignore[assignment, method-assign]
    outcome = outcome_of(fleet.upgrade(), "m1")
    # once it may have the order, nobody knows
    wanted = OperationState.FAILED if fleet.orders_of("m1") else OperationState.NOT_STARTED
    assert (outcome.state, outcome.reason) == (wanted, "the hypervisor hangs")
    assert bool(fleet.orders_of("m1")) is (answers == 2)


def test_each_line_is_of_what_is_waited_for_now() -> None:
    fleet = ImageFleet(1)
    told = fleet.fleet.watch = ToldLines()
    fleet.fails["m1"] = "no cluster"
    fleet.hypervisor.faults[REPLACE] = [ProviderFault.AWAY_BEFORE]
    fleet.upgrade()
    span = r": since [\d:]+ UTC, until [\d:]+ UTC at most"
    replaces = f"its provider replaces its OS disk by debian/12/stable {NEW}{span}"
    wanted = [
        replaces,
        rf"its provider: no answer since [\d:]+ UTC; it is asked until [\d:]+ UTC; before: {replaces}",
        replaces,
        "coming up: .*",
        "its new OS disk has booted, and is set up",
        f"the script join runs{span}",
        "its OS disk before goes back: .*",
        f"its provider puts its OS disk before back{span}",
        "coming up: .*",
    ]
    lines = iter(told.of("m1"))
    for pattern in wanted:
        assert any(re.fullmatch(pattern, line) for line in lines), (pattern, told.of("m1"))


@pytest.mark.parametrize("roll_back", [True, False])
def test_an_order_without_an_answer_may_still_be_carried_out(roll_back: bool) -> None:
    fleet, LateProvider.late = ImageFleet(1), None
    fleet.hypervisor.open = lambda _machine: LateProvider(fleet.hypervisor, "m1")  # type: ignore[assignment, method-assign]
    report = fleet.upgrade(roll_back=roll_back)
    result = result_of(outcome_of(report, "m1"), UPDATE)
    assert "it may still be replaced: the hypervisor does not answer" in result.reason
    assert "has not replaced" not in result.reason
    assert outcome_of(report, "m1").state is OperationState.FAILED
    assert result.state is (UpdateState.FAILED if roll_back else UpdateState.PENDING)
    assert fleet.orders_of("m1")[-1] is (RESTORE if roll_back else REPLACE)
    assert fleet.versions["m1"] == (OLD if roll_back else NEW)
    assert roll_back or "lock left" not in {entry.act for entry in fleet.fleet.records.journal}
    assert fleet.broken() == []


def test_the_window_is_asked_again_right_before_the_order(fleet: ImageFleet) -> None:
    def dawdle(script: Script) -> list[ScriptRecord]:
        fleet.fleet.clock.advance(3600 if script.params["keys"] == "yes" else 0)
        return tell(script)

    tell = fleet._tell_identity
    fleet.fleet.machines["m1"].answer("host_identity", dawdle)
    report = fleet.upgrade(window=WindowRequest(minutes=80))
    assert fleet.orders_of("m1") == []
    result = result_of(outcome_of(report, "m1"), UPDATE)
    assert (result.state, result.version_after) == (UpdateState.NOT_ATTEMPTED, OLD)
    assert "no time left: " in result.reason


def test_a_refusal_after_an_order_without_an_answer_proves_nothing() -> None:
    fleet = ImageFleet(1)
    fleet.hypervisor.faults[REPLACE] = [ProviderFault.AWAY_BEFORE, ProviderFault.REFUSED]
    result = result_of(outcome_of(fleet.upgrade(), "m1"), UPDATE)
    assert (
        "it may still be replaced: replace-os-disk was refused, and an earlier order was not answered" in result.reason
    )
    assert "its disk before is still there" in result.reason
    assert fleet.orders_of("m1") == [REPLACE, REPLACE, RESTORE]
    assert fleet.broken() == []


class SlowProvider(FakeProvider):
    """A provider that may take long for an order."""

    order_seconds = 3600.0


@pytest.mark.parametrize(("minutes", "begins"), [(120, False), (140, True)])
def test_the_window_has_the_time_that_the_provider_may_take_twice(minutes: int, begins: bool) -> None:
    fleet = ImageFleet(1)
    fleet.hypervisor.open = lambda _machine: SlowProvider(fleet.hypervisor, "m1")  # type: ignore[assignment, method-assign]
    fleet.upgrade(window=WindowRequest(minutes=minutes))
    assert bool(fleet.hypervisor.orders) is begins


class BusyProvider(SlowProvider):
    """A slow provider at which an order of a process that died counts as at work, up to a moment."""

    busy_until: datetime

    def carry_out(self, order: ProviderOrder, *, deadline: Deadline) -> str:
        if order.act is RESTORE and self._hypervisor.now() < self.busy_until:
            raise ProviderUnavailable("another order is at work")
        return super().carry_out(order, deadline=deadline)


def test_the_way_back_waits_as_long_as_an_order_may_be_at_work() -> None:
    fleet = ImageFleet(1)
    fleet.bad = {("m1", NEW)}
    BusyProvider.busy_until = fleet.fleet.clock.now() + timedelta(seconds=3660)
    fleet.hypervisor.open = lambda _machine: BusyProvider(fleet.hypervisor, "m1")  # type: ignore[assignment, method-assign]
    report = fleet.upgrade()
    assert "its disk before is back" in result_of(outcome_of(report, "m1"), UPDATE).reason
    assert (fleet.versions["m1"], fleet.broken()) == (OLD, [])


def test_a_way_back_that_is_refused_is_told(fleet: ImageFleet) -> None:
    fleet.bad = {("m1", NEW)}
    fleet.hypervisor.faults[RESTORE] = [ProviderFault.REFUSED] * 3
    report = fleet.upgrade()
    reason = result_of(outcome_of(report, "m1"), UPDATE).reason
    assert "its disk before is not back" in reason
    assert fleet.broken() == []


def test_a_disk_of_no_known_version_is_only_replaced_by_a_persons_order(fleet: ImageFleet) -> None:
    machine = fleet.hypervisor.machines["m1"]
    fleet.hypervisor.machines["m1"] = replace(machine, disks=tuple(replace(disk, image="") for disk in machine.disks))
    fleet.upgrade()
    assert fleet.versions["m1"] == ""
    fleet.fleet.records = type(fleet.fleet.records)()
    fleet.upgrade(component_version=NEW)
    assert fleet.versions["m1"] == NEW


def test_a_window_that_is_too_short_for_the_way_back_begins_nothing(fleet: ImageFleet) -> None:
    report = fleet.upgrade(window=WindowRequest(minutes=25))
    assert fleet.hypervisor.orders == []
    assert {outcome.state for outcome in report.outcomes} != {OperationState.SUCCEEDED}


class GoingOnProvider(FakeProvider):
    """At work on an order of a process that died: it takes no other one, and that one ends with the start."""

    def carry_out(self, order: ProviderOrder, *, deadline: Deadline) -> str:
        if order.act is not REPLACE:
            raise ProviderUnavailable("another order is at work")
        note = super().carry_out(order, deadline=deadline)
        machine = self.read_machine(deadline=deadline)
        self._hypervisor.machines[self._id] = replace(machine, power=PowerState.RUNNING)
        self._hypervisor.apply(self._id, ProviderOrder(ProviderAct.START))
        return note


class TestController:
    """The controller is killed at any call, and another process resumes the run."""

    def run(self, fleet: ImageFleet, life: Life, *, resumed: bool = False, **fields: Any) -> RunReport:
        ports = fleet.ports()
        names = frozenset({"read_machine", "carry_out"})

        def open_provider(machine: Any) -> Any:
            return Mortal(fleet.hypervisor.open(machine), life, names)

        mortal = replace(
            ports,
            stop_token=StopToken(),
            records=mortal_records(ports.records, life),
            connect=lambda machine: mortal_machine(ports.connect(machine), life),
            open_provider=open_provider,
        )
        past = read_resume_state(FakeHistory(fleet.fleet.records), RUN) if resumed else None  # type: ignore[arg-type]
        request = parse_recorded_request(past.run) if past is not None else fleet.request(**fields)
        assert isinstance(request, PatchRequest)
        return FleetRun(request, mortal, LocalRunner(), run_id=RUN, resume_state=past).execute()

    @pytest.mark.parametrize("bad", ["", "m1"])
    def test_it_may_die_anywhere(self, bad: str) -> None:
        whole = Life()
        expected = self._make(bad)
        self.run(expected, whole)
        for call in choose_calls(whole.calls - 1, 2):
            fleet, life = self._make(bad), Life(dies_at=call, after_the_act=call % 2 == 1)
            try:
                self.run(fleet, life)
            except Killed:
                if fleet.fleet.records.runs[RUN].state in UNFINISHED_RUN_STATES:
                    self.run(fleet, Life(), resumed=True)
            assert fleet.broken() == [], call
            assert fleet.versions == expected.versions, call

    @pytest.mark.parametrize("power", [PowerState.STOPPED, PowerState.RUNNING])
    def test_an_order_that_was_interrupted_is_taken_back(self, power: PowerState) -> None:
        # the host has stopped the machine, and the controller is gone before the disk was replaced
        fleet = self._interrupt(power)
        self.run(fleet, Life(), resumed=True)
        assert fleet.broken() == []

    def test_an_order_that_needs_nothing_of_the_old_disk_is_given_again(self) -> None:
        model = replace(MODEL, keeps_host_keys=False, keeps_machine_id=False, keeps_network=False)
        fleet = self._interrupt(PowerState.STOPPED, make_group(image=model))
        report = self.run(fleet, Life(), resumed=True)
        assert (fleet.versions["m1"], fleet.broken()) == (NEW, [])
        assert report.run.state is OperationState.SUCCEEDED

    @pytest.mark.parametrize("power", [PowerState.STOPPED, PowerState.RUNNING])
    def test_an_order_that_had_replaced_the_disk_is_ended_and_its_machine_runs(self, power: PowerState) -> None:
        fleet = self._interrupt(power)
        (begun,) = [entry for entry in fleet.fleet.records.read_entries(RUN, "m1") if entry.act == REPLACE.value]
        until = Deadline.after(fleet.fleet.clock, 60)
        done = ProviderOrder(REPLACE, begun.key, ImageVersion("debian/12/stable", NEW, "/images/12.2.qcow2"))
        FakeProvider(fleet.hypervisor, "m1").carry_out(done, deadline=until)
        fleet.hypervisor.orders.clear()
        fleet.hypervisor.open = lambda _machine: GoingOnProvider(fleet.hypervisor, "m1")  # type: ignore[assignment, method-assign]
        report = self.run(fleet, Life(), resumed=True)
        assert (fleet.versions["m1"], fleet.broken(), fleet.orders_of("m1")) == (NEW, [], [REPLACE])
        assert report.run.state is OperationState.SUCCEEDED

    def test_a_manual_upgrade_that_was_interrupted_leaves_no_machine_off(self) -> None:
        fleet = self._interrupt(PowerState.STOPPED, roll_back=False)
        report = self.run(fleet, Life(), resumed=True)
        assert fleet.broken() == []
        assert (fleet.versions["m1"], fleet.fleet.machines["m1"].is_off) == (OLD, False)
        assert RESTORE not in fleet.orders_of("m1")
        result = result_of(outcome_of(report, "m1"), UPDATE)
        assert result.state is UpdateState.PENDING
        assert "its disk before is there" in result.reason

    def _interrupt(self, power: PowerState, group: Component | None = None, **fields: Any) -> ImageFleet:
        first = Life()
        self.run(self._make(""), first, **fields)
        for call in range(2, first.calls):
            fleet, life = ImageFleet(1, group), Life(dies_at=call)
            with pytest.raises(Killed):
                self.run(fleet, life, **fields)
            if fleet.fleet.records.read_entries(RUN, "m1") and fleet.versions["m1"] == OLD and _was_ordered(fleet):
                fleet.hypervisor.machines["m1"] = replace(fleet.hypervisor.machines["m1"], power=power)
                fleet.fleet.machines["m1"].is_off = power is PowerState.STOPPED
                return fleet
        pytest.fail("the order was never about to be given")

    @staticmethod
    def _make(bad: str) -> ImageFleet:
        fleet = ImageFleet(2)
        if bad:
            fleet.bad.add((bad, NEW))
        return fleet


def _was_ordered(fleet: ImageFleet) -> bool:
    return any(entry.act == "replace-os-disk" for entry in fleet.fleet.records.read_entries(RUN, "m1"))


def test_a_group_may_have_larger_batches_by_its_own_limits() -> None:
    group = make_group()
    fleet = ImageFleet(4, replace(group, limits=replace(group.limits, batch=50)))
    assert [len(wave.machines) for wave in fleet.upgrade().waves] == [2, 2]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"snapshot": {"take": "before"}}, "snapshot must be off"),
        ({"announce": {"enabled": True}}, "announce must be off"),
        ({"reboot": "IfRequired"}, "reboot must be Never"),
        ({"waves": WavesRequest(percent=50, round_down=True)}, "waves.percent must be at most 20"),
    ],
)
def test_a_request_that_would_do_more_is_refused(fleet: ImageFleet, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        fleet.upgrade(**fields)
    assert fleet.hypervisor.orders == []
