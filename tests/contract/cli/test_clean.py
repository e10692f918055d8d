"""`machines clean` decides for each machine, and ends with a code that says whether something may be left."""

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fleetpatch.cli.main import main
from fleetpatch.cli.runtime.exit_codes import ExitCode, to_act_exit_code
from fleetpatch.cli.views.clean import build_clean_json, print_clean_results
from flows.cleaning import BAD_STATES, CleanOrder, CleanState, clean_machines, look_at_machines
from inventory.machine import Machine, PatchOwner
from tasks.domain.errors import ProtocolViolation, Unreachable
from tasks.domain.protocols.transport import Script, ScriptRecord, ScriptResult
from tasks.domain.states import OperationState
from tasks.records.setup import open_records
from tests.support import builders as make
from tests.support.fake_clock import FakeClock

OLD, NEW = "20260310-010000-aaaaaa", "20260310-020000-bbbbbb"
LOCK: ScriptRecord = {"kind": "lock", "run": f"{OLD}/web-1", "attempt": 1, "until": 0, "job": ""}
FOLDER = {"what": "folder", "path": "/var/lib/fleetpatch"}
JOB: ScriptRecord = {"kind": "job", "id": "one", "run": f"{OLD}/web-1", "phase": "finished"}


class Line:
    """A machine that answers what it is told to."""

    def __init__(self, *answers: list[ScriptRecord] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[Script] = []

    def run_script(self, script: Script, *, deadline: Any) -> ScriptResult:
        del deadline
        self.asked.append(script)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return ScriptResult(tuple(answer), 0, "", 0.1)

    def close(self) -> None:
        pass


class Listener:
    """Is told, and does nothing."""

    def on_progress(self, *words: object) -> None:
        pass

    def on_step_finished(self, *words: object) -> None:
        pass


class Ports:
    """Connects machines to their lines."""

    def __init__(self, lines: dict[str, Line]) -> None:
        self.lines = lines
        self.clock = FakeClock()
        self.listener = Listener()

    def connect(self, machine: Machine) -> Line:
        return self.lines[machine.name]


@contextmanager
def order(folder: Path, **more: Any) -> Any:
    with open_records(f"sqlite:///{folder / 'records.db'}") as records:
        records.save(make.make_run(id=OLD))
        records.save(make.make_run(id=NEW, state=OperationState.IN_PROGRESS, ended_at=None))
        yield CleanOrder(records.database, **more)


def look(folder: Path, line: Line, **more: Any) -> Any:
    with order(folder, **more) as wanted:
        return look_at_machines([make.make_machine()], Ports({make.MACHINE: line}), wanted)[0]  # type: ignore[arg-type]


def exit_code(results: Any) -> ExitCode:
    return to_act_exit_code((result.state for result in results), BAD_STATES, CleanState.REFUSED)


@pytest.mark.parametrize(
    ("answer", "state", "said", "code"),
    [
        ([LOCK], CleanState.NOTHING_FOUND, "", 0),
        ([LOCK, JOB, {"kind": "item", **FOLDER}], CleanState.TO_BE_CLEANED, "", 0),
        ([LOCK, {"kind": "refused", "why": "job one is running"}], CleanState.REFUSED, "job one is running", 4),
        ([LOCK, {**JOB, "run": f"{NEW}/web-1"}, {"kind": "item", **FOLDER}], CleanState.REFUSED, "is not over", 4),
        ([{**LOCK, "run": "20991231-000000-cccccc/x"}], CleanState.REFUSED, "another controller may patch", 4),
        (Unreachable("no answer"), CleanState.NOT_REACHED, "no answer", 1),
        (ProtocolViolation("garbage"), CleanState.FAILED, "garbage", 1),
        ([], CleanState.FAILED, "does not say who has its lock", 1),
        (ValueError("odd"), CleanState.FAILED, "ValueError: odd", 1),
    ],
)
def test_a_machine_gets_a_state_of_its_own(
    tmp_path: Path, answer: Any, state: CleanState, said: str, code: int
) -> None:
    found = look(tmp_path, Line(answer))
    assert (found.state, exit_code([found])) == (state, code)
    assert said in found.message


def test_a_run_of_others_is_cleaned_only_if_that_was_said(tmp_path: Path) -> None:
    answer: list[ScriptRecord] = [{**LOCK, "run": "20991231-000000-cccccc/x"}, {"kind": "item", **FOLDER}]
    assert look(tmp_path, Line(answer)).state is CleanState.REFUSED
    assert look(tmp_path, Line(answer), takes_unknown_runs=True).state is CleanState.TO_BE_CLEANED


def test_a_machine_of_another_owner_is_not_asked(tmp_path: Path) -> None:
    line = Line()
    with order(tmp_path) as wanted:
        machine = make.make_machine(owner=PatchOwner.MANUAL)
        (found,) = look_at_machines([machine], Ports({machine.name: line}), wanted)  # type: ignore[arg-type]
    assert found.state is CleanState.REFUSED
    assert line.asked == []


def test_only_what_was_seen_is_removed_and_what_is_left_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[ScriptRecord] = [LOCK, JOB, {"kind": "item", **FOLDER}]
    left: ScriptRecord = {"kind": "left", "path": "/var/lib/fleetpatch/x", "why": "it is not fleetpatch's"}
    lines = {
        "good": Line(seen, [LOCK, {"kind": "removed", **FOLDER}, left]),
        "bad": Line(seen, [LOCK, {"kind": "failed", **FOLDER, "why": "read-only"}]),
        "changed": Line(seen, [LOCK, {"kind": "changed"}]),
        "gone": Line(seen, Unreachable("no answer")),
        "none": Line([LOCK]),
    }
    machines = [make.make_machine(name=name) for name in lines]
    ports = Ports(lines)
    with order(tmp_path) as wanted:
        found = look_at_machines(machines, ports, wanted)  # type: ignore[arg-type]
        results = clean_machines({each.machine: each for each in found}, machines, ports, wanted)  # type: ignore[arg-type]
    states = {each.machine: each.state.value for each in results}
    assert states == {
        "good": "Cleaned", "bad": "Incomplete", "changed": "Refused", "gone": "NotReached", "none": "NothingFound",
    }  # fmt: skip
    assert lines["good"].asked[1].params["lock"] == f"{OLD}/web-1 1 0"
    assert lines["good"].asked[1].params["jobs"] == ("one",)
    assert len(lines["none"].asked) == 1
    assert exit_code(results) is ExitCode.MACHINE_FAILED
    assert exit_code([results[0], results[2]]) is ExitCode.WARNINGS
    rows = {row["machineName"]: row for row in build_clean_json(results, dry_run=False)["machines"]}  # type: ignore[attr-defined]
    assert rows["good"]["left"] == [{"what": None, "path": left["path"], "reason": left["why"]}]
    print_clean_results(results)
    out = " ".join(capsys.readouterr().out.split())
    assert "stays: /var/lib/fleetpatch/x: it is not fleetpatch's" in out
    assert "/var/lib/fleetpatch could not be removed: read-only" in out


def test_the_list_of_machines_is_still_there_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETPATCH_RECORDS_URL", f"sqlite:///{tmp_path / 'records.db'}")
    inventory = tmp_path / "fleet.yaml"
    inventory.write_text("machines:\n  - {name: clean, address: 192.0.2.1}\n  - {name: web-1, address: 192.0.2.2}\n")
    for words, names in ((["web-1"], ["web-1"]), ([], ["clean", "web-1"]), (["name=clean"], ["clean"])):
        assert main(["machines", *words, "--json", "-i", str(inventory)]) == 0
        assert [row["machineName"] for row in json.loads(capsys.readouterr().out)["machines"]] == names
    assert main(["machines", "clean"]) == 2, "it needs a scope"
