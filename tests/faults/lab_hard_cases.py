"""More of the named faults on real machines: those that need a stage of their own, or tell a longer story."""

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import yaml

from tasks.domain.states import OperationState, RebootState, UpdateState
from tasks.steps.context.run_control import StopToken
from tests.faults.controllers import BEFORE, LAST, Broken
from tests.faults.stage import Stage, later
from tests.lab.engine import configured_times, read_installations
from tests.support.forked import ForkedProcess

GOOD = (OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS)
NAME = "machine.fleetpatch-lab.test"
READ_ONLY = """[Unit]
DefaultDependencies=no
ConditionPathExists=/etc/lab-read-only
After=local-fs.target
Before=sysinit.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'for d in /usr /etc /var; do mount --bind $d $d && mount -o remount,bind,ro $d; done'
[Install]
WantedBy=sysinit.target
"""
OTHER_CLOCK = """#!/bin/sh
ahead=$(cat /etc/lab-clock-ahead 2>/dev/null)
exec /bin/date -d "${ahead:-0} seconds" "$@"
"""


def order_on_its_way(stage: Stage) -> None:
    """A controller is stopped with its order on its way; the run is settled by another one; then the order arrives."""
    stage.describe_request("lab-slow", "lab-plain")
    first = stage.controller("begin", "order=held-up", run=BEFORE)
    stopped(first)
    stage.taken_up("settle", run=BEFORE)
    stage.judge(BEFORE)
    if stage.versions("lab-plain") != {"lab-plain": "1.0"}:
        raise Broken("a finalized run began more work")
    first.send_signal(signal.SIGCONT)
    _, said = first.communicate(timeout=360)
    if first.returncode == 0:
        raise Broken("the first controller takes the run for its own")
    begun = [place.name for place in (stage.host.root / "var/lib/fleetpatch/jobs").glob("*-install-*")]
    if begun or stage.versions("lab-slow", "lab-plain") != {"lab-slow": "1.0", "lab-plain": "1.0"}:
        raise Broken(f"the order was executed after the run was over: {begun}; {said}")
    updates = stage.outcome(run=BEFORE).updates
    told = {result.update.name: result.state for result in updates if result.state is not UpdateState.NOT_SELECTED}
    if told != dict.fromkeys(("lab-slow", "lab-plain"), UpdateState.NOT_ATTEMPTED):
        raise Broken(f"told as {told}")
    (stage.place / "struck").unlink()
    _reboot_order_on_its_way(stage)


def _reboot_order_on_its_way(stage: Stage) -> None:
    """As above, with the order of a reboot, in the next run."""
    stage.describe_request("lab-plain", "lab-reboot")
    boot = stage.host.boot_id()
    first = stage.controller("begin", "reboot order=held-up")
    stopped(first)
    stage.taken_up("settle")
    stage.judge()
    first.send_signal(signal.SIGCONT)
    _, said = first.communicate(timeout=360)
    if first.returncode == 0:
        raise Broken("the first controller takes the run for its own")
    time.sleep(8)  # an order that was heard is carried out after two seconds
    if "no longer has the lock of this machine" not in said:
        raise Broken(f"the order was not refused: {said}")
    if stage.host.boot_id() != boot:
        raise Broken(f"it was rebooted after the run was over; {said}")
    if stage.outcome().reboot is not RebootState.REQUIRED:
        raise Broken(f"told as {stage.outcome().reboot}: {stage.outcome().reason}")


def stopped(process: ForkedProcess) -> None:
    """Wait until a process is stopped (SIGSTOP)."""
    until = time.monotonic() + 240
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2][:1] != "T":
        if process.poll() is not None or time.monotonic() > until:
            raise Broken(f"the controller was to be stopped, and ended with {process.poll()}")
        time.sleep(0.1)


def read_only_after_boot(stage: Stage) -> None:
    """The machine comes back from its reboot with what packages are made of read-only: it fails, and is told why.

    The root itself can't be: a host's is busy from the start, so its folders are bound to themselves, read-only.
    """
    unit = stage.host.root / "etc/systemd/system/lab-read-only.service"
    unit.write_text(READ_ONLY)
    stage.host.sh("systemctl enable -q lab-read-only", root=True)
    flag = stage.host.root / "etc/lab-read-only"
    stage.patch("lab-plain", "lab-reboot", at="reboot", then=flag.touch, come_back_seconds=3)
    if "read-only" not in stage.host.sh("touch /var/lib/x 2>&1 || true", root=True).lower():
        raise Broken("it is not read-only, so this case proves nothing")
    outcome = stage.outcome()
    told = "; ".join([outcome.reason, *(finding.message for finding in outcome.findings)])
    flag.unlink()
    stage.host.crash()
    stage.host.wait_login()
    (stage.host.root / "var/lib/fleetpatch/machine-lock").unlink()  # nothing could be written, so it was kept
    stage.judge()
    found = stage.family.read_only
    if outcome.reboot is not RebootState.COMPLETED or outcome.state is not OperationState.FAILED or found not in told:
        raise Broken(f"{outcome.state}, reboot {outcome.reboot}: {told}")


