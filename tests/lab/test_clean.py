"""`fleetpatch machines clean` on machines of three package managers: afterwards nothing of fleetpatch is there."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.domain.states import OperationState
from tasks.machines.transport.broker.signing import build_installer
from tests.lab.engine import Fleet
from tests.lab.fleet import LabHost
from tests.lab.killing import Controllers, Told, began, hold, let_go, set_slow

pytestmark = pytest.mark.slow

Boot = Callable[..., list[LabHost]]
ALL = (
    "find / -xdev '(' -iname '*fleetpatch*' -o -path '*/fleetpatch/*' ')' ! -path '/proc/*' ! -path '/var/log/*'; "
    "find /run /tmp -iname '*fleetpatch*' ! -path '/run/systemd/units/*' 2>/dev/null; true"
)
FOREIGN = "/var/lib/fleetpatch/jobs/notes-of-anne"
OWN_SERVICE = "/etc/systemd/system/fleetpatch-worker.service"


def find_all(host: LabHost) -> list[str]:
    """Return what has fleetpatch in its name on a host, but for logs of the system."""
    found = host.sh(ALL, root=True)
    return sorted(set(found.splitlines()))


def find_units(host: LabHost) -> str:
    return host.sh("systemctl list-units --all --plain --no-legend 'fleetpatch-*'", root=True).strip()


def clean(controllers: Controllers, *words: str, records: str | None = None) -> Told:
    return controllers.start("machines", "clean", "*", "--json", *words, records=records).end()


def test_nothing_stays_on_machines_of_each_family(hosts: Boot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "keys"))
    fleet = Fleet([*hosts(1), *hosts(1, "dnf"), *hosts(1, "zypper")], tmp_path)
    apt = fleet.hosts[0]
    assert [find_all(host) for host in fleet.hosts] == [[], [], []]
    controllers = Controllers(fleet)
    fleet.describe()
    assert set(clean(controllers, "--dry-run").states.values()) == {"NothingFound"}
    apt.sh("systemctl enable --now apt-daily.timer apt-daily-upgrade.timer 2>/dev/null", root=True)
    (apt.root / "root/install.sh").write_text(build_installer(apt.name, "patch"))
    apt.sh("sh /root/install.sh", root=True)
    try:
        hold([apt])
        slow = {"classifications": [], "include": ["lab-slow"]}
        first = controllers.patch(updates=slow, native_updaters="pause", reboot="Never")
        controllers.wait_until(began("install"), "the installation")
        busy = clean(controllers, "--yes")
        assert busy.states[apt.name] == "Refused", busy.out
        let_go([apt])
        assert first.end().code in (0, 3)
        kept = {host.name: find_all(host) for host in fleet.hosts}
        assert all("/var/lib/fleetpatch/machine-lock" in found for found in kept.values())

        foreign = clean(controllers, "--yes", records=f"sqlite:///{tmp_path / 'others.db'}")
        assert (foreign.code, set(foreign.states.values())) == (4, {"Refused"})
        assert all("another controller" in row["message"] for row in foreign.json["machines"])
        seen = clean(controllers, "--dry-run")
        assert (seen.code, set(seen.states.values())) == (0, {"ToBeCleaned"})
        assert {host.name: find_all(host) for host in fleet.hosts} == kept, "so far nothing was removed"

        fleet.hosts[2].sh(f"mkdir {FOREIGN} && touch {FOREIGN}/a", root=True)
        apt.sh(f"printf '[Service]\\nExecStart=/bin/sleep 1000\\n' >{OWN_SERVICE}", root=True)
        apt.sh("systemctl daemon-reload && systemctl start fleetpatch-worker", root=True)
        done = clean(controllers, "--yes")
        assert done.code == 0, done.out
        assert set(done.states.values()) == {"Cleaned"}
    finally:
        controllers.end()
    assert find_all(apt) == [OWN_SERVICE]
    assert find_units(apt).split()[0] == "fleetpatch-worker.service"
    assert find_all(fleet.hosts[1]) == []
    assert find_all(fleet.hosts[2]) == ["/var/lib/fleetpatch", "/var/lib/fleetpatch/jobs", FOREIGN, f"{FOREIGN}/a"]
    assert find_units(fleet.hosts[1]) == find_units(fleet.hosts[2]) == ""
    timers = apt.sh("systemctl is-active apt-daily.timer apt-daily-upgrade.timer").split()
    assert timers == ["active", "active"]
    left = [row["left"] for row in done.json["machines"] if row["machineName"] == fleet.hosts[2].name]
    assert FOREIGN in json.dumps(left)


def test_a_pause_that_a_dead_run_left_is_ended(hosts: Boot, tmp_path: Path) -> None:
    """The run is finalized, and its machine is not asked any more: cleaning gives the updaters back."""
    (host,) = hosts(1)
    timers = "apt-daily.timer apt-daily-upgrade.timer"
    host.sh(f"systemctl enable --now {timers} 2>/dev/null", root=True)
    set_slow([host], 2)
    fleet = Fleet([host], tmp_path)
    report = fleet.patch("lab-slow", native_updaters="pause", reboot="Never")
    assert report.run.state is OperationState.SUCCEEDED
    noted = "\\n".join([report.run.id, "$boot", *(f"{timer} active enabled" for timer in timers.split())])
    host.sh(
        f"systemctl stop {timers}; systemctl mask --runtime {timers} 2>/dev/null; "
        f'boot={host.boot_id()}; printf "{noted}\\n" >/var/lib/fleetpatch/updaters',
        root=True,
    )
    controllers = Controllers(fleet)
    done = clean(controllers, "--yes")
    assert (done.code, done.states) == (0, {host.name: "Cleaned"}), done.out
    assert host.sh(f"systemctl is-active {timers}").split() == ["active", "active"]
    assert find_all(host) == []
