"""power.sh in real shells: when it powers a machine off. What would take this machine down is replaced by a note."""

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.machines.managers.apt.manager import AptManager
from tasks.machines.transport.output_decoder import ScriptOutputDecoder, generate_nonce
from tasks.machines.transport.posix_shell import build_script_stdin
from tasks.machines.transport.script_library import compose_script, load_script
from tests.support.boot import read_boot
from tests.support.shells import SHELLS

BOOT = read_boot()
LATER, PAST, RELEASED = "9999999999", "1000000000", "0"
TOOLS = {
    "setsid": '"$@" &\n',
    "systemd-run": 'while :; do case $1 in -*) shift ;; *) break ;; esac; done; "$@" &\n',
    "systemctl": (
        'case $1 in poweroff) echo poweroff >>"$(dirname "$0")/../orders" ;;\n'
        'is-failed) [ -e "$(dirname "$0")/../failed" ] ;; esac\n'
    ),
    "journalctl": "echo 'Failed at step EXEC spawning /bin/sh: Permission denied'\n",
    "shutdown": 'echo poweroff >>"$(dirname "$0")/../orders"\n',
    "poweroff": 'echo poweroff >>"$(dirname "$0")/../orders"\n',
    "loginctl": (
        'place=$(dirname "$0")/..\n'
        'case $1 in list-sessions) ls "$place/sessions" | sed "s/$/ 1000 x/" ;;\n'
        'show-session) cat "$place/sessions/$2" ;; esac\n'
    ),
    "sync": "",  # it waits for all that this whole computer writes
    "who": 'cat "$(dirname "$0")/../who" 2>/dev/null\n',
    "busctl": 'cat "$(dirname "$0")/inhibitors" 2>/dev/null\n',
    "dpkg-query": '[ ! -e "$(dirname "$0")/packages" ] || cat "$(dirname "$0")/packages"\n',
}
ROOT = os.geteuid() == 0
pytestmark = pytest.mark.skipif(not ROOT, reason="only root may power a machine off")


