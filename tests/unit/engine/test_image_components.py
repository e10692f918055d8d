"""Components after a new OS disk, with the real engine on a simulated fleet: what comes again, and what does not."""

import base64
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.engine.fleet_run import FleetRun
from flows.engine.resume_state import parse_recorded_request, read_resume_state
from flows.local_run import LocalRunner
from flows.request.patch_request import PatchRequest, WindowRequest
from tasks.domain.components import Component, ComponentVersion
from tasks.domain.model import RunReport
from tasks.domain.provided_machines import ProviderAct
from tasks.domain.states import UNFINISHED_RUN_STATES, FindingLevel, OperationState, UpdateState
from tasks.rules.components.tries import find_try
from tasks.rules.images.history import build_upgrade_row
from tasks.rules.undo import collect_order
from tasks.steps.context.run_control import StopToken
from tests.support.components import make_component
from tests.support.fake_records import FakeHistory
from tests.support.fleet import outcome_of, result_of
from tests.support.image_fleet import NEW, OLD, RUN, ImageFleet
from tests.support.mortal import Killed, Life, Mortal, choose_calls, mortal_machine, mortal_records

UPDATE = "component:image:web"
REPLACE, RESTORE = ProviderAct.REPLACE_OS_DISK, ProviderAct.RESTORE_OS_DISK
SHOP = make_component("shop", "2.0.0", "2.1.0", after=("agent",))
AGENT = make_component("agent", "1.0.0", "1.1.0")
EXPORTER = make_component("exporter", "1.0.0", after=("shop",))
BOTH = {"shop": "2.0.0", "agent": "1.0.0"}


def make_fleet(count: int = 1, *components: Component, **had: str | None) -> ImageFleet:
    return ImageFleet(count, components=components or (SHOP, AGENT), had=had or BOTH)


def jobs_on(fleet: ImageFleet, name: str = "m1") -> list[tuple[str, str, str]]:
    return fleet.on[name].jobs


def reason_of(report: RunReport, name: str = "m1") -> str:
    return result_of(outcome_of(report, name), UPDATE).reason


def test_what_was_on_the_old_disk_comes_again_in_order_and_is_told() -> None:
    fleet = make_fleet(2)
    report = fleet.upgrade()
    assert report.run.state is OperationState.SUCCEEDED, [outcome.reason for outcome in report.outcomes]
    for name in ("m1", "m2"):
        assert jobs_on(fleet, name) == [("install", "agent", "1.0.0"), ("install", "shop", "2.0.0")]
        assert fleet.on[name].versions == BOTH
        result = result_of(outcome_of(report, name), "component:shop")
        assert (result.state, result.update.installed, result.version_after) == (UpdateState.INSTALLED, None, "2.0.0")
        attempt = find_try(outcome_of(report, name))
        assert attempt is not None
        assert (attempt.component, attempt.version, attempt.succeeded) == ("image:web", NEW, True)
    assert build_upgrade_row(report, ()).components == ("agent 1.0.0: 2", "shop 2.0.0: 2")
    (after,) = [one.packages for one in report.assessments if one.machine == "m1"]
    assert after is not None
    assert {one.name: one.version for one in after.components} == {**BOTH, "image:web": NEW}


def test_an_undo_does_not_take_what_came_again_for_something_that_no_plan_has() -> None:
    fleet = make_fleet()
    order = collect_order(fleet.upgrade())
    assert [change.update.id for change in order.changes["m1"]] == [UPDATE]
    assert order.unknown == {}


def test_scripts_are_before_the_components() -> None:
    fleet = make_fleet(1)
    fleet.fails["m1"] = "no cluster"
    fleet.upgrade()
    assert (fleet.ran, jobs_on(fleet)) == ([("m1", "join the cluster")], [])


@pytest.mark.parametrize(
    ("brings", "installed"), [("1.1.0", []), ("1.0.0", []), ("0.9.0", ["1.0.0"]), ("2.0.0", []), (None, ["1.0.0"])]
)
def test_an_older_version_of_the_image_is_replaced_and_a_newer_one_stays(
    brings: str | None, installed: list[str]
) -> None:
    fleet = make_fleet(1, AGENT, agent="1.0.0")
    fleet.brings = {"agent": brings}
    report = fleet.upgrade()
    assert [version for _, _, version in jobs_on(fleet)] == installed
    assert fleet.on["m1"].versions["agent"] == ("1.0.0" if installed else brings)
    findings = [str(finding) for finding in outcome_of(report, "m1").findings]
    assert any("of the image stays" in text for text in findings) is (brings in {"1.1.0", "2.0.0"})


def test_one_that_cant_be_installed_takes_the_disk_back_and_its_dependants_are_not_tried() -> None:
    fleet = make_fleet(4)
    fleet.on["m1"].fails["1.0.0"] = "no such library"
    report = fleet.upgrade()
    assert jobs_on(fleet) == [("install", "agent", "1.0.0")]
    assert (fleet.versions["m1"], fleet.orders_of("m1"), fleet.broken()) == (OLD, [REPLACE, RESTORE], [])
    assert fleet.on["m1"].versions == BOTH
    assert "the component agent 1.0.0 can't be installed again: no such library" in reason_of(report)
    assert "its disk before is back" in reason_of(report)
    # the machine has what it had: no component of it has failed, or came
    assert [one.update.id for one in outcome_of(report, "m1").updates if "agent" in one.update.id] == []
    assert outcome_of(report, "m1").state is OperationState.FAILED
    assert [jobs_on(fleet, name) for name in ("m2", "m3", "m4")] == [[], [], []]


