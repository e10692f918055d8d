"""A host with libvirt in memory: domains, files, and the few commands of virsh and qemu-img that are used."""

import json
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from xml.etree.ElementTree import SubElement, tostring

from defusedxml.ElementTree import fromstring

from inventory.machine_providers import ProviderKind, ProviderSettings
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import ScriptResult
from tasks.domain.provided_machines import ImageVersion, ProvidedMachine, ProviderAct, ProviderOrder
from tasks.machines.providers.host_commands import CommandAnswer
from tasks.machines.providers.libvirt.provider import LibvirtProvider
from tasks.machines.providers.libvirt.state import METADATA_URI
from tasks.machines.providers.libvirt.virsh import Virsh
from tests.support.fake_clock import FakeClock

IMAGE = ImageVersion("web", "2", "/images/2.qcow2", f"sha512:{'0' * 128}")


@dataclass
class File:
    below: str = ""
    mode: str = "644"
    is_readable: bool = True
    mark: str = "1 1 1 1"
    label: str = ""


@dataclass
class FakeDomain:
    uuid: str
    config: Any
    live: Any = None  # None: it is off
    obeys_shutdown: bool = True
    is_saved: bool = False  # its memory is
    merges: dict[str, str] = field(default_factory=dict)  # the file into which a disk is being merged


def build_disk(target: str, path: str, *, is_readonly: bool = False) -> str:
    more = "<readonly/>" if is_readonly else ""
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{path}'/>"
        f"<target dev='{target}'/>{more}</disk>"
    )


