"""The network of a machine's copy: what its names mean, what it reaches, and which addresses its DHCP gives. Pure."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface
from typing import Final

from inventory.addresses import parse_ip_address
from inventory.name_lists import join_first_names
from tasks.domain.errors import ProviderError

Pinned = tuple[str, str]
"""A repository (HOST:PORT), and an address of its host for the time of the copy."""

_MAX_ADDRESSES: Final = 4  # of one name
_DNSMASQ: Final = "no-resolv no-hosts interface=br0 pid-file= leasefile-ro dhcp-authoritative no-ping address=/#/"
"""It asks nobody, answers that all other names do not exist, and writes no file."""
_UNREACHED_PATTERN: Final = re.compile(
    r"(?:[Rr]esolv(?:e|ing)(?: host)?:? '?|onnect to )([\w-]+(?:\.[\w-]+)+)(?:(?::| port )(\d+))?"
)


def parse_addresses(text: str) -> tuple[str, ...]:
    """Return the IPv4 addresses in the answer of ``getent ahostsv4``, in its order."""
    return tuple(dict.fromkeys(line.split()[0] for line in text.splitlines() if line.strip()))


def pin_repositories(
    repositories: Iterable[str], addresses: Mapping[str, Sequence[str]], own: Collection[str], where: str
) -> tuple[Pinned, ...]:
    """Return the repositories with the addresses that their hosts have now on the hypervisor host (``where``).

    Raises:
        ProviderError: a host has no address, or one of them is one of the machine's own, or of no other machine.
    """
    pinned = []
    for repository in repositories:
        host = repository.rpartition(":")[0]
        hint = f"Correct `repositories` in providers.yaml, or how {where} resolves {host}."
        if not addresses[host]:
            raise ProviderError(f"{where} knows no IPv4 address of the repository {host}", hint=hint)
        for address in addresses[host][:_MAX_ADDRESSES]:
            ip = IPv4Address(address)
            if (
                address in own
                or ip.is_loopback
                or ip.is_link_local
                or ip.is_multicast
                or ip.is_reserved
                or int(ip) == 0
            ):
                kind = "the machine's own" if address in own else "not that of another machine"
                raise ProviderError(f"the address of the repository {host} is {kind}: {address}", hint=hint)
            pinned.append((repository, address))
    return tuple(pinned)


def choose_leases(address: str, macs: Sequence[str], answers: Iterable[str]) -> dict[str, IPv4Interface]:
    """Return the address that each network card (MAC address) of the machine has now, by ``virsh domifaddr``.

    The best answer is the first. The address by which the machine is reached is that of the only card without one.
    """
    leases: dict[str, IPv4Interface] = {}
    unknown = list(macs)
    for answer in answers:
        mac = ""
        for words in (line.split() for line in answer.splitlines() if len(line.split()) == 4):
            mac = words[1].lower() if words[1] != "-" else mac  # the further addresses of a card
            if words[2] == "ipv4" and mac in unknown and (mac not in leases or words[3].startswith(f"{address}/")):
                leases[mac] = IPv4Interface(words[3])
        unknown = [mac for mac in macs if mac not in leases]
    if len(unknown) == 1 and address not in {str(lease.ip) for lease in leases.values()}:
        leases[unknown[0]] = IPv4Interface(address)
    # who tells an address may not know its network, and a gateway needs room
    usual = {mac: IPv4Interface(f"{lease.ip}/24") for mac, lease in leases.items()}
    return {mac: lease if 0 < lease.network.prefixlen <= 30 else usual[mac] for mac, lease in leases.items()}


def find_gateways(leases: Iterable[IPv4Interface], own: Collection[str]) -> set[str]:
    """Return an address of each network that is not the machine's: the copy finds its resolver and gateway there."""
    hosts = (map(str, lease.network.hosts()) for lease in leases)
    return {next(address for address in addresses if address not in own) for addresses in hosts}


def build_dnsmasq(pinned: Iterable[Pinned], leases: Mapping[str, IPv4Interface]) -> str:
    """Return the configuration of dnsmasq for the namespace of a copy."""
    hosts = {(repository.rpartition(":")[0], address): None for repository, address in pinned}
    names = [f"host-record={host},{address}" for host, address in hosts if parse_ip_address(host) is None]
    ranges = [f"dhcp-range={lease.ip},static,{lease.netmask}" for lease in leases.values()]
    cards = [f"dhcp-host={mac},{lease.ip}" for mac, lease in leases.items()]
    return "\n".join((*_DNSMASQ.split(), *names, *ranges, *cards))


def describe_reach(reaches: Sequence[str], machines: Mapping[str, str]) -> str:
    """Return what a copy could reach; ``machines`` are the names of the inventory's machines by their addresses."""
    known = [
        f"{text} (that is {machines[at]})" if (at := text.rpartition(" ")[2]) in machines else text for text in reaches
    ]
    return f"it could reach {', '.join(known) or 'no repository'}"


def explain_unreached(text: str, reaches: Iterable[str]) -> str:
    """Return which hosts a copy did not reach, as package managers say, because they are not pinned; or ""."""
    listed: set[str] = set()
    for place, _, address in (reach.partition(" ") for reach in reaches):
        host, _, port = place.rpartition(":")
        listed |= {host, place, f"{address}:{port}"}
    found = {f"{host}:{port}" if port else host for host, port in _UNREACHED_PATTERN.findall(text)} - listed
    return f"`repositories` of its provider lacks {join_first_names(sorted(found), 5)}" if found else ""
