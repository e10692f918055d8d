"""Named faults on real machines, about time: a job that begins late, a clock that is set back, two windows at once."""

import time
from collections.abc import Callable, Iterator
from functools import partial

from tasks.domain.states import OperationState, UpdateState
from tests.faults.controllers import LAST, Broken
from tests.faults.lab_hard_cases import OTHER_CLOCK
from tests.faults.stage import Stage
from tests.lab.engine import configured_times

LATE_SECONDS = 48  # longer than a machine waits for a job that it started
LATE_UNIT = f"""d=/run/systemd/system/fleetpatch-.service.d; mkdir -p $d
printf '[Service]\\nExecStartPre=/bin/sleep {LATE_SECONDS}\\n' > $d/late.conf; systemctl daemon-reload"""
PUNCTUAL_UNIT = "rm -r /run/systemd/system/fleetpatch-.service.d; systemctl daemon-reload"
LATE_SETSID = f"""mv /usr/bin/systemd-run /usr/bin/systemd-run.off; cd /usr/local/sbin
printf '#!/bin/sh\\nsleep {LATE_SECONDS}\\nexec /usr/bin/setsid "$@"\\n' > setsid; chmod 755 setsid"""
PUNCTUAL_SETSID = "mv /usr/bin/systemd-run.off /usr/bin/systemd-run; rm /usr/local/sbin/setsid"


def begins_late(late: str, punctual: str, stage: Stage) -> None:
    """A job begins later than anybody waits for it: it was refused, so it never begins, and the lock is given back."""
    stage.patch(at="install", then=lambda: stage.host.sh(late, root=True), stage=False)
    stage.judge()
    outcome = stage.outcome()
    if outcome.state is not OperationState.FAILED or "so it never begins" not in outcome.reason:
        raise Broken(f"{outcome.state}: {outcome.reason}")
    time.sleep(LATE_SECONDS)
    if configured_times(stage.host, "lab-plain", "2.0") or list(stage.host.root.glob("var/lib/fleetpatch/jobs/*/rc")):
        raise Broken("the job began after it was refused")
    lock = (stage.host.root / "var/lib/fleetpatch/machine-lock").read_text().splitlines()
    if lock[1] != "0":
        raise Broken(f"the machine lock is left behind: {lock}")
    stage.host.sh(punctual, root=True)


def set_back(stage: Stage) -> None:
    """The machine's clock is set back in a transaction that goes on beyond the window: nothing else is begun."""
    after_slow = stage.offer_after_slow()
    command, place = stage.host.root / "usr/local/sbin/date", stage.host.root / "etc/lab-clock-ahead"
    command.write_text(OTHER_CLOCK)
    command.chmod(0o755)
    masks = ("lab-slow", *after_slow)
    run, _ = stage.patch_in_a_short_window(
        *masks, at="installing", then=lambda: place.write_text("-3600\n"), reboot="Never"
    )
    place.unlink()
    stage.judge(run)
    outcome = stage.outcome(run=run)
    states = {result.update.name: result for result in outcome.updates}
    late = [states[name] for name in after_slow]
    if any(each.state is not UpdateState.NOT_ATTEMPTED or "no time left" not in each.reason for each in late):
        raise Broken(f"begun after the window: {[(each.state, each.reason) for each in late]}")
    if outcome.window_exceeded_seconds < 3:
        raise Broken(f"the window was exceeded, and that is reported as {outcome.window_exceeded_seconds} s")


def download_gives_way(stage: Stage) -> None:
    """A download for another window is at work when a window opens: it is ended, and the machine is patched."""
    let_go = stage.limit_downloads()
    masks = (stage.family.large, "lab-plain")

    def window_opens() -> None:
        let_go()
        stage.patch(*masks, run=LAST, reboot="Never")

    stage.patch(*masks, at="stage", then=window_opens, download_only=True)
    stage.judge()
    stage.judge(LAST)
    outcome, patched = stage.outcome(), stage.outcome(run=LAST)
    if patched.state not in (OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS):
        raise Broken(f"the run of the window: {patched.state}: {patched.reason}")
    wrong = [result for result in patched.updates if result.update.name in masks and result.reason]
    if wrong or configured_times(stage.host, "lab-plain", "2.0") != 1:
        raise Broken(f"the run of the window did not install what it was to: {wrong}")
    if not all(f"because run {LAST} " in r.reason for r in outcome.updates if r.update.name in masks):
        raise Broken(f"the download: {[(r.update.name, r.state, r.reason) for r in outcome.updates]}")
    if outcome.state is OperationState.FAILED or (outcome.install and outcome.install.staged_seconds is not None):
        raise Broken(f"the download: {outcome.state}: {outcome.reason}")


def late_cases() -> Iterator[tuple[str, Callable[[Stage], None]]]:
    """Return the cases by name."""
    yield "job begins late / install", partial(begins_late, LATE_UNIT, PUNCTUAL_UNIT)
    yield "job begins late, without systemd-run / install", partial(begins_late, LATE_SETSID, PUNCTUAL_SETSID)
    yield "machine's clock set back / installing", set_back
    yield "download of another run / precheck", download_gives_way
