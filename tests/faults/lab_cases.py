"""The named faults on real machines: what strikes, when, and what must have come of it beyond what always must."""

import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from tasks.domain.states import OperationState, RebootState, UpdateState
from tests.faults.controllers import BEFORE, LAST, RUN, Broken
from tests.faults.lab_administrator import administrator_cases
from tests.faults.lab_hard_cases import hard_cases, stopped
from tests.faults.lab_late_cases import late_cases
from tests.faults.stage import MASKS, Stage, later
from tests.lab.engine import configured_times
from tests.support.forked import ForkedProcess
from tests.support.postgres import own_server

Case = Callable[[Stage], None]
BOOTS = ("lab-plain", "lab-reboot")
LONG_CUT_SECONDS = 15
JOBS = "/var/lib/fleetpatch"
FIRST = "20260310-000000-bbbbbb"
WINDOWS = {FIRST: (0.01, 0.0), BEFORE: (0.3, 0.01), RUN: (0.6, 0.1)}
HELD_SECONDS = 30  # a transaction that a fault has to break must not end before the fault strikes


def expect(stage: Stage, *states: OperationState, run: str = RUN) -> None:
    """The run is over, truly reported, and its host in one of these states."""
    stage.judge(run)
    outcome = stage.outcome(run=run)
    if outcome.state not in states:
        raise Broken(f"{outcome.state}: {outcome.reason}")


GOOD = (OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS)
BAD = (OperationState.FAILED,)
ANY = (*GOOD, *BAD, OperationState.NOT_STARTED)


def killed(steps: Sequence[str], stage: Stage) -> None:
    """kill -9 of the controller at each step; other processes take the run up, and it ends as if nothing had been."""
    stage.killed_and_taken_up(steps, *BOOTS, "lab-slow")
    expect(stage, *GOOD)
    if stage.outcome().reboot is not RebootState.COMPLETED:
        raise Broken(f"not rebooted: {stage.outcome().reason}")
    if stage.versions("lab-slow", "lab-plain") != {"lab-slow": "2.0", "lab-plain": "2.0"}:
        raise Broken("not installed")


def cut(at: str, seconds: float, stage: Stage) -> None:
    """The network goes away at a step and comes back."""
    is_back = threading.Event()

    def restore() -> None:
        stage.host.mend()
        is_back.set()

    def strike() -> None:
        stage.host.cut()
        later(seconds, restore)

    if at == "installing":
        stage.slow(stage.host, LONG_CUT_SECONDS + 10)
    stage.patch(at=at, then=strike)
    if at == "installing" and not is_back.is_set():
        raise Broken("the run was over before the network was back")
    time.sleep(0.5)
    stage.host.mend()
    stage.host.wait_login()
    expect(stage, *(GOOD if at in {"stage", "installing"} else ANY))


def crashed(at: str, stage: Stage) -> None:
    """A power cut at a step."""
    if at == "installing":
        stage.slow(stage.host, HELD_SECONDS)
    before = stage.host.boot_id()
    stage.patch(at=at, then=stage.host.crash)
    stage.host.wait_reboot(before)
    expect(stage, *(BAD if at == "installing" else ANY))


def records_killed(at: str, stage: Stage) -> None:
    """kill -9 of the database at a step, for four seconds."""
    with own_server() as server:
        stage.records_url = server.url("fleetpatch")

        def strike() -> None:
            if server.process is None:
                raise Broken("the database does not run")
            for pid in [*children(server.process.pid), server.process.pid]:
                subprocess.run(["kill", "-9", str(pid)], check=False, capture_output=True)
            server.process.wait()
            (server.folder / "data/postmaster.pid").unlink(missing_ok=True)
            later(4, server.start)

        stage.patch(*MASKS, "lab-reboot", at=at, then=strike)
        expect(stage, *GOOD)
        if stage.versions("lab-plain") != {"lab-plain": "2.0"}:
            raise Broken("not installed")
        stage.last_run_heals()


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = place.read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if int(words[1]) == pid:
            found.append(int(place.parent.name))
    return found


def on_host(at: str, command: str, states: tuple[OperationState, ...]) -> Case:
    """Something is done on the machine itself at a step."""

    def case(stage: Stage) -> None:
        stage.patch(at=at, then=lambda: stage.host.sh(command, root=True))
        expect(stage, *states)

    return case


