"""A Windows machine of the tests: its power, its boots and its PowerShell. What it is like: scenario.py."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.lab.windows.machine_facts import COMPONENTS, CURRENT_VERSION, WINDOWS_UPDATE, build_rollup, encode_values
from tests.lab.windows.powershell_process import PowerShellProcess
from tests.lab.windows.scenario import Scenario, history_entry
from tests.lab.windows.state import change_state, read_state

Listener = Callable[[str], None]
UPDATE_CLIENT = "Microsoft-Windows-WindowsUpdateClient"
SERVICES = "Service Control Manager"
KERNEL_POWER = "Microsoft-Windows-Kernel-Power"
SERVICING_FLAG = rf"{COMPONENTS}\RebootPending"


def boot_state(folder: Path, scenario: dict[str, Any], *, clean: bool) -> None:
    """Have the machine's state be that after a boot; ``clean`` is a shutdown before, else a loss of power."""
    with change_state(folder) as state:
        now = time.time()
        state["power"] = "on"
        state["boot"] = {"number": state["boot"]["number"] + 1, "time": now}
        state["shutdown"] = None
        state["activity"] = None
        state["reboot_required"] = state["reboot_before_installation"] = False
        state["next_pid"] = 4000  # numbers of processes are used again
        state["processes"] = [{"pid": 4, "name": "System", "start": now}]
        state["servicing_until"] = now + float(scenario["servicing_seconds_after_boot"])
        lingers = {SERVICING_FLAG} if scenario["servicing_flag_lingers"] else set()
        state["registry"] = {
            path: key for path, key in state["registry"].items() if not key["volatile"] or path in lingers
        }
        state["services"] = [each for each in state["services"] if not _change_service(state, each)]
        for service in state["services"]:
            _boot_service(state, service, late=now + float(scenario["late_start_seconds"]))
        for task in state["tasks"].values():
            if task["instance"] is not None:
                task["instance"], task["last_result"] = None, 0x41306
        for update in scenario["updates"]:
            _finish_update(state, update)
        if not clean:
            facts = {"BugcheckCode": "0"}
            add_event(state, KERNEL_POWER, 41, "The system rebooted without a clean shutdown.", facts)
            add_event(state, "EventLog", 6008, "The previous system shutdown at 1:02:03 was unexpected.")
        add_event(state, "EventLog", 6005, "The Event log service was started.")
        state["journal"].append({"time": now, "what": "boot", "clean": clean})


def _change_service(state: dict[str, Any], service: dict[str, Any]) -> bool:
    """Make of a service what an update makes of it. Return whether that removes it."""
    becomes = service["becomes"]
    key = rf"SYSTEM\CurrentControlSet\Services\{service['name']}"
    if becomes == "Gone":
        del state["registry"][key]
    elif becomes == "Triggered":
        service["is_triggered"] = True
        state["registry"][rf"{key}\TriggerInfo"] = {"volatile": False, "values": {}}
    elif becomes:
        service["start_type"] = becomes
        state["registry"][key]["values"]["Start"]["data"] = {"Manual": 3, "Disabled": 4}[becomes]
    return bool(becomes == "Gone")


def _boot_service(state: dict[str, Any], service: dict[str, Any], *, late: float) -> None:
    """Have a service be as after a boot; one with a delayed start is that only then."""
    service["starts_at"] = 0
    if service["start_type"] != "Automatic" or service["is_triggered"]:
        service["status"], service["exit_code"] = "Stopped", 1077
        return
    service["status"] = "Stopped" if service["start_fails"] or service["ends_after_start"] else "Running"
    service["exit_code"] = 1053 if service["start_fails"] else 0
    service["starts_at"] = late if service["is_delayed"] else 0
    if service["start_fails"]:
        facts = {"param1": service["display_name"], "param2": "%%1053"}
        add_event(state, SERVICES, 7000, "The service failed to start.", facts)


def _finish_update(state: dict[str, Any], update: dict[str, Any]) -> None:
    done = state["updates"][update["id"]]
    if done["uninstall_pending"]:
        done["installed"] = done["uninstall_pending"] = False
        return
    if not done["pending"]:
        return
    done["pending"] = False
    if update["rolled_back"]:
        title = update["title"]
        entry = history_entry(title, update["id"], at=time.time(), result=4, hresult=0x800F0922)
        state["history"].append({**entry, "revision": update["revision"]})
        facts = {"errorCode": "0x800f0922", "updateTitle": title, "updateGuid": f"{{{update['id'].upper()}}}"}
        add_event(state, UPDATE_CLIENT, 20, f"Installation Failure: 0x800F0922: {title}", facts)
        return
    done["installed"] = True
    state["hot_fixes"] += [f"KB{kb}" for kb in update["kbs"]]
    if update["build_after"] is not None:
        state["build"] = update["build_after"]
    if update["ubr_after"] is not None:
        state["ubr"] = update["ubr_after"]
    values = state["registry"][CURRENT_VERSION]["values"]
    values["UBR"]["data"] = state["ubr"]
    values["CurrentBuild"]["data"] = values["CurrentBuildNumber"]["data"] = str(state["build"])
    for path, rollup in build_rollup(state["build"], state["ubr"], 0).items():
        state["registry"][path] = {"volatile": False, "values": encode_values(rollup)}


