"""The named faults on real lab hosts, several side by side; each is judged by what the machines say of themselves."""
# ruff: noqa: T201 - a program that prints

import os
import queue
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.faults.lab_cases import Case, cases
from tests.faults.stage import Broken, Stage
from tests.lab.fleet import Lab, LabHost

SIDE_BY_SIDE = 10  # they wait most of their time
AHEAD = 3  # hosts that are booted before a case wants them
LAST_LINES = 15  # of what a case that failed has said, in the tests' report
HEALED_ALREADY = ("database killed", "records' disk full")  # their records are gone with their place
NOT_HEALED = ("two runs", "window ends in a postinst", "slow mirror")  # their other run is the second one


BEFORE_RELEASE = frozenset(
    {
        "administrator's transaction / assess",
        "administrator's transaction / validate",
        "administrator's transaction, early reboot / reboot",
        "connection lost / precheck",
        "connection lost / stage",
        "connection lost / validate",
        "controller killed / precheck, validate",
        "database killed / precheck",
        "database killed / reboot",
        "database killed / validate",
        "job begins late, without systemd-run / install",
        "machine's clock jumps back / install",
        "name can't be resolved / reboot",
        "package lock held for a while / install",
        "power cut / precheck",
        "power cut / validate",
        "slow mirror / stage",
        "sshd restarted / installing",
    }
)
"""Cases that only `make soak` plays, and `make faults`.

All tests play their fault on machines at another step, or test the script that meets it, and simulate it at this step.
"""


@dataclass(frozen=True, slots=True)
class Played:
    """How a case ended; ``fault`` is "" when every promise was kept."""

    name: str
    seconds: float
    fault: str


class Hosts:
    """Boots hosts ahead, so that no case waits for one."""

    def __init__(self, lab: Lab, count: int) -> None:
        self._lab = lab
        self._left = count
        self._ready: queue.Queue[LabHost | Exception] = queue.Queue()
        self._room = threading.Semaphore(AHEAD)
        threading.Thread(target=self._boot, daemon=True).start()

    def take(self) -> LabHost:
        """Return a fresh host."""
        got = self._ready.get(timeout=900)
        self._room.release()
        if isinstance(got, Exception):
            raise got
        return got

    def _boot(self) -> None:
        while self._left > 0:
            batch = min(AHEAD, self._left)
            for _ in range(batch):
                self._room.acquire()
            try:
                for host in self._lab.up(batch):
                    self._ready.put(host)
            except Exception as error:  # noqa: BLE001 - whoever waits for a host is told
                for _ in range(batch):
                    self._ready.put(error)
            self._left -= batch


def cases_of_all_tests() -> list[tuple[str, Case]]:
    """Return those that are played whenever all tests are."""
    return [(name, case) for name, case in cases() if name not in BEFORE_RELEASE]


def named(wanted: str) -> list[tuple[str, Case]]:
    """Return the cases whose name contains a word (or one of several, with commas between)."""
    return [(name, case) for name, case in cases() if any(word in name for word in wanted.split(","))]


def play_all(
    lab: Lab, chosen: Sequence[tuple[str, Case]], tell: Callable[[Played], None] = lambda played: None
) -> list[Played]:
    """Play cases, side by side."""
    hosts = Hosts(lab, len(chosen))

    def one(named: tuple[str, Case]) -> Played:
        played = _play(named[0], named[1], hosts)
        tell(played)
        return played

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        return list(pool.map(one, chosen))


def _play(name: str, case: Case, hosts: Hosts) -> Played:
    host = hosts.take()
    began, fault = time.monotonic(), ""
    try:
        with tempfile.TemporaryDirectory(prefix="fleetpatch-faults-") as place:
            stage = Stage([host], Path(place))
            try:
                case(stage)
                if not name.startswith((*HEALED_ALREADY, *NOT_HEALED)):
                    stage.last_run_heals()
            finally:
                stage.end()
    except Broken as error:
        fault = str(error)
    except Exception:  # noqa: BLE001 - one case that can't be played must not hide the others
        fault = traceback.format_exc()
    finally:
        host.drop()
    return Played(name, time.monotonic() - began, fault)


def _line(one: Played) -> str:
    return f"{one.seconds:6.1f} s  {one.name}: {one.fault or 'kept'}"


def table(played: Sequence[Played], seconds: float) -> str:
    """Return for people how it went."""
    lines = [_line(one) for one in played if one.fault]
    wrong = sum(bool(one.fault) for one in played)
    return "\n".join([*lines, f"{len(played)} cases on real machines in {seconds:.0f} s, {wrong} with violations"])


def told(wrong: Sequence[Played]) -> str:
    """Return for people which cases failed, each with the last lines of what it said."""
    lines = [f"{len(wrong)} cases on real machines broke a promise:"]
    for one in wrong:
        lines += ["", f"{one.name} ({one.seconds:.0f} s)"]
        lines += [f"    {line}" for line in one.fault.strip().splitlines()[-LAST_LINES:]]
    return "\n".join(lines)


def main(wanted: str = "") -> int:
    """Play them; return the exit code."""
    lab, began = Lab(os.environ.get("FLEETPATCH_LAB") or "faults"), time.monotonic()
    reason = lab.reason_it_cannot_run()
    if reason:
        print(f"the lab can't run here: {reason}")
        return 1
    lab.down()
    with lab:
        played = play_all(lab, named(wanted), lambda one: print(_line(one), flush=True))
    print(table(played, time.monotonic() - began))
    return 1 if any(one.fault for one in played) else 0
