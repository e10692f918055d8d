"""event_forwarder.sh in real shells, below a folder of its own: what it lays down, and where it refuses."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.domain.protocols.transport import ScriptRecord
from tasks.machines.transport.output_decoder import ScriptOutputDecoder, generate_nonce
from tasks.machines.transport.posix_shell import build_script_stdin
from tasks.machines.transport.script_library import load_script
from tests.support.shells import SHELLS

TARGET = "192.0.2.1:4281"
UNITS = ["fleetpatch-forwarder-address.service", "fleetpatch-forwarder.service", "fleetpatch-forwarder.socket"]
UNIT_ORDER = [UNITS[0], UNITS[2], UNITS[1]]
TOOLS = {
    "systemctl": (
        'place=$(dirname "$0")/..\n'
        "for last do :; done\n"
        'echo "$*" | sed "s/--no-ask-password --no-pager //" >>"$place/orders"\n'
        'case "$*" in *"enable --now"*)\n'
        '  [ ! -e "$place/broken" ] || { echo "Failed to start"; exit 1; }\n'
        '  ! rm "$place/broken once" 2>/dev/null || { echo "Failed to start"; exit 1; }; touch "$place/active" ;;\n'
        '*disable*) rm -f "$place/active" ;; *is-active*) [ -e "$place/active" ] ;; esac\n'
    ),
    "ip": (
        'place=$(dirname "$0")/..\n'
        'case "$*" in *"address show"*) cat "$place/address" ;;\n'
        '*"route show"*) cat "$place/route" ;; esac 2>/dev/null\n'
    ),
}


@dataclass(frozen=True, slots=True)
class Machine:
    place: Path
    shell: list[str]

    @property
    def units(self) -> Path:
        return self.place / "etc/systemd/system"

    def run(self, work: str, target: str = TARGET) -> Sequence[ScriptRecord]:
        nonce = generate_nonce()
        given: dict[str, str | tuple[str, ...]] = {"work": work, "root": str(self.place), "target": target}
        done = subprocess.run(
            [*self.shell, "-s"],
            input=build_script_stdin(load_script("event_forwarder"), given, nonce),
            capture_output=True,
            env={"PATH": f"{self.place / 'tools'}:{os.environ['PATH']}"},
            check=False,
            timeout=60,
        )
        decoder = ScriptOutputDecoder(nonce)
        decoder.feed_stdout(done.stdout)
        output = decoder.build_output()
        assert output.records, done.stderr
        return output.records

    def refused(self, work: str = "lay", target: str = TARGET) -> str:
        (record,) = self.run(work, target)
        assert record["kind"] == "refused"
        return str(record["why"])

    def dmi(self, name: str, text: str) -> None:
        folder = self.place / "sys/class/dmi/id"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{text}\n")

    def names(self) -> list[str]:
        return sorted(path.name for path in self.units.iterdir())

    def orders(self) -> list[str]:
        return (self.place / "orders").read_text().splitlines()


@pytest.fixture(params=[name for name, words in SHELLS.items() if shutil.which(words[0])])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    for folder in ("etc/systemd/system", "run/systemd/system", "usr/lib/systemd", "tools"):
        (tmp_path / folder).mkdir(parents=True)
    tools = {f"tools/{name}": text for name, text in TOOLS.items()} | {"usr/lib/systemd/systemd-socket-proxyd": ""}
    for name, text in tools.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}")
        (tmp_path / name).chmod(0o755)
    words = SHELLS[request.param]
    return Machine(tmp_path, [str(shutil.which(words[0])), *words[1:]])


def test_it_lays_three_units_down_and_takes_them_away(machine: Machine) -> None:
    assert machine.run("look") == ({"kind": "forwarder", "state": "absent", "target": ""},)
    assert machine.run("lay") == ({"kind": "changed", "state": "laid", "target": TARGET},)
    assert machine.names() == UNITS
    assert machine.run("look") == ({"kind": "forwarder", "state": "laid", "target": TARGET},)
    assert machine.run("remove") == ({"kind": "changed", "state": "absent"},)
    assert machine.names() == []
    assert machine.run("remove") == ({"kind": "unchanged"},)


def test_the_socket_is_for_programs_on_this_machine_alone(machine: Machine) -> None:
    machine.run("lay")

    socket = (machine.units / "fleetpatch-forwarder.socket").read_text()
    for line in ("ListenStream=169.254.169.254:80", "FreeBind=yes", "BindToDevice=lo", "IPAddressDeny=any"):
        assert line in socket.splitlines()
    service = (machine.units / "fleetpatch-forwarder.service").read_text()
    assert f"ExecStart=/usr/lib/systemd/systemd-socket-proxyd {TARGET}" in service.splitlines()
    assert "enable --now fleetpatch-forwarder.socket" in machine.orders()
    address = (machine.units / "fleetpatch-forwarder-address.service").read_text()
    assert "DefaultDependencies=no" in address.splitlines()  # else it waits for all sockets, and they for it


def test_asked_twice_it_does_it_once_and_another_target_replaces_it(machine: Machine) -> None:
    machine.run("lay")
    before = len(machine.orders())

    assert machine.run("lay") == ({"kind": "unchanged"},)
    assert [order for order in machine.orders()[before:] if "is-active" not in order] == []
    assert machine.run("lay", "192.0.2.9:80")[0]["target"] == "192.0.2.9:80"
    assert "192.0.2.9:80" in (machine.units / "fleetpatch-forwarder.service").read_text()


@pytest.mark.parametrize(
    ("name", "text", "cloud"),
    [
        ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", "Azure"),
        ("sys_vendor", "Amazon EC2", "AWS"),
        ("product_name", "Google Compute Engine", "Google Cloud"),
        ("chassis_asset_tag", "OracleCloud.com", "Oracle Cloud"),
        ("sys_vendor", "OpenStack Foundation", "OpenStack"),
        ("sys_vendor", "Hetzner", "Hetzner"),
    ],
)
def test_on_a_machine_of_a_cloud_it_refuses(machine: Machine, name: str, text: str, cloud: str) -> None:
    machine.dmi(name, text)

    assert cloud in machine.refused()
    assert machine.names() == []
    assert not (machine.place / "orders").exists()


@pytest.mark.parametrize(("name", "text"), [("sys_vendor", "QEMU"), ("sys_vendor", "Microsoft Corporation")])
def test_on_a_virtual_machine_at_home_it_does_not(machine: Machine, name: str, text: str) -> None:
    machine.dmi(name, text)

    assert machine.run("lay")[0]["kind"] == "changed"


@pytest.mark.parametrize("file", ["address", "route"])
def test_where_the_address_is_used_it_refuses(machine: Machine, file: str) -> None:
    (machine.place / file).write_text("169.254.169.254 dev eth0\n")

    assert "is used already" in machine.refused()
    assert machine.names() == []


@pytest.mark.parametrize("work", ["lay", "remove"])
def test_units_of_somebody_else_stay(machine: Machine, work: str) -> None:
    (machine.units / UNITS[2]).write_text("[Socket]\nListenStream=1\n")

    assert "not fleetpatch's" in machine.refused(work)
    assert (machine.units / UNITS[2]).read_text() == "[Socket]\nListenStream=1\n"


def test_what_can_not_be_started_is_not_left_there(machine: Machine) -> None:
    (machine.place / "broken").touch()

    assert "Failed to start" in machine.refused()
    assert machine.names() == []
    assert [order for order in machine.orders() if order.startswith("reset-failed")] == [
        f"reset-failed {name}" for name in UNIT_ORDER
    ]


def test_a_target_that_can_not_be_reached_leaves_the_earlier_forwarder(machine: Machine) -> None:
    machine.run("lay")
    (machine.place / "broken once").touch()

    assert "Failed to start" in machine.refused(target="192.0.2.9:80")
    assert machine.run("look") == ({"kind": "forwarder", "state": "laid", "target": TARGET},)


def test_a_unit_that_can_not_be_written_leaves_nothing(machine: Machine) -> None:
    (machine.units / f"{UNITS[2]}.new").mkdir()  # the second that is laid

    assert "cannot write" in machine.refused()
    assert machine.names() == [f"{UNITS[2]}.new"]


@pytest.mark.parametrize(
    ("file", "address", "is_in_the_way"),
    [
        ("tcp", "00000000:0050", True),
        ("tcp6", f"{'0' * 32}:0050", True),
        ("tcp", "0100007F:0050", False),
        ("tcp", "00000000:1F90", False),
    ],
)
def test_a_program_that_has_port_80_of_all_addresses_is_named(
    machine: Machine, file: str, address: str, is_in_the_way: bool
) -> None:
    (machine.place / "proc/net").mkdir(parents=True)
    head = "  sl  local_address rem_address   st tx_queue rx_queue\n"
    (machine.place / "proc/net" / file).write_text(f"{head}   0: {address} 00000000:0000 0A 00000000:00000000\n")

    if is_in_the_way:
        assert "port 80 of all addresses" in machine.refused()
        assert machine.names() == []
        assert not (machine.place / "orders").exists()
    else:
        assert machine.run("lay")[0]["kind"] == "changed"


@pytest.mark.parametrize(
    ("path", "why"), [("run/systemd/system", "no systemd"), ("usr/lib/systemd/systemd-socket-proxyd", "socket-proxyd")]
)
def test_without_what_it_needs_it_refuses(machine: Machine, path: str, why: str) -> None:
    missing = machine.place / path
    missing.rmdir() if missing.is_dir() else missing.unlink()

    assert why in machine.refused()
    assert machine.names() == []
