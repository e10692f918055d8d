"""The named faults on Windows machines of the tests: what strikes, when, and what must have come of it.

Each machine is judged by its own state after every run (see tests/lab/windows/patching.py), and a last, undisturbed
run installs everything.
"""
# ruff: noqa: T201 - a program that prints

import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tasks.managers.windows_update.manager import WindowsUpdateManager
from tasks.states import OperationState, RebootState, UpdateState
from tests.faults.controllers import Broken
from tests.lab.windows.controllers import Controllers
from tests.lab.windows.patching import QUICK, WindowsFleet, count, cumulative, guid, kb, offer, result_of
from tests.lab.windows.scenario import Scenario

LAST = "20260310-090000-cccccc"
WINDOW_SECONDS = 45.0
GOOD = (OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS)


def demand(kept: object, otherwise: object) -> None:
    """Require that a promise was kept."""
    if not kept:
        raise Broken(str(otherwise))


def expect(fleet: WindowsFleet, *states: OperationState) -> None:
    """The machine's outcome is one of these."""
    outcome = fleet.outcome()
    demand(outcome.state in states, f"{outcome.state}: {outcome.reason}")


def killed(fleet: WindowsFleet) -> None:
    """kill -9 of the controller in an installation and in a reboot; others take the run up, as if nothing had been."""
    with Controllers(fleet) as controllers:
        controllers.killed("begin", "installing")
        fleet.one.machine.open_gate("go")
        controllers.killed("resume", "going down")
        controllers.carried("resume")
    fleet.judge()
    expect(fleet, *GOOD)
    demand(fleet.outcome().reboot is RebootState.COMPLETED, fleet.outcome().reason)
    demand((count(fleet.one, "install"), count(fleet.one, "boot")) == (2, 1), fleet.state["journal"])


def cut(fleet: WindowsFleet) -> None:
    """WinRM can't be reached for some seconds of an installation, and its shells are lost."""

    def strike() -> None:
        fleet.close_network(seconds=4)
        fleet.open_gate_when_asked_again("go")

    fleet.patch(at="installing", then=strike)
    expect(fleet, *GOOD)
    demand(count(fleet.one, "install") == 2, fleet.state["journal"])


def crashed(fleet: WindowsFleet) -> None:
    """A power cut in the installation of the second update."""

    def strike() -> None:
        fleet.one.machine.wait_until(lambda state: (state["activity"] or {}).get("id") == guid(2))
        fleet.one.machine.power_cut()

    fleet.patch(at=f"installing {kb(2)}", then=strike)
    expect(fleet, OperationState.FAILED)
    outcome = fleet.outcome()
    demand(result_of(outcome, 1).state is UpdateState.INSTALLED, outcome.reason)
    demand(result_of(outcome, 2).state is UpdateState.FAILED, outcome.reason)


def stopped(fleet: WindowsFleet) -> None:
    """The run is asked to stop while the first update is being installed: that is let end."""

    def strike() -> None:
        fleet.control.request_stop("tested")
        fleet.open_gate_when("go", fleet.stop_has_arrived)

    fleet.patch(at="installing", then=strike)
    outcome = fleet.outcome()
    demand(result_of(outcome, 1).state is UpdateState.INSTALLED, outcome.reason)
    demand(result_of(outcome, 2).state is UpdateState.NOT_ATTEMPTED, outcome.reason)
    demand("stop" in result_of(outcome, 2).reason, result_of(outcome, 2).reason)
    demand(fleet.state["boot"]["number"] == 1, "it was rebooted after it was asked to stop")


