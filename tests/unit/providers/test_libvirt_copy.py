"""The XML of a copy of a domain: it has nothing through which it could reach what the machine reaches."""

from typing import Any

import pytest
from defusedxml.ElementTree import fromstring

from flows.machine_providers.provider_file import validate_repository
from tasks.domain.errors import ProviderError
from tasks.machines.providers.libvirt.overlay import build_backup_xml, build_copy_xml, find_files

LIVE = """\
<domain type='kvm' id='7' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>web1</name><uuid>0653c8c1-7dfd-595d-8193-6af7f8dc896a</uuid>
  <metadata><x:state xmlns:x='urn:fleetpatch:provider'>{}</x:state></metadata>
  <memory unit='KiB'>524288</memory><resource><partition>/machine</partition></resource>
  <os><type arch='x86_64' machine='q35'>hvm</type><loader readonly='yes' type='pflash'>/code.fd</loader>
    <nvram template='/vars.fd'>/var/lib/web1.fd</nvram></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'><driver name='qemu' type='raw' cache='none' io='native'/>
      <source file='/disks/web1.raw' index='2'/><backingStore/><target dev='vda' bus='virtio'/><boot order='1'/>
      <address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/></disk>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/disks/web1-data.qcow2'/>
      <target dev='vdb' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><source file='/iso/seed.iso'/><target dev='sda' bus='sata'/><readonly/></disk>
    <interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/><target dev='vnet3'/>
      <model type='virtio'/><filterref filter='x'/></interface>
    <interface type='direct'><mac address='52:54:00:00:00:02'/><source dev='eno2' mode='bridge'/></interface>
    <hostdev mode='subsystem' type='pci'/><filesystem type='mount'><source dir='/shared'/><target dir='s'/></filesystem>
    <tpm model='tpm-crb'/><vsock model='virtio'><cid auto='yes' address='3'/></vsock><redirdev bus='usb' type='tcp'/>
    <channel type='unix'><source mode='bind' path='/x'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <graphics type='vnc' port='5900' listen='0.0.0.0'/><shmem name='cluster'/>
    <serial type='tcp'><source mode='connect' host='10.0.0.9' service='7'/></serial>
    <video><model type='virtio'/></video><memballoon model='virtio'/>
  </devices>
  <seclabel type='dynamic' model='apparmor' relabel='yes'/>
  <qemu:commandline><qemu:arg value='-netdev'/><qemu:arg value='user,id=x'/></qemu:commandline>
</domain>
"""


@pytest.fixture
def copy() -> Any:
    live = fromstring(LIVE)
    return fromstring(build_copy_xml(live, find_files(live, "web1"), "/disks/web1.rehearsal", "/run/fp", "fp1"))


def test_a_copy_has_no_device_that_reaches_out(copy: Any) -> None:
    tags = [device.tag for device in copy.find("devices")]
    assert sorted(set(tags)) == ["disk", "emulator", "interface", "memballoon", "serial", "video"]
    assert [serial.get("type") for serial in copy.findall("devices/serial")] == ["file"]
    assert "commandline" not in "".join(element.tag for element in copy)
    for card in copy.findall("devices/interface"):
        assert card.get("type") == "ethernet"
        assert {below.tag for below in card} <= {"mac", "model", "target"}
        assert card.find("target").get("managed") == "no"
    assert [card.find("target").get("dev") for card in copy.findall("devices/interface")] == ["fp10", "fp11"]
    assert copy.find("devices/interface/mac").get("address") == "52:54:00:00:00:01"


def test_a_copy_writes_to_no_file_of_the_machine(copy: Any) -> None:
    disks = {disk.find("target").get("dev"): disk for disk in copy.findall("devices/disk")}
    assert disks["vda"].find("source").get("file") == "/disks/web1.rehearsal/vda.qcow2"
    assert disks["vdb"].find("source").get("file") == "/disks/web1.rehearsal/vdb.qcow2"
    assert disks["sda"].find("source").get("file") == "/iso/seed.iso"
    assert disks["sda"].find("readonly") is not None
    assert disks["vda"].find("backingStore/source/host").get("socket") == "/run/fp/nbd/disks"
    assert copy.findtext("os/nvram") == "/disks/web1.rehearsal/nvram"
    assert "/disks/web1.raw" not in build_text(copy)


def build_text(element: Any) -> str:
    return " ".join(str(value) for below in element.iter() for value in (below.text, *below.attrib.values()))


def test_a_copy_is_another_domain(copy: Any) -> None:
    assert (copy.findtext("name"), copy.find("uuid"), copy.get("id")) == ("web1.rehearsal", None, None)
    assert copy.find("metadata") is None
    assert copy.find("seclabel") is None


def test_only_disks_that_the_machine_writes_to_are_exported() -> None:
    live = fromstring(LIVE)
    backup = fromstring(build_backup_xml(live, find_files(live, "web1"), "/p", "/run/fp"))
    assert backup.get("mode") == "pull"
    disks = {disk.get("name"): disk.get("backup") for disk in backup.findall("disks/disk")}
    assert disks == {"vda": "yes", "vdb": "yes", "sda": "no"}


@pytest.mark.parametrize("disk", ["<disk type='block' device='disk'>", "<disk type='block' device='lun'>"])
def test_a_disk_that_is_in_no_file_is_refused(disk: str) -> None:
    element = f"{disk}<source dev='/dev/vg/data'/><target dev='vdc'/></disk></devices>"
    with pytest.raises(ProviderError, match="only disks in files are copied, and vdc is none"):
        find_files(fromstring(LIVE.replace("</devices>", element)), "web1")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("10.0.0.5:80", "10.0.0.5:80"),
        ("192.0.2.1:65535", "192.0.2.1:65535"),
        ("Packages.Example.com.:443", "packages.example.com:443"),
        ("mirror:80", "mirror:80"),
    ],
)
def test_a_repository(text: str, meant: str) -> None:
    assert validate_repository(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.0.0.5",
        "packages.example.com",
        ":80",
        "10.0.0.5:0",
        "10.0.0.5:x",
        "10.0.0.5:70000",
        "10.0.0.500:80",
        "[::1]:80",
        "https://packages.example.com\n",
        "a,10.0.0.1:80",
        "a/b:80",
        "a b:80",
        "a\nserver=10.0.0.9:80",
        "müller.example:80",
    ],
)
def test_what_is_no_repository(text: str) -> None:
    with pytest.raises(ValueError, match="can't be a repository"):
        validate_repository(text)
