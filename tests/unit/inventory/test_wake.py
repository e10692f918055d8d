"""How machines that are off are started (`wake`), and availability zones, in every format."""

from pathlib import Path

import pytest

from inventory.errors import InvalidInventory
from inventory.loader import load_inventory
from inventory.machine import Machine, WakeSettings
from inventory.scope import Scope

MAC = "52:54:00:ab:cd:ef"


def load(tmp_path: Path, text: str, name: str = "fleet.yaml") -> tuple[Machine, ...]:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return load_inventory(path).machines


def test_every_key(tmp_path: Path) -> None:
    (machine,) = load(
        tmp_path,
        """\
machines:
  - name: a
    wake: {mac: 52-54-00-AB-CD-EF, broadcast: 192.0.2.255, port: 7, command: on a, off_command: off a, off_again: no,
           minutes: 2.5}
""",
    )
    assert machine.wake == WakeSettings(MAC, "192.0.2.255", 7, "on a", "off a", off_again=False, minutes=2.5)


def test_levels_merge_by_key(tmp_path: Path) -> None:
    one, two, three = load(
        tmp_path,
        f"""\
defaults: {{wake: {{broadcast: 192.0.2.255, minutes: 3}}}}
groups: {{bmc: {{wake: {{command: power on, minutes: 4}}}}}}
machines:
  - {{name: a, wake: {{mac: "{MAC}"}}}}
  - {{name: b, groups: [bmc]}}
  - {{name: c, wake: }}
""",
    )
    assert one.wake == WakeSettings(MAC, "192.0.2.255", minutes=3)
    assert two.wake == WakeSettings(broadcast="192.0.2.255", command="power on", minutes=4)
    assert three.wake is None


@pytest.mark.parametrize("written", ["52:54:00:ab:cd:ef", "52-54-00-AB-CD-EF", "5254.00AB.cdef", "525400abcdef"])
def test_notations_of_a_hardware_address(tmp_path: Path, written: str) -> None:
    (machine,) = load(tmp_path, f"machines: [{{name: a, wake: {{mac: {written}}}}}]\n".replace(written, f"'{written}'"))
    assert machine.wake == WakeSettings(MAC)


def test_a_hardware_address_without_quotes(tmp_path: Path) -> None:
    """YAML reads 12:34:56:12:34:56 as a number to the base of 60."""
    (machine,) = load(tmp_path, "machines:\n  - name: a\n    wake:\n      mac: 12:34:56:12:34:56\n")
    assert machine.wake == WakeSettings("12:34:56:12:34:56")


@pytest.mark.parametrize(
    ("wake", "message"),
    [
        ("{mac: '52:54:00:ab:cd'}", "machines.0.wake.mac: '52:54:00:ab:cd' is no hardware address"),
        ("{mac: 'ff:ff:ff:ff:ff:ff'}", "'ff:ff:ff:ff:ff:ff' is the address of no single machine"),
        ("{mac: '00:00:00:00:00:00'}", "'00:00:00:00:00:00' is the address of no single machine"),
        ("{mac: '01:00:5e:00:00:01'}", "'01:00:5e:00:00:01' is the address of no single machine"),
        (f"{{mac: '{MAC}', broadcast: 192.0.2.999}}", "wake.broadcast: '192.0.2.999' is no IPv4 address"),
        (f"{{mac: '{MAC}', broadcast: '2001:db8::1'}}", "'2001:db8::1' is no IPv4 address"),
        (f"{{mac: '{MAC}', port: 0}}", "wake.port: '0' is out of range"),
        (f"{{mac: '{MAC}', minutes: 0}}", "wake.minutes: '0' is out of range"),
        ("{command: 'a \"b'}", "wake.command: this command can't be split into words: No closing quotation"),
        ("{command: ' '}", "wake.command: this command is empty"),
        ("{off_command: x}", "machines.0.wake: 'a': `wake` has neither `mac` nor `command`"),
        ("{broadcast: 192.0.2.255}", "machines.0.wake: 'a': `wake` has neither `mac` nor `command`"),
        ("{}", "`wake` has neither `mac` nor `command`"),
        (f"{{macs: '{MAC}', command: x}}", "unknown key 'macs'"),
    ],
)
def test_what_is_refused(tmp_path: Path, wake: str, message: str) -> None:
    with pytest.raises(InvalidInventory) as caught:
        load(tmp_path, f"machines:\n  - name: a\n    wake: {wake}\n")
    (problem,) = caught.value.problems
    assert message in str(problem)
    assert problem.hint


def test_an_availability_zone_in_every_format(tmp_path: Path) -> None:
    (machine, other) = load(
        tmp_path, "defaults: {availability_zone: eu-1a}\nmachines: [a, {name: b, availability_zone: eu 1b}]\n"
    )
    assert (machine.availability_zone, other.availability_zone) == ("eu-1a", "eu 1b")
    (machine,) = load(tmp_path, "name,availability_zone\na,eu-1a\n", "fleet.csv")
    assert machine.availability_zone == "eu-1a"
    (machine,) = load(tmp_path, "a fleetpatch_availability_zone=eu-1a\n", "hosts.ini")
    assert machine.availability_zone == "eu-1a"


def test_wake_of_an_ansible_host(tmp_path: Path) -> None:
    ini = f"""a fleetpatch_wake="{{'mac': '{MAC}', 'minutes': 3}}"\n"""
    yaml = f"all:\n  hosts:\n    a:\n      fleetpatch_wake: {{mac: '{MAC}', minutes: 3}}\n"
    for name, text in (("hosts.ini", ini), ("hosts.yml", yaml)):
        (machine,) = load(tmp_path, text, name)
        assert machine.wake == WakeSettings(MAC, minutes=3)


def test_a_scope_by_availability_zone(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text("machines: [{name: a, availability_zone: '1'}, {name: b, availability_zone: '2'}]\n")
    found = Scope.parse("availability_zone=2").select_machines(load_inventory(path))
    assert [machine.name for machine in found] == ["b"]
