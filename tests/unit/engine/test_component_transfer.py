"""The file of a component on its way to a machine: stops, the window, the machine lock, and a process that dies."""

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from flows.engine.fleet_run import FleetRun
from flows.engine.resume_state import read_resume_state
from flows.local_run import LocalRunner
from flows.request.patch_request import WindowRequest
from tasks.domain.components import ComponentVersion
from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.domain.states import UpdateState
from tasks.steps.context.run_control import StopToken
from tests.support.component_fleet import RUN, UPDATE, ComponentFleet
from tests.support.components import make_component
from tests.support.fake_records import FakeHistory
from tests.support.fleet import outcome_of, result_of
from tests.support.mortal import Killed, Life, mortal_machine, mortal_records

PARTS = 40
PART_SECONDS = 60.0


class Transfer:
    """One machine, and a component whose new version is a file of 40 parts. Each part takes a minute."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "1.1.0"
        self.file.write_bytes(bytes(PARTS * 192 * 1024))
        (folder / "1.0.0").write_bytes(b"old")
        digests = {"1.0.0": "a" * 64, "1.1.0": "b" * 64}
        versions = tuple(
            ComponentVersion(v, file=str(folder / v), digest=f"sha256:{digest}") for v, digest in digests.items()
        )
        self.fleet = ComponentFleet(1, replace(make_component("exporter"), versions=versions), canaries=0)
        self.machine = self.fleet.fleet.machines["m1"]
        self.arrived: dict[str, int] = {"a" * 64: 3}
        self.machine.answer("component_put", self._put, seconds=PART_SECONDS)
        self.lock_holders: list[str] = []

    def _put(self, script: Script) -> ScriptRecord:
        params = script.params
        digest, size = str(params["sha256"]), int(str(params["size"]))
        self.arrived[digest] = self.arrived.get(digest, 0) + len(base64.b64decode(str(params["data"])))
        lock = self.machine.locked_by
        is_held = lock is not None and lock[2] > self.machine.fake_clock.now().timestamp()
        self.lock_holders.append(lock[0] if lock is not None and is_held else "")
        return {"kind": "component_file", "have": self.arrived[digest], "is_whole": self.arrived[digest] == size}

    @property
    def parts(self) -> int:
        return self.arrived.get("b" * 64, 0) // (192 * 1024)

    @property
    def works(self) -> list[str]:
        return [work for work, _, _ in self.fleet.on["m1"].jobs]


@pytest.fixture
def transfer(tmp_path: Path) -> Transfer:
    return Transfer(tmp_path)


def test_a_long_transfer_keeps_the_lock_to_its_end(transfer: Transfer) -> None:
    transfer.fleet.upgrade()
    assert (transfer.parts, transfer.works) == (PARTS, ["stage", "install"])
    assert set(transfer.lock_holders) == {RUN}


def test_a_request_to_stop_ends_a_transfer(transfer: Transfer) -> None:
    transfer.machine.at(10 * PART_SECONDS, lambda: transfer.fleet.fleet.control.request_stop("somebody"))
    report = transfer.fleet.upgrade()
    assert (transfer.parts <= 10, transfer.works) == (True, [])
    result = result_of(outcome_of(report, "m1"), UPDATE)
    reason = "its file was not sent whole: the run was asked to stop: somebody"
    assert (result.state, result.reason) == (UpdateState.NOT_ATTEMPTED, reason)


def test_a_transfer_ends_when_no_time_is_left_for_the_installation(transfer: Transfer) -> None:
    report = transfer.fleet.upgrade(window=WindowRequest(minutes=30))
    assert (0 < transfer.parts < 30, transfer.works) == (True, [])
    result = result_of(outcome_of(report, "m1"), UPDATE)
    assert result.state is UpdateState.NOT_ATTEMPTED
    assert "kept for its health and the way back" in result.reason


def test_a_transfer_ends_when_another_run_has_the_lock(transfer: Transfer) -> None:
    def take() -> None:
        transfer.machine.locked_by, transfer.machine.lock_holder = ("other", "somebody", 1e10), "other"

    transfer.machine.at(10 * PART_SECONDS, take)
    report = transfer.fleet.upgrade()
    assert (transfer.parts <= 15, transfer.works) == (True, [])
    assert "locked by run other" in result_of(outcome_of(report, "m1"), UPDATE).reason


def test_a_resumed_run_needs_no_file_of_what_it_installs(transfer: Transfer) -> None:
    life, ports = Life(), transfer.fleet.ports()
    mortal = replace(
        ports,
        stop_token=StopToken(),
        records=mortal_records(ports.records, life),
        connect=lambda machine: mortal_machine(ports.connect(machine), life),
    )
    transfer.machine.on_start("install", 2, lambda: setattr(life, "dies_at", life.calls + 1))
    request = transfer.fleet.request()
    with pytest.raises(Killed):
        FleetRun(request, mortal, LocalRunner(), run_id=RUN).execute()
    transfer.file.unlink()
    past = read_resume_state(FakeHistory(transfer.fleet.fleet.records), RUN)  # type: ignore[arg-type]
    FleetRun(request, ports, LocalRunner(), run_id=RUN, resume_state=past).execute()
    assert transfer.fleet.versions == {"m1": "1.1.0"}
    assert transfer.works == ["stage", "install"]
