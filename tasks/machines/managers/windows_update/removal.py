"""Updates of Windows that are to be removed: what the component store says of their packages. Pure.

The Windows Update Agent removes only what came from a WSUS that approves the removal. So the module Dism removes
packages. Sources: Remove-WindowsPackage and Get-WindowsPackage (Microsoft's reference), the states of DISM.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from tasks.domain.errors import ManagerError
from tasks.domain.model import Update
from tasks.domain.protocols.package_manager import SimulationResult
from tasks.domain.protocols.transport import ScriptResult
from tasks.machines.managers.windows_update.hresults import explain_code
from tasks.machines.managers.windows_update.records import Record, Text, parse_records

KB_PATTERN: Final = re.compile(r"KB[0-9]{5,9}")
_STACK: Final = "Package_for_ServicingStack"
_HERE: Final = frozenset({"Installed", "InstallPending"})
"""States of a package whose files the next boot has."""


class PackageRecord(Record):
    """A package of the component store: record "package"."""

    kb: Text
    name: Text
    state: Text


class _ErrorRecord(Record):
    hresult: int = 0
    message: Text = ""


def parse_packages(result: ScriptResult) -> Mapping[str, Sequence[PackageRecord]]:
    """Return the packages of each article: KB number -> packages.

    Raises:
        ManagerError: the component store could not be asked.
        ProtocolViolation: a record is malformed.
    """
    for error in parse_records(_ErrorRecord, result.find_records("packages_error")):
        code = explain_code(error.hresult).text if error.hresult else error.message
        raise ManagerError(
            f"the component store of Windows could not be asked: {code}",
            hint="Look on the machine: Get-WindowsPackage -Online",
        )
    packages: dict[str, list[PackageRecord]] = {}
    for record in parse_records(PackageRecord, result.find_records("package")):
        packages.setdefault(record.kb, []).append(record)
    return packages


def simulate_removal(updates: Sequence[Update], packages: Mapping[str, Sequence[PackageRecord]]) -> SimulationResult:
    """Return which of these updates can be removed, and why the others can't."""
    refused = {update.id: why for update in updates if (why := _explain_refusal(packages.get(update.kb, ())))}
    changes = {update.id: "" for update in updates if update.id not in refused}
    return SimulationResult(changes=changes, refused=refused, download_bytes=0)


def _explain_refusal(packages: Sequence[PackageRecord]) -> str:
    """Return why the packages of an update can't be removed, or ""."""
    if not packages:
        return "no package of the component store belongs to it, so it can't be removed"
    others = [package for package in packages if not package.name.startswith(_STACK)]
    if not others:
        return "it is a servicing stack, which Windows never removes"
    states = sorted({package.state for package in others})
    if "Installed" not in states:
        return f"its package is {', '.join(states)}: only one that is completely installed can be removed"
    if any(package.state == "InstallPending" for package in others):
        return "its package waits for a reboot: reboot the machine first"
    return ""


def find_left_versions(updates: Sequence[Update], packages: Mapping[str, Sequence[PackageRecord]]) -> Mapping[str, str]:
    """Return the versions of those that are still there: update id -> version. What a reboot ends is not there.

    The servicing stack that came with a cumulative update stays when that is removed. An update of its own is there.
    """
    return {
        update.id: update.installed or ""
        for update in updates
        if any(
            package.state in _HERE
            and (not package.name.startswith(_STACK) or "servicing stack" in update.title.lower())
            for package in packages.get(update.kb, ())
        )
    }
