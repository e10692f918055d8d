"""reboot.sh in real shells: whose order it carries out. What would take this machine down is replaced by a note."""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
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
LATER, PAST, NEVER = "9999999999", "1000000000", "0"
ME = {"lock_run": "run", "lock_attempt": "2"}
TAKING_DOWN = ("shutdown", "reboot", "poweroff", "halt", "init", "telinit")
TOOLS = {
    # as the real ones: they begin a process of its own
    "setsid": '"$@" &\n',
    "systemd-run": 'while :; do case $1 in -p) shift 2 ;; -*) shift ;; *) break ;; esac; done; "$@" &\n',
    "systemctl": '[ "$1" != reboot ] || echo systemctl >>"$(dirname "$0")/../orders"\n',
    "busctl": 'cat "$(dirname "$0")/inhibitors" 2>/dev/null\n',
    "dpkg-query": '[ ! -e "$(dirname "$0")/packages" ] || cat "$(dirname "$0")/packages"\n',
    "sleep": 'case $1 in 60) ;; *) exec /bin/sleep "$@" ;; esac\n',  # what keeps the locks once it goes down
}
ROOT = os.geteuid() == 0


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine's folder, and the shell that its script runs in."""

    place: Path
    shell: list[str]

    @property
    def lock(self) -> Path:
        """The file of the lock."""
        return self.place / "fleetpatch/machine-lock"

    @property
    def orders(self) -> list[str]:
        """The commands that would have taken it down, once they had the time to be called."""
        until = time.monotonic() + (60 if ROOT else 0)
        note = self.place / "orders"
        said = ""
        while not said and time.monotonic() < until:
            time.sleep(0.02)
            said = note.read_text() if note.exists() else ""
        return said.splitlines()

    def locked(self, run: str = "run", until: str = LATER, attempt: str = "2") -> None:
        """Let a run have it."""
        self.lock.write_text(f"{run}\n{until}\nanne\n{attempt}\n")

    def order(self, params: Mapping[str, str] = ME, boot: str = BOOT) -> ScriptRecord:
        """Order a reboot; return the answer."""
        (record,) = self.run("reboot", {"expected_boot_id": boot, "delay": "0", **params})
        return record

    def run(self, name: str, params: Mapping[str, str] = ME) -> Sequence[ScriptRecord]:
        """Run a script as the transport would; return what it says."""
        nonce, guard = generate_nonce(), compose_script(Script("package_locks", package=AptManager.script_package))
        given = {"root": str(self.place / "fleetpatch/jobs"), "note": str(self.place / "note"), "guard": guard}
        script = f"{load_script('job_common')}\n{guard}\n{load_script(name)}"
        done = subprocess.run(
            [*self.shell, "-s"],
            input=build_script_stdin(script, {**given, "locks": self.locks, **params}, nonce),
            capture_output=True,
            env={"PATH": f"{self.place / 'tools'}:{os.environ['PATH']}"},
            check=False,
            timeout=240,
        )
        decoder = ScriptOutputDecoder(nonce)
        decoder.feed_stdout(done.stdout)
        return decoder.build_output().records

    @property
    def locks(self) -> tuple[str, ...]:
        """The files that whoever changes packages locks."""
        return tuple(str(self.place / name) for name in ("frontend", "database"))

    def ordered(self, params: Mapping[str, str] = ME) -> bool:
        """Whether an order is taken for one to be carried out: then it comes to be; only root may give it."""
        answer = self.order(params)
        if not ROOT:
            assert answer["why"] == "the login is not root"
            return True
        return answer["kind"] == "ordered" and len(self.orders) == 1

    def refused(self, params: Mapping[str, str] = ME) -> str:
        """Return why an order is refused because of the lock; nothing was carried out then."""
        answer = self.order(params)
        assert (answer["kind"], answer["about"], answer["boot_id"]) == ("refused", "machine_lock", BOOT)
        assert not (self.place / "orders").exists()
        return str(answer["why"])


@pytest.fixture(params=[name for name, words in SHELLS.items() if shutil.which(words[0])])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    (tmp_path / "fleetpatch/jobs").mkdir(parents=True, mode=0o700)
    (tmp_path / "tools").mkdir()
    for name, text in {**{name: f"echo {name} >>{tmp_path}/orders\n" for name in TAKING_DOWN}, **TOOLS}.items():
        tool = tmp_path / "tools" / name
        tool.write_text(f"#!/bin/sh\n{text}")
        tool.chmod(0o755)
    words = SHELLS[request.param]
    return Machine(tmp_path, [str(shutil.which(words[0])), *words[1:]])


def test_the_attempt_that_has_the_lock_may_order_a_reboot(machine: Machine) -> None:
    machine.locked()
    assert machine.ordered()


