"""One real machine under two names of the inventory, and a clone of a machine, which is another one."""

import subprocess
from pathlib import Path

import yaml

from tasks.domain.states import OperationState
from tests.lab.engine import Fleet, Telling
from tests.lab.fleet import BootHosts, LabHost
from tests.lab.killing import hold, let_go


def add_name(fleet: Fleet, name: str) -> None:
    """Give the fleet's one host a second address, which the inventory has as another machine."""
    (host,) = fleet.hosts
    address = f"{host.address.rpartition('.')[0]}.{255 - host.number}"
    network = f"fp{host.key.parent.name}-{host.number}"  # see lab.sh: it outlives the host's boots
    subprocess.run(["ip", "-n", network, "address", "add", f"{address}/24", "dev", "eth0"], check=True)
    fleet.describe()
    data = yaml.safe_load(fleet.inventory.read_text())
    data["machines"].append({**data["machines"][0], "name": name, "address": address})
    keys = fleet.place / "known_hosts"
    keys.write_text(host.known_hosts.read_text().replace(f"{host.address} ", f"{host.address},{address} "))
    data["host_keys"]["known_hosts"] = str(keys)
    fleet.inventory.write_text(yaml.safe_dump(data))


def test_the_second_name_changes_nothing_while_the_first_one_installs(host: LabHost, tmp_path: Path) -> None:
    fleet = Fleet([host], tmp_path)
    add_name(fleet, "other-name")
    hold([host])
    watch = Telling(on_install=lambda: let_go([host]))
    boot = host.boot_id()
    report = fleet.patch("lab-slow", "lab-reboot", watch=watch, waves={"at_once": 2}, reboot="Always")
    states = {each.machine: each for each in report.outcomes}
    (left,) = [each for each in report.outcomes if each.state is OperationState.NOT_STARTED]
    (done,) = [each for each in report.outcomes if each is not left]
    assert set(states) == {host.name, "other-name"}
    assert done.state is OperationState.SUCCEEDED, done.reason
    assert left.reason == f"same machine: the same machine as {done.machine}, which this run has already"
    assert host.boot_id() != boot
    assert done.reboot_result is not None
    assert done.reboot_result.boot_id_after == host.boot_id()  # it was rebooted once
    assert host.package_versions("lab-slow", "lab-reboot") == {"lab-slow": "2.0", "lab-reboot": "2.0"}


def test_a_clone_is_another_machine(hosts: BootHosts, tmp_path: Path) -> None:
    first, second = hosts(2)
    (machine_id,) = first.sh("cat /etc/machine-id").split()
    second.sh(f"echo {machine_id} > /etc/machine-id", root=True)
    report = Fleet([first, second], tmp_path).patch("lab-plain", waves={"at_once": 2}, reboot="Never")
    assert {each.state for each in report.outcomes} == {OperationState.SUCCEEDED}