@dataclass
class LibvirtHost:
    """Takes the place of HostCommands. ``before`` is called with the words of each command."""

    host: str = "rack"
    clock: FakeClock = field(default_factory=FakeClock)
    files: dict[str, File] = field(default_factory=lambda: {IMAGE.reference: File(mode="444")})
    domains: dict[str, FakeDomain] = field(default_factory=dict)
    before: Callable[[Sequence[str]], object] = lambda _words: None
    removed: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    seeds: dict[str, dict[str, str]] = field(default_factory=dict)  # what each was made of
    room: str = "9999999 4096"

    def define(self, name: str, *disks: str) -> None:
        xml = (
            f"<domain><name>{name}</name><uuid>id-{name}</uuid><metadata/><devices>{''.join(disks)}</devices></domain>"
        )
        self.domains[name] = FakeDomain(f"id-{name}", fromstring(xml))
        for source in self.domains[name].config.iter("source"):
            self.files.setdefault(source.get("file", ""), File())

    def open(self, name: str) -> "Machine":
        return Machine(self, name)

    def start(self, name: str) -> None:
        self.domains[name].live = fromstring(tostring(self.domains[name].config))

    def ask(self, commands: Sequence[Sequence[str]], *, deadline: Deadline) -> tuple[CommandAnswer, ...]:
        return tuple(self.order(*words, deadline=deadline) for words in commands)

    def order(self, *words: str, text: str = "", deadline: Deadline) -> CommandAnswer:
        self.before(words)
        program, *rest = words
        said = getattr(self, f"_{program.replace('-', '_')}")(rest, text)
        return said if isinstance(said, CommandAnswer) else CommandAnswer(said or "", 0, "")

    def run_script(self, name: str, parameters: dict[str, str], *, deadline: Deadline) -> ScriptResult:
        self.files[parameters["file"]] = File(label="cidata")
        self.seeds[parameters["file"]] = parameters
        return ScriptResult(({"kind": "made"},), 0)

    def _date(self, _words: list[str], _text: str) -> str:
        return str(int(self.clock.now().timestamp()))

    def _sha512sum(self, _words: list[str], _text: str) -> str:
        return f"{'0' * 128}  -"

    def _blkid(self, words: list[str], _text: str) -> str | CommandAnswer:
        label = self.files[words[-1]].label if words[-1] in self.files else ""
        return f"{label}\n" if label else CommandAnswer("", 2, "")

    def _chown(self, _words: list[str], _text: str) -> None:
        return None

    _chmod = _chown

    def _stat(self, words: list[str], _text: str) -> str | CommandAnswer:
        if "-f" in words:
            return self.room
        file = self.files.get(words[-1])
        if file is None:
            return CommandAnswer("", 1, "stat: cannot statx: No such file or directory")
        said = {"%a": file.mode, "%d %i %s %Y": file.mark, "%s;%y": "4096;2026-03-10 01:00:00.5 +0000"}
        return said.get(next(word for word in words if word.startswith("%")), "regular file")

    def _readlink(self, words: list[str], _text: str) -> str | CommandAnswer:
        path = posixpath.normpath(words[-1])
        path = self.links.get(path, path)
        return f"{path}\n" if path in self.files or "-e" not in words else CommandAnswer("", 1, "")

    def _rm(self, words: list[str], _text: str) -> None:
        for path in words[2:]:
            del self.files[path]
            self.removed.append(path)

    def _qemu_img(self, words: list[str], _text: str) -> str | CommandAnswer:
        if words[0] == "create":
            self.files[next(word for word in words if word.endswith(".qcow2") and word != words[5])] = File(words[5])
            return ""
        if words[0] == "commit":
            return ""
        chain, path = [], words[-1]
        while path:
            chain_path, path = path, posixpath.normpath(path)
            if path not in self.files or not self.files[path].is_readable:
                return CommandAnswer("", 1, "qemu-img: it can't be opened")
            chain.append({"filename": chain_path, "format": "qcow2", "virtual-size": 9, "actual-size": 1})
            path = self.files[path].below
        return json.dumps(chain)

    def _virsh(self, words: list[str], text: str) -> str | CommandAnswer:
        _, word, *rest = words
        if word == "list":
            return "\n".join(domain.uuid for domain in self.domains.values())
        name = rest[rest.index("--domain") + 1]
        domain = next((domain for key, domain in self.domains.items() if name in (key, domain.uuid)), None)
        if domain is None:
            return CommandAnswer("", 1, f"error: failed to get domain '{name}'")
        said = getattr(self, f"_virsh_{word.replace('-', '_')}")(domain, rest, text)
        return said if isinstance(said, CommandAnswer) else str(said or "")

    def _virsh_dumpxml(self, domain: FakeDomain, words: list[str], _text: str) -> str:
        is_config = "--inactive" in words or domain.live is None
        return tostring(domain.config if is_config else domain.live, encoding="unicode")

    def _virsh_domstate(self, domain: FakeDomain, _words: list[str], _text: str) -> str:
        return "shut off" if domain.live is None else "running"

    def _virsh_dominfo(self, domain: FakeDomain, words: list[str], text: str) -> str:
        saved = "yes" if domain.is_saved else "no"
        return (
            f"State:          {self._virsh_domstate(domain, words, text)}\nPersistent:     yes\nManaged save:   {saved}"
        )

    def define_again(self, name: str, xml: str) -> None:
        """Define a domain from an older XML, as backups and Terraform do. One that runs goes on as it is."""
        self.domains[name].config = fromstring(xml)

    def _virsh_snapshot_list(self, _domain: FakeDomain, _words: list[str], _text: str) -> str:
        return ""

    def _virsh_metadata(self, domain: FakeDomain, words: list[str], _text: str) -> None:
        state = fromstring(words[words.index("--set") + 1]).text
        domain.config.find("metadata").clear()
        SubElement(domain.config.find("metadata"), f"{{{METADATA_URI}}}state").text = state

    def _virsh_update_device(self, domain: FakeDomain, _words: list[str], text: str) -> None:
        new = fromstring(text)
        devices = domain.config.find("devices")
        for number, disk in enumerate(list(devices)):
            if disk.find("target").get("dev") == new.find("target").get("dev"):
                devices[number] = new

    def _virsh_detach_disk(self, domain: FakeDomain, words: list[str], _text: str) -> None:
        domain.config.find("devices").remove(find_disk(domain.config, words[words.index("--target") + 1]))

    def _virsh_attach_device(self, domain: FakeDomain, _words: list[str], text: str) -> None:
        domain.config.find("devices").append(fromstring(text))

    def _virsh_snapshot_create_as(self, domain: FakeDomain, words: list[str], _text: str) -> CommandAnswer | None:
        now = domain.config if domain.live is None else domain.live
        targets = {disk.find("target").get("dev") for disk in now.iter("disk")}
        if {spec.split(",")[0] for word, spec in pairwise(words) if word == "--diskspec"} - targets:
            words_of_libvirt = "error: unsupported configuration: too many disk snapshot requests for domain"
            return CommandAnswer("", 1, words_of_libvirt)
        for spec in (word for word in words if ",file=" in word):
            target, path = spec.split(",file=")
            for xml in (domain.config, domain.live) if domain.live is not None else (domain.config,):
                source = find_disk(xml, target).find("source")
                self.files[path] = File(source.get("file") if source.get("file") != path else self.files[path].below)
                source.set("file", path)
        return None

    def _virsh_blockcommit(self, domain: FakeDomain, words: list[str], _text: str) -> None:
        domain.merges[words[words.index("--path") + 1]] = words[words.index("--base") + 1]

    def _virsh_blockjob(self, domain: FakeDomain, words: list[str], _text: str) -> str:
        target = words[words.index("--path") + 1]
        if "--pivot" in words:
            for xml in (domain.config, domain.live):
                find_disk(xml, target).find("source").set("file", domain.merges[target])
            del domain.merges[target]
        return "Active Block Commit: cur=1 end=1" if target in domain.merges else ""

    def _virsh_shutdown(self, domain: FakeDomain, _words: list[str], _text: str) -> None:
        if domain.obeys_shutdown:
            domain.live = None

    def _virsh_destroy(self, domain: FakeDomain, _words: list[str], _text: str) -> None:
        domain.live = None

    def _virsh_start(self, domain: FakeDomain, _words: list[str], _text: str) -> None:
        domain.live = fromstring(tostring(domain.config))


def find_disk(xml: Any, target: str) -> Any:
    return next(disk for disk in xml.iter("disk") if disk.find("target").get("dev") == target)


@dataclass
class Machine:
    """A machine of the host, through its provider."""

    host: LibvirtHost
    name: str

    @property
    def _provider(self) -> LibvirtProvider:
        settings = ProviderSettings("rack", ProviderKind.LIBVIRT, host="rack")
        return LibvirtProvider(Virsh(self.host, settings, self.name))  # type: ignore[arg-type]

    @property
    def domain(self) -> FakeDomain:
        return self.host.domains[self.name]

    def detach(self, target: str) -> None:
        for xml in (self.domain.config, self.domain.live):
            if xml is not None:
                xml.find("devices").remove(find_disk(xml, target))

    def read(self) -> ProvidedMachine:
        return self._provider.read_machine(deadline=Deadline.after(self.host.clock, 900))

    def order(self, act: ProviderAct, order_id: str = "s1", **more: Any) -> str:
        return self._provider.carry_out(
            ProviderOrder(act, order_id, **more), deadline=Deadline.after(self.host.clock, 900)
        )
