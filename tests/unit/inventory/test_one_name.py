"""One machine has one name: whatever leads to the same place is refused, in every format."""

import ipaddress
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.addresses import canonicalize_address
from inventory.errors import InvalidInventory
from inventory.loader import load_inventory

SAME = {
    "the usual port": ("{name: a, address: h}", "{name: b, address: h, port: 22}"),
    "WinRM's usual port": (
        "{name: a, address: h, transport: winrm, user: u, credential: env:P}",
        "{name: b, address: h, transport: winrm, user: u, credential: env:P, port: 5986}",
    ),
    "both listeners of WinRM": (
        "{name: a, address: h, transport: winrm, user: u, credential: env:P}",
        "{name: b, address: h, transport: winrm, user: u, credential: env:P, winrm: {scheme: http}, port: 5985}",
    ),
    "a dot at the end": ("{name: a, address: h.example.org}", "{name: b, address: h.example.org.}"),
    "a dot at the end of the name": ("{name: h}", "{name: h.}"),
    "case": ("{name: a, address: H.Example.ORG}", "{name: b, address: h.example.org}"),
    "the name is the address": ("{name: h.example.org}", "{name: b, address: h.example.org}"),
    "an IPv4 address in IPv6": ("{name: a, address: 192.0.2.1}", "{name: b, address: '::ffff:192.0.2.1'}"),
    "the same in hexadecimal": ("{name: a, address: 192.0.2.1}", "{name: b, address: '::ffff:c000:201'}"),
    "zeros": ("{name: a, address: '2001:db8::1'}", "{name: b, address: '2001:0DB8:0:0:0:0:0:1'}"),
    "brackets": ("{name: a, address: '2001:db8::1'}", "{name: b, address: '[2001:db8::1]'}"),
    "an IPv4 address at the end": (
        "{name: a, address: '2001:db8::1.2.3.4'}",
        "{name: b, address: '2001:db8::102:304'}",
    ),
    "local twice": ("{name: a, transport: local}", "{name: b, transport: local}"),
    "local, and by its loopback": ("{name: a, transport: local}", "{name: b, address: localhost}"),
    "two loopbacks": ("{name: a, address: '::1', port: 22}", "{name: b, address: 127.0.0.1}"),
}
OTHERS = {
    "another port": ("{name: a, address: h}", "{name: b, address: h, port: 2222}"),
    "another domain": ("{name: a, address: h.a}", "{name: b, address: h.b}"),
    "behind a jump host": ("{name: a, address: h}", "{name: b, address: h, jump: c}"),
    "containers behind ports": (
        "{name: a, address: localhost, port: 2201}",
        "{name: b, address: localhost, port: 2202}",
    ),
}


def load(folder: Path, *entries: str) -> int:
    lines = "".join(f"  - {entry}\n" for entry in entries)
    (folder / "fleet.yaml").write_text(f"machines:\n{lines}  - {{name: c, address: elsewhere, owner: manual}}\n")
    return len(load_inventory(folder / "fleet.yaml").machines)


@pytest.mark.parametrize("case", SAME)
def test_one_machine_under_two_names(tmp_path: Path, case: str) -> None:
    for pair in itertools.permutations(SAME[case]):
        with pytest.raises(InvalidInventory, match="is reached just as") as caught:
            load(tmp_path, *pair)
        assert caught.value.line == 3


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_another_place(tmp_path: Path, case: str) -> None:
    assert load(tmp_path, *OTHERS[case]) == 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", "name,address,port\na,H.example.org,\nb,h.example.org.,22\n"),
        ("x.ini", "a ansible_host=H.example.org\nb:22 ansible_ssh_host=h.example.org.\n"),
        (
            "x.yml",
            "all: {hosts: {a: {ansible_host: '2001:db8::1'}, b: {ansible_host: '2001:DB8:0::1', ansible_port: 22}}}\n",
        ),
    ],
)
def test_in_every_format(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInventory, match="'b' is reached just as 'a'"):
        load_inventory(tmp_path / name)


@pytest.mark.parametrize("address", ["0x7f.1", "0x7f000001", "0300.0250.1.1", "10.1", "me@h", "h..x"])
def test_other_ways_to_write_an_address_are_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(InvalidInventory, match="is no address"):
        load(tmp_path, f"{{name: a, address: {address}}}")


@given(st.ip_addresses())
def test_every_way_to_write_an_ip_address_is_one(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    ways = {str(address), address.exploded, str(address).upper(), f"[{address.exploded}]"}
    if isinstance(address, ipaddress.IPv4Address):
        ways |= {f"::ffff:{address}", f"0:0:0:0:0:FFFF:{address}"}
    assert len({canonicalize_address(way) for way in ways}) == 1
