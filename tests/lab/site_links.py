"""Sites as network namespaces: each reaches its own hosts of the lab, and the center by a link that can be cut.

The center is the machine itself, at ``Links.center``. A site has no other route: not to the hosts of another site, nor
to another site. A cut is silent: packets vanish, and neither end is told, as with a dead line or a firewall's DROP.
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tests.lab.fleet import LabHost


@dataclass(frozen=True)
class Link:
    """The link of one site to the center.

    Attributes:
        network: the namespace of the site.
        port: the center's end.
        address: the site's address on the link.
    """

    network: str
    port: str
    address: str

    def cut(self) -> None:
        """Let packets vanish, in both directions."""
        _ip("link", "set", self.port, "down")

    def mend(self) -> None:
        """Let them through again."""
        _ip("link", "set", self.port, "up")


@dataclass(frozen=True)
class Links:
    """The center's address, and the links of the sites, in their order."""

    center: str
    sites: Sequence[Link]


@contextmanager
def link_sites(*sites: Sequence[LabHost]) -> Iterator[Links]:
    """Make a namespace for each site, from which its hosts alone are reached. All is removed at the end.

    The hosts are of one lab. What a test before has left of the same names is removed first.
    """
    hosts = sites[0][0]
    tag, net = hosts.root.parents[2].name, hosts.address.split(".")[1:3]
    bridge, lab, on_link = (
        f"fc{tag}",
        f"fp{tag}",
        f"100.{'.'.join(net)}",
    )  # 10.64.0.0/10 is the labs', 100.64.0.0/10 ours
    made = [Link(f"fs{tag}-{n}", f"fc{tag}-{n}", f"{on_link}.{n + 1}") for n in range(1, len(sites) + 1)]

    def remove() -> None:
        for link in made:
            with suppress(subprocess.CalledProcessError):
                for pid in _ip("netns", "pids", link.network).split():  # a run's process outlives its worker
                    os.kill(int(pid), signal.SIGKILL)
        devices = [device for link in made for device in (link.port, link.network)]
        for words in (
            *(("link", "del", device) for device in (*devices, bridge)),
            *(("netns", "del", link.network) for link in made),
        ):
            with suppress(subprocess.CalledProcessError):
                _ip(*words)

    remove()
    try:
        _ip("link", "add", bridge, "type", "bridge")
        _ip("addr", "add", f"{on_link}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for number, (link, machines) in enumerate(zip(made, sites, strict=True), 1):
            _ip("netns", "add", link.network)
            inside = ("-n", link.network)
            _ip(*inside, "link", "set", "lo", "up")
            _plug(link.network, "center", link.port, bridge)
            _ip("link", "set", link.port, "type", "bridge_slave", "isolated", "on")  # sites don't reach one another
            _ip(*inside, "addr", "add", f"{link.address}/24", "dev", "center")
            _plug(link.network, "machines", f"{link.network}", lab)
            _ip(*inside, "addr", "add", f"10.{'.'.join(net)}.{number + 1}/32", "dev", "machines")
            for host in machines:
                _ip(*inside, "route", "add", f"{host.address}/32", "dev", "machines")
            # each end knows the other's hardware address: a cut can't be seen by an address that nobody answers for
            _know(inside, f"{on_link}.1", "center", _read_hardware_address((), bridge))
            _know((), link.address, bridge, _read_hardware_address(inside, "center"))
        yield Links(f"{on_link}.1", made)
    finally:
        remove()


def _plug(network: str, inside: str, outside: str, bridge: str) -> None:
    _ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", network)
    _ip("link", "set", outside, "master", bridge, "up")
    _ip("-n", network, "link", "set", inside, "up")


def _know(where: Sequence[str], address: str, device: str, hardware: str) -> None:
    _ip(*where, "neigh", "replace", address, "lladdr", hardware, "dev", device, "nud", "permanent")


def _read_hardware_address(where: Sequence[str], device: str) -> str:
    return _ip(*where, "-o", "link", "show", device).split("link/ether ")[1].split()[0]


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
