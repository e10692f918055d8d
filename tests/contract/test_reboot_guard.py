"""reboot.sh among others who change packages, in real shells with real locks; the simulated machine answers alike."""

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.domain.protocols.transport import Script, ScriptRecord
from tests.contract.test_reboot_script import BOOT, LATER, ME, ROOT, Machine, machine
from tests.support.fake_clock import FakeClock
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet

__all__ = ["machine"]
pytestmark = pytest.mark.skipif(not ROOT, reason="only root may order a reboot")

INHIBITORS = (
    'a(ssssuu) 3 "sleep" "UPower" "battery" "block" 0 4 "shutdown:sleep" "u-u" "wait" "delay" 0 5 '
    '"handle-lid-switch:shutdown" "backup" "the \\"nightly\\" one" "block" 0 77\n'
)
HOLD = """
use Fcntl; $| = 1; open my $file, ">>", $ARGV[0] or die;
my $whole = pack("s s x32", F_WRLCK, 0); fcntl($file, F_SETLK, $whole) or die "locked: $!"; print "held\\n"; <STDIN>;
"""


@contextmanager
def about_to_go_down(machine: Machine) -> Iterator[None]:
    """Order a reboot, and hold it up between its answer and the machine's last look, as long as this lasts."""
    gate, tool = machine.place / "gate", machine.place / "tools/sleep"
    tool.write_text(
        '#!/bin/sh\n[ "$1" = 7 ] || exec /bin/sleep "$@"\nnaps=0\n'
        f'while [ ! -e {gate} ] && [ "$naps" -lt 2400 ]; do naps=$((naps + 1)); /bin/sleep 0.05; done\n'
    )
    tool.chmod(0o755)
    assert order(machine, delay="7")["kind"] == "ordered"
    try:
        yield
    finally:
        gate.touch()


