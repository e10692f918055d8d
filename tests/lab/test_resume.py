"""A controller that dies, is cancelled or asked again, on real machines: nothing is done twice, none stays unseen."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest

from flows.engine.run_lease import STOPPING_LEASE_SECONDS
from tasks.domain.protocols.leases import LeaseStatus
from tasks.domain.states import OperationState
from tests.lab.engine import Fleet
from tests.lab.fleet import Lab, LabHost
from tests.lab.kill_and_resume import carry_out, faults_of
from tests.lab.killing import (
    COMMAND,
    SHORT_LEASES,
    Controllers,
    began,
    boots,
    configured,
    hold,
    is_held,
    its_lease_is_over,
    let_go,
    set_slow,
    wait_for,
)

pytestmark = pytest.mark.slow

SEED = 77  # one kill, 6 seconds after the first entry of the run
Boot = Callable[[int], list[LabHost]]


class Make(Protocol):
    """`make(n)` boots n hosts and gives what starts controllers over them."""

    def __call__(self, count: int, module: str = SHORT_LEASES) -> Controllers: ...


@pytest.fixture
def make(hosts: Boot, tmp_path: Path) -> Iterator[Make]:
    made: list[Controllers] = []

    def over(count: int, module: str = SHORT_LEASES) -> Controllers:
        made.append(Controllers(Fleet(hosts(count), tmp_path), module=module))
        return made[-1]

    yield over
    for controllers in made:
        controllers.end()


def test_killed_at_a_random_moment_it_ends_as_undisturbed(lab: Lab) -> None:
    """At the same moment every time; `make soak` takes twenty others."""
    (told,) = carry_out(1, 2, SEED, lab)
    assert told.faults == []
    assert [at != "over" for at in told.at] == [True], told.at


def is_stopping(lease: LeaseStatus) -> bool:
    """Whether the run that has this lease knows that it has to stop: then its lease is short."""
    assert lease.until is not None
    return lease.until - datetime.now(UTC) <= timedelta(seconds=STOPPING_LEASE_SECONDS)


def test_a_run_in_progress_refuses_others_and_ends_after_its_transaction_when_cancelled(
    make: Make, tmp_path: Path
) -> None:
    """Neither a resume nor another run begins, and both say why."""
    controllers = make(2, COMMAND)
    one, two = controllers.fleet.hosts
    hold([one, two])
    first = controllers.patch(waves={"size": 1, "failure_budget_count": 3})
    wait_for(lambda: is_held(one), "the installation")

    resumed = controllers.start("resume", "last", "--no-prefect", "--json")
    other = f"sqlite:///{tmp_path / 'other.db'}"  # another controller's records: only the machine knows of both
    masks = {"classifications": [], "include": ["lab-removes", "libssl*"]}  # which the first leaves alone
    second = controllers.patch(records=other, scope=one.name, updates=masks).end()
    assert second.code == 4, second.out  # nothing is wrong with the machine: another run has it
    (row,) = second.json["machines"]
    assert controllers.newest().run.id in row["reason"]
    assert "root" in row["reason"]
    refused = resumed.end()
    assert refused.code == 5
    assert refused.json["error"]["kind"] == "LeaseHeld"
    assert f"pid {first.process.pid}" in refused.json["error"]["message"]

    cancel = controllers.start("cancel", "last", "--reason", "the wrong fleet", "--wait", "--json")
    controllers.wait_for_lease(is_stopping, "that the run stops")
    let_go([one, two])
    told = cancel.end()
    rows = {row["machineName"]: row for row in told.json["machines"]}
    assert "the wrong fleet" in rows[two.name]["reason"]
    assert rows[two.name]["status"] == "NotStarted"
    assert first.end().code == 130
    assert one.sh("dpkg --audit", root=True).strip() == ""
    assert max(configured(one).values()) == 1
    assert configured(two) == {}
    assert boots(one) == boots(two) == 1


def test_killed_during_the_reboot_and_resumed_by_two_at_once_it_is_rebooted_once(make: Make) -> None:
    """The process that is killed has itself resumed the run, whose first process was killed at the installation.

    One of the two waits until the dead one's lease expires, and says so; there is nothing left for the other.
    """
    controllers = make(1)
    set_slow(controllers.fleet.hosts, 1)
    first = controllers.patch()
    controllers.wait_until(began("install"), "the installation")
    first.kill()
    its_lease_is_over(controllers)
    controllers.module = COMMAND  # its lease lasts a minute: on cores that others use, both resumes begin within that
    again = controllers.start("resume", "last", "--no-prefect", "--json")
    controllers.wait_until(began("reboot"), "the reboot")
    again.kill()
    began_at = time.monotonic()

    told = [each.end() for each in [controllers.start("resume", "last", "--no-prefect", "--json") for _ in range(2)]]

    resumed, other = sorted(told, key=lambda each: each.code in (2, 5))
    assert time.monotonic() - began_at < 240
    assert resumed.code in (0, 3), resumed.err
    assert other.code in (2, 5), other.err  # held by the other, or over already
    assert "waiting until its lease expires" in " ".join(resumed.err.split())  # lines break anywhere
    (row,) = resumed.json["machines"]
    assert row["rebootStatus"] == "Completed"
    assert faults_of(controllers.fleet.hosts) == []


def test_after_ctrl_c_the_run_is_over_and_resuming_it_is_refused(make: Make) -> None:
    controllers = make(1, COMMAND)
    hold(controllers.fleet.hosts)
    first = controllers.patch()
    wait_for(lambda: is_held(controllers.fleet.hosts[0]), "the installation")
    first.process.send_signal(signal.SIGINT)
    controllers.wait_for_lease(is_stopping, "that the run stops")
    let_go(controllers.fleet.hosts)
    assert first.end().code in (3, 130)
    told = controllers.resume()
    assert told.code == 2
    assert "is over" in told.json["error"]["message"]
    assert max(configured(controllers.fleet.hosts[0]).values()) == 1


def test_a_wish_to_stop_outlives_its_process(make: Make) -> None:
    controllers = make(2, COMMAND)
    one, two = controllers.fleet.hosts
    hold([one, two])
    first = controllers.patch(waves={"size": 1})
    wait_for(lambda: is_held(one), "the installation")
    first.process.send_signal(signal.SIGTERM)
    controllers.wait_for_lease(is_stopping, "that its lease is short")
    first.kill()
    let_go([one, two])
    controllers.wait_for_lease(lambda lease: not lease.is_held, "the end of its lease")
    (run,) = controllers.start("reconcile", "--no-prefect", "--json").end().json["runs"]
    assert run["action"] == "finalize"
    assert "SIGTERM" in run["reason"]
    assert configured(two) == {}
    assert max(configured(one).values()) == 1


def lock_of(host: LabHost) -> tuple[str, int]:
    """The run that has the host and until when, by the host's own note; 0 once it was given back."""
    run, until, *_ = host.sh(
        "cat /var/lib/fleetpatch/machine-lock 2>/dev/null || printf '\\n0\\n'", root=True
    ).splitlines()
    return run.partition("/")[0], int(until)