def job_killed(command: str, stage: Stage) -> None:
    """The job, or its shell alone, is killed in the middle of a transaction."""
    stage.slow(stage.host, HELD_SECONDS)
    on_host("installing", command, BAD)(stage)


def directory_deleted(stage: Stage) -> None:
    """The directory of the job is deleted. Its transaction goes on alone: the next run comes after it."""
    on_host("installing", DIRECTORY_GONE, BAD)(stage)
    ended = f"for _ in $(seq 300); do pgrep -x {stage.family.downloader} >/dev/null || break; sleep 0.2; done"
    stage.host.sh(ended, root=True)


JOB = "$(awk '{print $1}' $(ls -t /var/lib/fleetpatch/jobs/*/meta | head -n 1))"
SHELL_KILLED = f"kill -9 {JOB}"
JOB_KILLED = f"kill -9 $(ps -o pid= -s {JOB}) || true"  # some of them may have ended
DIRECTORY_GONE = "rm -rf /var/lib/fleetpatch/jobs/*"
SOON = "systemd-run --quiet --on-active=0.2 --timer-property=AccuracySec=50ms "
SSHD_RESTARTED = SOON + "systemctl restart ssh"
SSHD_KILLED = SOON + "sh -c 'systemctl kill -s KILL ssh; systemctl restart ssh'"


def locked(seconds: int, states: tuple[OperationState, ...], stage: Stage) -> None:
    """Somebody else's package manager holds the lock when the installation begins."""
    command = f"systemd-run --quiet --unit=locker {stage.family.brief_lock.format(seconds=seconds)}; sleep 0.5"
    stage.patch(at="install", then=lambda: stage.host.sh(command, root=True))
    expect(stage, *states)
    stage.host.sh("systemctl stop locker || true", root=True)


def update_themselves(stage: Stage) -> None:
    """What the run itself stands on is among the updates: the machine's own, packed anew under a higher version."""
    names = ("openssh-server", "libc6")
    for name in names:
        stage.repack(name)
    stage.patch(*names, "lab-slow", "lab-plain")
    expect(stage, *GOOD)
    there = stage.host.package_versions(*names)
    if [name for name in names if not there[name].endswith("+again")]:
        raise Broken(f"not all were installed: {there}")


def full(stage: Stage) -> None:
    """There is no room at one place after the other that the work needs; when there is again, the next run is well."""
    for where, run in ((JOBS, BEFORE), (stage.family.cache, RUN)):
        mount = 'mkdir -p "$place" && mount -t tmpfs -o size=4k,nr_inodes=3 tmpfs "$place"'
        place = stage.host.sh(f"place={where}; {mount} && echo $place", root=True).strip()
        stage.patch(run=run)
        stage.host.sh(f"umount {place}", root=True)
        expect(stage, *BAD, run=run)
        if stage.versions("lab-plain") != {"lab-plain": "1.0"}:
            raise Broken(f"something was installed all the same, without room in {where}")


def interrupted(stage: Stage) -> None:
    """An installation was interrupted before. The run repairs nothing, and the next one does, which is allowed to."""
    stage.host.sh(stage.family.interrupt, root=True)
    if not stage.host.half_done_packages():
        raise Broken("nothing was interrupted, so this case proves nothing")
    stage.patch(run=BEFORE)
    expect(stage, *BAD, run=BEFORE)
    if not stage.host.half_done_packages():
        raise Broken("it was repaired, and that was not allowed")
    if stage.versions("lab-conffile") != {"lab-conffile": "1.0"}:
        raise Broken("it was patched although its packages were not whole")
    stage.patch(repair=True)
    expect(stage, *GOOD)
    if stage.host.half_done_packages():
        raise Broken("it was not repaired")
    if stage.versions("lab-plain", "lab-conffile") != {"lab-plain": "2.0", "lab-conffile": "2.0"}:
        raise Broken("what was interrupted, or what waited for that, is not at 2.0")


