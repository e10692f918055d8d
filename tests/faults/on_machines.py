"""The named faults on real lab hosts, several side by side; each is judged by what the machines say of themselves."""
# ruff: noqa: T201 - a program that prints

import os
import queue
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from tests.faults.controllers import Broken
from tests.faults.lab_cases import Case, cases
from tests.faults.stage import Stage
from tests.faults.windows_case import WindowsCase
from tests.faults.windows_cases import windows_cases
from tests.faults.windows_stage import WindowsStage
from tests.lab.fleet import Flavour, Lab, LabHost
from tests.lab.windows.powershell_process import find_powershell

SIDE_BY_SIDE = 10  # they wait most of their time
WINDOWS_SIDE_BY_SIDE = 4  # each has a PowerShell of its own, which computes
AHEAD = 3  # hosts that are booted before a case wants them
HEALED_ALREADY = ("database killed", "records' disk full")  # their records are gone with their place
MachineFamily = Flavour | Literal["windows"]
FLAVOURS: tuple[Flavour, ...] = get_args(Flavour)
_windows_turn = threading.Semaphore(WINDOWS_SIDE_BY_SIDE)
NOT_HEALED = (
    "two runs",
    "window ends in a postinst",
    "slow mirror",
    "download of another run",
)  # their other run is the second one

BEFORE_RELEASE = frozenset(
    {
        "administrator begins too late / reboot",
        "administrator's transaction / assess",
        "administrator's transaction / install",
        "administrator's transaction / validate",
        "administrator's transaction never ends / reboot",
        "administrator's transaction, early reboot / reboot",
        "connection lost / precheck",
        "connection lost / reboot",
        "connection lost / stage",
        "connection lost / validate",
        "controller killed / installing, reboot",
        "controller killed / precheck, validate",
        "controller out of file descriptors / installing",
        "database killed / installing",
        "database killed / precheck",
        "database killed / reboot",
        "database killed / validate",
        "disk full for the job, then for packages / install",
        "download of another run / precheck",
        "inhibitor lock held / reboot",
        "job begins late / install",
        "job begins late, without systemd-run / install",
        "job's directory deleted / installing",
        "machine's clock jumps back / install",
        "machine's clock set back / installing",
        "name can't be resolved / installing",
        "name can't be resolved / reboot",
        "old kernel after boot / validate",
        "openssh-server, libc6 update themselves / installing",
        "other host key / reboot",
        "package lock held for a while / install",
        "package manager interrupted / precheck, install",
        "power cut / installing",
        "power cut / precheck",
        "power cut / reboot",
        "power cut / validate",
        "rebooted by a person / stage",
        "services gone after boot / validate",
        "slow mirror / install",
        "slow mirror / stage",
        "sshd killed / installing",
        "sshd restarted / installing",
        "stop requested / installing",
        "two controllers / installing",
        "two runs / install",
        "update fails, configuration file edited / installing",
        "whole job killed / installing",
        "window ends / assess, precheck, install",
        "window ends / reboot",
    }
)
"""Cases that only `make soak` plays, and `make faults`.

All tests play their fault, or one of its kind, on machines elsewhere, or test the script that meets it, and simulate it
at this step: tests/data/faults/faults.yaml names these.
"""


ON_FAMILIES: Mapping[Flavour, frozenset[str]] = {
    "dnf": frozenset(),
    "zypper": frozenset({"job's shell killed / installing"}),
}
"""Cases that all tests play with other package managers than apt, as their own scripts meet the fault.

dnf and zypper share the script of a job. tests/lab/families.py and tests/contract/manager_contract.py play a power cut
and an administrator's transaction with each. `make soak` and `make faults` play all others with each, too.
"""

ONLY_APT = frozenset(
    {
        "administrator's transaction, early reboot / reboot",
        "old kernel after boot / validate",
        "openssh-server, libc6 update themselves / installing",
    }
)
"""Cases that use what only Debian has: /run/reboot-required, packages of openssh and libc that can be packed anew."""


ON_WINDOWS = frozenset({"controller killed / installing, reboot"})
"""Cases that all tests play on Windows machines. `make soak` and `make faults` play all of them."""


@dataclass(frozen=True, slots=True)
class Play:
    """A case on a host of one family."""

    name: str
    case: Case | WindowsCase
    flavour: MachineFamily

    @property
    def title(self) -> str:
        """The name, with the family unless it is apt."""
        return self.name if self.flavour == "apt" else f"{self.name} on {self.flavour}"


@dataclass(frozen=True, slots=True)
class Played:
    """How a case ended; ``fault`` is "" when every promise was kept."""

    name: str
    seconds: float
    fault: str


class Hosts:
    """Boots hosts ahead, in the order in which they are wanted, so that no case waits for one."""

    def __init__(self, lab: Lab, wanted: Sequence[Flavour]) -> None:
        self._lab = lab
        self._wanted = wanted
        self._ready: dict[Flavour, queue.Queue[LabHost | Exception]] = {flavour: queue.Queue() for flavour in FLAVOURS}
        self._room = threading.Semaphore(AHEAD)
        threading.Thread(target=self._boot, daemon=True).start()

    def take(self, flavour: Flavour) -> LabHost:
        """Return a fresh host."""
        got = self._ready[flavour].get(timeout=900)
        self._room.release()
        if isinstance(got, Exception):
            raise got
        return got

    def _boot(self) -> None:
        for flavour in self._wanted:
            self._room.acquire()
            try:
                (host,) = self._lab.up(1, flavour)
            except Exception as error:  # noqa: BLE001 - whoever waits for a host is told
                self._ready[flavour].put(error)
            else:
                self._ready[flavour].put(host)


