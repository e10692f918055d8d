"""The network-config of a new OS disk, from answers of ``ip`` that were recorded on machines."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.rules.images.network_config import HostNetwork, build_network_config

ETH0 = {"ifname": "eth0", "mtu": 1500, "link_type": "ether", "address": "52:54:0a:56:85:0b"}
LO = {"ifname": "lo", "link_type": "loopback", "address": "00:00:00:00:00:00", "addr_info": []}
STATIC = {"family": "inet", "local": "192.0.2.9", "prefixlen": 24, "scope": "global", "valid_life_time": 4294967295}
LEASED = {**STATIC, "local": "192.0.2.30", "dynamic": True, "valid_life_time": 3600}
LINK_LOCAL = {"family": "inet6", "local": "fe80::5054:aff:fe56:850b", "prefixlen": 64, "scope": "link"}
STATIC6 = {"family": "inet6", "local": "2001:db8::9", "prefixlen": 64, "scope": "global"}
SLAAC = {**STATIC6, "local": "2001:db8::abcd", "dynamic": True, "mngtmpaddr": True}
PRIVACY = {**SLAAC, "local": "2001:db8::1234", "temporary": True}
LEASED6 = {**STATIC6, "prefixlen": 128, "dynamic": True}
DEFAULT = {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0", "protocol": "static", "flags": []}
KERNEL = {"dst": "192.0.2.0/24", "dev": "eth0", "protocol": "kernel", "scope": "link", "prefsrc": "192.0.2.9"}
DEFAULT6 = {"dst": "default", "gateway": "fe80::1", "dev": "eth0", "protocol": "static", "metric": 1024}
OTHERS: list[dict[str, Any]] = [
    {"dst": "10.6.0.2", "dev": "wg0", "scope": "link"},
    {"type": "blackhole", "dst": "10.7.0.0/16", "flags": []},
    {"dst": "203.0.113.7", "gateway": "192.0.2.2", "dev": "eth0", "protocol": "bird"},
]
RESOLVER = "# by hand\nnameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch lab.example example\noptions edns0\n"
DOCKER = {
    **ETH0,
    "ifname": "docker0",
    "linkinfo": {"info_kind": "bridge"},
    "addr_info": [{**STATIC, "local": "172.17.0.1"}],
}
VETH = {**ETH0, "ifname": "veth1", "master": "docker0", "linkinfo": {"info_kind": "veth"}, "addr_info": [LINK_LOCAL]}


def make_network(
    *addresses: dict[str, Any],
    links: list[dict[str, Any]] | None = None,
    routes: list[dict[str, Any]] | None = None,
    routes6: list[dict[str, Any]] | None = None,
    resolver: str = RESOLVER,
    **eth0: Any,
) -> HostNetwork:
    told = [LO, {}, {**ETH0, "addr_info": [*addresses, LINK_LOCAL, {}], **eth0}, *(links or ())]
    default = [DEFAULT, KERNEL] if routes is None else routes
    return HostNetwork(json.dumps(told), json.dumps(default), json.dumps(routes6 or []), resolver)


def build(network: HostNetwork) -> Any:
    config, problem = build_network_config(network)
    assert problem == ""
    return json.loads(config)["ethernets"] if config else None


def test_a_virtual_machine_with_systemd_networkd() -> None:
    network = HostNetwork(**json.loads((Path(__file__).parents[2] / "data/networks/debian-12-static.json").read_text()))
    (entry,) = build(network).values()
    assert entry["addresses"] == ["10.86.133.11/24"]
    assert entry["routes"] == [{"to": "0.0.0.0/0", "via": "10.86.133.1"}]
    assert entry["match"] == {"macaddress": "52:54:0a:56:85:0b"}


def test_a_static_address_comes_with_its_routes_and_name_servers() -> None:
    more = {"dst": "198.51.100.0/24", "gateway": "192.0.2.2", "dev": "eth0", "metric": 50}
    host_route = {"dst": "198.51.100.7", "gateway": "192.0.2.2", "dev": "eth0"}
    network = make_network(
        STATIC, STATIC6, routes=[DEFAULT, KERNEL, more, host_route, *OTHERS], routes6=[DEFAULT6], mtu=9000
    )
    assert build(network) == {
        "eth0": {
            "match": {"macaddress": "52:54:0a:56:85:0b"},
            "set-name": "eth0",
            "addresses": ["192.0.2.9/24", "2001:db8::9/64"],
            "routes": [
                {"to": "0.0.0.0/0", "via": "192.0.2.1"},
                {"to": "198.51.100.0/24", "via": "192.0.2.2", "metric": 50},
                {"to": "198.51.100.7/32", "via": "192.0.2.2"},
            ],
            "gateway6": "fe80::1",  # cloud-init 22.4 writes ::/64 for the route ::/0
            "mtu": 9000,
            "nameservers": {"addresses": ["192.0.2.53", "2001:db8::53"], "search": ["lab.example", "example"]},
        }
    }


@pytest.mark.parametrize("addresses", [(LEASED,), (LEASED, SLAAC, PRIVACY), (SLAAC,), (LEASED6, SLAAC)])
def test_one_interface_with_dhcp_or_advertisements_is_cloud_inits_own_default(addresses: Any) -> None:
    leased: list[dict[str, Any]] = [
        {**DEFAULT, "protocol": "dhcp"},
        {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
    ]
    assert build(make_network(*addresses, routes=leased if LEASED in addresses else [])) is None


def test_with_two_interfaces_each_keeps_its_way() -> None:
    eth1 = {**ETH0, "ifname": "eth1", "address": "52:54:0a:56:85:0c", "permaddr": "52:54:0a:56:85:0d"}
    eth2 = {**ETH0, "ifname": "eth2", "addr_info": [LINK_LOCAL]}  # nobody uses it
    storage = {**eth1, "addr_info": [{**STATIC, "local": "10.0.0.9"}]}
    found = build(make_network(LEASED, LEASED6, links=[storage, eth2, DOCKER, VETH], routes=[]))
    assert found == {
        "eth0": {"match": {"macaddress": ETH0["address"]}, "set-name": "eth0", "dhcp4": True, "dhcp6": True},
        "eth1": {
            "match": {"macaddress": eth1["permaddr"]},
            "set-name": "eth1",
            "addresses": ["10.0.0.9/24"],
            "nameservers": {"addresses": ["192.0.2.53", "2001:db8::53"], "search": ["lab.example", "example"]},
        },
    }


VLAN = {**ETH0, "ifname": "eth0.7", "linkinfo": {"info_kind": "vlan"}, "addr_info": [STATIC]}
FOREIGN_GATEWAY = {**DEFAULT, "gateway": "172.31.1.1", "flags": ["onlink"]}
ON_LINK = {"dst": "10.9.0.0/16", "dev": "eth0", "scope": "link", "flags": []}
HOPS = {"dst": "10.8.0.0/16", "nexthops": [{"gateway": "192.0.2.3", "dev": "eth0"}]}


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (HostNetwork(), "can't be read"),
        (replace(make_network(STATIC), routes6=""), "can't be read"),
        (make_network(), "no network interface of its own has an address"),
        (make_network(STATIC, master="bond0"), "eth0 is a part of another interface, or one on top of it (bond0)"),
        (make_network(master="br0"), "eth0 is a part"),
        (make_network(STATIC, links=[VLAN]), "eth0.7 is a part of another interface, or one on top of it (vlan)"),
        (
            make_network(STATIC, {**STATIC, "local": "192.0.2.10", "secondary": True}),
            "one may float: 192.0.2.9/24, 192",
        ),
        (make_network(LEASED, {**STATIC, "prefixlen": 32}), "one may float"),
        (make_network({**STATIC, "address": "192.0.2.8"}), "one may float"),
        (make_network(STATIC, routes=[FOREIGN_GATEWAY]), "the route default of eth0 has no gateway in a network"),
        (make_network(STATIC, SLAAC, routes6=[DEFAULT6]), "eth0 has a default route of its own"),
        (make_network(STATIC, routes=[ON_LINK]), "the route 10.9.0.0/16 of eth0 has no gateway"),
        (make_network(STATIC, routes=[HOPS]), "the route 10.8.0.0/16 of eth0 has no gateway"),
        (make_network(STATIC, resolver="nameserver 127.0.0.1\n"), "it is its own name server"),
        (make_network(STATIC, resolver="nameserver ::1%lo\n"), "it is its own name server"),
    ],
)
def test_what_would_be_lost_is_told_and_nothing_is_written(network: HostNetwork, words: str) -> None:
    config, problem = build_network_config(network)
    assert (config, words in problem) == ("", True), problem


def test_a_name_server_of_its_own_is_no_matter_with_dhcp() -> None:
    assert build(make_network(LEASED, routes=[], resolver="nameserver 127.0.0.1\n")) is None