def test_one_that_leaves_nothing_behind_is_no_success() -> None:
    fleet = make_fleet()
    fleet.on["m1"].breaks.add("2.0.0")
    report = fleet.upgrade()
    assert "the component shop 2.0.0 can't be installed again: version none that can be read is there" in reason_of(
        report
    )
    assert build_upgrade_row(report, ()).components == ()
    assert fleet.versions["m1"] == OLD


def test_a_run_that_puts_nothing_back_leaves_what_came() -> None:
    fleet = make_fleet()
    fleet.on["m1"].fails["2.0.0"] = "no such library"
    report = fleet.upgrade(roll_back=False)
    assert fleet.versions["m1"] == NEW
    assert fleet.on["m1"].versions.get("agent") == "1.0.0"
    assert result_of(outcome_of(report, "m1"), "component:agent").state is UpdateState.INSTALLED
    assert "can't be installed again: no such library" in reason_of(report)


WITHDRAWN = replace(AGENT, versions=(replace(AGENT.versions[0], withdrawn="it loses data"), AGENT.versions[1]))


@pytest.mark.parametrize(
    ("component", "version", "enrolled", "words"),
    [
        (WITHDRAWN, "1.0.0", (), "agent 1.0.0 could not be installed again: it was withdrawn: it loses data"),
        (AGENT, "0.5.0", (), "agent 0.5.0 could not be installed again: components.yaml does not have that version"),
        (
            replace(AGENT, versions=(ComponentVersion("1.0.0", file="/nowhere/agent", digest=f"sha256:{'a' * 64}"),)),
            "1.0.0",
            (),
            "the file of agent 1.0.0 can't be read",
        ),
    ],
)
def test_what_could_not_come_again_keeps_the_disk(
    component: Component, version: str, enrolled: tuple[str, ...], words: str
) -> None:
    fleet = make_fleet(1, component, agent=version)
    fleet.enrolled = enrolled
    report = fleet.upgrade()
    assert fleet.orders_of("m1") == []
    outcome = outcome_of(report, "m1")
    result = result_of(outcome, UPDATE)
    assert result.state is UpdateState.BLOCKED
    assert words in result.reason
    (finding,) = [one for one in outcome.findings if one.check == "components of its disk"]
    assert (finding.level, bool(finding.remedy)) == (FindingLevel.WARN, True)
    assert outcome.state is not OperationState.SUCCEEDED


@pytest.mark.parametrize("is_enrolled", [True, False])
def test_one_that_does_not_tell_its_version_keeps_the_disk_where_it_is_enrolled(is_enrolled: bool) -> None:
    fleet = make_fleet(1, AGENT, agent="1.0.0")
    fleet.on["m1"].problem = "cat: no such file"
    fleet.enrolled = ("agent",) if is_enrolled else ()
    report = fleet.upgrade()
    assert bool(fleet.orders_of("m1")) is not is_enrolled
    (finding,) = [one for one in outcome_of(report, "m1").findings if one.check == "components of its disk"]
    assert "not known" in finding.message
    assert finding.level is FindingLevel.WARN


def test_what_can_no_longer_come_again_at_the_order_keeps_the_disk() -> None:
    fleet = make_fleet(1, AGENT, agent="1.0.0")

    def tell(script: Any) -> Any:
        if script.params["keys"] == "yes":
            fleet.on["m1"].versions["agent"] = "0.5.0"  # a person has changed it since the assessment
        return fleet._tell_identity(script)

    fleet.fleet.machines["m1"].answer("host_identity", tell)
    report = fleet.upgrade()
    assert fleet.orders_of("m1") == []
    assert "could not be installed again" in outcome_of(report, "m1").reason


def test_what_a_person_has_removed_does_not_come_and_is_told() -> None:
    fleet = make_fleet(1, AGENT, SHOP, agent=None, shop="2.0.0")
    fleet.enrolled = ("agent", "shop")
    report = fleet.upgrade()
    assert jobs_on(fleet) == [("install", "shop", "2.0.0")]
    texts = [finding.message for finding in outcome_of(report, "m1").findings]
    assert "agent is enrolled here, and is not installed: a new disk does not get it" in texts
    assert report.run.state is OperationState.SUCCEEDED


def test_without_components_of_the_file_nothing_is_asked() -> None:
    fleet = ImageFleet(1)
    assert fleet.upgrade().run.state is OperationState.SUCCEEDED
    assert "component_versions" not in [call.name for call in fleet.fleet.machines["m1"].calls]


