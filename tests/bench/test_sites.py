"""The benchmark of several sites: that its recorded machines are patched over SSH, and its table."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.execution import execute_run
from flows.local_run import LocalRunner
from flows.ports.caller import Caller
from flows.request.patch_request import PatchRequest, WindowRequest
from tasks.domain.states import OperationState, RebootPolicy, UpdateState
from tasks.steps.context.run_control import LoggingListener, StopToken
from tests.bench import sites
from tests.bench.answering.machine import AnsweringMachine, Recording, Unasked
from tests.bench.answering.server import list_addresses
from tests.bench.site_fleet import write_fleet


def test_recorded_machines_are_patched_over_ssh_once_each(tmp_path: Path) -> None:
    port = write_fleet(tmp_path, 3, ["default"])
    words = ("-m", "tests.bench.answering.server", str(tmp_path), str(port), "3", "0.1")
    with subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            request = PatchRequest(
                scope="*",
                inventory=tmp_path / "fleet.yaml",
                window=WindowRequest(minutes=60),
                reboot=RebootPolicy.NEVER,
                settle_seconds=0,
                come_back_seconds=0,
            )
            caller = Caller(LoggingListener(), StopToken(), records_url=f"sqlite:///{tmp_path / 'records.db'}")
            report = execute_run(request, caller, lambda _request, _ports: LocalRunner())
        finally:
            server.terminate()
            _, said = server.communicate(timeout=60)
    assert "recorded" not in said
    assert {outcome.machine: outcome.state for outcome in report.outcomes} == dict.fromkeys(
        ("m00001", "m00002", "m00003"), OperationState.COMPLETED_WITH_WARNINGS
    )
    for outcome in report.outcomes:
        assert outcome.count_updates(UpdateState.INSTALLED) == 28
        assert "services still run files" in outcome.reason
        assert all(one.version_after == one.update.available for one in outcome.updates if one.state == "Installed")
    assert {assessment.urgent_count for assessment in report.assessments} == {0}  # of the validation: the last ones
    assert json.loads((tmp_path / "installs.json").read_text()) == dict.fromkeys(list_addresses(3), 1)


def test_a_question_that_was_not_recorded_has_no_answer() -> None:
    machine = AnsweringMachine(1, Recording())
    with pytest.raises(Unasked, match="no input of fleetpatch"):
        machine.answer(b"rm -rf /")
    asked = b"{\nfp_mark=@fleetpatch-0 FP_TOKEN=e30=\n(\necho\n)\nfp_code=$?"
    with pytest.raises(Unasked, match="not recorded: echo"):
        machine.answer(asked)


def test_the_table_compares_sizes_and_shows_what_is_missing() -> None:
    small = sites.Measured(
        500, 100.0, 50.0, 10.0, 200.0, (150.0, 160.0), 99.0, 90.0, 210.0, 0.4, 0.2, (10, 10), (20, 20), *[500] * 4
    )
    large = sites.Measured(
        1000, 150.0, 90.0, 20.0, 260.0, (150.0,), 99.0, 90.0, 210.0, 1.4, 0.9, (20, 19), (40, 38), 1000, 999, 999, -2
    )
    assert sites.write_table([small, large]).splitlines()[2:] == [
        "| 500 | 100 | 100 | 20 | 200 | 160 | 99 | 90 | 210 | 2 | 0.4 | 0.2 | 10 | 10 | 20 | 20 | 500 | 500 | 500 | 500 |",  # noqa: E501
        "| 1000 | 150 | 90 | 20 | 260 | 150 | 99 | 90 | 210 | 1 | 1.4 | 0.9 | 20 | 19 | 40 | 38 | 1000 | 999 | 999 | -2 |",  # noqa: E501
        "",
        "1000 / 500 machines: 0.90 x CPU of a machine, ms, 1.00 x CPU of Prefect's server, ms, "
        "1.30 x peak of the whole run, MiB, 0.94 x largest peak of a shard, MiB, 1.00 x report, MiB",
    ]