def _read_command_line(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""


@dataclass(frozen=True, slots=True)
class Machine:
    place: Path
    shell: list[str]

    def locked(self, run: str, until: str = LATER) -> None:
        (self.place / "fleetpatch/machine-lock").write_text(f"{run}\n{until}\nanne\n1\n\n")

    def session(self, number: str, **values: str) -> None:
        (self.place / "sessions" / number).write_text("".join(f"{key}={value}\n" for key, value in values.items()))

    def run(self, work: str) -> Sequence[ScriptRecord]:
        nonce, guard = generate_nonce(), compose_script(Script("package_locks", package=AptManager.script_package))
        script = f"{load_script('job_common')}\n{guard}\n{load_script('power')}".replace(
            "/run/systemd/system", str(self.place / "systemd")
        )
        given: dict[str, str | tuple[str, ...]] = {
            "root": str(self.place / "fleetpatch/jobs"),
            "place": str(self.place / "order"),
            "guard": guard,
            "locks": (str(self.place / "frontend"),),
            "work": work,
            "run": "run",
            "delay": "0",
        }
        done = subprocess.run(
            [*self.shell, "-s"],
            input=build_script_stdin(script, given, nonce),
            capture_output=True,
            env={"PATH": f"{self.place / 'tools'}:{os.environ['PATH']}"},
            check=False,
            timeout=120,
        )
        decoder = ScriptOutputDecoder(nonce)
        decoder.feed_stdout(done.stdout)
        output = decoder.build_output()
        assert output.records, done.stderr
        return output.records

    def wait_for_end(self, begun: Path) -> None:
        """Wait until the detached part of an order has begun, which this file shows, and is over."""
        until, order = time.monotonic() + 60, str(self.place / "order.sh").encode()
        while time.monotonic() < until:
            if begun.exists() and not any(
                order in _read_command_line(path) for path in Path("/proc").glob("[0-9]*/cmdline")
            ):
                return
            time.sleep(0.02)
        pytest.fail("the order is not over")

    def was_powered_off(self) -> bool:
        """Whether it is ordered once, waited for until the words stand there: the file is made before they are."""
        note, until = self.place / "orders", time.monotonic() + 300
        while not (said := note.read_text() if note.exists() else "") and time.monotonic() < until:
            time.sleep(0.02)
        return said == "poweroff\n"

    def refused(self, about: str, work: str = "off") -> str:
        power, answer = self.run(work)
        assert power["boot_id"] == BOOT
        assert (answer["kind"], answer["about"]) == ("refused", about)
        assert not (self.place / "order.sh").exists()
        return str(answer["why"])


@pytest.fixture(params=[name for name, words in SHELLS.items() if shutil.which(words[0])])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    (tmp_path / "fleetpatch/jobs").mkdir(parents=True, mode=0o700)
    (tmp_path / "sessions").mkdir()
    (tmp_path / "tools").mkdir()
    for name, text in TOOLS.items():
        tool = tmp_path / "tools" / name
        tool.write_text(f"#!/bin/sh\n{text}")
        tool.chmod(0o755)
    words = SHELLS[request.param]
    return Machine(tmp_path, [str(shutil.which(words[0])), *words[1:]])


def test_it_says_how_long_it_has_run_and_does_nothing(machine: Machine) -> None:
    (power,) = machine.run("look")
    up_seconds = power["up_seconds"]
    assert isinstance(up_seconds, float)
    began = time.time() - Path("/proc/1").stat().st_ctime  # of the first process, as far as this shows it
    assert 0 < up_seconds < max(began, float(Path("/proc/uptime").read_text().split()[0])) + 60
    assert not (machine.place / "order.sh").exists()


def test_it_is_powered_off_when_nothing_is_against_it(machine: Machine) -> None:
    assert machine.run("off")[-1]["kind"] == "ordered"
    assert machine.was_powered_off()


def test_a_unit_of_systemd_that_fails_is_no_order(machine: Machine) -> None:
    """SELinux or a drop-in for all services: systemd accepts it, and its process never runs."""
    (machine.place / "systemd").mkdir()
    assert machine.run("off")[-1]["kind"] == "ordered"
    assert machine.was_powered_off()
    (machine.place / "failed").touch()
    refused = machine.run("off")[-1]
    why = "its unit has failed: Failed at step EXEC spawning /bin/sh: Permission denied "
    assert (refused["kind"], refused["why"], refused["about"]) == ("refused", why, "")


def test_a_check_orders_nothing(machine: Machine) -> None:
    assert machine.run("check")[-1]["kind"] == "allowed"
    assert not (machine.place / "order.sh").exists()


def test_another_run_that_has_the_machine_keeps_it_on(machine: Machine) -> None:
    machine.locked("other")
    assert machine.refused("machine_lock") == "run other (anne) has it"
    assert machine.refused("machine_lock", "check") == "run other (anne) has it"


@pytest.mark.parametrize(("run", "until"), [("other", PAST), ("other", RELEASED), ("run", LATER)])
def test_a_lock_that_is_over_or_its_own_does_not(machine: Machine, run: str, until: str) -> None:
    machine.locked(run, until)
    assert machine.run("off")[-1]["kind"] == "ordered"
    assert machine.was_powered_off()


def test_a_run_that_comes_in_between_keeps_it_on(machine: Machine) -> None:
    (machine.place / "tools/sleep").write_text(
        f"#!/bin/sh\nprintf 'other\\n{LATER}\\nanne\\n1\\n\\n' >{machine.place}/fleetpatch/machine-lock\n"
        f": >{machine.place}/slept\n"
    )
    (machine.place / "tools/sleep").chmod(0o755)
    assert machine.run("off")[-1]["kind"] == "ordered"
    machine.wait_for_end(machine.place / "slept")
    assert not (machine.place / "orders").exists()


def test_who_works_at_a_terminal_keeps_it_on(machine: Machine) -> None:
    (machine.place / "who").write_text("anne     pts/0        2026-03-10 01:00 (192.0.2.7)\n")
    assert machine.refused("people") == "somebody is logged in: anne (pts/0)"


@pytest.mark.parametrize(
    ("values", "is_person"),
    [
        ({"Name": "anne", "Class": "user", "State": "active", "TTY": "tty2", "Type": "tty"}, True),
        ({"Name": "anne", "Class": "user", "State": "online", "TTY": "", "Type": "wayland"}, True),
        ({"Name": "patch", "Class": "user", "State": "active", "TTY": "", "Type": "tty"}, False),
        ({"Name": "anne", "Class": "user", "State": "closing", "TTY": "pts/1", "Type": "tty"}, False),
        ({"Name": "gdm", "Class": "greeter", "State": "active", "TTY": "tty1", "Type": "wayland"}, False),
    ],
)
def test_a_session_counts_only_if_a_person_may_use_it(
    machine: Machine, values: dict[str, str], is_person: bool
) -> None:
    machine.session("7", **values)
    assert (machine.run("check")[-1]["kind"] == "refused") == is_person