def window_ends(windows: Mapping[str, tuple[float, float]], stage: Stage) -> None:
    """The windows of runs end (minutes, reserve): nothing begins that they can't hold, and what is begun may end."""
    stage.slow(stage.host, 6)
    left = 0
    for run, (minutes, reserve) in windows.items():
        stage.patch(*MASKS, "lab-reboot", run=run, minutes=minutes, reboot_reserve_minutes=reserve, stage=False)
        expect(stage, *GOOD, OperationState.NOT_STARTED, run=run)
        for result in stage.outcome(run=run).updates:
            if result.state is UpdateState.NOT_ATTEMPTED and not ("left" in result.reason or "late" in result.reason):
                raise Broken(f"no arithmetic: {result.reason}")
            left += result.state is UpdateState.NOT_ATTEMPTED
    if FIRST in windows and (not left or stage.outcome(run=FIRST).state is not OperationState.NOT_STARTED):
        raise Broken(f"{left} updates were left undone; in {windows[FIRST]} it is {stage.outcome(run=FIRST).state}")


def other_key(stage: Stage) -> None:
    """The machine comes back from its reboot with another host key: it is not spoken to."""
    keys = stage.host.root / "etc/ssh/ssh_host_ed25519_key"
    old = {place: place.read_bytes() for place in keys.parent.glob("ssh_host_*")}

    def strike() -> None:
        stage.host.sh(
            "rm /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key", root=True
        )

    stage.patch(*BOOTS, at="reboot", then=strike)
    for place in keys.parent.glob("ssh_host_*"):
        place.unlink()
    for place, content in old.items():
        place.write_bytes(content)
        place.chmod(0o600)
    stage.host.crash()
    stage.host.wait_login()
    expect(stage, *BAD)
    if stage.outcome().reboot is not RebootState.FAILED:
        raise Broken(f"its reboot is reported as {stage.outcome().reboot}")


def stays_down(stage: Stage) -> None:
    """The machine does not come back from its reboot."""
    stage.patch(*BOOTS, at="reboot", then=(stage.host.root.parent / "off").touch, coming_up_minutes=0.3)
    stage.host.on()
    stage.host.wait_login()
    expect(stage, *BAD)
    if "did not come back" not in stage.outcome().reason:
        raise Broken(stage.outcome().reason)


def asks_again(stage: Stage) -> None:
    """The machine asks for a reboot again after each: it is rebooted once, and that is told."""
    unit = (
        "[Service]\\nType=oneshot\\nExecStart=/bin/touch /run/reboot-required\\n[Install]\\nWantedBy=sysinit.target\\n"
    )
    stage.host.sh(f"printf '{unit}' > /etc/systemd/system/again.service; systemctl enable -q again", root=True)
    stage.patch(*BOOTS)
    expect(stage, OperationState.COMPLETED_WITH_WARNINGS)
    if "again" not in stage.outcome().reason:
        raise Broken(stage.outcome().reason)
    stage.host.sh("systemctl disable -q again; rm -f /run/reboot-required", root=True)


def service_gone(stage: Stage) -> None:
    """A service that listened before does not come back."""
    disable = "systemctl disable -q nginx"
    stage.patch(*BOOTS, at="reboot", then=lambda: stage.host.sh(disable, root=True), come_back_seconds=3)
    expect(stage, *BAD)
    if "tcp/80" not in stage.outcome().reason:
        raise Broken(stage.outcome().reason)


def asked_to_stop(stage: Stage) -> None:
    """The run is asked to stop while something is being installed: that is let end."""
    boot = stage.host.boot_id()
    stage.patch(*MASKS, reboot="Always", at="installing", then=lambda: stage.control.request_stop("tested"))
    expect(stage, *GOOD)
    if stage.host.boot_id() != boot:
        raise Broken("it was rebooted after it was asked to stop")
    if configured_times(stage.host, "lab-slow", "2.0") != 1:
        raise Broken("what had begun did not run to its end")