def test_a_lock_whose_time_is_over_still_counts_until_somebody_takes_it(machine: Machine) -> None:
    machine.locked(until=PAST)
    assert machine.ordered()


def test_a_later_attempt_takes_the_lock_over(machine: Machine) -> None:
    machine.locked(attempt="1")
    assert machine.ordered()
    assert machine.lock.read_text() == f"run\n{LATER}\nanne\n2\n\n"
    assert machine.lock.stat().st_mode & 0o77 == 0


def test_an_order_prolongs_the_lock(machine: Machine) -> None:
    machine.locked(until="5000000000")
    assert machine.ordered({**ME, "lock_until": "6000000000"})
    assert machine.lock.read_text() == "run\n6000000000\nanne\n2\n\n"


def test_an_order_that_names_no_lock_needs_none(machine: Machine) -> None:
    machine.locked("other")
    assert machine.ordered({})


def test_an_order_of_an_earlier_attempt_is_refused(machine: Machine) -> None:
    machine.locked(attempt="3")
    why = machine.refused()
    assert why == "run run was resumed: its attempt 3 has the lock, and this order is of attempt 2"


@pytest.mark.parametrize("attempt", ["", "first", "2; reboot", "-3"])
def test_an_attempt_that_is_no_number_is_before_all_others(machine: Machine, attempt: str) -> None:
    machine.locked(attempt="1")
    assert "this order is of attempt 0" in machine.refused({"lock_run": "run", "lock_attempt": attempt})


def test_an_order_is_refused_while_another_run_has_the_lock(machine: Machine) -> None:
    machine.locked("other", attempt="1")
    assert machine.refused() == "run run no longer has the lock of this machine: run other (anne) has it"


def test_an_order_is_refused_once_the_lock_was_given_back(machine: Machine) -> None:
    machine.locked(until=NEVER)
    assert machine.refused() == "run run no longer has the lock of this machine: no run has it"


@pytest.mark.parametrize("there", [None, "", "run", "\n\n\n\n"])
def test_an_order_is_refused_when_the_lock_is_gone(machine: Machine, there: str | None) -> None:
    if there is not None:
        machine.lock.write_text(there)
    assert machine.refused() == "run run no longer has the lock of this machine: no run has it"


def test_an_order_is_refused_when_all_of_it_is_gone(machine: Machine) -> None:
    shutil.rmtree(machine.place / "fleetpatch")
    assert "no run has it" in machine.refused()
    assert not (machine.place / "fleetpatch").exists()


def test_what_was_rebooted_already_says_so_whoever_has_the_lock(machine: Machine) -> None:
    machine.locked("other")
    answer = machine.order(boot="another")
    assert (answer["kind"], answer["about"]) == ("refused", "")
    assert "rebooted already" in str(answer["why"])


def test_an_order_that_comes_too_late_for_the_window_is_refused(machine: Machine) -> None:
    machine.locked()
    answer = machine.order({**ME, "latest": PAST})

    assert (answer["kind"], answer["about"], answer["boot_id"]) == ("refused", "window", BOOT)
    assert "after the last moment at which a reboot fits into the window" in str(answer["why"])
    assert not (machine.place / "orders").exists()


def test_an_order_in_time_is_carried_out(machine: Machine) -> None:
    machine.locked()
    assert machine.ordered({**ME, "latest": LATER})


BROKEN_PERLS = {
    "perl that ends at once": "exit 1\n",
    "perl that lacks its modules": 'case "$2" in *Fcntl*) exit 2 ;; esac\n',
    "perl that works only at its first call": 'd=$(dirname "$0"); [ ! -e "$d/was" ] || exit 1; touch "$d/was"\n',
}


@pytest.mark.skipif(not ROOT, reason="only root may order a reboot")
@pytest.mark.parametrize("perl", BROKEN_PERLS.values(), ids=list(BROKEN_PERLS))
def test_a_perl_that_does_not_work_prevents_no_reboot(machine: Machine, perl: str) -> None:
    (machine.place / "tools/perl").write_text(f"#!/bin/sh\n{perl}")
    (machine.place / "tools/perl").chmod(0o755)
    machine.locked()
    assert machine.ordered()


@pytest.mark.skipif(not ROOT, reason="only root may order a reboot")
def test_an_order_that_does_not_begin_is_refused(machine: Machine) -> None:
    for tool in ("setsid", "systemd-run"):
        (machine.place / "tools" / tool).write_text("#!/bin/sh\necho 'no more processes' >&2\n")
    machine.locked()
    answer = machine.order()
    assert (answer["kind"], answer["about"]) == ("refused", "")
    assert str(answer["why"]).startswith("the process that reboots the machine could not be started")
    assert not (machine.place / "orders").exists()
