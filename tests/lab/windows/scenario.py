"""What a Windows machine of the tests is like (scenario.json), and its state at the beginning (state.json).

``Scenario(...).write(folder)`` makes the folder of a machine; stand_ins/ reads it. Every number of seconds is real
time, so keep them small. A gate is the name of a file in ``gates/``: what waits at it goes on when the test makes it.
"""

import dataclasses
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.lab.windows.machine_facts import (
    WINDOWS_UPDATE,
    WINRM,
    JsonObject,
    RegistryValues,
    build_registry,
    list_cim_instances,
)
from tests.lab.windows.state import write_state

CATEGORIES = {
    "critical": ("Critical Updates", "e6cf1350-c01b-414d-a61f-263d14d133b4"),
    "security": ("Security Updates", "0fa1201d-4330-4fa8-8ae9-b877473b6441"),
    "definition": ("Definition Updates", "e0789628-ce08-4437-be74-2495b842f43b"),
    "rollup": ("Update Rollups", "28bc880e-0592-4cbf-8f95-c79b17911d5f"),
    "update": ("Updates", "cd5ffd1e-e932-4e3a-bf74-18bf0b1bbd83"),
    "feature_pack": ("Feature Packs", "b54e7d24-7add-428f-8b75-90a396fa584f"),
    "service_pack": ("Service Packs", "68c5b0a3-d1a6-4553-ae49-01d3a7827828"),
    "tool": ("Tools", "b4832bd8-e735-4761-8daf-37f882276dab"),
    "driver": ("Drivers", "ebfc1fc5-71a4-4f7b-9aca-3b9a503104a0"),
    "upgrade": ("Upgrades", "3689bdc8-b205-4af4-8d4a-a63924c5e9d5"),
}
"""Classifications, by short names: what Windows calls them in English, and their CategoryID."""


@dataclass(frozen=True)
class Update:
    """An update that the machine's update service offers, and what happens when it is installed."""

    id: str
    title: str
    revision: int = 200
    kbs: tuple[str, ...] = ()
    """Without "KB", as the agent gives them."""
    classification: str = "security"
    """A key of CATEGORIES."""
    products: tuple[tuple[str, str], ...] = (("Windows Server 2022", "b3c75dc1-155f-4be4-b015-3f1a91758e52"),)
    """Names and CategoryIDs of products."""
    type: Literal["Software", "Driver"] = "Software"
    severity: str | None = None
    description: str = ""
    size: int = 100_000_000
    published: float = 1_760_000_000.0
    deadline: float = 0.0
    """Of its update server, in seconds since the epoch; 0: none."""
    cves: tuple[str, ...] = ()
    supersedes: tuple[str, ...] = ()
    eula_accepted: bool = True
    impact: int = 0
    reboot_behavior: int = 0
    asks_user: bool = False
    needs_network: bool = False
    no_installation_behavior: bool = False
    """InstallationBehavior is null, as some bundles and drivers have it."""
    browse_only: bool = False
    beta: bool = False
    mandatory: bool = False
    uninstallable: bool = True
    auto_select: bool = True
    assigned: bool = True
    deployment_action: Literal["Installation", "Uninstallation", "Detection", "OptionalInstallation"] = "Installation"
    hidden: bool = False
    installed: bool = False
    downloaded: bool = False
    download_seconds: float = 0.0
    download_hresult: int = 0
    download_failures: int = -1
    """How often the download fails with its HRESULT, if that is not 0: -1 is always."""
    download_gate: str = ""
    install_seconds: float = 0.0
    install_hresult: int = 0
    install_failures: int = -1
    install_result: int | None = None
    """OperationResultCode: by default 2, or 4 if the HRESULT says that it failed."""
    install_gate: str = ""
    needs_reboot: bool = False
    build_after: int | None = None
    ubr_after: int | None = None
    """Build and UBR of Windows once it is installed (and the machine has rebooted, if that is needed)."""
    rolled_back: bool = False
    """The boot after its installation undoes it."""
    lies: bool = False
    """The agent says that it was installed, and offers it again."""
    fresh: bool = False
    """Released since the machine's last search: only an online search finds it."""
    appears_after: tuple[str, ...] = ()
    """Ids of updates without which it is not offered: the next online search after their installation finds it."""
    package: str = ""
    """Name of its package in the component store; "": of its first KB number."""
    permanent: bool = False
    """Its package can't be removed: 0x800F0825."""
    needs: tuple[str, ...] = ()
    """Ids of updates (servicing stacks) without which installing it fails with 0x800F0823."""