def window_ends(fleet: WindowsFleet) -> None:
    """The first update takes all the time of the window: nothing begins after it, and the arithmetic is told."""
    late = time.time() + WINDOW_SECONDS - 3

    def strike() -> None:
        fleet.open_gate_when("go", lambda: time.time() > late)

    options: dict[str, Any] = {"minutes": WINDOW_SECONDS / 60, "reboot_reserve_minutes": 0, "stage": False}
    with patch.object(WindowsUpdateManager, "default_rates", QUICK):
        fleet.patch(at="installing", then=strike, **options)
    second = result_of(fleet.outcome(), 2)
    demand(second.state is UpdateState.NOT_ATTEMPTED and "no time left" in second.reason, second)
    demand(fleet.state["boot"]["number"] == 1, "it was rebooted too late")


def two_controllers(fleet: WindowsFleet) -> None:
    """The controller is stopped (SIGSTOP) in an installation, another one takes the run up, and the first one wakes."""
    with Controllers(fleet) as controllers:
        first = controllers.begun("held-up")
        controllers.carried("resume", then=lambda: fleet.one.machine.open_gate("go"))
        first.send_signal(signal.SIGCONT)
        first.communicate(timeout=300)
        demand(first.returncode != 0, "the first controller takes the run for its own")
    fleet.judge()
    expect(fleet, *GOOD)
    demand((count(fleet.one, "install"), count(fleet.one, "boot")) == (2, 1), fleet.state["journal"])


def busy(fleet: WindowsFleet) -> None:
    """Another updater installs something when the run comes: it is waited for, and left alone."""
    fleet.patch()
    expect(fleet, *GOOD)
    state = fleet.state
    first = min(entry["time"] for entry in state["journal"] if entry["what"] == "install")
    demand(first >= state["busy_until"], "it was not waited for")


@dataclass(frozen=True, slots=True)
class WindowsCase:
    """A case: what the machine is like, and what is played on it."""

    play: Callable[[WindowsFleet], None]
    scenario: Scenario


UPDATES = (offer(1, install_gate="go"), cumulative(2))
LATER = (offer(1), cumulative(2, install_gate="go"))

CASES: Mapping[str, WindowsCase] = {
    "controller killed / installing, reboot": WindowsCase(killed, Scenario(updates=UPDATES, configuring_seconds=2.0)),
    "two controllers / installing": WindowsCase(two_controllers, Scenario(updates=UPDATES)),
    "connection lost / installing": WindowsCase(cut, Scenario(updates=UPDATES)),
    "power cut / installing": WindowsCase(crashed, Scenario(updates=LATER)),
    "stop requested / installing": WindowsCase(stopped, Scenario(updates=UPDATES)),
    "window ends / installing": WindowsCase(window_ends, Scenario(updates=UPDATES)),
    "another updater at work / install": WindowsCase(
        busy, Scenario(updates=(offer(1), cumulative(2)), installer_busy_seconds=15)
    ),
}


def heal(fleet: WindowsFleet) -> None:
    """Patch once more, undisturbed: everything is installed."""
    fleet.one.machine.open_gate("go")
    fleet.calm()
    fleet.patch(run=LAST, minutes=240)
    state = fleet.state
    demand(all(there["installed"] or there["pending"] for there in state["updates"].values()), fleet.outcome(LAST))
    demand(not state["tasks"], f"tasks are left: {state['tasks']}")


def play(name: str, place: Path) -> None:
    """Play a case in a folder.

    Raises:
        AssertionError: a promise was broken.
    """
    case = CASES[name]
    with WindowsFleet.opened(place, case.scenario) as fleet:
        case.play(fleet)
        heal(fleet)


def main(wanted: str = "") -> int:
    """Play the cases whose name contains a word; return the exit code."""
    wrong = 0
    for name in CASES:
        if wanted not in name:
            continue
        began, fault = time.monotonic(), "kept"
        with tempfile.TemporaryDirectory(prefix="fleetpatch-faults-") as place:
            try:
                play(name, Path(place))
            except Exception:  # noqa: BLE001 - one case that can't be played must not hide the others
                fault = traceback.format_exc()
                wrong += 1
        print(f"{time.monotonic() - began:6.1f} s  {name} on Windows: {fault}", flush=True)
    return 1 if wrong else 0
