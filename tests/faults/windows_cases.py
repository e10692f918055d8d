"""The named faults on Windows machines. Where a name is that of a case on Linux hosts, the promise is the same."""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from tasks.domain.states import OperationState, RebootState, UpdateState
from tasks.steps.context.run_control import StopToken
from tests.faults.controllers import BEFORE, RUN, Broken, NotReached
from tests.faults.lab_cases import ANY, BAD, GOOD, stop_between_writes
from tests.faults.windows_around import cases_around
from tests.faults.windows_case import (
    WindowsCase,
    all_is_done,
    expect,
    nothing_is_installed,
    state_of,
    while_installing,
)
from tests.faults.windows_stage import BOOTS, PLAIN, SLOW, WindowsStage
from tests.lab.windows.patching import kb

CUT_SECONDS = 4.0


def killed(steps: Sequence[str], stage: WindowsStage) -> None:
    """kill -9 of the controller at each step; other processes take the run up, and it ends as if nothing had been."""
    stage.killed_and_taken_up(steps)
    all_is_done(stage)


def cut(at: str, stage: WindowsStage) -> None:
    """The network goes away at a step and comes back."""
    host = stage.host

    def restore() -> None:
        host.mend()
        host.let_go()

    def strike() -> None:
        host.cut()
        threading.Timer(CUT_SECONDS, restore).start()

    if at == "installing":
        while_installing(stage, strike)
    else:
        stage.patch(at=at, then=strike)
    host.wait_login()
    if at == "installing":
        all_is_done(stage)
    else:
        expect(stage, *ANY)


def service_restarted(stage: WindowsStage) -> None:
    """WinRM itself restarts while something is being installed: its shells are lost, and the job goes on."""

    def strike() -> None:
        before = stage.host.served.host.connected
        stage.host.served.host.restart_service()
        stage.fleet.open_gate_when("slow", lambda: stage.host.served.host.connected > before)

    while_installing(stage, strike)
    all_is_done(stage)


def crashed(at: str, stage: WindowsStage) -> None:
    """A power cut at a step."""
    before = stage.host.boot_id()
    if at == "installing":
        while_installing(stage, stage.host.crash)
    else:
        stage.patch(at=at, then=stage.host.crash)
    stage.host.wait_reboot(before)
    expect(stage, *(BAD if at == "installing" else ANY))
    if at == "installing" and state_of(stage, SLOW)[0] is UpdateState.INSTALLED:
        raise Broken("what the power cut ended is reported as installed")


def job_killed(stage: WindowsStage) -> None:
    """The job's process is killed in an installation, which is a service's work: it goes on, and is waited for."""

    def strike() -> None:
        stage.host.kill_job()
        threading.Timer(2, stage.host.let_go).start()

    while_installing(stage, strike)
    expect(stage, *ANY)
    if all((job / "rc").exists() for job in stage.jobs()):
        raise Broken("no job was killed, so this case proves nothing")


def jobs_deleted(stage: WindowsStage) -> None:
    """Somebody deletes the folders of jobs while one installs: Windows keeps what the job needs and what it tells."""

    def strike() -> None:
        stage.host.delete_jobs()
        threading.Timer(2, stage.host.let_go).start()

    while_installing(stage, strike)
    all_is_done(stage)


def locked(stage: WindowsStage) -> None:
    """Another updater is at work when the installation begins, and ends: ours waits, and then all is done."""
    stage.patch(at="install", then=partial(stage.host.other_updater, 6))
    all_is_done(stage)


def locked_for_good(stage: WindowsStage) -> None:
    """Another updater is at work until the window is over: nothing is begun.

    An earlier run is asked to stop while it waits for that. It begins nothing when the other updater has ended.
    """

    def strike_and_stop() -> None:
        stage.host.other_updater(600)
        threading.Timer(6, partial(stage.control.request_stop, "tested")).start()

    stage.patch(at="install", then=strike_and_stop, run=BEFORE, stage=False, reboot="Never")
    stage.judge(BEFORE)
    for number in (SLOW, PLAIN, BOOTS):
        state, reason = state_of(stage, number, BEFORE)
        if state is not UpdateState.NOT_ATTEMPTED or "stop" not in reason:
            raise Broken(f"{state}: {reason}")
    stage.host.other_updater(0)
    time.sleep(6)  # longer than a job waits until it looks again
    nothing_is_installed(stage)
    stage.control = StopToken()
    strike = partial(stage.host.other_updater, 600)
    stage.patch(at="install", then=strike, minutes=2.5, stage=False, reboot="Never", reboot_reserve_minutes=0.1)
    expect(stage, *GOOD)
    for number in (SLOW, PLAIN, BOOTS):
        state, reason = state_of(stage, number)
        if state is not UpdateState.NOT_ATTEMPTED:
            raise Broken(f"{state}: {reason}")
    nothing_is_installed(stage)