@dataclass(frozen=True)
class Service:
    """A service. Names of states and start types are those of .NET."""

    name: str
    status: Literal["Running", "Stopped"] = "Running"
    start_type: Literal["Automatic", "Manual", "Disabled"] = "Automatic"
    display_name: str = ""
    start_fails: bool = False
    is_delayed: bool = False
    """An automatic one that each boot starts after the scenario's ``late_start_seconds``."""
    is_triggered: bool = False
    """It is started by an event only, also if it is automatic."""
    ends_after_start: bool = False
    """What it has to do at a boot is done at once: it ends without an error."""
    exit_code: int = 0
    """Of a stopped one: 0 without an error, 1067 if its process was ended, 1077 if this boot has not started it."""
    becomes: Literal["", "Manual", "Disabled", "Triggered", "Gone"] = ""
    """What the first boot makes of it, as an update does: how it is started then, or that it is removed."""


SERVICES = (
    Service("wuauserv", "Stopped", "Manual", "Windows Update"),
    Service("bits", "Stopped", "Manual", "Background Intelligent Transfer Service"),
    Service("cryptsvc", display_name="Cryptographic Services"),
    Service("TrustedInstaller", "Stopped", "Manual", "Windows Modules Installer"),
    Service("msiserver", "Stopped", "Manual", "Windows Installer"),
    Service("UsoSvc", display_name="Update Orchestrator Service"),
    Service("DoSvc", display_name="Delivery Optimization"),
    Service("WinRM", display_name="Windows Remote Management (WS-Management)"),
    Service("Schedule", display_name="Task Scheduler"),
    Service("EventLog", display_name="Windows Event Log"),
    Service("W32Time", display_name="Windows Time"),
    Service("Spooler", display_name="Print Spooler"),
)


@dataclass(frozen=True)
class Disk:
    """A drive letter; 3 is a fixed disk, 5 a CD."""

    letter: str = "C:"
    size: int = 100 * 2**30
    free: int = 60 * 2**30
    kind: int = 3


