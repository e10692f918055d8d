"""An owner's checks can be tried before a window: doctor and plan ask them, and change nothing."""

import pytest

from inventory.machine import Check, CheckKind, FailedCheckEffect
from tasks.domain.errors import ConnectionLost
from tasks.domain.protocols.transport import Script, ScriptRecord
from tests.contract.cli.conftest import Said, Stage, security
from tests.support.sim_machine import SimMachine

BAD = Check("quiet", CheckKind.COMMAND, "no-jobs")
MILD = Check("backup", CheckKind.COMMAND, "has-backup", FailedCheckEffect.WARN)
PAGE = Check("page", CheckKind.TCP, "127.0.0.1:1")  # nobody listens there
GOOD = Check("calm", CheckKind.COMMAND, "true")


def answers(machine: SimMachine) -> SimMachine:
    said = {"no-jobs": (7, "3 jobs run"), "has-backup": (1, "none since Monday"), "true": (0, "")}

    def probe(script: Script) -> list[ScriptRecord]:
        code, text = said[str(script.params["command"])]
        return [{"kind": "probe", "exit_code": code, "text": text}]

    machine.answer("probe", probe)
    return machine


def levels(said: Said) -> dict[str, str]:
    (machine,) = said.json["machines"]
    return {each["check"]: each["level"] for each in machine["findings"] if each["check"].startswith("own: ")}


@pytest.mark.parametrize("key", ["pre_checks", "probes"])
def test_doctor_asks_them_and_respects_their_level(stage: Stage, key: str) -> None:
    web = answers(stage.add("web", security("openssl"), **{key: (BAD, MILD, PAGE, GOOD)}))

    said = stage.run("doctor", "--json")

    assert said.code == 1
    assert levels(said) == {"own: quiet": "block", "own: backup": "warn", "own: page": "block", "own: calm": "good"}
    shown = " ".join(stage.run("doctor").out.split())
    assert "own: quiet: command no-jobs: exit code 7: 3 jobs run" in shown
    assert "own: page: tcp 127.0.0.1:1: [Errno 111] Connection refused" in shown
    assert web.installs() == []
    assert web.locked_by is None


def test_a_warning_leaves_a_machine_ready(stage: Stage) -> None:
    answers(stage.add("web", security("openssl"), probes=(MILD, GOOD)))
    said = stage.run("doctor", "--json")
    assert said.code == 3
    assert said.json["machines"][0]["ready"]
    on_screen = stage.run("doctor").out
    (heads,) = [line for line in on_screen.splitlines() if line.split()[:1] == ["machine"]]
    assert heads.split()[-1] == "own"


def test_a_check_that_can_not_be_asked_is_told_and_hides_nothing_else(stage: Stage) -> None:
    web = answers(stage.add("web", security("openssl"), probes=(GOOD, MILD)))
    web.fail(ConnectionLost("the connection was lost", hint="Look at its network."), on="probe")
    said = stage.run("doctor", "--json")
    (machine,) = said.json["machines"]
    found = {each["check"]: each for each in machine["findings"]}
    assert "it could not be asked: the connection was lost" in found["own: calm"]["message"]
    assert found["own: backup"]["level"] == "warn"
    assert found["disk"]["level"] == "good"


def test_a_plan_says_what_they_would_refuse_and_a_patch_run_then_refuses_it(stage: Stage) -> None:
    web = answers(stage.add("web", security("openssl"), pre_checks=(BAD,), probes=(MILD,)))

    planned = stage.run("plan", "web")

    assert planned.code == 1
    assert "quiet: command no-jobs: exit code 7: 3 jobs run" in " ".join(planned.out.split())
    assert "pre-check would warn: backup" in " ".join(stage.run("plan", "web", "--details").out.split())
    assert web.installs() == []
    assert stage.run("patch", "web", "--no-prefect", "--yes").code == 1
    assert web.installs() == []


def test_a_run_that_patches_asks_them_only_before_it_changes_something(stage: Stage) -> None:
    web = answers(stage.add("web", security("openssl"), probes=(GOOD,)))
    assert stage.run("patch", "web", "--no-prefect", "--yes").code == 0
    order = [call.name for call in web.calls]
    assert order.index("probe") > order.index("machine_lock")