def test_the_time_of_the_installations_is_in_the_window() -> None:
    def needs(fleet: ImageFleet) -> int:
        for minutes in range(30, 90):
            fleet.fleet.records = type(fleet.fleet.records)()
            fleet.upgrade(window=WindowRequest(minutes=minutes))
            if fleet.hypervisor.orders:
                return minutes
        pytest.fail("no window is long enough")

    none = needs(ImageFleet(1))
    assert (
        needs(make_fleet(1, *(make_component(f"c{n}") for n in range(6)), **{f"c{n}": "1.0.0" for n in range(6)}))
        >= none + 6
    )


def test_neither_a_stop_nor_the_end_of_the_window_leaves_a_new_disk_without_its_components(tmp_path: Path) -> None:
    (tmp_path / "agent").write_bytes(b"the agent")
    digest = hashlib.sha256(b"the agent").hexdigest()
    sent = ComponentVersion("1.0.0", file=str(tmp_path / "agent"), digest=f"sha256:{digest}")
    fleet, stop, arrived = make_fleet(1, SHOP, replace(AGENT, versions=(sent,)), **BOTH), StopToken(), bytearray()

    def put(script: Any) -> Any:
        arrived.extend(base64.b64decode(script.params["data"]))
        return {"kind": "component_file", "have": len(arrived), "is_whole": bytes(arrived) == b"the agent"}

    fleet.fleet.machines["m1"].answer("component_put", put)

    def join(_script: Any) -> Any:
        stop.request_stop("a person wants it")
        fleet.fleet.clock.advance(600 * 60)
        return {"kind": "probe", "exit_code": 0, "text": ""}

    probe = fleet._probe
    fleet._probe = lambda name, script: (  # type: ignore[method-assign]
        join(script) if script.params["command"] == "join the cluster" else probe(name, script)
    )
    ports = replace(fleet.ports(), stop_token=stop)
    FleetRun(fleet.request(), ports, LocalRunner(), run_id=RUN).execute()
    assert fleet.on["m1"].versions == BOTH
    assert (fleet.versions["m1"], bytes(arrived)) == (NEW, b"the agent")


class TestController:
    """The controller is killed at any call, and another process resumes the run."""

    def run(self, fleet: ImageFleet, life: Life, *, resumed: bool = False) -> RunReport:
        ports = fleet.ports()
        names = frozenset({"read_machine", "carry_out"})
        mortal = replace(
            ports,
            stop_token=StopToken(),
            records=mortal_records(ports.records, life),
            connect=lambda machine: mortal_machine(ports.connect(machine), life),
            open_provider=lambda machine: Mortal(fleet.hypervisor.open(machine), life, names),
        )
        past = read_resume_state(FakeHistory(fleet.fleet.records), RUN) if resumed else None  # type: ignore[arg-type]
        request = parse_recorded_request(past.run) if past is not None else fleet.request()
        assert isinstance(request, PatchRequest)
        return FleetRun(request, mortal, LocalRunner(), run_id=RUN, resume_state=past).execute()

    @pytest.mark.parametrize("fails", [False, True])
    def test_each_component_is_installed_once(self, fails: bool) -> None:
        whole, expected = Life(), self._make(fails=fails)
        self.run(expected, whole)
        for call in choose_calls(whole.calls - 1, 2):
            fleet, life = self._make(fails=fails), Life(dies_at=call, after_the_act=call % 2 == 1)
            report = None
            try:
                self.run(fleet, life)
            except Killed:
                if fleet.fleet.records.runs[RUN].state in UNFINISHED_RUN_STATES:
                    report = self.run(fleet, Life(), resumed=True)
            assert fleet.broken() == [], call
            assert fleet.on["m1"].versions == BOTH, call
            jobs = jobs_on(fleet)
            assert len(set(jobs)) == len(jobs), (call, jobs)
            if fleet.versions["m1"] == NEW:
                assert jobs == jobs_on(expected), call
                if report is not None and report.run.id == RUN:
                    results = [one.update.name for one in outcome_of(report, "m1").updates if one.update.id != UPDATE]
                    assert [name for name in results if name in BOTH] == ["agent", "shop"], call

    def test_one_that_is_there_is_not_begun_again_when_its_job_is_forgotten(self) -> None:
        whole = Life()
        self.run(self._make(fails=False), whole)
        for call in range(2, whole.calls):
            fleet = self._make(fails=False)
            with pytest.raises(Killed):
                self.run(fleet, Life(dies_at=call))
            if fleet.on["m1"].versions == {"agent": "1.0.0"} and fleet.versions["m1"] == NEW:
                break
        else:
            pytest.fail("no call came between the two installations")
        fleet.fleet.machines["m1"]._jobs.clear()  # somebody has tidied up
        report = self.run(fleet, Life(), resumed=True)
        assert jobs_on(fleet) == [("install", "agent", "1.0.0"), ("install", "shop", "2.0.0")]
        result = result_of(outcome_of(report, "m1"), "component:agent")
        assert (result.state, result.update.installed, result.version_after) == (UpdateState.INSTALLED, None, "1.0.0")

    @staticmethod
    def _make(*, fails: bool) -> ImageFleet:
        fleet = make_fleet()
        if fails:
            fleet.on["m1"].fails["2.0.0"] = "no such library"
        return fleet