@dataclass
class Scenario:
    """A machine. The defaults are an idle Windows Server 2022 that asks Windows Update and has nothing to install."""

    name: str = "WINHOST"
    caption: str = "Microsoft Windows Server 2022 Standard"
    edition: str = "ServerStandard"
    build: int = 20348
    ubr: int = 2700
    rollup_age: float = 3600.0
    """Seconds since the cumulative update that runs was installed."""
    sku: int = 7
    product_type: int = 3
    """1 a workstation, 2 a domain controller, 3 a server."""
    domain: str = ""
    memory: int = 8 * 2**30
    processors: int = 2
    boot_time: float | None = None
    """Seconds since the epoch; by default an hour ago."""
    counter_ahead: float = 0.0
    """How many seconds more than since the boot the counter of performance says: it drifts, or does not begin at 0."""
    disks: tuple[Disk, ...] = (Disk(),)
    services: tuple[Service, ...] = SERVICES
    late_start_seconds: int = 120
    """How long after a boot services with a delayed start are started (AutoStartDelay)."""
    registry: dict[str, RegistryValues] = field(default_factory=dict)
    """Keys below HKEY_LOCAL_MACHINE with values: numbers are DWORDs, lists are REG_MULTI_SZ."""
    denied_keys: list[str] = field(default_factory=list)
    """Keys among these that the login may not read."""
    policies: RegistryValues = field(default_factory=dict)
    """Values of the policy key WindowsUpdate, and with "AU\\" before the name of its subkey AU."""
    cim: dict[str, list[JsonObject]] = field(default_factory=dict)
    """More classes: "root/cimv2:Win32_X", and their instances. {"uint64": n} is an unsigned number of 64 bits."""
    cim_methods: dict[str, JsonObject] = field(default_factory=dict)
    """Methods: "root/ccm/ClientSDK:CCM_ClientUtilities.DetermineIfRebootPending", and what they return. Behind the name
    stand the arguments that it answers: "….GetKeyProtectors(0)"."""
    broken_cim_classes: list[str] = field(default_factory=list)
    updates: tuple[Update, ...] = ()
    search_seconds: float = 0.0
    searched_ago: float | None = 3600.0
    """Seconds since Automatic Updates last searched with success; None: never. Searches by scripts do not count."""
    refused: dict[str, Literal["network", "everyone"]] = field(default_factory=dict)
    """What Windows refuses (0x80070005), and to whom: COM classes ("Microsoft.Update.Session") and members of
    interfaces ("IUpdateSearcher.Search"). Tests may change it in the state."""
    search_hresults: list[int] = field(default_factory=list)
    """What searches fail with, one after the other; 0 is a search that succeeds. The last one stays."""
    search_result: int = 2
    """OperationResultCode of searches: 3 has a warning (search_warning)."""
    search_warning: int = 0x80240438
    installer_busy_seconds: float = 0.0
    """How long after the machine's first boot another updater keeps the installer busy; it also makes TiWorker run."""
    component_store: Literal["Healthy", "Repairable", "NonRepairable"] = "Healthy"
    """What Windows' servicing has noted of the component store; updates may change it (``damages_store``)."""
    component_store_error: int = 0
    """What a question about the component store fails with."""
    component_store_seconds: float = 0.0
    servicing_seconds_after_boot: float = 0.0
    """How long TiWorker works after each boot."""
    servicing_flag_lingers: bool = False
    """The key RebootPending of Component Based Servicing is still there after the reboot it asked for."""
    configuring_seconds: float = 0.0
    """How long the machine is away between power off and on, beside what updates need."""
    shutdown_seconds: float = 0.0
    """How long it still answers after a shutdown has begun, and servicing works ("Working on updates")."""
    shutdown_exit_code: int = 0
    """What shutdown.exe /r fails with."""
    hangs_at_boot: bool = False
    """It never comes back from a reboot."""
    com_errors: Literal["bare", "wrapped", "both"] = "both"
    """How PowerShell shows a COMException: itself, inside a MethodInvocationException, or by turns."""
    task_scheduler_error: int = 0
    on_battery: bool = False
    icacls_fails: bool = False
    privilege: Literal["administrator", "filtered", "none"] = "administrator"
    """The rights of a login over the network."""
    listeners: tuple[tuple[int, str], ...] = ((135, "System"), (445, "System"), (5985, "WinRM"), (49664, "Spooler"))
    """Ports, and the services or processes that listen there."""
    winrm: dict[str, str] = field(default_factory=lambda: dict(WINRM))
    """Settings below WSMan:\\localhost, as the provider shows them."""
    listener_certificate_days: tuple[int, ...] = (365,)
    """How many days the certificates of the listeners are still valid."""
    time_source: str = "time.windows.com,0x9"
    reboot_before_installation: bool = False
    """The agent installs nothing before the next boot."""
    reboot_pending: bool = False
    """The agent asks for a reboot from the beginning."""
    history: list[JsonObject] = field(default_factory=list)
    """Entries of earlier installations: see ``history_entry``."""
    hot_fixes: list[str] = field(default_factory=list)
    services_registered: list[JsonObject] = field(default_factory=list)
    """Update services (WSUS, Microsoft Update) beside Windows Update: see ``update_service``."""
    agent_version: str = "10.0.20348.2700"

    def write(self, folder: Path) -> None:
        """Make the folder of the machine."""
        known = {update.id for update in self.updates}
        for update in self.updates:
            assert uuid.UUID(update.id), update
            assert update.classification in CATEGORIES, update
            assert known.issuperset([*update.appears_after, *update.needs]), update
        (folder / "C" / "Windows" / "System32").mkdir(parents=True)
        (folder / "C" / "ProgramData").mkdir()
        (folder / "gates").mkdir()
        write_state(folder, self._state(), name="scenario.json", content=self._scenario())

    def _scenario(self) -> JsonObject:
        plain = dataclasses.asdict(self)
        plain["categories"] = {key: {"name": name, "id": guid} for key, (name, guid) in CATEGORIES.items()}
        plain["cim"] = {**list_cim_instances(self), **self.cim}
        return plain

    def _state(self) -> JsonObject:
        now = time.time()
        registry = build_registry(self)
        if self.reboot_pending:
            registry[rf"{WINDOWS_UPDATE}\Auto Update\RebootRequired"] = {"volatile": True, "values": {}}
        return {
            "power": "on",
            "clock_ahead": 0,
            "boot": {"number": 1, "time": self.boot_time if self.boot_time is not None else now - 3600},
            "shutdown": None,
            "build": self.build,
            "ubr": self.ubr,
            "component_store": self.component_store,
            "registry": registry,
            "services": [
                {
                    **dataclasses.asdict(service),
                    "display_name": service.display_name or service.name,
                    "starts": 0,
                    "starts_at": 0,
                }
                for service in self.services
            ],
            "updates": {update.id: _begin(update) for update in self.updates},
            "searches": 0,
            "search_gate": "",  # where the next search waits
            "refused": dict(self.refused),
            "found": [],
            "last_search": None if self.searched_ago is None else now - self.searched_ago,
            "last_installation": None,
            "reboot_before_installation": self.reboot_before_installation,
            "reboot_required": self.reboot_pending,
            "activity": None,
            "busy_until": now + self.installer_busy_seconds if self.installer_busy_seconds else 0,
            "servicing_until": now + self.installer_busy_seconds if self.installer_busy_seconds else 0,
            "history": list(self.history),
            "hot_fixes": list(self.hot_fixes),
            "events": [],
            "tasks": {},
            "task_stopped": 0,  # what the processes of tasks end with before they run anything
            "processes": [{"pid": 4, "name": "System", "start": now - 3600}],
            "next_pid": 4000,
            "acls": {},
            "journal": [],
        }


