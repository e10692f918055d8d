"""Each kind of hook that is no command on a machine, run for real: processes, a web server on loopback, functions."""

import json
import os
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from flows.hooks.dispatch import build_hook_dispatcher
from flows.hooks.event import HookEvent, build_hook_event
from tasks.domain.errors import RecordsError, RequestError
from tasks.domain.model import Hook, HookResult
from tasks.domain.protocols.clock import Deadline
from tasks.domain.rows.audit import AuditEntry
from tasks.domain.states import HookKind, HookPoint, OperationState
from tasks.steps.context.run_control import StopToken
from tests.contract.hooks.calls import AFTER, BEFORE, CLOCK, REPORT, Stops, WaitingClock, call
from tests.support.builders import make_outcome


def command(target: str, **more: object) -> HookResult:
    return call(HookKind.CONTROLLER_COMMAND, target, **more)  # type: ignore[arg-type]  # the same words


def test_a_command_is_words_without_a_shell(tmp_path: Path) -> None:
    result = command("printf %s; '$HOME and more'")
    assert (result.succeeded, result.message) == (True, "$HOME and more;")
    result = command(f"sh -c 'echo told > {tmp_path}/x; cat {tmp_path}/x'")
    assert (result.succeeded, result.message) == (True, "told")


def test_a_command_knows_what_it_is_about(tmp_path: Path) -> None:
    result = command(f"sh -c 'cp \"$FLEETPATCH_REPORT\" {tmp_path}/report; env | grep ^FLEETPATCH_'", place=AFTER)
    assert result.succeeded
    for line in ("FLEETPATCH_HOOK=h", f"FLEETPATCH_RUN={REPORT.run.id}", "FLEETPATCH_PLACE=after_run"):
        assert line in result.message.splitlines()
    assert "FLEETPATCH_STATE=Failed" in result.message.splitlines()
    told = json.loads((tmp_path / "report").read_text())
    assert [machine["machineName"] for machine in told["machines"]] == ["web-1", "web-2"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("sh -c 'echo sorry >&2; exit 7'", "exit code 7: sorry"),
        ("sh -c 'kill -9 $$'", "ended by signal 9"),
        ("false", "exit code 1"),
    ],
)
def test_a_failing_command_says_how(target: str, message: str) -> None:
    result = command(target)
    assert (result.succeeded, result.message) == (False, message)


def test_a_command_that_is_not_there_has_failed() -> None:
    assert "could not be started" in command("/no/such/command").message


def test_a_command_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    began = time.monotonic()
    words = f"sh -c 'sleep 600 & echo $! > {tmp_path}/child; echo begun; touch {begun}; wait'"
    result = command(words, seconds=0.6, clock=WaitingClock(begun.exists))

    assert not result.succeeded
    assert result.message == "it took longer than 1 s: begun"
    assert time.monotonic() - began < 300
    child = int((tmp_path / "child").read_text())
    assert _gone(child)


def test_what_a_command_started_is_ended_as_well_when_the_command_itself_goes_at_once(tmp_path: Path) -> None:
    """A child that lets TERM pass is killed; one that puts something right first has its time."""
    stubborn = f"sh -c 'trap \"\" TERM; echo $$ > {tmp_path}/stubborn; while :; do sleep 0.1; done' &"
    trap = f'trap "sleep 0.5; echo tidied > {tmp_path}/tidied; exit" TERM; touch {tmp_path}/ready'
    tidy = f"sh -c '{trap}; while :; do sleep 0.1; done' &"
    script = tmp_path / "hook.sh"
    script.write_text(f"{stubborn}\n{tidy}\nsleep 60 & wait\n")

    seen = (tmp_path / "stubborn", tmp_path / "ready")
    result = command(f"sh {script}", seconds=1.0, clock=WaitingClock(lambda: all(each.exists() for each in seen)))

    assert not result.succeeded
    assert _gone(int((tmp_path / "stubborn").read_text()))
    assert (tmp_path / "tidied").exists()


def test_a_command_that_ended_in_time_leaves_what_it_started(tmp_path: Path) -> None:
    assert command(f"sh -c 'sleep 60 >/dev/null 2>&1 & echo $! > {tmp_path}/child'").succeeded
    child = int((tmp_path / "child").read_text())
    os.kill(child, 9)


SECRETS = {
    "FLEETPATCH_RECORDS_URL": "postgresql://u:hunter2@db/x",
    "PREFECT_API_KEY": "hunter2",
    "PREFECT_API_AUTH_STRING": "admin:hunter2",
    "PGPASSWORD": "hunter2",
    "SSH_AUTH_SOCK": "/hunter2",
    "WEB_PASSWORD": "hunter2",
    "AWS_SECRET_ACCESS_KEY": "hunter2",
    "https_proxy": "http://u:hunter2@proxy",
}


def test_a_command_gets_a_small_environment_and_what_its_owner_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LC_TIME", "C.UTF-8")
    told = command("env").message.splitlines()
    assert not [line for line in told if "hunter2" in line]
    assert {"LC_TIME=C.UTF-8", f"PATH={os.environ['PATH']}"} <= set(told)
    assert {line.split("=")[0] for line in told if line.startswith("FLEETPATCH_")} == {
        f"FLEETPATCH_{name}" for name in ("FLEET", "RUN", "HOOK", "PLACE", "SUBJECT", "MACHINE", "STATE", "REPORT")
    }

    monkeypatch.setenv("FLEETPATCH_HOOK_ENVIRONMENT", "WEB_PASSWORD  GONE")
    told = command("env").message.splitlines()
    assert [line for line in told if "hunter2" in line] == ["WEB_PASSWORD=hunter2"]


