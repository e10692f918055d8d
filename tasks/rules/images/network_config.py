"""The network of a machine as cloud-init's network-config, from what the machine has now. Pure."""

import json
from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_interface
from typing import Any

from inventory.data_class import dataclass

_EVERYWHERE = {"inet": "0.0.0.0/0", "inet6": "::/0"}  # cloud-init 22.4 takes the second one for ::/64
_CONFIGURED = ("static", "boot")  # protocols of routes that DHCP, an advertisement or a daemon has not set


@dataclass(frozen=True, slots=True)
class HostNetwork:
    """What ``ip -j -d address``, ``ip -j route`` of both families, and ``resolv.conf`` say; "": it was not read."""

    links: str = ""
    routes: str = ""
    routes6: str = ""
    resolver: str = ""


def build_network_config(network: HostNetwork) -> tuple[str, str]:
    """Return the network-config (version 2), and what of the network it can't say, or "".

    The network-config is "" for a machine with one interface and DHCP, as that is cloud-init's own default.
    """
    try:
        nics = [link for link in json.loads(network.links) if _is_nic(link)]
        routes = {"inet": json.loads(network.routes), "inet6": json.loads(network.routes6)}
    except ValueError:
        return "", "its network can't be read: it needs `ip -j` of iproute2"
    words = [line.split() for line in network.resolver.splitlines()]
    servers = [word for name, *rest in filter(None, words) if name == "nameserver" for word in rest[:1]]
    domains = [word for name, *rest in filter(None, words) if name == "search" for word in rest]
    try:
        entries = {link["ifname"]: _describe(link, routes) for link in nics if link.get("master") or _addresses(link)}
        fixed = [entry for entry in entries.values() if "addresses" in entry]
        if fixed and any(ip_address(server.partition("%")[0]).is_loopback for server in servers):
            raise ValueError("it is its own name server")
    except ValueError as error:
        return "", str(error)
    if not entries:
        return "", "no network interface of its own has an address"
    if fixed and servers:
        fixed[0]["nameservers"] = {"addresses": servers, **({"search": domains} if domains else {})}
    is_needed = bool(fixed) or len(entries) > 1
    return json.dumps({"version": 2, "ethernets": entries}) if is_needed else "", ""


def _is_nic(link: dict[str, Any]) -> bool:
    """Return whether it is an interface of the machine's hardware, or one on top of it that has an address."""
    kind = link.get("linkinfo", {}).get("info_kind")
    return bool(
        link.get("link_type") == "ether" and (kind is None or (kind in ("vlan", "macvlan") and _addresses(link)))
    )


def _addresses(link: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in link.get("addr_info", ()) if one.get("scope") == "global" and not one.get("temporary")]


def _describe(link: dict[str, Any], routes: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    name, addresses = link["ifname"], _addresses(link)
    above = link.get("master") or link.get("linkinfo", {}).get("info_kind")
    if above:
        raise ValueError(f"{name} is a part of another interface, or one on top of it ({above})")
    entry: dict[str, Any] = {"match": {"macaddress": link.get("permaddr", link["address"])}, "set-name": name}
    for family, key in (("inet", "dhcp4"), ("inet6", "dhcp6")):
        own = [one for one in addresses if one["family"] == family]
        static = [f"{one['local']}/{one['prefixlen']}" for one in own if not one.get("dynamic")]
        leased = [one for one in own if one.get("dynamic") and (family == "inet" or one["prefixlen"] == 128)]
        if len(static) > 1 or (static and leased) or any("address" in one for one in own):
            raise ValueError(f"{name} has several addresses, and one may float: {', '.join(static)}")
        entry |= {key: True} if leased else {}
        entry |= {"addresses": [*entry.get("addresses", ()), *static]} if static else {}
        found = list(_list_routes(name, family, routes[family], own, is_leased=bool(leased)))
        gateways = [route["via"] for route in found if route["to"] == _EVERYWHERE["inet6"]]
        if gateways and not static:
            raise ValueError(f"{name} has a default route of its own, and an address that is not its own")
        entry |= {"gateway6": gateways[0]} if gateways else {}
        found = [route for route in found if route["to"] != _EVERYWHERE["inet6"]]
        entry |= {"routes": [*entry.get("routes", ()), *found]} if found else {}
    return entry | ({"mtu": link["mtu"]} if link.get("mtu", 1500) != 1500 else {})


def _list_routes(
    name: str, family: str, routes: Sequence[dict[str, Any]], own: list[dict[str, Any]], *, is_leased: bool
) -> Iterator[dict[str, Any]]:
    networks = [ip_interface(f"{one['local']}/{one['prefixlen']}").network for one in own]
    for route in routes:
        devices = {route.get("dev"), *(hop.get("dev") for hop in route.get("nexthops", ()))}
        is_default, via = route.get("dst") == "default", route.get("gateway", "")
        if name not in devices or route.get("protocol", "boot") not in _CONFIGURED or (is_default and is_leased):
            continue
        if not via or not (ip_address(via).is_link_local or any(ip_address(via) in network for network in networks)):
            raise ValueError(f"the route {route.get('dst')} of {name} has no gateway in a network of {name}")
        to = _EVERYWHERE[family] if is_default else str(ip_interface(route["dst"]).network)
        yield {"to": to, "via": via, **({"metric": route["metric"]} if "metric" in route else {})}