def clock_jumps(ahead: int, stage: Stage) -> None:
    """The machine's clock jumps, as its scripts read it, once its difference was measured."""
    command = stage.host.root / "usr/local/sbin/date"
    command.write_text(OTHER_CLOCK)
    command.chmod(0o755)
    place = stage.host.root / "etc/lab-clock-ahead"
    stage.patch("lab-plain", "lab-conffile", at="install", then=lambda: place.write_text(f"{ahead}\n"), reboot="Never")
    place.unlink()
    stage.judge()
    outcome = stage.outcome()
    late = [r for r in outcome.updates if r.state is UpdateState.NOT_ATTEMPTED and "its turn came" in r.reason]
    if ahead > 0 and (len(late) != 2 or stage.versions("lab-plain") != {"lab-plain": "1.0"}):
        raise Broken(f"it was begun beyond the window by the machine's own clock: {outcome.reason}")
    if ahead < 0 and outcome.state not in GOOD:
        raise Broken(f"{outcome.state}: {outcome.reason}")


def lock_for_good(stage: Stage) -> None:
    """Somebody's package manager holds the lock until the window is over: nothing is begun, and nobody is killed.

    An earlier run is asked to stop while it waits for that lock. It begins nothing when the lock is free.
    """

    def strike() -> None:
        command = stage.family.long_lock.format(seconds=600)
        stage.host.sh(f"systemd-run --quiet --unit=locker {command}; sleep 2", root=True)

    def strike_and_stop() -> None:
        strike()
        threading.Timer(8, partial(stage.control.request_stop, "tested")).start()

    stage.patch("lab-plain", at="install", then=strike_and_stop, stage=False, reboot="Never", run=BEFORE)
    stage.judge(BEFORE)
    (result,) = [each for each in stage.outcome(run=BEFORE).updates if each.update.name == "lab-plain"]
    if result.state is not UpdateState.NOT_ATTEMPTED or "asked to stop" not in result.reason:
        raise Broken(f"{result.state}: {result.reason}")
    stage.host.sh("systemctl stop locker; sleep 10", root=True)  # longer than the job waits until it looks again
    if configured_times(stage.host, "lab-plain", "2.0"):
        raise Broken("it was installed when the lock was free")
    stage.control = StopToken()
    minutes = 2.0 + 2 * stage.lead_seconds / 60  # on cores that others use, the wait must be long enough to begin
    stage.patch("lab-plain", "lab-conffile", at="install", then=strike, minutes=minutes, reboot="Never", stage=False)
    stage.judge()
    outcome = stage.outcome()
    told = {r.update.name: r.reason for r in outcome.updates if r.state is UpdateState.NOT_ATTEMPTED}
    reasons = ("another process locked the package manager", "no time left")
    if set(told) != {"lab-plain", "lab-conffile"} or not all(reason.startswith(reasons) for reason in told.values()):
        raise Broken(f"{outcome.state}: {outcome.reason}")
    if outcome.state not in GOOD or not any(reason.startswith(reasons[0]) for reason in told.values()):
        raise Broken(f"{outcome.state}: {outcome.reason}")
    if stage.host.sh("systemctl is-active locker || true", root=True).strip() != "active":
        raise Broken("the process with the lock was killed")
    stage.host.sh("systemctl stop locker", root=True)


def starved(stage: Stage) -> None:
    """The controller is out of file descriptors for a while."""
    stage.carried("installing=starved", "lab-slow", "lab-plain", "lab-reboot")
    if configured_times(stage.host, "lab-slow", "2.0") != 1:
        raise Broken("lab-slow was not installed once")


def nameless(at: str, stage: Stage) -> None:
    """The machine's name can't be resolved for a while."""
    place = stage.place / "fleet.yaml"
    data = yaml.safe_load(place.read_text())
    keys = stage.place / "known_hosts"
    keys.write_text(Path(data["host_keys"]["known_hosts"]).read_text().replace(stage.host.address, NAME))
    data["host_keys"]["known_hosts"] = str(keys)
    data["machines"][0]["address"] = NAME
    place.write_text(yaml.safe_dump(data))
    names = stage.place / "names.json"
    names.write_text(json.dumps({NAME: stage.host.address}))
    stage.carried(f"{at}=nameless", "lab-slow", "lab-plain", "lab-reboot")
    data["machines"][0]["address"] = stage.host.address
    data["host_keys"]["known_hosts"] = str(stage.host.known_hosts)
    place.write_text(yaml.safe_dump(data))


