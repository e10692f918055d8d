"""The copy of a running domain for a rehearsal: its XML, and the script on the host that starts and deletes it."""

import hashlib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement, tostring

from defusedxml.ElementTree import fromstring

from inventory.machine import Machine
from tasks.domain.errors import ProviderError
from tasks.domain.protocols.clock import Deadline
from tasks.domain.provided_machines import Consistency, Overlay, PowerState, ProviderOrder
from tasks.machines.providers.libvirt.domain import Domain
from tasks.machines.providers.libvirt.virsh import Virsh
from tasks.machines.providers.libvirt.work import DomainWork
from tasks.rules.copy_network import build_dnsmasq, choose_leases, find_gateways, parse_addresses, pin_repositories

_SSH_PORT: Final = 22
_RUN: Final = "/run/fleetpatch-"
_LOOPBACK: Final = "127.0.0.1"
_KEPT_DEVICES: Final = frozenset(
    {"emulator", "disk", "controller", "interface", "input", "video", "memballoon", "rng", "watchdog", "panic"}
)
"""Devices that reach nothing outside of the copy, or are changed so. All others are left out: shared folders, too."""
_LEFT_OUT: Final = (
    "uuid",
    "resource",
    "seclabel",
    "metadata",
    "{http://libvirt.org/schemas/domain/qemu/1.0}commandline",
)
_POWERS: Final = {"running": PowerState.RUNNING, "paused": PowerState.PAUSED, "shut off": PowerState.STOPPED}


class CopyMaker:
    """Makes the copy of one domain on its host. There is never a second one: its folder has the name of the domain.

    Args:
        machine: whose domain it is; its address is that of the copy, too.
        host: the name of the hypervisor host in the inventory.
        uri: the connection URI of libvirt, or "".
        repositories: what the copy may reach: HOST:PORT.
    """

    def __init__(self, machine: Machine, host: str, uri: str, repositories: Sequence[str]) -> None:
        self._machine, self._host, self._uri, self._repositories = machine, host, uri, tuple(repositories)

    def start(self, work: DomainWork, order: ProviderOrder) -> str:
        """Start the copy. Return the notes on it.

        Raises:
            ProviderError: it can't be copied; what was made of the copy is there until it is deleted.
        """
        virsh, name = work.virsh, work.domain.name
        if work.domain.power is not PowerState.RUNNING:
            raise ProviderError(f"{name} does not run, so there is nothing to copy")
        live = fromstring(virsh.ask("dumpxml", deadline=work.deadline).text)
        files = find_files(live, name)
        place, card = self._choose_place(virsh, work.domain), choose_card_name(self._uri, name)
        more = self._find_network(live, work) | {
            "overlay_id": order.id,
            "ssh_port": str(self._machine.port or _SSH_PORT),
            "disks": "\n".join(f"{target} {path}" for target, path in files.items()),
            "nvram": live.findtext("os/nvram") or "",
            "cards": str(len(live.findall("devices/interface"))),
            "freeze": "yes" if order.is_quiesced and work.domain.has_agent else "",
            "xml": build_copy_xml(live, files, place, _RUN + card, card),
            "backup_xml": build_backup_xml(live, files, place, _RUN + card),
        }
        return self._run(work, "start", more)

    def _find_network(self, live: Any, work: DomainWork) -> dict[str, str]:  # noqa: ANN401 - XML
        """Return the parameters of the copy's network. The host resolves the repositories, as it connects to them."""
        ask, hosts = work.virsh.ask, [self._machine.address, *(one.rpartition(":")[0] for one in self._repositories)]
        answers = work.virsh.host.ask([("getent", "ahostsv4", "--", host) for host in hosts], deadline=work.deadline)
        addresses = {host: parse_addresses(answer.text) for host, answer in zip(hosts, answers, strict=True)}
        if not addresses[hosts[0]]:
            hint = f"Give an IPv4 address as its `address`, or a name that {self._host} resolves."
            raise ProviderError(f"{self._host} knows no IPv4 address of {hosts[0]}", hint=hint)
        address = addresses[hosts[0]][0]
        told = [ask("domifaddr", "--source", kind, deadline=work.deadline).text for kind in ("agent", "lease", "arp")]
        leases = choose_leases(address, [mac.get("address") for mac in live.findall("devices/interface/mac")], told)
        own = {address, *(str(lease.ip) for lease in leases.values())}
        pinned = pin_repositories(self._repositories, addresses, own, self._host)
        return {
            "address": address,
            "addresses": "\n".join(sorted(find_gateways(leases.values(), own) | {at for _, at in pinned})),
            "dnsmasq": build_dnsmasq(pinned, leases),
            "reaches": "\n".join(map(" ".join, pinned)),
            "repositories": "\n".join(sorted({f"{at}:{one.rpartition(':')[2]}" for one, at in pinned})),
        }

    def delete(self, work: DomainWork, order: ProviderOrder) -> str:
        """Delete the copy of an id, with all that belongs to it. Another one stays."""
        return self._run(work, "delete", {"overlay_id": order.id})

    def read(self, virsh: Virsh, domain: Domain, deadline: Deadline) -> Overlay | None:
        """Return the copy that is there, whole or not; None: none."""
        place = self._choose_place(virsh, domain)
        power = ("virsh", "-q", *(("-c", self._uri) if self._uri else ()), "domstate", f"{domain.name}.rehearsal")
        questions = (*(("cat", f"{place}/{name}") for name in ("id", "port", "consistency", "reaches")), power)
        overlay_id, port, kind, reaches, state = virsh.host.ask(questions, deadline=deadline)
        if overlay_id.exit_code != 0:
            return None
        number = int(port.text) if port.exit_code == 0 and port.text.strip().isdigit() else 0
        is_known = kind.exit_code == 0 and kind.text.strip() in set(Consistency)
        return Overlay(
            overlay_id.text.strip(),
            _POWERS.get(state.text.strip(), PowerState.UNKNOWN),
            _LOOPBACK if number else "",
            number or _SSH_PORT,
            self._host,
            Consistency(kind.text.strip()) if is_known else Consistency.UNKNOWN,
            tuple(reaches.text.splitlines()),
        )

    def _run(self, work: DomainWork, act: str, more: Mapping[str, str]) -> str:
        name = work.domain.name
        card = choose_card_name(self._uri, name)
        parameters = {
            "work": act,
            "uri": self._uri,
            "domain": name,
            "copy": f"{name}.rehearsal",
            "place": self._choose_place(work.virsh, work.domain),
            "run": _RUN + card,
            "card": card,
            **more,
        }
        result = work.virsh.host.run_script("libvirt_overlay", parameters, deadline=work.deadline)
        failed = [str(record.get("why")) for record in result.find_records("failed")]
        if failed or not result.find_records("ended"):
            reason = "; ".join(failed) or result.unframed_output[-300:]
            raise ProviderError(f"{name}: its copy: {reason}", hint=f"Look at it on {work.virsh.host.host}.")
        return "; ".join(str(record.get("text")) for record in result.find_records("note"))

    def _choose_place(self, virsh: Virsh, domain: Domain) -> str:
        return virsh.build_path(domain.find_os_disk().source, "rehearsal")


