"""What a machine's scripts take for the time, when its clock is set back or ahead; in each shell that is here."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from inventory.machine import PrivilegeMethod
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import Job, JobPhase, Script
from tasks.machines.transport.local_channel import LocalShellChannel
from tasks.machines.transport.output_decoder import ScriptOutputDecoder, generate_nonce
from tasks.machines.transport.posix_shell import PosixShell, PrivilegeEscalator, build_script_stdin
from tasks.machines.transport.script_library import load_script
from tests.contract.transport_subjects import scripts
from tests.support.boot import read_boot

CLOCK = SystemClock()
BOOT = read_boot()
SHELLS = {
    name: [place, *words]
    for name, words in (("dash", []), ("bash", []), ("busybox", ["sh"]))
    if (place := shutil.which(name)) is not None
}
ASK = 'fp_emit time "now:=$(fp_now)"'
ASK_TWICE = f"{ASK}; while ! fp_stop_requested; do sleep 0.05; done; {ASK}"
DATE = '#!/bin/sh\nexec /bin/date -d "$(cat "{place}") seconds" "$@"\n'


def uptime() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file: by how many seconds this machine's clock is off, for scripts."""
    place, tools = tmp_path / "off", tmp_path / "tools"
    tools.mkdir()
    place.write_text("0")
    (tools / "date").write_text(DATE.format(place=place))
    (tools / "date").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return place


def told(base: float, boot: str = BOOT) -> dict[str, str]:
    return {"clock": f"{boot} {int(base)}"}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("off", "params", "expected"),
    [
        (0, {}, 0),
        (-3600, {}, -3600),  # nothing is known of what it was: it is believed
        (0, told(time.time() - uptime()), 0),
        (-3600, told(time.time() - uptime()), 0),
        (3600, told(time.time() - uptime()), 3600),  # of two that differ, the later one begins nothing late
        (0, told(time.time() - uptime() + 200), 200),  # it was ahead when it was compared, and is set right
        (-3600, told(time.time() - uptime(), "another-boot"), -3600),
        (-3600, {"clock": ""}, -3600),
        (-3600, {"clock": f"{BOOT} "}, -3600),
        (-3600, {"clock": f"{BOOT} 9; reboot"}, -3600),
        (-3600, {"clock": f"{BOOT} -5"}, -3600),
        (-3600, {"other": '"clock":"' + BOOT + ' 99999999999"'}, -3600),
    ],
)
def test_the_time_of_a_script(clock: Path, shell: str, off: int, params: dict[str, str], expected: int) -> None:
    clock.write_text(str(off))
    nonce = generate_nonce()
    sent = build_script_stdin(ASK, params, nonce).decode().replace("date +%s", f"{clock.parent}/tools/date +%s")
    words = [*SHELLS[shell], "-s"]
    before = time.time()
    done = subprocess.run(words, input=sent.encode(), capture_output=True, check=False, timeout=240)
    decoder = ScriptOutputDecoder(nonce)
    decoder.feed_stdout(done.stdout)
    (record,) = decoder.build_output().records
    assert before - 3 <= float(str(record["now"])) - expected <= time.time() + 3


def test_a_system_that_does_not_tell_its_uptime_is_believed(clock: Path) -> None:
    clock.write_text("-3600")
    text = load_script("prelude").replace("/proc/uptime", "/proc/no-such")
    nonce = generate_nonce()
    sent = build_script_stdin(ASK, told(time.time() - uptime()), nonce).decode().replace(load_script("prelude"), text)
    before = time.time()
    done = subprocess.run(["sh", "-s"], input=sent.encode(), capture_output=True, check=False, timeout=240)
    decoder = ScriptOutputDecoder(nonce)
    decoder.feed_stdout(done.stdout)
    (record,) = decoder.build_output().records
    assert before - 3 <= float(str(record["now"])) + 3600 <= time.time() + 3


@pytest.mark.parametrize("known", [True, False], ids=["compared before", "never compared"])
def test_a_clock_that_is_set_back_while_a_job_runs(tmp_path: Path, clock: Path, *, known: bool) -> None:
    line, way, root = LocalShellChannel(CLOCK), PrivilegeEscalator(PrivilegeMethod.NONE), str(tmp_path / "jobs")
    shell = PosixShell(
        line,
        machine="here",
        privilege=way,
        clock=CLOCK,
        job_root=root,
        script_loader=lambda name, *of: ASK_TWICE if name == "ask" else scripts(name, *of),
    )
    params = told(time.time() - uptime()) if known else {}
    soon = Deadline.after(CLOCK, 300)
    shell.start_job(Job("one", Script("ask", params)), deadline=soon)
    while not shell.poll_job("one", deadline=soon).events:
        CLOCK.sleep(0.05)
    clock.write_text("-3600")
    shell.run_script(Script("job_stop", {"id": "one"}), deadline=soon)
    while (view := shell.poll_job("one", deadline=soon)).phase is JobPhase.RUNNING:
        CLOCK.sleep(0.05)
    before, after = (float(str(event["now"])) for event in view.events)
    assert -2 < after - before < 300  # what the clock said at the boot, and the time since then, are whole seconds each


@pytest.mark.parametrize("shell", SHELLS)
def test_the_clock_is_asked_once_in_a_second(shell: str, clock: Path) -> None:
    """To ask it starts a program. A clock that is set while a script runs is seen in the next second."""
    place = clock.with_name("asked")
    date = clock.with_name("tools") / "date"
    date.write_text(date.read_text().replace("exec ", f"echo asked >>{place}; exec ", 1))
    ask = "; ".join(["fp_read_time"] * 50)
    later = 'began=$fp_up; while fp_read_uptime; [ "$fp_up" = "$began" ]; do :; done'
    told_times = f"{ask}; first=$fp_time; {later}; echo 3600 >{clock}; {later.replace('began', 'second')}; fp_read_time"
    script = f"{load_script('prelude')}\n{told_times}; echo $((fp_time - first))"
    done = subprocess.run([*SHELLS[shell], "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert 3600 <= int(done.stdout) <= 3605
    assert len(place.read_text().splitlines()) <= 3  # one more if a second ended meanwhile