def _begin(update: Update) -> JsonObject:
    return {
        "installed": update.installed,
        "pending": False,
        "uninstall_pending": False,
        "downloaded": update.downloaded or update.installed,
        "hidden": update.hidden,
        "eula_accepted": update.eula_accepted,
        "download_failures": 0,
        "install_failures": 0,
        "installs": 0,
    }


def history_entry(
    title: str, update_id: str, *, at: float, result: int = 2, hresult: int = 0, client: str = "UpdateOrchestrator"
) -> JsonObject:
    """Return an entry of the agent's history."""
    return {
        "time": at,
        "operation": 1,
        "result": result,
        "hresult": hresult,
        "title": title,
        "id": update_id,
        "revision": 200,
        "client": client,
        "server_selection": 2,
        "service": "9482f4b4-e343-43b6-b170-9a65bc822c77",
    }


def three_failures(update_id: str, hresult: int, *, client: str = "fleetpatch") -> list[JsonObject]:
    """Return the entries of three tries that failed, a day apart."""
    times = [time.time() - days * 86_400 for days in (3, 2, 1)]
    return [history_entry("", update_id, at=at, result=4, hresult=hresult, client=client) for at in times]


def update_service(name: str, service_id: str, *, managed: bool, default: bool) -> JsonObject:
    """Return an update service: WSUS is managed."""
    return {"name": name, "id": service_id, "managed": managed, "default": default}
