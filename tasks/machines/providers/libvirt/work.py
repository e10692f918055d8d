"""The steps that several orders share: stop and start, put a file in place of another one, merge, clear away."""

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from tasks.domain.errors import ProviderError, ProviderUnavailable
from tasks.domain.protocols.clock import Deadline
from tasks.domain.provided_machines import PowerState
from tasks.machines.providers.libvirt.domain import DomainDisk
from tasks.machines.providers.libvirt.state import DiskFile, Origin, SavedSnapshot
from tasks.machines.providers.libvirt.virsh import Virsh

SHUTDOWN_SECONDS: Final = 60.0
"""How long a machine has for its shutdown before its OS disk is changed; then its power is cut."""
_ASK_AGAIN_SECONDS: Final = 20.0  # a machine that boots does not hear the first request
_POLL_SECONDS: Final = 1.0


class DomainWork:
    """One order to a domain. ``domain`` is as it was read last.

    Every method raises ProviderError and ProviderUnavailable.
    """

    def __init__(self, virsh: Virsh, deadline: Deadline, shutdown_seconds: float = SHUTDOWN_SECONDS) -> None:
        self.virsh = virsh
        self.deadline = deadline
        self.notes: list[str] = []
        self._clock = virsh.host.clock
        self._shutdown_seconds = shutdown_seconds
        self.domain = virsh.read_domain(deadline)

    def begin_disk_work(self) -> None:
        """Require that disks can be changed, and judge snapshots whose order was interrupted."""
        domain = self.domain
        if not domain.is_persistent:
            hint = f"Define it: `virsh dumpxml {domain.name} >FILE; virsh define FILE`."
            raise ProviderError(f"{domain.name} is transient: its disks can't be changed", hint=hint)
        if domain.has_saved_memory:
            hint = f"Start it, or remove what was saved: `virsh managedsave-remove {domain.name}`."
            raise ProviderError(f"{domain.name} sleeps, and would go on with the disks that it had", hint=hint)
        changing = [disk.target for disk in domain.disks if disk.is_changing]
        if changing:
            hint = "Power it off and on again, or take the change back."
            raise ProviderError(f"{domain.name}: {', '.join(changing)} will change at its next start", hint=hint)
        judged = tuple(
            replace(snapshot, is_taken=True)
            for snapshot in domain.state.snapshots
            if snapshot.is_taken or domain.has_state(snapshot)
        )
        if judged != domain.state.snapshots:
            self.save(snapshots=judged)

    def save(self, **changes: Any) -> None:  # noqa: ANN401 - the fields of DomainState
        """Write a changed state into the metadata of the domain."""
        state = replace(self.domain.state, **changes)
        self.virsh.write_state(state, self.deadline)
        self.domain = replace(self.domain, state=state)

    def read_again(self) -> None:
        """Read the domain as it is now."""
        self.domain = self.virsh.read_domain(self.deadline)

    def stop(self) -> None:
        """Shut the domain down, or cut its power if that takes too long. ``finish`` starts it again."""
        if self.domain.power is PowerState.STOPPED:
            return
        self.save(must_start=True)
        if self.domain.power is PowerState.RUNNING:
            until = self.deadline.limit_to(self._clock, self._shutdown_seconds)
            if self.shut_down(until):
                return
            self.notes.append("it did not shut down in time, so its power was cut")
        self.cut_power()

    def shut_down(self, until: Deadline) -> bool:
        """Ask the domain to shut down until it is off. Return whether it is."""
        asked_at = None
        while not self.virsh.is_off(self.deadline):
            now = self._clock.now()
            if until.has_passed(self._clock):
                return False
            if asked_at is None or (now - asked_at).total_seconds() >= _ASK_AGAIN_SECONDS:
                with suppress(ProviderError):  # it may just have gone off; the next question tells
                    self.virsh.order("shutdown", deadline=self.deadline)
                asked_at = now
            self._clock.sleep(_POLL_SECONDS)
        return True

    def cut_power(self) -> None:
        """Switch the domain off."""
        try:
            self.virsh.order("destroy", deadline=self.deadline)
        except ProviderError:
            if not self.virsh.is_off(self.deadline):
                raise

    def finish(self) -> str:
        """Clear away what nothing needs, and start the domain if it ran before. Return the notes."""
        self.read_again()
        if self.domain.state.must_start:
            if self.domain.power is PowerState.STOPPED:
                self.virsh.order("start", deadline=self.deadline)
            self.save(must_start=False)
        self.clear_away()
        return "; ".join(self.notes)

    def put_in_place(self, disk: DomainDisk, file: DiskFile) -> None:
        """Let a disk of the domain, which is off, have a file, or a layer on it if something else needs it as it is."""
        if self.is_needed_as_it_is(file):
            file = self.make_layer(disk, file)
        self.virsh.set_file(disk, file, self.deadline)

    def is_needed_as_it_is(self, file: DiskFile) -> bool:
        """Return whether something is based on a file, or is that file."""
        state = self.domain.state
        frozen = {saved.path for snapshot in state.snapshots for saved in snapshot.files.values()}
        return file.path in frozen or file.path in state.layers.values()

    def make_layer(self, disk: DomainDisk, under: DiskFile) -> DiskFile:
        """Make an empty layer on a file for a disk."""
        path = self.choose_path(disk, under.path)
        self.save(layers={**self.domain.state.layers, path: under.path})
        self.virsh.make_overlay(path, under, 0, under.path, self.deadline)
        return DiskFile(path, "qcow2")

    def choose_path(self, disk: DomainDisk, beside: str) -> str:
        """Return the path of a new layer for a disk, which no file that is needed has."""
        domain = self.domain
        taken = domain.find_needed_paths() | domain.find_paths_below(file.path for file in domain.active_files.values())
        taken |= set(domain.state.layers)
        paths = (self.virsh.build_path(beside, disk.target, f"layer-{number}", "qcow2") for number in range(1, 10_000))
        return next(path for path in paths if path not in taken)

    def merge_layers(self, *, without: str) -> None:
        """Merge the layers of each disk that nothing needs apart into the file below them.

        Args:
            without: the id of the snapshot that is being deleted.
        """
        needed = self.domain.find_needed_paths(without=without)
        layers = self.domain.state.layers
        for disk in self.domain.disks:
            path, below = disk.source, []
            while path in layers and layers[path] not in needed:
                path = layers[path]
                below.append(path)
            writable = self.virsh.find_writable(below, self.deadline)
            while below and below[-1] not in writable:
                below.pop()
            if below and disk.file is not None:
                self._merge(disk, disk.file, self._find_file(disk.file.path, below[-1]))

    def _find_file(self, top: str, path: str) -> DiskFile:
        chain = self.domain.chains.get(top, ())
        return next(
            (DiskFile(file.path, file.format) for file in chain if file.path == path),
            DiskFile(path, "qcow2"),
        )

    def _merge(self, disk: DomainDisk, top: DiskFile, base: DiskFile) -> None:
        if self.domain.power is PowerState.STOPPED:
            words = ("qemu-img", "commit", "-q", "-d", "-f", top.format, "-b", base.path, "--", top.path)
            self.virsh.run(*words, deadline=self.deadline)
            self.virsh.set_file(disk, base, self.deadline)
            return
        if not self._ask_job(disk):
            self.virsh.order(
                "blockcommit", "--path", disk.target, "--base", base.path, "--active", deadline=self.deadline
            )
        while not self._is_ready(disk):
            if self.deadline.has_passed(self._clock):
                raise ProviderUnavailable(f"{self.domain.name}: {disk.target} is still being merged; order it again")
            self._clock.sleep(_POLL_SECONDS)
        self.virsh.order("blockjob", "--path", disk.target, "--pivot", deadline=self.deadline)

    def _is_ready(self, disk: DomainDisk) -> bool:
        job = self._ask_job(disk)
        if "Active Block Commit" not in job:
            message = f"{self.domain.name}: {disk.target} is not being merged: {job or 'it has no job'}"
            raise ProviderError(message, hint="Wait until its other jobs have ended, and order it again.")
        numbers = dict(re.findall(r"(cur|end)=(\d+)", job))
        return numbers.get("cur") == numbers.get("end") and "end" in numbers

    def _ask_job(self, disk: DomainDisk) -> str:
        """Return what libvirt says of the job of a disk; "": it has none."""
        return self.virsh.ask("blockjob", "--path", disk.target, "--info", "--raw", deadline=self.deadline).text.strip()

    def clear_away(self) -> None:
        """Remove the files that fleetpatch has made, or may remove, and that nothing needs any more."""
        self.read_again()
        domain, state = self.domain, self.domain.state
        active = [file.path for file in domain.active_files.values()]
        if not all(domain.chains.get(path) for path in active):
            self.notes.append("a file of its disks can't be read, so nothing was cleared away")
            return
        needed = domain.find_needed_paths() | domain.find_paths_below(active)
        seeds = {domain.seed_path, *(snapshot.seed for snapshot in state.snapshots)}
        seeds |= {kept.seed for kept in state.kept_disks}
        made = {*state.layers, *state.origins, *state.doomed}
        going = sorted((made - needed) | (set(state.seeds) - seeds))
        if not going:
            return
        removable = self.virsh.find_writable(going, self.deadline)
        if removable:
            self.virsh.run("rm", "-f", "--", *sorted(removable), deadline=self.deadline)
        self.save(
            layers={path: under for path, under in state.layers.items() if path not in going},
            origins=_without(state.origins, going),
            doomed=tuple(path for path in state.doomed if path not in going),
            seeds=tuple(path for path in state.seeds if path not in going),
        )

    def describe_state(self, snapshot_id: str, consistency: str, disks: Iterable[DomainDisk]) -> SavedSnapshot:
        """Return a snapshot, not taken yet, of disks as they are now."""
        files = {disk.target: disk.file for disk in disks if disk.file is not None}
        return SavedSnapshot(snapshot_id, self.domain.now.isoformat(), consistency, files, self.domain.seed_path)


def _without(origins: Any, going: list[str]) -> dict[str, Origin]:  # noqa: ANN401 - a mapping of them
    return {path: origin for path, origin in origins.items() if path not in going}