def plays(*flavours: MachineFamily) -> list[Play]:
    """Return all cases that hosts of these families (of all, without any) can play."""
    wanted = flavours or (*FLAVOURS, "windows")
    on_linux = [
        Play(name, case, flavour)
        for name, case in cases()
        for flavour in wanted
        if flavour != "windows" and (flavour == "apt" or name not in ONLY_APT)
    ]
    return on_linux + [Play(name, case, "windows") for name, case in windows_cases() if "windows" in wanted]


def plays_of_all_tests(*flavours: MachineFamily) -> list[Play]:
    """Return those that are played whenever all tests are."""
    return [play for play in plays(*flavours) if _is_of_all_tests(play)]


def _is_of_all_tests(play: Play) -> bool:
    if play.flavour == "windows":
        return play.name in ON_WINDOWS
    return play.name not in BEFORE_RELEASE if play.flavour == "apt" else play.name in ON_FAMILIES[play.flavour]


def named(wanted: str, *flavours: MachineFamily) -> list[Play]:
    """Return the plays whose title contains a word (or one of several, with commas between)."""
    return [play for play in plays(*flavours) if any(word in play.title for word in wanted.split(","))]


def play_all(
    lab: Lab | None, chosen: Sequence[Play], say: Callable[[Played], None] = lambda played: None
) -> list[Played]:
    """Play cases, side by side; those on Windows machines need no lab."""
    flavours = [play.flavour for play in chosen if play.flavour != "windows"]
    hosts = Hosts(lab, flavours) if lab else None

    def one(play: Play) -> Played:
        case = play.case
        if isinstance(case, WindowsCase):
            with _windows_turn:
                played = _time(play.title, partial(play_on_windows, case))
        else:
            assert hosts, "a Linux host needs the lab"
            assert play.flavour != "windows"
            host = hosts.take(play.flavour)
            played = _time(play.title, partial(play_on_host, play.name, case, host))
        say(played)
        return played

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        return list(pool.map(one, chosen))


def play_on_windows(case: WindowsCase) -> None:
    """Play a case on a Windows machine of its own.

    Raises:
        Broken: a promise was broken.
    """
    with (
        tempfile.TemporaryDirectory(prefix="fleetpatch-faults-") as place,
        WindowsStage.opened(Path(place), case.scenario()) as stage,
    ):
        case.play(stage)
        stage.last_run_heals()


def play_on_host(name: str, case: Case, host: LabHost) -> None:
    """Play a case on a fresh host, which is gone afterwards.

    Raises:
        Broken: a promise was broken.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="fleetpatch-faults-") as place:
            stage = Stage([host], Path(place))
            try:
                case(stage)
                if not name.startswith((*HEALED_ALREADY, *NOT_HEALED)):
                    stage.last_run_heals()
            finally:
                stage.end()
    finally:
        host.drop()


def _time(title: str, play: Callable[[], None]) -> Played:
    began, fault = time.monotonic(), ""
    try:
        play()
    except Broken as error:
        fault = str(error)
    except Exception:  # noqa: BLE001 - one case that can't be played must not hide the others
        fault = traceback.format_exc()
    return Played(title, time.monotonic() - began, fault)


def _line(one: Played) -> str:
    return f"{one.seconds:6.1f} s  {one.name}: {one.fault or 'kept'}"


def table(played: Sequence[Played], seconds: float) -> str:
    """Return for people how it went."""
    lines = [_line(one) for one in played if one.fault]
    wrong = sum(bool(one.fault) for one in played)
    return "\n".join([*lines, f"{len(played)} cases on real machines in {seconds:.0f} s, {wrong} with violations"])


def reason_windows_cannot_run() -> str:
    """Return why no case on a Windows machine can be played here, or ""."""
    return "" if find_powershell() else "PowerShell (pwsh) is not on PATH"


def main(wanted: str = "", *flavours: MachineFamily) -> int:
    """Play those of a name, on hosts of these families (of all, without any); return the exit code."""
    chosen, began = named(wanted, *flavours), time.monotonic()
    reason = reason_windows_cannot_run()
    if reason and any(play.flavour == "windows" for play in chosen):
        print(f"SKIPPED, the cases on Windows machines: {reason}", flush=True)
        if os.environ.get("CI") == "true" or flavours == ("windows",):
            return 1
        chosen = [play for play in chosen if play.flavour != "windows"]
    if all(play.flavour == "windows" for play in chosen):
        played = play_all(None, chosen, tell)
    else:
        lab = Lab(os.environ.get("FLEETPATCH_LAB") or "faults")
        missing = lab.reason_it_cannot_run()
        if missing:
            print(f"the lab can't run here: {missing}")
            return 1
        lab.down()
        with lab:
            played = play_all(lab, chosen, tell)
    print(table(played, time.monotonic() - began))
    return 1 if any(one.fault for one in played) else 0


def tell(one: Played) -> None:
    """Print how a case ended."""
    print(_line(one), flush=True)
