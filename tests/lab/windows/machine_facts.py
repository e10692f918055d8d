"""What a Windows machine of the tests has in its registry and tells over CIM."""

import time
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.lab.windows.scenario import Scenario

JsonObject = dict[str, Any]
RegistryValues = dict[str, int | str | list[str]]

CURRENT_VERSION = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion"
CRYPTOGRAPHY = r"SOFTWARE\Microsoft\Cryptography"
WINDOWS_UPDATE = r"SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate"
POLICY = r"SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate"
COMPONENTS = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing"

WINRM = {
    "Shell\\MaxMemoryPerShellMB": "2147483647",
    "Shell\\MaxShellsPerUser": "2147483647",
    "Shell\\MaxProcessesPerShell": "2147483647",
    "Service\\MaxConcurrentOperationsPerUser": "1500",
    "Service\\AllowUnencrypted": "false",
}
"""The settings of WinRM as the provider WSMan: shows them on Windows Server 2022."""


def list_cim_instances(scenario: "Scenario") -> dict[str, list[JsonObject]]:
    """Return the instances of CIM classes, by "namespace:class"."""
    system = {
        "Caption": scenario.caption,
        "Version": f"10.0.{scenario.build}",
        "BuildNumber": str(scenario.build),
        "OperatingSystemSKU": scenario.sku,
        "ProductType": scenario.product_type,
        "CSName": scenario.name,
        "OSArchitecture": "64-bit",
        "SystemDrive": "C:",
        "TotalVisibleMemorySize": {"uint64": scenario.memory // 1024},
        "FreePhysicalMemory": {"uint64": scenario.memory // 2048},
        "InstallDate": None,
        "MUILanguages": ["en-US"],
        "OSLanguage": 1033,
        "LastBootUpTime": None,
        "LocalDateTime": None,
    }
    computer = {
        "Name": scenario.name,
        "DNSHostName": scenario.name.lower(),
        "Domain": scenario.domain or "WORKGROUP",
        "PartOfDomain": bool(scenario.domain),
        "Manufacturer": "QEMU",
        "Model": "Standard PC (Q35 + ICH9, 2009)",
        "NumberOfProcessors": 1,
        "NumberOfLogicalProcessors": scenario.processors,
        "TotalPhysicalMemory": {"uint64": scenario.memory},
        "UserName": None,
        "SystemType": "x64-based PC",
    }
    disks = [
        {
            "DeviceID": disk.letter,
            "DriveType": disk.kind,
            "FileSystem": "NTFS",
            "Size": {"uint64": disk.size},
            "FreeSpace": {"uint64": disk.free},
            "VolumeName": "",
        }
        for disk in scenario.disks
    ]
    volumes: list[JsonObject] = [
        {"Name": "C:\\", "DriveLetter": "C:", "SystemVolume": False, "Capacity": {"uint64": scenario.disks[0].size}},
        {"Name": "\\\\?\\Volume{0}\\", "DriveLetter": None, "SystemVolume": True, "Capacity": {"uint64": 2**29}},
    ]
    for volume in volumes:
        volume["FreeSpace"] = {"uint64": 2**28}
    guard = {"VirtualizationBasedSecurityStatus": 0, "SecurityServicesRunning": [0]}
    return {
        "root/cimv2:Win32_OperatingSystem": [system],
        "root/cimv2:Win32_ComputerSystem": [computer],
        "root/cimv2:Win32_LogicalDisk": disks,
        "root/cimv2:Win32_Volume": volumes,
        "root/cimv2:Win32_ComputerSystemProduct": [
            {"UUID": str(uuid.uuid5(uuid.NAMESPACE_DNS, scenario.name)).upper()}
        ],
        "root/cimv2:Win32_NetworkAdapter": [
            {"PhysicalAdapter": True, "MACAddress": "52:54:00:00:00:0A"},
            {"PhysicalAdapter": True, "MACAddress": None},
            {"PhysicalAdapter": False, "MACAddress": "52:54:00:00:00:0B"},
        ],
        "root/cimv2:Win32_NetworkAdapterConfiguration": [
            {"IPEnabled": True, "DefaultIPGateway": ["192.0.2.1", "fe80::1"]},
            {"IPEnabled": True, "DefaultIPGateway": None},
            {"IPEnabled": False, "DefaultIPGateway": None},
        ],
        "root/cimv2:Win32_BIOS": [{"SerialNumber": "0", "SMBIOSBIOSVersion": "1.16"}],
        "root/Microsoft/Windows/DeviceGuard:Win32_DeviceGuard": [guard],
    }


def build_registry(scenario: "Scenario") -> JsonObject:
    """Return the keys below HKEY_LOCAL_MACHINE as state.json has them."""
    keys: dict[str, RegistryValues] = {
        CURRENT_VERSION: {
            "ProductName": scenario.caption.removeprefix("Microsoft "),
            "EditionID": scenario.edition,
            "InstallationType": "Server",
            "CurrentBuild": str(scenario.build),
            "CurrentBuildNumber": str(scenario.build),
            "CurrentMajorVersionNumber": 10,
            "CurrentMinorVersionNumber": 0,
            "CurrentVersion": "6.3",
            "UBR": scenario.ubr,
        },
        CRYPTOGRAPHY: {"MachineGuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, scenario.name))},
        rf"{WINDOWS_UPDATE}\Auto Update": {},
        COMPONENTS: {},
        rf"{COMPONENTS}\Interface": {"ServicingInProgress": 0},
        **build_rollup(scenario.build, scenario.ubr, scenario.rollup_age),
        r"SYSTEM\CurrentControlSet\Control\Session Manager": {"ProtectionMode": 1},
        r"SYSTEM\CurrentControlSet\Control\ComputerName\ActiveComputerName": {"ComputerName": scenario.name},
        r"SYSTEM\CurrentControlSet\Control\ComputerName\ComputerName": {"ComputerName": scenario.name},
        r"SYSTEM\CurrentControlSet\Services\Netlogon": {},
        r"SOFTWARE\Policies\Microsoft\Windows": {},
    }
    starts = {"Automatic": 2, "Manual": 3, "Disabled": 4}
    for service in scenario.services:
        key = rf"SYSTEM\CurrentControlSet\Services\{service.name}"
        keys[key] = {"Start": starts[service.start_type], **({"DelayedAutostart": 1} if service.is_delayed else {})}
        if service.is_triggered:
            keys[rf"{key}\TriggerInfo"] = {}
    if scenario.late_start_seconds != 120:  # the value is there only if somebody has set it
        keys[r"SYSTEM\CurrentControlSet\Control"] = {"AutoStartDelay": scenario.late_start_seconds}
    for name, value in scenario.policies.items():
        key, _, short = name.rpartition("\\")
        keys.setdefault(POLICY, {})
        keys.setdefault(rf"{POLICY}\{key}" if key else POLICY, {})[short] = value
    for path, values in scenario.registry.items():
        keys.setdefault(path, {}).update(values)
    return {path: {"volatile": False, "values": encode_values(keys.get(path, {}))} for path in _with_parents(keys)}


def build_rollup(build: int, ubr: int, age: float) -> dict[str, RegistryValues]:
    """Return the key of a cumulative update in the component store. ``age``: seconds since its installation."""
    ticks = int((time.time() - age + 11_644_473_600) * 10**7)  # FILETIME: since 1601
    name = f"Package_for_RollupFix~31bf3856ad364e35~amd64~~{build}.{ubr}.1.10"
    halves = [half - 2**32 if half >= 2**31 else half for half in (ticks >> 32, ticks & 0xFFFFFFFF)]
    return {
        rf"{COMPONENTS}\Packages\{name}": {
            "CurrentState": 112,
            "InstallTimeHigh": halves[0],
            "InstallTimeLow": halves[1],
        }
    }


def _with_parents(keys: dict[str, RegistryValues]) -> list[str]:
    found: dict[str, None] = {}
    for path in keys:
        parts = path.split("\\")
        for count in range(1, len(parts) + 1):
            found["\\".join(parts[:count])] = None
    return list(found)


def encode_values(values: RegistryValues) -> JsonObject:
    """Return registry values as state.json has them."""
    kinds = {int: "DWord", str: "String", list: "MultiString"}
    return {name: {"kind": kinds[type(value)], "data": value} for name, value in values.items()}