@contextmanager
def held(path: str) -> Iterator[int]:
    """Let a process of its own hold a lock, as apt does."""
    with subprocess.Popen(["perl", "-e", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process.pid
        finally:
            process.communicate(b"\n")


@contextmanager
def held_late(machine: Machine) -> Iterator[int]:
    """Let a process take the first lock after a reboot was ordered and before the machine's last look."""
    with ExitStack() as stack:
        with about_to_go_down(machine):
            pid = stack.enter_context(held(machine.locks[0]))
        yield pid


def may_lock(path: str) -> bool:
    """Whether somebody could begin now."""
    with Path(path).open("a") as file:
        try:
            fcntl.fcntl(file, fcntl.F_SETLK, struct.pack("hh32x", fcntl.F_WRLCK, os.SEEK_SET))
        except OSError:
            return False
    return True


def order(machine: Machine, **params: str) -> ScriptRecord:
    machine.locked()
    return machine.order({**ME, "latest": LATER, **params})


def refused(machine: Machine, about: str) -> str:
    """Return why an order is refused, which the read-only question tells as well; nothing goes down."""
    answer = order(machine)
    assert (answer["kind"], answer["about"], answer["boot_id"]) == ("refused", about, BOOT)
    assert not (machine.place / "orders").exists()
    boot, obstacle = machine.run("reboot_obstacles")
    assert boot == {"kind": "boot", "boot_id": BOOT}
    assert obstacle == {"kind": "obstacle", "about": about, "why": answer["why"]}
    return str(answer["why"])


@pytest.mark.parametrize("which", [0, 1])
def test_it_is_refused_while_a_process_holds_a_lock(machine: Machine, which: int) -> None:
    with held(machine.locks[which]) as pid:
        assert refused(machine, "lock") == f"perl (pid {pid}) holds {machine.locks[which]}"
    assert machine.run("reboot_obstacles") == ({"kind": "boot", "boot_id": BOOT},)
    assert order(machine)["kind"] == "ordered"


def test_a_lock_is_seen_where_a_folder_above_it_is_a_link(machine: Machine) -> None:
    """As /var is where it was moved to another disk: a process' open files are told by where they really lie."""
    (machine.place / "link").symlink_to(machine.place)
    with held(machine.locks[0]) as pid:
        answer = order(machine, locks=f"{machine.place}/link/frontend")
        assert (answer["kind"], answer.get("about")) == ("refused", "lock")
        assert answer["why"] == f"perl (pid {pid}) holds {machine.place}/link/frontend"
    assert not (machine.place / "orders").exists()


def test_it_is_refused_while_packages_are_half_done(machine: Machine) -> None:
    lines = [f"ok half-configured p{number}" for number in range(4)]
    (machine.place / "tools/packages").write_text(
        "\n".join(["ok installed a", "ok config-files b", "ok triggers-pending c", "reinstreq installed d", *lines])
    )
    assert refused(machine, "packages") == "d is installed, p0 is half-configured, p1 is half-configured and 2 more"


def test_it_is_refused_while_somebody_keeps_the_machine_from_shutting_down(machine: Machine) -> None:
    (machine.place / "tools/inhibitors").write_text(INHIBITORS)
    why = refused(machine, "inhibitor")
    assert why == "backup (pid 77) keeps the machine from shutting down: the 'nightly' one"
    own = INHIBITORS.replace('"backup" "the \\"nightly\\" one"', '"fleetpatch" "job 7-install"')
    (machine.place / "tools/inhibitors").write_text(own)
    assert refused(machine, "inhibitor") == "job 7-install of fleetpatch (pid 77) has not ended"


def test_from_the_order_on_nobody_else_gets_the_locks(machine: Machine) -> None:
    with about_to_go_down(machine):
        assert not any(may_lock(path) for path in machine.locks)
        assert machine.run("reboot_obstacles") == ({"kind": "boot", "boot_id": BOOT},)
        assert order(machine)["again"] is True
    assert len(machine.orders) == 1


def test_without_perl_it_looks_again_just_before_the_machine_goes_down(machine: Machine) -> None:
    (machine.place / "tools/perl").write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done; shift; exec "$@"\n')
    (machine.place / "tools/perl").chmod(0o755)
    with held_late(machine) as pid:
        told = until(machine, lambda records: len(records) == 3)
        assert told[1] == {"kind": "given_up", "about": "lock", "why": f"perl (pid {pid}) holds {machine.locks[0]}"}
    assert not (machine.place / "orders").exists()
    assert may_lock(machine.locks[0])


def test_an_order_that_is_given_up_lets_go_of_the_locks(machine: Machine) -> None:
    with about_to_go_down(machine):
        (machine.place / "tools/packages").write_text("ok unpacked a\n")
    told = until(machine, lambda records: len(records) == 3)
    assert told[1] == {"kind": "given_up", "about": "packages", "why": "a is unpacked"}
    assert not (machine.place / "orders").exists()
    wait_for(lambda: may_lock(machine.locks[0]))
    (machine.place / "tools/packages").unlink()
    assert order(machine)["kind"] == "ordered"
    assert len(machine.orders) == 1


def test_a_lock_that_somebody_has_is_not_taken_from_under_him(machine: Machine) -> None:
    """Who has the first lock may be about to take the second: it must be free for him."""
    with held(machine.locks[0]):
        order(machine)
        assert may_lock(machine.locks[1])


def test_it_is_refused_where_it_could_not_say_what_became_of_it(machine: Machine) -> None:
    answer = order(machine, note="/nowhere/note")
    assert (answer["kind"], answer["about"], answer["why"]) == ("refused", "room", "cannot write /nowhere/note")


def test_it_is_refused_without_the_text_that_looks_again(machine: Machine) -> None:
    assert order(machine, guard="")["kind"] == "refused"
    assert not (machine.place / "orders").exists()


def until(machine: Machine, wanted: Callable[[Sequence[ScriptRecord]], bool]) -> Sequence[ScriptRecord]:
    """Ask what keeps the machine up until the answer is as wanted."""
    answers: list[Sequence[ScriptRecord]] = []

    def asked() -> bool:
        answers.append(machine.run("reboot_obstacles"))
        return wanted(answers[-1])

    wait_for(asked)
    return answers[-1]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_simulated_machine_answers_as_a_real_one() -> None:
    fleet = SimFleet(clock=FakeClock())
    twin = fleet.add("twin", [package := FakePackage("a")])
    now = fleet.clock.now()

    def told() -> tuple[object, object]:
        answer = twin._reboot(Script("reboot", {"expected_boot_id": twin.boot_id}))
        records = twin.guard.records(twin.boot_id)
        assert records[0] == {"kind": "boot", "boot_id": twin.boot_id}
        assert [each["about"] for each in records[1:]] == [answer["about"]]
        return answer["kind"], answer["about"]

    twin.world.locks = ((now, now + timedelta(seconds=9)),)
    assert told() == ("refused", "lock")
    twin.world.locks = ()
    package.broken = True
    assert told() == ("refused", "packages")
    package.broken, twin.guard.inhibitor = False, "backup (pid 7)"
    assert told() == ("refused", "inhibitor")
    twin.guard.inhibitor = ""
    assert twin._reboot(Script("reboot", {"expected_boot_id": twin.boot_id}))["kind"] == "ordered"
    assert twin.guard.records(twin.boot_id) == [{"kind": "boot", "boot_id": twin.boot_id}]
    package.broken = True
    twin._go_down()
    assert twin.boots.count == 0
    assert [each["kind"] for each in twin.guard.records(twin.boot_id)] == ["boot", "given_up", "obstacle"]
