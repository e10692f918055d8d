"""Debian's own updaters on real machines: they rest while a machine is patched, and are as they were afterwards."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tasks.domain.states import OperationState
from tasks.machines.managers.apt.manager import AptManager
from tasks.machines.managers.rpm.system_state import build_rpm_updaters_script
from tests.lab.engine import Fleet, Telling
from tests.lab.fleet import BootHosts, Kind, LabHost
from tests.lab.killing import Controllers, Told, began, its_lease_is_over, set_slow

Boot = Callable[[int], list[LabHost]]

TIMERS = "apt-daily.timer", "apt-daily-upgrade.timer"
AT_LARGE = dict.fromkeys(TIMERS, ("active", "enabled"))
AT_REST = dict.fromkeys(TIMERS, ("inactive", "masked-runtime"))
NOTE = "/var/lib/fleetpatch/updaters"


def switch_on(host: LabHost, *names: str) -> None:
    """Have its own updaters switched on, as they are on every Debian machine."""
    host.sh(f"systemctl enable --now {' '.join(names)} 2>/dev/null", root=True)


def timers(host: LabHost) -> dict[str, tuple[str, str]]:
    """Each timer's state, and whether it is enabled, by systemd."""
    shown = host.sh(f"systemctl show -p ActiveState,UnitFileState {' '.join(TIMERS)}")
    units = [dict(line.split("=", 1) for line in unit.splitlines()) for unit in shown.split("\n\n")]
    return {name: (unit["ActiveState"], unit["UnitFileState"]) for name, unit in zip(TIMERS, units, strict=True)}


def traces(host: LabHost) -> list[str]:
    """What is left of a pause: the note of it, and masks."""
    return host.sh("find /var/lib/fleetpatch /run/systemd/system -type l -o -name 'updaters*'", root=True).splitlines()


def test_they_rest_while_a_machine_is_patched_and_are_as_they_were_after(hosts: Boot, tmp_path: Path) -> None:
    (host,) = hosts(1)
    switch_on(host, *TIMERS)
    assert timers(host) == AT_LARGE
    set_slow([host], 3)
    seen: list[object] = []
    watch = Telling(on_install=lambda: seen.extend([timers(host), sorted(traces(host))]))

    report = Fleet([host], tmp_path).patch("lab-slow", watch=watch, native_updaters="pause", reboot="Never")

    assert report.run.state is OperationState.SUCCEEDED
    assert seen == [AT_REST, [f"/run/systemd/system/{name}" for name in sorted(TIMERS)] + [NOTE, f"{NOTE}.sh"]]
    assert timers(host) == AT_LARGE
    assert traces(host) == []


UNITS = {
    "dnf-automatic.service": "[Service]\nType=oneshot\nExecStart=/bin/true\n",
    "dnf-automatic.timer": "[Timer]\nOnCalendar=*-*-* 6:00\n[Install]\nWantedBy=timers.target\n",
    "yum-cron.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/touch /run/yum-cron\n"
    "ExecStop=/bin/rm -f /run/yum-cron\n[Install]\nWantedBy=multi-user.target\n",
    "packagekit.service": "[Service]\nExecStart=/bin/sleep infinity\n",
}
"""Units as systems with RPM packages have them."""