def updater_at_reboot(stage: WindowsStage) -> None:
    """Another updater is at work when the reboot comes due: it waits, and says for what."""
    stage.patch(at="reboot", then=partial(stage.host.other_updater, 6))
    all_is_done(stage)
    result = stage.outcome().reboot_result
    if result is None or "(waited " not in result.reason:
        raise Broken(f"told as {result}")


def other_certificate(stage: WindowsStage) -> None:
    """The machine comes back from its reboot with another certificate: it gets no password."""
    stage.fleet.describe("https")
    host = stage.host.served.host
    logins: list[int] = []

    def strike() -> None:
        host.show("self-signed")
        host.drop_connections()
        logins.append(len(host.accounts.logins))

    before = stage.host.boot_id()
    stage.patch(at="going down", then=strike)
    stage.host.wait_reboot(before)
    if len(host.accounts.logins) != logins[0]:
        raise Broken("somebody logged in at a machine with another certificate")
    host.show("good")
    expect(stage, *BAD)
    if stage.outcome().reboot is not RebootState.FAILED or "certificate" not in stage.outcome().reason:
        raise Broken(f"its reboot is reported as {stage.outcome().reboot}: {stage.outcome().reason}")


def stays_down(stage: WindowsStage) -> None:
    """The machine does not come back from its reboot."""
    stage.patch(coming_up_minutes=0.1)
    expect(stage, *BAD)
    if "did not come back" not in stage.outcome().reason:
        raise Broken(stage.outcome().reason)
    stage.host.crash()  # a person switches it off and on


def asked_to_stop(stage: WindowsStage) -> None:
    """The run is asked to stop while something is being installed: that is let end, and nothing else begins."""
    boot = stage.host.boot_id()

    def strike() -> None:
        stage.control.request_stop("tested")
        stage.fleet.open_gate_when("slow", stage.fleet.stop_has_arrived)

    while_installing(stage, strike, reboot="Always")
    expect(stage, *GOOD)
    if stage.host.boot_id() != boot:
        raise Broken("it was rebooted after it was asked to stop")
    if [stage.host.times(number) for number in (SLOW, PLAIN, BOOTS)] != [1, 0, 0]:
        raise Broken(f"what had begun did not run to its end, or more was begun: {stage.host.installed()}")


def window_ends(stage: WindowsStage) -> None:
    """Windows too short for all: what they cannot hold is not begun, and says why."""
    for run, minutes in ((BEFORE, 0.01), (RUN, 0.3)):
        stage.patch(run=run, minutes=minutes, stage=False, reboot_reserve_minutes=0.1)
        expect(stage, *GOOD, OperationState.NOT_STARTED, run=run)
        for number in (SLOW, PLAIN, BOOTS):
            if any(each.update.name == kb(number) for each in stage.outcome(run).updates):
                state, reason = state_of(stage, number, run)
                if state is UpdateState.NOT_ATTEMPTED and not ("left" in reason or "late" in reason):
                    raise Broken(f"no arithmetic: {reason}")
        if run == BEFORE:
            nothing_is_installed(stage)


def _patch_beyond_the_window(stage: WindowsStage) -> str:
    """Let an update be installed until the window is over; return the run.

    On cores that others use, a run may come to the update too late for its window: then the next window is longer.
    """
    for run, minutes in ((RUN, 1.5), ("20260310-010001-aaaaaa", 4.0), ("20260310-010002-aaaaaa", 10.0)):
        end = time.monotonic() + 60 * minutes + 10

        def strike(end: float = end) -> None:
            threading.Timer(max(0.0, end - time.monotonic()), stage.host.let_go).start()

        with suppress(NotReached):
            fields: dict[str, Any] = {"stage": False, "reboot": "Always", "reboot_reserve_minutes": 0.02}
            while_installing(stage, strike, run=run, minutes=minutes, **fields)
            return run
        nothing_is_installed(stage)
    raise Broken("no run began the update in its window")


def window_ends_in_an_installation(stage: WindowsStage) -> None:
    """The window ends while an update is being installed: that ends, nothing else begins, and it is told."""
    boot = stage.host.boot_id()
    run = _patch_beyond_the_window(stage)
    stage.judge(run)
    outcome = stage.outcome(run)
    state, reason = state_of(stage, SLOW, run)
    if state is not UpdateState.INSTALLED or "passed the window's end by" not in reason:
        raise Broken(f"the update is {state}: {reason}")
    if any(state_of(stage, number, run)[0] is not UpdateState.NOT_ATTEMPTED for number in (PLAIN, BOOTS)):
        raise Broken(f"the rest: {state_of(stage, PLAIN, run)}, {state_of(stage, BOOTS, run)}")
    if outcome.state is not OperationState.COMPLETED_WITH_WARNINGS or outcome.window_exceeded_seconds <= 0:
        raise Broken(f"{outcome.state}, exceeded by {outcome.window_exceeded_seconds}: {outcome.reason}")
    if stage.host.boot_id() != boot:
        raise Broken("it was rebooted after the window")


