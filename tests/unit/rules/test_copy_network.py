"""The network of a copy: which addresses are pinned, what its DHCP gives, and what is said of names that it lacks."""

from ipaddress import IPv4Interface

import pytest

from tasks.domain.errors import ProviderError
from tasks.rules.copy_network import (
    build_dnsmasq,
    choose_leases,
    describe_reach,
    explain_unreached,
    find_gateways,
    parse_addresses,
    pin_repositories,
)

GETENT = """\
151.101.2.132   STREAM debian.map.fastlydns.net
151.101.2.132   DGRAM
151.101.2.132   RAW
151.101.66.132  STREAM
151.101.66.132  DGRAM
"""
BY_AGENT = """\
 lo         00:00:00:00:00:00    ipv4         127.0.0.1/8
 -          -                    ipv6         ::1/128
 eth0       52:54:00:00:00:01    ipv4         10.0.0.9/22
 -          -                    ipv4         10.0.0.7/22
 -          -                    ipv6         fe80::5054:ff:fe00:1/64
 docker0    02:42:00:00:00:01    ipv4         172.17.0.1/16
"""
BY_ARP = " vnet3      52:54:00:00:00:01    ipv4         10.0.0.9/0\n"
FIRST, SECOND = "52:54:00:00:00:01", "52:54:00:00:00:02"


def pin(*repositories: str, **addresses: tuple[str, ...]) -> tuple[str, ...]:
    hosts = {"mirror.lan": ("10.0.0.5",), "10.0.0.6": ("10.0.0.6",), **addresses}
    return tuple(map(" ".join, pin_repositories(repositories, hosts, {"10.0.0.7"}, "rack-host")))


def test_all_addresses_of_a_name_are_pinned_whatever_its_aliases_are() -> None:
    addresses = parse_addresses(GETENT)
    assert addresses == ("151.101.2.132", "151.101.66.132")
    assert pin("deb:443", "10.0.0.6:80", deb=addresses) == (
        "deb:443 151.101.2.132",
        "deb:443 151.101.66.132",
        "10.0.0.6:80 10.0.0.6",
    )
    assert len(pin("deb:443", deb=tuple(f"192.0.2.{number}" for number in range(20)))) == 4
    assert pin() == ()


@pytest.mark.parametrize(
    ("addresses", "reason"),
    [
        ((), "rack-host knows no IPv4 address of the repository web"),
        (("192.0.2.1", "10.0.0.7"), "the address of the repository web is the machine's own: 10.0.0.7"),
        (("127.0.1.1",), "the address of the repository web is not that of another machine: 127.0.1.1"),
        (("169.254.169.254",), "not that of another machine"),
        (("224.0.0.1",), "not that of another machine"),
        (("255.255.255.255",), "not that of another machine"),
        (("0.0.0.0",), "not that of another machine"),
    ],
)
def test_an_address_that_is_not_that_of_another_machine_is_refused(addresses: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ProviderError, match=reason) as failed:
        pin("web:80", web=addresses)
    assert failed.value.hint == "Correct `repositories` in providers.yaml, or how rack-host resolves web."


@pytest.mark.parametrize(
    ("macs", "answers", "leases"),
    [
        ([FIRST], [BY_AGENT, "", BY_ARP], {FIRST: "10.0.0.7/22"}),
        ([FIRST], ["", "", BY_ARP], {FIRST: "10.0.0.9/24"}),
        ([FIRST], ["", "error: Guest agent is not responding", ""], {FIRST: "10.0.0.7/24"}),
        (
            [FIRST, SECOND],
            [BY_AGENT.replace("10.0.0.7/22", "10.0.0.8/22")],
            {FIRST: "10.0.0.9/22", SECOND: "10.0.0.7/24"},
        ),
        ([FIRST, SECOND], [BY_AGENT], {FIRST: "10.0.0.7/22"}),
        ([FIRST, SECOND], [""], {}),
        ([], [BY_AGENT], {}),
        ([FIRST], [BY_AGENT.replace("/22", "/32")], {FIRST: "10.0.0.7/24"}),
    ],
)
def test_each_card_gets_the_address_that_it_has(macs: list[str], answers: list[str], leases: dict[str, str]) -> None:
    chosen = choose_leases("10.0.0.7", macs, answers)
    assert chosen == {mac: IPv4Interface(lease) for mac, lease in leases.items()}
    for lease in chosen.values():
        (gateway,) = find_gateways([lease], {str(lease.ip)})
        assert IPv4Interface(f"{gateway}/{lease.network.prefixlen}").network == lease.network


def test_the_gateway_is_none_of_the_machines_addresses() -> None:
    leases = [IPv4Interface("10.0.0.1/24"), IPv4Interface("10.0.0.2/24"), IPv4Interface("10.9.0.7/30")]
    assert find_gateways(leases, {"10.0.0.1", "10.0.0.2", "10.9.0.7"}) == {"10.0.0.3", "10.9.0.5"}


def test_the_resolver_knows_the_pinned_names_and_asks_nobody() -> None:
    pinned = [
        ("deb:443", "192.0.2.1"),
        ("deb:80", "192.0.2.1"),
        ("10.0.0.6:80", "10.0.0.6"),
    ]
    lines = build_dnsmasq(pinned, {FIRST: IPv4Interface("10.0.0.7/22")}).splitlines()
    assert lines[-3:] == [
        "host-record=deb,192.0.2.1",
        "dhcp-range=10.0.0.7,static,255.255.252.0",
        f"dhcp-host={FIRST},10.0.0.7",
    ]
    assert {"no-resolv", "no-hosts", "address=/#/"} <= set(lines)
    assert not any(line.startswith("server") for line in lines)


def test_a_repository_that_is_a_machine_of_the_inventory_is_told() -> None:
    reaches = ("mirror.lan:80 10.0.0.5", "deb:443 192.0.2.1")
    assert describe_reach(reaches, {"10.0.0.5": "db-1"}) == (
        "it could reach mirror.lan:80 10.0.0.5 (that is db-1), deb:443 192.0.2.1"
    )
    assert describe_reach((), {}) == "it could reach no repository"


@pytest.mark.parametrize(
    ("words", "hosts"),
    [
        ("Could not resolve 'cdn.example.org'", "cdn.example.org"),
        ("Temporary failure resolving 'cdn.example.org'", "cdn.example.org"),
        (
            "Curl error (6): Couldn't resolve host name for http://x/ [Could not resolve host: cdn.example]",
            "cdn.example",
        ),
        ("Could not connect to 192.0.2.9:80 (192.0.2.9). - connect (113: No route to host)", "192.0.2.9:80"),
        ("Could not connect to deb.lan:443 (10.0.0.5). - connect (111: Connection refused)", "deb.lan:443"),
        ("curl: (7) Failed to connect to deb.lan port 443 after 1 ms: Couldn't connect to server", "deb.lan:443"),
        ("Could not resolve 'b.lan'. Could not resolve 'a.lan'", "a.lan, b.lan"),
        ("Could not connect to deb.lan:80 (10.0.0.5). - connect (111: Connection refused)", ""),
        ("Could not connect to 10.0.0.5:80 (10.0.0.5). - connect (110: Connection timed out)", ""),
        ("404 Not Found", ""),
    ],
)
def test_a_host_that_a_copy_lacks_is_named(words: str, hosts: str) -> None:
    told = f"`repositories` of its provider lacks {hosts}" if hosts else ""
    assert explain_unreached(words, ["deb.lan:80 10.0.0.5"]) == told