def stop_between_writes(process: ForkedProcess, database: Path) -> None:
    """Stop a process with SIGSTOP while it does not write. Stopped in a write, it would keep SQLite locked."""
    for _ in range(50):
        process.send_signal(signal.SIGSTOP)
        stopped(process)
        try:
            with closing(sqlite3.connect(database, timeout=1, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            process.send_signal(signal.SIGCONT)
            time.sleep(0.2)
        else:
            return
    raise Broken("the controller writes all the time")


def two_controllers(stage: Stage) -> None:
    """The controller is stopped (SIGSTOP), another one takes the run up, and the first one wakes."""
    stage.slow(stage.host, 6)
    stage.describe_request(*BOOTS, "lab-slow")
    first = stage.controller("begin")
    jobs = stage.host.root / "var/lib/fleetpatch/jobs"
    until = time.monotonic() + 240
    while not any("install" in place.name for place in jobs.glob("*/meta") for place in [place.parent]):
        if time.monotonic() > until:
            raise Broken("nothing was begun")
        time.sleep(0.2)
    stop_between_writes(first, stage.place / "records.db")
    try:
        stage.refused()
        stage.taken_up()
    finally:
        first.send_signal(signal.SIGCONT)
    first.communicate(timeout=360)
    if first.returncode == 0:
        raise Broken("the first controller takes the run for its own")
    expect(stage, *GOOD)


def two_runs(stage: Stage) -> None:
    """Two runs want one machine: the second is told whose it is."""
    stage.patch(at="install", then=partial(stage.patch, run=LAST))
    expect(stage, *GOOD)
    expect(stage, OperationState.NOT_STARTED, run=LAST)
    if RUN not in stage.outcome(run=LAST).reason:
        raise Broken(stage.outcome(run=LAST).reason)


def fails(stage: Stage) -> None:
    """An update fails: the others don't, and the file of one that was edited by hand stays as it is."""
    stage.patch("lab-failing", "lab-plain", "lab-conffile")
    expect(stage, *BAD)
    there = stage.versions("lab-plain", "lab-conffile")
    if there != {"lab-plain": "2.0", "lab-conffile": "2.0"}:
        raise Broken(f"the others were held up: {there}")
    if stage.host.sh("cat /etc/lab.conf").strip() != "setting=changed by hand":
        raise Broken("it was overwritten")
    stage.host.sh("touch /etc/lab-failing-fixed", root=True)


def rebooted_by_somebody(stage: Stage) -> None:
    """Somebody else reboots the machine while it is being downloaded."""
    before = stage.host.boot_id()
    stage.patch(at="stage", then=lambda: stage.host.sh("systemctl reboot --no-block", root=True))
    stage.host.wait_reboot(before)
    expect(stage, *ANY)


def cases() -> Iterator[tuple[str, Case]]:
    """Return all cases by name, those first that take long."""
    yield from late_cases()
    yield "never comes back / reboot", stays_down
    yield from hard_cases()
    yield from administrator_cases()
    for steps in (("installing", "reboot"), ("precheck", "validate")):
        yield f"controller killed / {', '.join(steps)}", partial(killed, steps)
    for at in ("precheck", "stage", "installing", "reboot", "validate"):
        yield f"connection lost / {at}", partial(cut, at, LONG_CUT_SECONDS if at == "installing" else 3)
    for at in ("precheck", "installing", "reboot", "validate"):
        yield f"power cut / {at}", partial(crashed, at)
    for at in ("precheck", "installing", "reboot", "validate"):
        yield f"database killed / {at}", partial(records_killed, at)
    yield "job's shell killed / installing", partial(job_killed, SHELL_KILLED)
    yield "whole job killed / installing", partial(job_killed, JOB_KILLED)
    yield "job's directory deleted / installing", directory_deleted
    yield "sshd restarted / installing", on_host("installing", SSHD_RESTARTED, GOOD)
    yield "sshd killed / installing", on_host("installing", SSHD_KILLED, GOOD)
    yield "openssh-server, libc6 update themselves / installing", update_themselves
    yield "disk full for the job, then for packages / install", full
    yield "package lock held for a while / install", partial(locked, 6, GOOD)
    yield "package manager interrupted / precheck, install", interrupted
    yield "window ends / assess, precheck, install", partial(window_ends, WINDOWS)
    yield "window ends / reboot", partial(window_ends, {RUN: (1.2, 0.9)})
    yield "other host key / reboot", other_key
    yield "old kernel after boot / validate", asks_again
    yield "services gone after boot / validate", service_gone
    yield "stop requested / installing", asked_to_stop
    yield "two controllers / installing", two_controllers
    yield "two runs / install", two_runs
    yield "update fails, configuration file edited / installing", fails
    yield "rebooted by a person / stage", rebooted_by_somebody