def test_a_stop_ends_a_command_before_and_not_one_after() -> None:
    control = StopToken()
    threading.Timer(0.3, lambda: control.request_stop("enough")).start()
    result = command("sleep 120", control=control)
    assert "enough" in result.message
    assert (result.ended_at - result.started_at).total_seconds() < 60

    assert command("true", control=control, place=AFTER).succeeded
    assert "not begun" in command("true", control=control).message


def test_a_command_prints_as_much_as_it_likes() -> None:
    result = command("sh -c 'yes fleet | head -c 3000000; printf \"\\377 end\"'")
    assert result.succeeded
    assert result.message.endswith("� end")
    assert len(result.message) <= 2000


def _gone(pid: int) -> bool:
    for _ in range(600):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
            os.kill(pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.1)
    return False


EVENTS: list[HookEvent] = []


def takes(event: HookEvent) -> str:
    EVENTS.append(event)
    return f"{len(event.machines)} machines"


def refuses(event: HookEvent) -> bool:
    return False


def raises(event: HookEvent) -> None:
    raise ValueError("not on a Friday")


def leaves(event: HookEvent) -> None:
    raise SystemExit(3)


LET_GO = threading.Event()


def sleeps(event: HookEvent) -> None:
    LET_GO.wait(600)


def python(name: str, **more: object) -> HookResult:
    return call(HookKind.PYTHON, f"{__name__}:{name}", **more)  # type: ignore[arg-type]  # the same words


def test_a_python_hook_is_called_with_the_event() -> None:
    EVENTS.clear()
    result = python("takes")
    assert (result.succeeded, result.message) == (True, "2 machines")
    assert (EVENTS[0].run_id, EVENTS[0].report) == (REPORT.run.id, REPORT)


@pytest.mark.parametrize(
    ("name", "message"), [("refuses", ""), ("raises", "not on a Friday"), ("leaves", "SystemExit"), ("gone", "gone")]
)
def test_a_python_hook_fails(name: str, message: str) -> None:
    result = python(name)
    assert not result.succeeded
    assert message in result.message


def test_a_python_hook_that_takes_too_long_has_failed() -> None:
    result = python("sleeps", seconds=0.3)
    LET_GO.set()
    assert not result.succeeded
    assert "longer than" in result.message
    assert "no module" in call(HookKind.PYTHON, "nowhere.to_be:found").message.lower()


def test_a_machines_command_has_no_place_here() -> None:
    hook = Hook("h", BEFORE, HookKind.MACHINE_COMMAND, "true")
    with pytest.raises(RequestError):
        build_hook_dispatcher(CLOCK, StopToken(), Stops().ask)(hook, REPORT, "run", Deadline.after(CLOCK, 5))


def test_an_event_tells_what_it_is_about() -> None:
    now = REPORT.run.window.start - timedelta(minutes=40)  # type: ignore[union-attr]  # it has one
    until = Deadline(now + timedelta(minutes=20))
    (wave,) = REPORT.waves

    def told(place: HookPoint, subject: str, moment: timedelta = timedelta()) -> HookEvent:
        return build_hook_event(Hook("h", place, HookKind.HTTP, "http://x/"), REPORT, subject, until, now + moment)

    before = told(BEFORE, "run")
    assert before.cancel_until == REPORT.run.window.start  # type: ignore[union-attr]
    assert told(BEFORE, "run", timedelta(minutes=50)).cancel_until == until.expires_at
    assert before.state is None
    assert told(HookPoint.BEFORE_WAVE, f"wave {wave.number}").machines == wave.machines
    assert told(HookPoint.BEFORE_WAVE, "wave 77").machines == ()
    after = told(HookPoint.AFTER_MACHINE, "web-1")
    assert (after.machines, after.state, after.cancel_until) == (("web-1",), OperationState.SUCCEEDED, None)
    assert told(AFTER, "run").state is OperationState.FAILED
    assert after.as_json()["eventType"] == "fleetpatch.PostMaintenanceEvent"
    assert after.id != told(HookPoint.AFTER_MACHINE, "web-2").id
    assert make_outcome().machine == "web-1"


def test_a_hook_is_recorded_before_it_runs_and_after(tmp_path: Path) -> None:
    entries: list[AuditEntry] = []
    hook = Hook("h", BEFORE, HookKind.CONTROLLER_COMMAND, f"touch {tmp_path / 'ran'}")
    dispatch = build_hook_dispatcher(CLOCK, StopToken(), Stops().ask, entries.append)
    dispatch(hook, REPORT, "run", Deadline.after(CLOCK, 5))
    assert [(each.act, each.subject, str(each.result)) for each in entries] == [
        ("hook", REPORT.run.id, "begun"),
        ("hook", REPORT.run.id, "done"),
    ]
    assert hook.target in entries[0].detail


def test_a_hook_that_can_not_be_recorded_does_not_run(tmp_path: Path) -> None:
    def fail(entry: AuditEntry) -> None:
        raise RecordsError(f"no place for {entry.act}", hint="A test asked for this.")

    hook = Hook("h", BEFORE, HookKind.CONTROLLER_COMMAND, f"touch {tmp_path / 'ran'}")
    dispatch = build_hook_dispatcher(CLOCK, StopToken(), Stops().ask, fail)
    with pytest.raises(RecordsError, match="no place for hook"):
        dispatch(hook, REPORT, "run", Deadline.after(CLOCK, 5))
    assert not (tmp_path / "ran").exists()