def add_event(
    state: dict[str, Any], provider: str, number: int, message: str = "", data: dict[str, str] | None = None
) -> None:
    """Write an event to the System log; ``data`` by the names of its template."""
    event = {"log": "System", "provider": provider, "id": number, "time": time.time(), "message": message}
    state["events"].append({**event, "data": data or {}})


class WindowsMachine:
    """A machine with power: ``start`` boots it, shutdown.exe reboots it, and ``power_cut`` is a power cut."""

    def __init__(self, folder: Path, scenario: Scenario | None = None, listener: Listener = lambda _: None) -> None:
        """Take its folder, or make it from a scenario. The listener hears "off" and "on" (from another thread)."""
        self.folder = folder
        if scenario is not None:
            folder.mkdir(parents=True, exist_ok=True)
            scenario.write(folder)
        self._scenario: dict[str, Any] = json.loads((folder / "scenario.json").read_text(encoding="utf-8"))
        self._listener = listener
        self._process: PowerShellProcess | None = None
        self._changed = threading.Condition()
        self._switched = 0

    @property
    def powershell(self) -> PowerShellProcess:
        """Its PowerShell; ConnectionError while it has no power."""
        process = self._process
        if process is None or not process.is_alive:
            raise ConnectionError("the machine has no power")
        return process

    @property
    def is_up(self) -> bool:
        """Whether it has power and answers."""
        return self._process is not None and self._process.is_alive

    @property
    def boot_number(self) -> int:
        """How many boots it has had: 1 at first."""
        return int(self.read_state()["boot"]["number"])

    def read_state(self) -> dict[str, Any]:
        """Return what became of it."""
        return read_state(self.folder)

    def stand_in_errors(self) -> list[str]:
        """Return what scripts asked for that the stand-ins lack, even if a script caught the error."""
        path = self.folder / "stand_in_errors.log"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def open_gate(self, name: str) -> None:
        """Let what waits at a gate go on."""
        (self.folder / "gates" / name).touch()

    def start(self) -> None:
        """Switch it on."""
        process = PowerShellProcess(self.folder, self._ended)
        process.start()
        with self._changed:
            self._process = process
            self._changed.notify_all()
        self._listener("on")

    def _ended(self, reason: str) -> None:
        self._listener("off")
        with self._changed:
            self._process = None
            self._changed.notify_all()
            switched = self._switched
        if reason == "restarting" and not self._scenario["hangs_at_boot"]:
            threading.Thread(target=self._reboot, args=(switched,), daemon=True).start()

    def _reboot(self, switched: int) -> None:
        time.sleep(float(self._scenario["configuring_seconds"]))
        with self._changed:
            if switched == self._switched:  # nobody has cut its power meanwhile
                boot_state(self.folder, self._scenario, clean=True)
                self.start()

    def _switch(self) -> PowerShellProcess | None:
        """Let no reboot begin any more. Return the process that is the power now."""
        with self._changed:
            self._switched += 1
            return self._process

    def power_cut(self, *, and_on: bool = True) -> None:
        """Cut its power, and switch it on again."""
        process = self._switch()
        if process is not None:
            process.kill()
        if and_on:
            boot_state(self.folder, self._scenario, clean=False)
            self.start()

    def wait_until(self, condition: Callable[[dict[str, Any]], object], timeout: float = 60) -> dict[str, Any]:
        """Wait until its state meets a condition, and return that state."""
        end = time.monotonic() + timeout
        while not condition(state := self.read_state()):
            assert time.monotonic() < end, f"not within {timeout} s: {state}"
            time.sleep(0.02)
        return state

    def wait_for_boot(self, number: int, timeout: float = 120) -> None:
        """Wait until it is up after that many boots."""
        with self._changed:
            up = self._changed.wait_for(lambda: self.is_up and self.boot_number >= number, timeout)
        assert up, f"boot {number} did not come within {timeout} s"

    def close(self) -> None:
        """Switch it off for good."""
        process = self._switch()
        if process is not None:
            process.switch_off()


REBOOT_REQUIRED = rf"{WINDOWS_UPDATE}\Auto Update\RebootRequired"