def records_full(at: str, stage: Stage) -> None:
    """The disk of the records is full for a while."""
    place = stage.place / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], check=True)
    stage.records_url = f"sqlite:///{place / 'records.db'}"
    filler = place / "filler"

    def strike() -> None:
        with filler.open("wb", buffering=0) as out:
            for size in (65536, 512):
                try:
                    while out.write(b"x" * size):
                        pass
                except OSError:
                    continue
        later(5, filler.unlink)

    try:
        stage.patch("lab-slow", "lab-plain", "lab-reboot", at=at, then=strike)
        stage.judge()
        if stage.outcome().state not in GOOD:
            raise Broken(f"{stage.outcome().state}: {stage.outcome().reason}")
        stage.last_run_heals()
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def window_ends_in_a_postinst(stage: Stage) -> None:
    """The window ends in the midst of a transaction: that ends, nothing else begins, and the next run does the rest."""
    after_slow = stage.offer_after_slow()
    masks = ("lab-slow", *after_slow)
    run, boot = stage.patch_in_a_short_window(*masks, reboot="Always", reboot_reserve_minutes=0.02)
    stage.judge(run)
    outcome, window = stage.outcome(run=run), stage.report(run).run.window
    states = {result.update.name: result for result in outcome.updates}
    slow, rest = states["lab-slow"], [states[name] for name in after_slow]
    if slow.state is not UpdateState.INSTALLED or "passed the window's end by" not in slow.reason:
        raise Broken(f"lab-slow is {slow.state}: {slow.reason}")
    if outcome.window_exceeded_seconds < 3 or "the window was exceeded by" not in outcome.reason:
        raise Broken(f"exceeded by {outcome.window_exceeded_seconds}: {outcome.reason}")
    if any(each.state is not UpdateState.NOT_ATTEMPTED or "no time left" not in each.reason for each in rest):
        raise Broken(f"the rest: {[(each.state, each.reason) for each in rest]}")
    if outcome.state is not OperationState.COMPLETED_WITH_WARNINGS or window is None:
        raise Broken(f"{outcome.state}: {outcome.reason}")
    if outcome.install is None or any(
        each.exit_code != 0 or each.started_at is None or each.started_at >= window.end
        for each in outcome.install.transactions
    ):
        raise Broken(f"not all that began did so in the window and ended well: {outcome.install}")
    if stage.host.boot_id() != boot or outcome.reboot is RebootState.COMPLETED:
        raise Broken("it was rebooted after the window")
    stage.patch(*masks, run=LAST)
    stage.judge(LAST)
    done = {r.update.name: r.state for r in stage.outcome(run=LAST).updates if r.state is UpdateState.INSTALLED}
    if set(done) != set(after_slow) or configured_times(stage.host, "lab-slow", "2.0") != 1:
        raise Broken(f"the next run installed {sorted(done)}")


def slow_mirror(stage: Stage, *, ahead: bool) -> None:
    """The mirror is so slow that a download outlasts the window: it is ended, and nothing is unpacked after the window.

    An update that is small enough is installed all the same, and the next run does the rest.
    """
    let_go = stage.limit_downloads()
    large = stage.family.large
    masks = (large, "lab-plain")
    report = stage.patch(*masks, minutes=1.1, reboot="Never", stage=ahead)
    stage.judge()
    window, outcome = report.run.window, stage.outcome()
    late = [each for each in read_installations(stage.host) if window is None or each.at > window.end]
    if late:
        raise Broken(f"installed after the window's end, {window}: {late}")
    told = {result.update.name: result for result in outcome.updates}
    slow = told[large]
    if slow.state is not UpdateState.NOT_ATTEMPTED or "download" not in slow.reason:
        raise Broken(f"{large} is {slow.state}: {slow.reason}")
    if outcome.state is not OperationState.COMPLETED_WITH_WARNINGS:
        raise Broken(f"{outcome.state}: {outcome.reason}")
    if stage.host.sh(f"pgrep -cx {stage.family.downloader} || true", root=True).strip() != "0":
        raise Broken("the download goes on")
    let_go()
    stage.patch(*masks, run=LAST)
    stage.judge(LAST)
    done = {result.update.name: result.state for result in stage.outcome(run=LAST).updates}
    if done[large] is not UpdateState.INSTALLED or stage.versions("lab-plain") != {"lab-plain": "2.0"}:
        raise Broken(f"the next run: {stage.outcome(run=LAST).reason}")


def hard_cases() -> Iterator[tuple[str, Callable[[Stage], None]]]:
    """Return the cases by name."""
    yield "order in transit / install, reboot", order_on_its_way
    yield "root read-only after boot / reboot", read_only_after_boot
    yield "machine's clock jumps ahead / install", partial(clock_jumps, 3600)
    yield "machine's clock jumps back / install", partial(clock_jumps, -3600)
    yield "package lock held for good, stop requested / install", lock_for_good
    yield "controller out of file descriptors / installing", starved
    yield "name can't be resolved / installing", partial(nameless, "installing")
    yield "name can't be resolved / reboot", partial(nameless, "going down")
    yield "records' disk full / installing", partial(records_full, "installing")
    yield "window ends in a postinst / installing", window_ends_in_a_postinst
    yield "slow mirror / stage", partial(slow_mirror, ahead=True)
    yield "slow mirror / install", partial(slow_mirror, ahead=False)
