"""A job that fails before its first line, by the machine's own scripts: its start says so at once, and why.

Without systemd its process tells it, and with systemd its unit does. A real systemd: tests/lab/test_ssh.py.
"""

import time
from pathlib import Path

import pytest

from tasks.domain.errors import ScriptFailed
from tasks.domain.protocols.transport import JobPhase
from tests.contract.test_late_jobs import Late, wait

NEVER = r"it did not begin when it was handed over, so it never begins: "
FIRST = NEVER + r"its process ended first \(the journal and the audit log may say more\): .*"
TOOLS = {
    "systemd-run": """while [ "$1" != env ]; do shift; done
[ -e {place}/denied ] || "$@" >>{place}/journal 2>&1 &""",
    "systemctl": "echo ActiveState=$(cat {place}/state 2>/dev/null || echo inactive)",
    "journalctl": "cat {place}/journal",
    "setsid": """[ ! -e {place}/denied ] || { echo "failed to execute env: Permission denied" >&2; exit 126; }
exec "$@\"""",
}


@pytest.fixture(params=["setsid", "systemd"])
def machine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Late:
    (tmp_path / "systemd").mkdir()
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in TOOLS.items():
        (tools / name).write_text(f"#!/bin/sh\n{text.replace('{place}', str(tmp_path))}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    late = Late(tmp_path, request.param)
    late.patience = 30
    return late


def fail(machine: Late, why: str) -> None:
    began = time.monotonic()
    with pytest.raises(ScriptFailed, match=FIRST + why):
        machine.start()
    assert time.monotonic() - began < 15
    with pytest.raises(ScriptFailed, match=NEVER + ".*" + why):  # asked again, as after a lost answer
        machine.start()
    assert machine.ran() == 0
    assert machine.phase() is JobPhase.ABSENT


def test_a_process_that_the_machine_does_not_let_run(machine: Late, tmp_path: Path) -> None:
    """SELinux, a missing program: systemd accepts the unit, and its process never runs."""
    (tmp_path / "denied").touch()
    (tmp_path / "journal").write_text("Failed at step EXEC spawning /usr/bin/env: Permission denied\n")
    fail(machine, "env: Permission denied")


def test_a_process_that_ends_before_it_has_begun(machine: Late) -> None:
    """Its folder is read-only for units, or there is no room: run ends, with words or without."""
    text, ending = machine.text, "echo 'echo Read-only file system >&2; exit 2'"
    machine.shell._script_loader = lambda *names: text(*names).replace("fp_param wrapper", ending)
    fail(machine, "Read-only file system")
    machine.shell._script_loader = text
    assert machine.start("two") is False
    wait(lambda: machine.is_finished("two"))
    assert machine.ran("two") == 1


@pytest.mark.parametrize("machine", ["systemd"], indirect=True)
@pytest.mark.parametrize("state", ["activating", ""])
def test_a_unit_that_is_not_known_to_have_ended_is_waited_for(machine: Late, tmp_path: Path, state: str) -> None:
    (tmp_path / "denied").touch()
    (tmp_path / "state").write_text(state)
    machine.patience = 1
    with pytest.raises(ScriptFailed, match=f"{NEVER}it took more than 1 seconds: "):
        machine.start()


def test_what_can_not_be_written_is_said_in_the_machine_s_words(machine: Late, tmp_path: Path) -> None:
    (tmp_path / "tools/mv").write_text("#!/bin/sh\necho 'mv: No space left on device' >&2; exit 1\n")
    (tmp_path / "tools/mv").chmod(0o755)
    with pytest.raises(ScriptFailed, match=r"cannot write .*jobs/one: mv: No space left on device"):
        machine.start()
