"""The assessments of the sample fleet (see web_fleet.py): what each machine says of itself, day by day."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from inventory.machine import Machine, OsFamily
from tasks.domain.components import InstalledComponent
from tasks.domain.model import (
    Assessment,
    ErrorInfo,
    Facts,
    Finding,
    HotpatchEnrolment,
    LivePatching,
    PackageState,
    RebootNeed,
    RepositoryProblem,
    Update,
)
from tasks.domain.states import Classification, FindingLevel, MachineKind, YesNoUnknown
from tests.support.builders import make_facts, make_update
from tests.unit.reporting.machines import updates

XSS = "<script>window.__xss=1;alert(1)</script>"
XSS_ATTRIBUTE = '"><img src=x onerror="window.__xss=2;alert(2)">\' onmouseover=\'window.__xss=3;alert(3)'
BIDI = "invoice-of-november\u202egnp.exe\u2066 \u200b\x1b[31mred\x07 \x00end"
HOSTILE_MACHINES = (XSS, XSS_ATTRIBUTE, BIDI.replace("\0", ""), "../../etc/passwd", "a b/c%2Fd?x=1#y", "w" * 120)
GONE = "gone-9"
PATCHED_AT = timedelta(days=3, hours=7, minutes=30)  # before the present moment: the run of samples.forty()
_UNREACHABLE_NOW = {"web-11": 6, "web-14": 9, "app-03": 2, "app-08": 3, "stage-db-1": 1}  # for how many days
_BROKEN = {"web-15", "app-05"}
_REBOOT = RebootNeed(YesNoUnknown.YES, ("linux-image-6.1.0-40-amd64 is installed, 6.1.0-28-amd64 runs",))
_SYSTEMS: dict[str, dict[str, Any]] = {
    "rhel": {"os_id": "rhel", "os_version": "9.6", "os_name": "Red Hat Enterprise Linux 9.6 (Plow)"},
    "suse": {"os_id": "sles", "os_version": "15.6", "os_name": "SUSE Linux Enterprise Server 15 SP6"},
    "win-": {"os_id": "windows", "os_version": "10.0.20348", "os_name": "Windows Server 2022 Datacenter"},
    "dev-": {"os_id": "ubuntu", "os_version": "24.04", "os_name": "Ubuntu 24.04.3 LTS"},
}
_HARDWARE: dict[str, dict[str, Any]] = {
    "web-": {"kind": MachineKind.VIRTUAL, "container_engines": (), "is_arc": False},
    "app-": {"kind": MachineKind.VIRTUAL, "container_engines": ("docker",), "is_arc": False},
    "rhel": {"kind": MachineKind.PHYSICAL, "container_engines": ("podman",), "is_arc": False},
    "win-": {"kind": MachineKind.VIRTUAL, "container_engines": (), "is_arc": True},
}
"""What the others have not said."""
_MANAGERS = {"rhel": "dnf", "suse": "zypper", "win-": "windows"}


def list_assessments(machines: tuple[Machine, ...], now: datetime, days: int) -> Iterator[list[Assessment]]:
    """Return the assessments of each day, oldest first: daily in the last fortnight, weekly before."""
    wanted = [each for each in range(days, -1, -1) if each <= 14 or each % 7 == 0]
    for ago in wanted:
        at = now.replace(hour=4, minute=0, second=0) - timedelta(days=ago)
        yield [
            assess(each, at + timedelta(seconds=n), now) for n, each in enumerate(machines) if each.name != "fresh-1"
        ]


def assess(machine: Machine, at: datetime, now: datetime) -> Assessment:
    """Return what a machine says at that time."""
    days_ago = (now - at).days
    silent = _UNREACHABLE_NOW.get(machine.name)
    if silent is not None and days_ago < silent:
        message = f"no answer at {machine.address}:22 within 10 s"
        hint = "Is the machine up, and does the firewall let port 22 through?"
        return Assessment(machine.name, at, 10.0, error=ErrorInfo("Unreachable", message, hint, transient=True))
    packages = _build_packages(machine, at, now)
    facts = _build_facts(machine)
    return Assessment(machine.name, at, 2.0 + len(packages.updates) / 5, facts, packages)


def _build_facts(machine: Machine) -> Facts:
    system = _SYSTEMS.get(machine.name[:4], {})
    manager = _MANAGERS.get(machine.name[:4], "apt")
    facts = make_facts(managers=(manager,), **system, **_HARDWARE.get(machine.name[:4], {}))
    if machine.os is OsFamily.WINDOWS:
        facts = replace(facts, kernel="10.0.20348.2700", job_runner="task", privilege="administrator")
    if machine.name == "app-13":
        finding = Finding("disk /var", FindingLevel.WARN, "0.4 GiB free, 1.2 GiB are needed", "Run: apt-get clean")
        facts = replace(facts, findings=(finding,))
    if machine.name == "odd-1":
        facts = replace(
            facts,
            os_name=f"Debian {XSS}",
            findings=(Finding(XSS, FindingLevel.BLOCK, f"{XSS_ATTRIBUTE} {BIDI}", f"Run: {XSS}"),),
        )
    return facts


def _build_packages(machine: Machine, at: datetime, now: datetime) -> PackageState:
    manager = _MANAGERS.get(machine.name[:4], "apt")
    state = PackageState(manager, _list_updates(machine, at, now), RebootNeed(YesNoUnknown.NO))
    return replace(state, **_SPECIAL.get(machine.name, {}), **_TIMED.get(machine.name, lambda _: {})(now))


def _list_updates(machine: Machine, at: datetime, now: datetime) -> tuple[Update, ...]:
    if machine.os is OsFamily.WINDOWS:
        return _list_windows_updates(at)
    chance = random.Random(machine.name)
    if machine.name[:4] in {"rhel", "suse"}:
        return tuple(_to_rpm(each) for each in updates(chance.randint(0, 6)))
    pending = [each for each in updates(24, seed=3) if each.name != "docker-ce"]
    patched = machine.name.startswith(("web-", "app-")) and at > now - PATCHED_AT and machine.name not in _BROKEN
    if patched or machine.name.startswith("stage-web"):
        pending = [each for each in pending if each.classification is Classification.OTHER][: chance.randint(0, 5)]
    else:
        age = (now - at).days
        pending = pending[: max(0, 14 - age // 5)]
    return tuple(_mark(each, machine.name) for each in pending) + _HOSTILE_UPDATES.get(machine.name, ())


def _mark(update: Update, machine: str) -> Update:
    if machine == "db-02.fra1.example.net" and update.name == "postgresql-15":
        return replace(update, held=True)
    if machine == "dev-1" and update.name == "libxml2":
        why = "UA_ESM_REQUIRED: the machine is not attached to Ubuntu Pro"
        return replace(update, blocked=why, classification=Classification.SECURITY_ESM)
    return update


def _to_rpm(update: Update) -> Update:
    installed = (update.installed or "").replace("deb12", "el9")
    newer = replace(
        update, installed=installed, available=update.available.replace("deb12", "el9"), origins=("baseos",)
    )
    return replace(newer, id=f"{update.name}.x86_64", arch="x86_64")


def _list_windows_updates(at: datetime) -> tuple[Update, ...]:
    base = {"arch": "", "installed": None, "severity": "Critical", "cves": ("CVE-2026-21510",), "origins": ("WSUS",)}
    month = make_update(
        **base,
        id="b1d7f6a0-0d51-4a61-8d6f-0f7f2d1f3c11",
        name="KB5070884",
        kb="KB5070884",
        title="2026-11 Cumulative Update for Microsoft server operating system, version 21H2 for x64-based Systems",
        available="rev 200",
        requires_reboot=True,
        published=at.replace(day=10, hour=18) if at.month == 11 else None,
    )
    tool = replace(
        month,
        id="11f2",
        name="KB890830",
        kb="KB890830",
        title="Windows Malicious Software Removal Tool",
        classification=Classification.UPDATE_ROLLUP,
        severity="",
        cves=(),
        requires_reboot=False,
    )
    driver = replace(
        tool, id="22a3", name="Intel - net - 12.19.2", kb="", classification=Classification.OTHER, optional="a driver"
    )
    return (month, tool, driver)


_HOSTILE_UPDATES = {
    "odd-1": (
        make_update(name=XSS, available=XSS_ATTRIBUTE, severity=XSS, cves=("CVE-2026-1", XSS), title=BIDI),
        make_update(name=XSS_ATTRIBUTE, blocked=f"blocked {XSS}", origins=(XSS,), advisories=(XSS,)),
        make_update(name="../../etc/passwd", available="1/2 3%2F?x#y"),
        make_update(name=BIDI, available="\u202e1.0"),
        make_update(name="v" * 180, available="9." * 90),
    ),
}
_SPECIAL: dict[str, dict[str, Any]] = {
    "web-07": {"services_to_restart": ("php8.2-fpm.service", "nginx.service")},
    "web-02": {"services_to_restart": ("nginx.service",)},
    "web-15": {"problems": ("postgresql-15 is unpacked but not configured",), "reboot": _REBOOT},
    "app-05": {"problems": ("postgresql-15 is unpacked but not configured",), "repairable": True, "interrupted": True},
    "app-09": {
        "repository_problems": (
            RepositoryProblem("internal", "the signature of its list has expired since 2026-11-01", "Sign it again."),
        ),
        "warnings": ("internal: its lists are 22 days old",),
    },
    "app-11": {"lock_holder": "unattended-upgrade (pid 4711)", "auto_updaters": (("unattended-upgrades", 5400.0),)},
    "web-03": {"components": (InstalledComponent("node_exporter", "1.9.1"),)},
    "web-04": {"components": (InstalledComponent("node_exporter", "1.8.2"),)},
    "web-05": {"components": (InstalledComponent("node_exporter", "0.9.0"),)},
    "web-06": {"components": (InstalledComponent("node_exporter", problem=f"its answer has no version: {XSS}"),)},
    "win-2": {"hotpatch": HotpatchEnrolment("hotpatch", "registry", enrolled=True, receives=True, product="26100")},
    "win-3": {"hotpatch": HotpatchEnrolment("hotpatch", "registry", enrolled=True, receives=False, product="26100")},
    "odd-1": {"problems": (XSS, BIDI), "services_to_restart": (XSS,), "warnings": (XSS_ATTRIBUTE,)},
}
_TIMED: dict[str, Any] = {
    "db-03.fra1.example.net": lambda now: {"reboot": replace(_REBOOT, since=now - timedelta(days=23))},
    "db-05.fra1.example.net": lambda now: {
        "reboot": replace(
            _REBOOT, since=now - timedelta(days=9), mitigated_by="livepatch: all CVEs are fixed in memory"
        ),
        "live_patching": LivePatching(
            "kpatch", "enabled", "6.1.0-28-amd64", ("kpatch-6_1_0-28-1-2",), ("CVE-2025-38352",)
        ),
    },
    "win-2": lambda now: {"reboot": RebootNeed(YesNoUnknown.YES, ("Component Based Servicing",), since=now)},
}


def list_hostile_assessments(now: datetime) -> list[Assessment]:
    """Return assessments of machines that are in no inventory, with names that attack pages."""
    pending = _HOSTILE_UPDATES["odd-1"]
    state = PackageState("apt", pending, RebootNeed(YesNoUnknown.YES, (XSS,)), problems=(XSS,))
    at = now - timedelta(days=1)
    found = [Assessment(name, at, 1.0, make_facts(os_name=XSS), state) for name in HOSTILE_MACHINES]
    gone = PackageState("apt", updates(5), RebootNeed(YesNoUnknown.NO))
    return [*found, Assessment(GONE, now - timedelta(days=40), 2.0, make_facts(), gone)]
