"""The commands of virsh and qemu-img that are used, each one step."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import PurePosixPath

from inventory.machine_providers import ProviderSettings
from tasks.domain.errors import ProviderError, ProviderUnavailable
from tasks.domain.protocols.clock import Deadline
from tasks.domain.provided_machines import ProviderOrder
from tasks.machines.providers.host_commands import CommandAnswer, HostCommands
from tasks.machines.providers.libvirt.domain import (
    SEED_LABEL,
    Domain,
    DomainDisk,
    build_disk_xml,
    build_seed_xml,
    find_all_files,
    parse_chain,
    parse_domain,
    parse_foreign_snapshot,
    parse_state,
    read_name,
)
from tasks.machines.providers.libvirt.state import METADATA_URI, DiskFile, DomainState, write_state

_CHAIN_INFO = ("qemu-img", "info", "-U", "--backing-chain", "--output=json")
_SEED_TARGETS = [f"vd{letter}" for letter in "zyxwvu"]
_TAKEN_ELSEWHERE = ('get "write" lock', "already an active block job", "cannot acquire state change lock")


class Virsh:
    """Asks libvirt about one domain, and gives it orders. Not thread-safe.

    Every method with a deadline raises ProviderError if there is no such domain, an answer can't be read or an order
    fails, and ProviderUnavailable if the host or its libvirt does not answer, or another process holds the disk.
    """

    def __init__(self, host: HostCommands, settings: ProviderSettings, name: str) -> None:
        self.host = host
        self.name = name
        self.folder = settings.folder
        self._settings = settings
        self.words = ("virsh", "-q", *(("-c", settings.uri) if settings.uri else ()))

    def read_domain(self, deadline: Deadline) -> Domain:
        """Return the domain with the chains of all files that are known of it."""
        domain, names = self._read_xml(deadline)
        of = ("--domain", self.name)
        questions = [(*self.words, "snapshot-dumpxml", *of, "--snapshotname", name) for name in names]
        answers = self.host.ask(questions, deadline=deadline) if names else ()
        foreign_snapshots = tuple(
            parse_foreign_snapshot(name, self._require(answer).text)
            for name, answer in zip(names, answers, strict=True)
        )
        return self._read_files(replace(domain, foreign_snapshots=foreign_snapshots), deadline)

    def _read_xml(self, deadline: Deadline) -> tuple[Domain, Sequence[str]]:
        """Return the domain without its chains and the snapshots of others, and the names of those."""
        words = (("dumpxml",), ("dumpxml", "--inactive"), ("dominfo",), ("snapshot-list", "--name"))
        questions = [(*self.words, word, "--domain", self.name, *more) for word, *more in words]
        answers = [self._require(answer) for answer in self.host.ask([*questions, ("date", "+%s")], deadline=deadline)]
        live, config, info, snapshots, now = (answer.text for answer in answers)
        names = [line.strip() for line in snapshots.splitlines() if line.strip()]
        return parse_domain(self.name, live, config, info, now), names

    def find_attached_files(self, deadline: Deadline) -> frozenset[str]:
        """Return the files of the disks of all domains, CDs too, with all below them, as ``resolve`` names them."""
        files: dict[str, str] = {}
        for xml in self._read_domains("", deadline):
            files |= find_all_files(xml)
        tops = [(path, ("-f", form) if form else ()) for path, form in files.items() if form != "raw"]
        infos = [(*_CHAIN_INFO, *form, "--", path) for path, form in tops]
        chains = self.host.ask(infos, deadline=deadline) if infos else ()
        below = {file.path for answer in chains for file in parse_chain(self._require(answer).text)}
        return frozenset(self.resolve({*files, *below}, deadline).values())

    def resolve(self, paths: Iterable[str], deadline: Deadline) -> Mapping[str, str]:
        """Return for each path the one that its file has without links and ``..``; itself if that can't be told."""
        names = sorted(paths)
        answers = self.host.ask([("readlink", "-f", "--", name) for name in names], deadline=deadline) if names else ()
        return {name: answer.text.rstrip("\n") or name for name, answer in zip(names, answers, strict=True)}

    def find_sharers(self, paths: Collection[str], uuid: str, deadline: Deadline) -> frozenset[str]:
        """Return the names of other domains that have one of the files as a disk of theirs."""
        others = [
            (read_name(xml), find_all_files(xml, allows_volumes=True)) for xml in self._read_domains(uuid, deadline)
        ]
        files = self.resolve({*paths, *(path for _, theirs in others for path in theirs)}, deadline)
        own = {files[path] for path in paths}
        return frozenset(name for name, theirs in others if own & {files[path] for path in theirs})

    def _read_domains(self, without: str, deadline: Deadline) -> tuple[str, ...]:
        """Return the XML of domains but one: as they run, and would start. One that goes meanwhile has none."""
        (listed,) = self.host.ask([(*self.words, "list", "--all", "--uuid")], deadline=deadline)
        uuids = [line.strip() for line in self._require(listed).text.splitlines() if line.strip() not in ("", without)]
        questions = [
            (*self.words, "dumpxml", "--domain", other, *more) for other in uuids for more in ((), ("--inactive",))
        ]
        answers = self.host.ask(questions, deadline=deadline) if questions else ()
        return tuple(self._require(answer).text for answer in answers if not _lacks_domain(answer))

    def find_there(self, paths: Sequence[str], deadline: Deadline) -> frozenset[str]:
        """Return the paths that something has."""
        questions = [("stat", "-c", "%F", "--", path) for path in paths]
        answers = dict(zip(paths, self.host.ask(questions, deadline=deadline) if paths else (), strict=True))
        for answer in answers.values():
            if "No such file or directory" not in answer.stderr:
                self._require(answer)
        return frozenset(path for path, answer in answers.items() if answer.exit_code == 0)

    def ask(self, word: str, *more: str, deadline: Deadline) -> CommandAnswer:
        """Return the answer of virsh to a question about the domain."""
        return self.host.ask([(*self.words, word, "--domain", self.name, *more)], deadline=deadline)[0]

    def order(self, word: str, *more: str, text: str = "", deadline: Deadline) -> str:
        """Let virsh do something with the domain. Return what it prints."""
        words = (*self.words, word, "--domain", self.name, *more)
        return self._require(self.host.order(*words, text=text, deadline=deadline)).text

    def run(self, *words: str, deadline: Deadline) -> str:
        """Run a command on the host. Return what it prints."""
        return self._require(self.host.order(*words, deadline=deadline)).text

    def write_state(self, state: DomainState, deadline: Deadline) -> None:
        """Write the state into the metadata of the domain. ``require_state`` tells whether that is right."""
        element = f"<state>{escape(write_state(state), quote=False)}</state>"
        where = ("--uri", METADATA_URI, "--key", "fleetpatch")
        self.order("metadata", *where, "--set", element, "--config", deadline=deadline)

    def read_state(self, deadline: Deadline) -> DomainState:
        """Return the state that is in the metadata of the domain now."""
        return parse_state(self.name, self._require(self.ask("dumpxml", "--inactive", deadline=deadline)).text)

    def require_state(self, state: DomainState, deadline: Deadline) -> None:
        """Require that nobody has written another state since. Raise ProviderUnavailable if another order has."""
        if self.read_state(deadline) != state:
            raise ProviderUnavailable(f"{self.host.host}, {self.name}: another order is at work")

    def set_file(self, disk: DomainDisk, file: DiskFile, deadline: Deadline) -> None:
        """Give a disk of the domain, which does not run, other content. There is no moment without a disk."""
        xml = build_disk_xml(disk, file)
        self.order("update-device", "--file", "/dev/stdin", "--config", text=xml, deadline=deadline)

    def set_seed(self, domain: Domain, path: str, deadline: Deadline) -> None:
        """Give the domain a seed disk, or "" for none. One that is not there any more would keep it from its start."""
        if path and not self.find_there([path], deadline):
            path = ""
        if path == domain.seed_path or not (path or domain.seed_path in domain.state.seeds):
            return
        if not path:
            self.order("detach-disk", "--target", domain.seed.find("target").get("dev"), "--config", deadline=deadline)
            return
        target = next((target for target in _SEED_TARGETS if target not in domain.targets), "")
        word = "attach-device"
        if domain.seed is not None:
            target, word = domain.seed.find("target").get("dev"), "update-device"
        if not target:
            hint = f"Detach one of its disks: {', '.join(_SEED_TARGETS)}."
            raise ProviderError(f"{domain.name}: no name is free for a seed disk", hint=hint)
        xml = build_seed_xml(path, target, domain.seed)
        self.order(word, "--file", "/dev/stdin", "--config", text=xml, deadline=deadline)

    def make_seed(self, path: str, order: ProviderOrder, like: str, deadline: Deadline) -> None:
        """Make the file of a seed disk, in the place of one that is there."""
        data = {"user_data": order.user_data, "network_config": order.network_config}
        parameters = {"file": path, "instance": f"{self.name}-{order.id}", **data}
        result = self.host.run_script("nocloud_seed", parameters, deadline=deadline)
        if not result.find_records("made"):
            failed = [str(record.get("why")) for record in result.find_records("failed")]
            raise ProviderError(f"{self.name}: no seed disk could be made: {failed or result.unframed_output[-300:]}")
        self.run("chown", f"--reference={like}", "--", path, deadline=deadline)

    def make_overlay(self, path: str, under: DiskFile, size: int, like: str, deadline: Deadline) -> None:
        """Make a file with the changes against another one, of that many bytes, with the owner of a third one."""
        words = ("qemu-img", "create", "-q", "-f", "qcow2", "-b", under.path, "-F", under.format, path)
        self.run(*words, *((str(size),) if size else ()), deadline=deadline)
        for word in ("chown", "chmod"):
            self.run(word, f"--reference={like}", "--", path, deadline=deadline)

    def find_writable(self, paths: Sequence[str], deadline: Deadline) -> frozenset[str]:
        """Return the files that are there and that somebody may write to. An image is none of them."""
        if not paths:
            return frozenset()
        answers = self.host.ask([("stat", "-L", "-c", "%a", "--", path) for path in paths], deadline=deadline)
        modes = {path: answer.text.strip() for path, answer in zip(paths, answers, strict=True)}
        return frozenset(path for path, mode in modes.items() if mode and int(mode, 8) & 0o222)

    def read_mark(self, path: str, deadline: Deadline) -> str:
        """Return which file a path is, its size, and when it was last written to."""
        (answer,) = self.host.ask([("stat", "-L", "-c", "%d %i %s %Y", "--", path)], deadline=deadline)
        return self._require(answer).text.strip()

    def build_path(self, beside: str, *parts: str) -> str:
        """Return the path of a new file for the domain, in the folder of the provider or beside a file."""
        folder = PurePosixPath(self.folder) if self.folder else PurePosixPath(beside).parent
        return str(folder / ".".join((self.name.replace("/", "_"), *parts)))

    def _require(self, answer: CommandAnswer) -> CommandAnswer:
        if answer.exit_code == 0:
            return answer
        complaint = answer.stderr or answer.text.strip() or f"exit code {answer.exit_code}"
        where = f"{self.host.host}, {self.name}"
        if "failed to connect to the hypervisor" in complaint or "End of file while reading data" in complaint:
            raise ProviderUnavailable(f"{where}: libvirt does not answer: {complaint}")
        if any(words in complaint for words in _TAKEN_ELSEWHERE):
            raise ProviderUnavailable(f"{where}: another process holds it: {complaint}")
        if _lacks_domain(answer):
            hint = f"`virsh list --all` on {self.host.host} has the names. Correct `provider` of the machine."
            raise ProviderError(f"{where}: there is no such domain: {complaint}", hint=hint)
        raise ProviderError(f"{where}: {complaint}", hint=f"Look at it on {self.host.host} with virsh.")

    def _read_files(self, domain: Domain, deadline: Deadline) -> Domain:
        """Return the domain with the chains of its files, and the room at the place of new layers with the least."""
        files = {file.path: file.format for file in domain.active_files.values()}
        for snapshot in domain.state.snapshots:
            files |= {file.path: file.format for file in snapshot.files.values()}
        files |= {kept.file.path: kept.file.format for kept in domain.state.kept_disks}
        for foreign in domain.foreign_snapshots:
            files |= {path: files.get(path, "qcow2") for path in foreign.files}
        files |= {file.path: file.format for file in domain.live_files.values()}
        infos = [(*_CHAIN_INFO, "-f", form, "--", path) for path, form in files.items()]
        beside = {str(PurePosixPath(self.build_path(file.path)).parent) for file in domain.active_files.values()}
        sizes = [("stat", "-f", "-c", "%a %S", "--", folder) for folder in sorted(beside)]
        answers = self.host.ask([*infos, *sizes], deadline=deadline) if files else ()
        rows = [answer.text.split() for answer in answers[len(infos) :]]
        labels = self.read_labels([element.find("source").get("file") for element in domain.read_only], deadline)
        seeds = [element for element, label in zip(domain.read_only, labels, strict=True) if label == SEED_LABEL]
        rooms = [int(row[0]) * int(row[1]) for row in rows if len(row) == 2]
        return replace(
            domain,
            seed=domain.seed if domain.seed is not None else next(iter(seeds), None),
            chains={
                path: parse_chain(answer.text)
                for path, answer in zip(files, answers[: len(infos)], strict=True)
                if answer.exit_code == 0
            },
            free_bytes=min(rooms) if rooms and len(rooms) == len(rows) else None,
        )

    def read_labels(self, paths: Sequence[str], deadline: Deadline) -> Sequence[str]:
        """Return the labels of the file systems in files, in lower case; "": there is none, or it can't be read."""
        questions = [("blkid", "-p", "-o", "value", "-s", "LABEL", "--", path) for path in paths]
        answers = self.host.ask(questions, deadline=deadline) if questions else ()
        return [answer.text.strip().lower() for answer in answers]

    def is_off(self, deadline: Deadline) -> bool:
        """Return whether the domain is off."""
        power = self._require(self.ask("domstate", deadline=deadline)).text.strip()
        return power in ("shut off", "crashed")


def _lacks_domain(answer: CommandAnswer) -> bool:
    words = ("failed to get domain", "Domain not found")
    return answer.exit_code != 0 and any(word in answer.stderr for word in words)