def two_controllers(stage: WindowsStage) -> None:
    """The controller is stopped (SIGSTOP), another one takes the run up, and the first one wakes."""
    stage.host.hold()
    stage.describe_request()
    first = stage.controller("begin")
    stage.host.served.machine.wait_until(lambda state: state["activity"] is not None, timeout=240)
    stop_between_writes(first, stage.place / "records.db")
    try:
        stage.refused()
        stage.host.let_go()
        stage.taken_up()
    finally:
        first.send_signal(signal.SIGCONT)
    first.communicate(timeout=360)
    if first.returncode == 0:
        raise Broken("the first controller takes the run for its own")
    all_is_done(stage)


def two_runs(stage: WindowsStage) -> None:
    """Two runs want one machine: the second is told whose it is."""
    stage.patch(at="install", then=partial(stage.patch, run=BEFORE))
    all_is_done(stage)
    refused = stage.outcome(BEFORE)
    if refused.state is not OperationState.NOT_STARTED or RUN not in refused.reason:
        raise Broken(f"{refused.state}: {refused.reason}")


def rebooted_by_somebody(at: str, stage: WindowsStage) -> None:
    """A person reboots the machine in the midst of a run."""
    before = stage.host.boot_id()
    if at == "installing":
        while_installing(stage, stage.host.reboot_by_person)
    else:
        stage.patch(at=at, then=stage.host.reboot_by_person)
    stage.host.wait_reboot(before)
    expect(stage, *(BAD if at == "installing" else ANY))


def clock_jumps(ahead: int, stage: WindowsStage) -> None:
    """The machine's clock jumps, once its difference was measured."""
    stage.patch(at="install", then=partial(stage.host.set_clock, ahead), reboot="Never", stage=False)
    stage.host.set_clock(0)
    stage.judge()
    late = [number for number in (SLOW, PLAIN, BOOTS) if state_of(stage, number)[0] is UpdateState.NOT_ATTEMPTED]
    if ahead > 0 and len(late) != 3:
        raise Broken(f"it was begun beyond the window by the machine's own clock: {stage.outcome().reason}")
    if ahead > 0:
        nothing_is_installed(stage)
    if ahead < 0 and (late or stage.outcome().state not in GOOD):
        raise Broken(f"{stage.outcome().state}: {stage.outcome().reason}")


def windows_cases() -> Iterator[tuple[str, WindowsCase]]:
    """Return all cases by name, those first that take long."""
    yield "window ends in an update / installing", WindowsCase(window_ends_in_an_installation)
    yield "package lock held for good, stop requested / install", WindowsCase(locked_for_good)
    yield "controller killed / installing, reboot", WindowsCase(partial(killed, ("installing", "going down")))
    yield "controller killed / precheck, validate", WindowsCase(partial(killed, ("precheck", "validate")))
    yield "two controllers / installing", WindowsCase(two_controllers)
    yield "never comes back / reboot", WindowsCase(stays_down, {"hangs_at_boot": True})
    for at in ("precheck", "stage", "installing", "reboot", "validate"):
        yield f"connection lost / {at}", WindowsCase(partial(cut, at))
    for at in ("precheck", "installing", "reboot", "validate"):
        yield f"power cut / {at}", WindowsCase(partial(crashed, at))
    yield "WinRM restarted / installing", WindowsCase(service_restarted)
    yield "whole job killed / installing", WindowsCase(job_killed)
    yield "job's directory deleted / installing", WindowsCase(jobs_deleted)
    yield "package lock held for a while / install", WindowsCase(locked)
    yield "administrator's transaction / reboot", WindowsCase(updater_at_reboot)
    yield "window ends / assess, precheck, install", WindowsCase(window_ends)
    yield "other host key / reboot", WindowsCase(other_certificate)
    yield "stop requested / installing", WindowsCase(asked_to_stop)
    yield "two runs / install", WindowsCase(two_runs)
    for at in ("stage", "installing"):
        yield f"rebooted by a person / {at}", WindowsCase(partial(rebooted_by_somebody, at))
    yield "machine's clock jumps ahead / install", WindowsCase(partial(clock_jumps, 3600))
    yield "machine's clock jumps back / install", WindowsCase(partial(clock_jumps, -3600))
    yield from cases_around()