def downloaded(host: LabHost) -> set[str]:
    """Names of packages whose archives are on the host, whole."""
    return {name.partition("_")[0] for name in host.sh("ls /var/cache/apt/archives").split() if name.endswith(".deb")}


def test_a_killed_download_is_found_ends_and_gives_its_machines_back(make: Make, tmp_path: Path) -> None:
    controllers = make(2)
    controllers.kind = "stage"
    hosts = controllers.fleet.hosts
    killed = controllers.patch(download_only=True)
    controllers.wait_until(began("stage"), "the download")
    killed.kill()
    run = controllers.newest().run
    held = [host for host in hosts if lock_of(host)[0] == run.id and lock_of(host)[1]]
    assert held
    assert run.window is not None
    for host in held:  # its lock ends with the window and not an hour later; sooner if its order had not arrived yet
        ordered = host.sh("ls /var/lib/fleetpatch/jobs 2>/dev/null || true", root=True)
        beyond = lock_of(host)[1] - run.window.end.timestamp()
        assert beyond < 15
        assert beyond > -15 or not ordered
    others = f"sqlite:///{tmp_path}/o.db"
    told = controllers.patch(scope=held[0].name, download_only=True, records=others)
    assert run.id in told.end().json["machines"][0]["reason"]  # until then another download is kept out

    its_lease_is_over(controllers)
    (taken,) = controllers.start("reconcile", "--no-prefect", "--json").end().json["runs"]

    assert (taken["maintenanceRunId"], taken["action"]) == (run.id, "resume")
    report = controllers.newest()
    assert report.run.state is OperationState.COMPLETED_WITH_WARNINGS
    for host in hosts:
        assert lock_of(host) == (run.id, 0)
        assert downloaded(host) >= {"lab-plain", "lab-slow"}
        assert host.package_versions("lab-plain") == {"lab-plain": "1.0"}
        outcome = next(each for each in report.outcomes if each.machine == host.name)
        assert all("only downloaded" in r.reason for r in outcome.updates if r.update.name == "lab-plain")
    assert boots(hosts[0]) == 1


def test_a_killed_download_whose_time_is_over_holds_nobody_up_and_is_settled(make: Make, tmp_path: Path) -> None:
    controllers = make(1)
    controllers.kind = "stage"
    (host,) = controllers.fleet.hosts
    for minutes in (1, 5):  # a short window is over soon; on cores that others use it may be too short to begin in
        killed = controllers.patch(download_only=True, window={"minutes": minutes})
        with suppress(AssertionError):
            controllers.wait_until(began("stage"), "the download", 60 * minutes)
            break
        killed.end()
    else:
        pytest.fail("no download began in its window")
    killed.kill()
    run = controllers.newest().run
    assert run.window is not None
    time.sleep(max(0.0, run.window.end.timestamp() + 1 - time.time()))

    words = ("patch", host.name, "--no-prefect", "--yes", "--json", "--include", "lab-plain", "--only-included")
    told = controllers.start(*words, records=f"sqlite:///{tmp_path}/other.db").end()  # no records but the machine's own

    assert told.code == 0, told.out
    assert host.package_versions("lab-plain") == {"lab-plain": "2.0"}
    (taken,) = controllers.start("reconcile", "--no-prefect", "--json").end().json["runs"]
    assert taken["action"] == "finalize"
    assert "window was over" in taken["reason"]
    (outcome,) = controllers.newest().outcomes
    assert outcome.state is not OperationState.UNKNOWN
    assert lock_of(host)[1] == 0