def test_a_real_systemd_has_the_units_of_other_systems_rest_too(
    hosts: Boot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (host,) = hosts(1)
    for name, text in UNITS.items():
        host.sh(f"printf '{text}' > /usr/lib/systemd/system/{name}", root=True)
    host.sh("ln -s dnf-automatic.timer /usr/lib/systemd/system/dnf5-automatic.timer", root=True)
    host.sh("systemctl daemon-reload; systemctl start packagekit", root=True)
    switch_on(host, "dnf-automatic.timer", "yum-cron.service")
    started = host.sh("systemctl show -p MainPID --value packagekit")
    monkeypatch.setattr(AptManager, "updaters_script", build_rpm_updaters_script("tasks.machines.managers.apt"))
    set_slow([host], 3)
    shown = f"systemctl show -p ActiveState,UnitFileState --value {' '.join(list(UNITS)[1:])}; ls /run/yum-cron || :"
    seen: list[str] = []

    report = Fleet([host], tmp_path).patch(
        "lab-slow",
        watch=Telling(on_install=lambda: seen.append(host.sh(shown))),
        native_updaters="pause",
        reboot="Never",
    )

    assert report.run.state is OperationState.SUCCEEDED
    masked = "masked-runtime"
    assert seen[0].split() == ["inactive", masked, "inactive", masked, "active", masked]
    assert host.sh(shown).split() == ["active", "enabled", "active", "enabled", "active", "static", "/run/yum-cron"]
    assert host.sh("systemctl show -p MainPID --value packagekit") == started
    assert traces(host) == []


def test_a_controller_that_was_killed_leaves_them_at_rest_and_the_machine_brings_them_back(
    hosts: Boot, tmp_path: Path
) -> None:
    controllers = Controllers(Fleet(hosts(1), tmp_path))
    (host,) = controllers.fleet.hosts
    daily, upgrade = TIMERS
    switch_on(host, upgrade)
    host.sh(f"systemctl mask {daily} 2>/dev/null", root=True)
    before = timers(host)
    assert before == {daily: ("inactive", "masked"), upgrade: AT_LARGE[upgrade]}
    set_slow([host], 15)
    masks = {"classifications": [], "include": ["lab-slow"]}
    try:
        first = controllers.patch(updates=masks, native_updaters="pause", reboot="Never")
        controllers.wait_until(began("install"), "the installation")
        first.kill()
        assert timers(host) == {daily: before[daily], upgrade: AT_REST[upgrade]}
        next_time = "systemctl show -p NextElapseUSecMonotonic --value fleetpatch-updaters.timer"
        assert "h" in host.sh(next_time)  # an hour after the window
        host.sh("systemctl start --wait fleetpatch-updaters.service", root=True)  # as its timer does then
        assert timers(host) == before
        assert traces(host) == []
        its_lease_is_over(controllers)
        told = controllers.resume()
    finally:
        controllers.end()

    assert told.code == 0, told.err
    assert timers(host) == before
    assert traces(host) == []


@dataclass
class Switched:
    """The command that looks at one host and switches its updaters."""

    controllers: Controllers

    def assess(self, **machine: str) -> dict[str, Any]:
        """Assess the host, as the inventory describes it then, and return its row of `updaters status`."""
        self.controllers.fleet.describe(every=machine)
        assert self.run("assess", "*", "--json").code == 0
        return self.row("updaters", "status", "*", "--json")

    def switch(self, verb: str) -> tuple[int, str, str | None]:
        """Return the exit code, the result and the status afterwards."""
        told = self.run("updaters", verb, "*", "--yes", "--json")
        (machine,) = told.json["machines"]
        return told.code, machine["result"], machine["updaterStatus"]

    def row(self, *words: str) -> dict[str, Any]:
        """Return the only machine of a list."""
        (row,) = self.run(*words).json["machines"]
        return dict(row)

    def run(self, *words: str) -> Told:
        """Run the command to its end."""
        return self.controllers.start(*words).end()


def test_they_are_switched_off_for_good_and_on_again(hosts: Boot, tmp_path: Path) -> None:
    """apt itself and systemd say so. What somebody switches on again by hand is seen."""
    (host,) = hosts(1)
    switched = Switched(Controllers(Fleet([host], tmp_path)))
    switch_on(host, *TIMERS)
    host.sh("printf '#!/bin/sh\\n' >/usr/bin/unattended-upgrade; chmod 755 /usr/bin/unattended-upgrade", root=True)
    host.sh("echo 'APT::Periodic::Unattended-Upgrade \"1\";' >/etc/apt/apt.conf.d/20auto-upgrades", root=True)
    setting = "apt-config dump APT::Periodic::Unattended-Upgrade"

    assert switched.assess()["updaterStatus"] == "On"
    assert switched.row("machines", "--json")["machineKind"] == "Container"
    assert switched.switch("off") == (0, "changed", "Off")
    assert host.sh(setting).strip() == 'APT::Periodic::Unattended-Upgrade "0";'
    assert timers(host) == AT_LARGE  # package lists are still read
    assert switched.switch("off") == (0, "unchanged", "Off")
    assert not switched.assess()["updaterDrift"]

    host.sh("echo 'APT::Periodic::Unattended-Upgrade \"1\";' >/etc/apt/apt.conf.d/zzz-by-hand", root=True)
    assert "installs updates by itself again" in switched.assess()["updaterDrift"]
    host.sh("rm /etc/apt/apt.conf.d/zzz-by-hand", root=True)

    assert switched.switch("on")[:2] == (4, "refused")
    assert "none is switched on" in switched.assess(owner="os")["updaterDrift"]
    host.sh(f"systemctl disable --now {TIMERS[1]}", root=True)
    assert switched.switch("on") == (0, "changed", "On")
    assert host.sh(setting).strip() == 'APT::Periodic::Unattended-Upgrade "1";'
    assert timers(host) == AT_LARGE


@pytest.mark.parametrize(("flavour", "timer"), [("dnf", "dnf-automatic-install.timer"), ("zypper", "os-update.timer")])
def test_a_timer_of_an_rpm_system_is_switched_off_for_good_and_on_again(
    hosts: BootHosts, tmp_path: Path, flavour: Kind, timer: str
) -> None:
    (host,) = hosts(1, flavour)
    switched = Switched(Controllers(Fleet([host], tmp_path)))
    units = f"/usr/lib/systemd/system/{timer.removesuffix('.timer')}"
    host.sh(f"printf '{UNITS['dnf-automatic.timer']}' > {units}.timer", root=True)
    host.sh(f"printf '{UNITS['dnf-automatic.service']}' > {units}.service; systemctl daemon-reload", root=True)
    switch_on(host, timer)
    shown = f"systemctl show -p ActiveState,UnitFileState --value {timer}"

    assert switched.assess()["updaterStatus"] == "On"
    assert switched.switch("off") == (0, "changed", "Off")
    assert host.sh(shown).split() == ["inactive", "disabled"]
    switch_on(host, timer)
    assert "installs updates by itself again" in switched.assess()["updaterDrift"]
    switched.controllers.fleet.describe(every={"owner": "os"})
    assert switched.switch("on") == (0, "unchanged", "On")
    host.sh(f"systemctl disable --now {timer} 2>/dev/null", root=True)
    assert switched.switch("on") == (0, "changed", "On")
    assert host.sh(shown).split() == ["active", "enabled"]