def choose_card_name(uri: str, name: str) -> str:
    """Return a name for the network cards and the namespace of a domain's copy; Linux allows 15 characters."""
    return f"fp{hashlib.sha256(f'{uri} {name}'.encode()).hexdigest()[:8]}"


def build_copy_xml(live: Any, files: Mapping[str, str], place: str, run: str, card: str) -> str:  # noqa: ANN401 - XML
    """Return the XML of the copy of a running domain: disks on layers, network cards that are plugged in nowhere."""
    copy = deepcopy(live)
    copy.attrib.pop("id", None)
    copy.find("name").text = f"{copy.findtext('name')}.rehearsal"
    for tag in _LEFT_OUT:
        for element in copy.findall(tag):
            copy.remove(element)
    if (nvram := copy.find("os/nvram")) is not None:
        nvram.attrib.clear()
        nvram.text = f"{place}/nvram"
    devices = copy.find("devices")
    number = 0
    for device in list(devices):
        if device.tag not in _KEPT_DEVICES:
            devices.remove(device)
        elif device.tag == "interface":
            _unplug(device, f"{card}{number}")
            number += 1
        elif device.tag == "disk" and _get_target(device) in files:
            _put_layer(device, place, run)
        elif device.tag == "disk":
            _remove(device, "backingStore")
    serial = SubElement(devices, "serial", {"type": "file"})
    SubElement(serial, "source", {"path": f"{place}/console.log"})
    return str(tostring(copy, encoding="unicode"))


def build_backup_xml(live: Any, files: Mapping[str, str], place: str, run: str) -> str:  # noqa: ANN401 - XML
    """Return the XML of the job that exports the state of the disks at one moment."""
    backup = Element("domainbackup", {"mode": "pull"})
    SubElement(backup, "server", {"transport": "unix", "socket": f"{run}/nbd/disks"})
    disks = SubElement(backup, "disks")
    for disk in live.findall("devices/disk"):
        target = _get_target(disk)
        if target not in files:
            SubElement(disks, "disk", {"name": target, "backup": "no"})
            continue
        entry = SubElement(disks, "disk", {"name": target, "backup": "yes", "type": "file", "exportname": target})
        SubElement(entry, "driver", {"type": "qcow2"})
        SubElement(entry, "scratch", {"file": f"{place}/{target}.kept"})
    return tostring(backup, encoding="unicode")


def find_files(live: Any, name: str) -> dict[str, str]:  # noqa: ANN401 - XML
    """Return the file of each disk that the domain can write to, by its target."""
    files: dict[str, str] = {}
    for disk in live.findall("devices/disk"):
        kind = disk.get("device", "disk")
        if kind == "cdrom" or disk.find("readonly") is not None:
            continue
        source = disk.find("source")
        path = source.get("file") if source is not None else None
        if kind != "disk" or not path:
            raise ProviderError(f"{name}: only disks in files are copied, and {_get_target(disk)} is none")
        files[_get_target(disk)] = path
    return files


def _get_target(disk: Any) -> str:  # noqa: ANN401 - XML
    return str(disk.find("target").get("dev"))


def _remove(element: Any, *tags: str) -> None:  # noqa: ANN401 - XML
    for tag in tags:
        for below in element.findall(tag):
            element.remove(below)


def _put_layer(disk: Any, place: str, run: str) -> None:  # noqa: ANN401 - XML
    target = _get_target(disk)
    _remove(disk, "backingStore", "source", "driver", "mirror", "encryption", "shareable")
    SubElement(disk, "driver", {"name": "qemu", "type": "qcow2", "cache": "unsafe"})
    SubElement(disk, "source", {"file": f"{place}/{target}.qcow2"})
    below = SubElement(disk, "backingStore", {"type": "network"})
    SubElement(below, "format", {"type": "raw"})
    source = SubElement(below, "source", {"protocol": "nbd", "name": target})
    SubElement(source, "host", {"transport": "unix", "socket": f"{run}/nbd/disks"})
    SubElement(below, "backingStore")


def _unplug(card: Any, name: str) -> None:  # noqa: ANN401 - XML
    for below in list(card):
        if below.tag not in {"mac", "model", "address", "alias", "mtu"}:
            card.remove(below)
    card.attrib.clear()
    card.set("type", "ethernet")
    SubElement(card, "target", {"dev": name, "managed": "no"})
