"""The steps that several orders share: stop and start, put a file in place of another one, merge, clear away."""

import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from tasks.domain.errors import ProviderError, ProviderUnavailable
from tasks.domain.protocols.clock import Deadline
from tasks.domain.provided_machines import PowerState, ProviderNotes
from tasks.machines.providers.libvirt.domain import DomainDisk
from tasks.machines.providers.libvirt.state import DiskFile, DomainState, SavedSnapshot
from tasks.machines.providers.libvirt.virsh import Virsh

SHUTDOWN_SECONDS: Final = 900.0
"""How long a machine has for its shutdown before its OS disk is changed. systemd alone may take 90 seconds."""
_SHUTDOWN_SHARE: Final = 0.8  # of the order's time: what comes after the shutdown needs the rest
_LEASE_SECONDS: Final = 60  # longer than the order's own time: what it has begun may still run on the host
_ASK_AGAIN_SECONDS: Final = 20.0  # a machine that boots does not hear the first request
_POLL_SECONDS: Final = 1.0
_NOT_MERGED: Final = (
    "Look whether the file below its layers has room, and whether it has other jobs. Then order it again."
)


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
        self._order = ""
        self.domain = virsh.read_domain(deadline)

    def begin(self, order: str) -> None:
        """Require that no other order is at work, and say that this one is.

        Args:
            order: its act and its id. The same order again goes on where it broke off.
        """
        domain, state, now = self.domain, self.domain.state, int(self.domain.now.timestamp())
        if not domain.is_persistent:
            hint = f"Define it: `virsh dumpxml {domain.name} >FILE; virsh define FILE`."
            raise ProviderError(f"{domain.name} is transient: its disks can't be changed", hint=hint)
        self.require_no_other(order)
        seconds = max(0, int(self.deadline.remaining_seconds(self._clock))) + _LEASE_SECONDS
        self.save(order=order, order_until=now + seconds)
        self._order = order
        if state.must_start and state.order != order:
            self.notes.append(f"the order {state.order or 'before'} has not ended; the machine ran before it")

    def require_no_other(self, order: str = "") -> None:
        """Require that no other order than this one is at work."""
        state, now = self.domain.state, int(self.domain.now.timestamp())
        if state.order not in ("", order) and now < state.order_until:
            message = f"{self.domain.name}: another order is at work: {state.order}"
            hint = f"It ends within {state.order_until - now} seconds, or counts as dead then."
            raise ProviderUnavailable(message, hint=hint)

    def end(self) -> None:
        """Say that the order is not at work any more, whether it has succeeded or not."""
        state = self.virsh.read_state(self.deadline)
        self._require_own_order(state)
        self.virsh.write_state(replace(state, order="", order_until=0, number=state.number + 1), self.deadline)

    def _require_own_order(self, state: DomainState) -> None:
        if state.order != self._order:
            message = f"{self.domain.name}: another order is at work: {state.order or 'it has ended'}"
            raise ProviderUnavailable(message)

    def require_settled(self) -> None:
        """Require that the domain has the same disks now and at its next start."""
        domain = self.domain
        if domain.has_saved_memory:
            hint = f"Start it, or remove what was saved: `virsh managedsave-remove {domain.name}`."
            raise ProviderError(f"{domain.name} sleeps, and would go on with the disks that it had", hint=hint)
        changing = [disk.target for disk in domain.disks if disk.is_changing]
        if changing:
            hint = "Power it off and on again, or take the change back."
            raise ProviderError(f"{domain.name}: {', '.join(changing)} will change at its next start", hint=hint)
        if domain.live_only or domain.not_live:
            targets = ", ".join(sorted((*domain.live_only, *domain.not_live)))
            hint = "Attach it with --config, too, or detach it. `virsh dumpxml` and `--inactive` tell the difference."
            raise ProviderError(f"{domain.name}: {targets} is attached only now, or only at its next start", hint=hint)

    def begin_disk_work(self) -> None:
        """Require that disks can be changed, and judge snapshots whose order was interrupted."""
        self.require_settled()
        domain = self.domain
        used = domain.find_paths_below(domain.used_paths)
        if used & set(domain.state.doomed):
            self.save(doomed=tuple(path for path in domain.state.doomed if path not in used))
            domain = self.domain
        judged = tuple(
            replace(snapshot, is_taken=True)
            for snapshot in domain.state.snapshots
            if snapshot.is_taken or domain.has_state(snapshot)
        )
        if judged != domain.state.snapshots:
            self.save(snapshots=judged)

    def require_own_files(self, paths: Collection[str]) -> None:
        """Require that no other domain has one of the files: with a file above it, both would ruin each other's."""
        others = self.virsh.find_sharers(paths, self.domain.state.uuid, self.deadline)
        if others:
            names = ", ".join(sorted(others))
            hint = f"Detach it from one of them: `virsh domblklist {self.domain.name}` has its disks."
            raise ProviderError(f"{self.domain.name} shares a disk with another domain: {names}", hint=hint)

    def save(self, **changes: Any) -> None:  # noqa: ANN401 - the fields of DomainState
        """Write a changed state into the metadata of the domain. Nobody may have changed it since it was read."""
        state = self.domain.state
        lineage = state.lineage or secrets.token_hex(8)
        self._write(replace(state, number=state.number + 1, lineage=lineage, **changes))

    def renew(self, known: ProviderNotes, state: DomainState) -> None:
        """Write a state of before, or the present one, so that it is newer than the known one."""
        now, later = self.domain.state, max(known.number, self.domain.state.number) + 1
        before = {*now.abandoned, *state.abandoned, *now.layers, *known.tops.values(), *known.newest}
        order = replace(state, order=now.order, order_until=now.order_until, must_start=now.must_start)
        notes = replace(order, uuid=now.uuid, number=later, lineage=known.lineage or now.lineage)
        self._write(replace(notes, abandoned=tuple(sorted(before))))

    def _write(self, state: DomainState) -> None:
        self.virsh.require_state(self.domain.state, self.deadline)
        self.virsh.write_state(state, self.deadline)
        self.domain = replace(self.domain, state=state)

    def read_again(self) -> None:
        """Read the domain as it is now. No other order may have taken it over."""
        domain = self.virsh.read_domain(self.deadline)
        self._require_own_order(domain.state)
        self.domain = domain

    def stop(self, *, is_way_back: bool) -> None:
        """Shut the domain down. ``finish`` starts it again.

        Args:
            is_way_back: cut its power if that takes too long. Otherwise, the order fails, and the domain goes on.
        """
        if self.domain.power is PowerState.STOPPED:
            return
        self.save(must_start=True)
        if self.domain.power is PowerState.RUNNING:
            seconds = self.deadline.remaining_seconds(self._clock) * _SHUTDOWN_SHARE
            until = self.deadline.limit_to(self._clock, min(self._shutdown_seconds, seconds))
            if self.shut_down(until):
                return
        if not is_way_back:
            hint = "Shut it down, and order it again: then it is started. Its power is cut only for a way back."
            raise ProviderError(f"{self.domain.name} did not shut down, so its disk stays", hint=hint)
        if self.domain.power is PowerState.RUNNING:
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
            self.read_again()
        self.clear_away()
        return "; ".join(self.notes)

    def put_in_place(self, disk: DomainDisk, file: DiskFile) -> None:
        """Let a disk of the domain, which is off, have a file, or a layer on it if something else needs it as it is."""
        if self.is_needed_as_it_is(file):
            file = self.make_layer(disk, file)
        state = self.domain.state
        replaced = [
            path for path in iterate_layers(state.layers, disk.source) if path in {*state.layers, *state.origins}
        ]
        self._doom(replaced)
        self.set_file(disk, file)

    def set_file(self, disk: DomainDisk, file: DiskFile) -> None:
        """Give a disk of the domain, which must be off until that is done, another file."""
        self.virsh.set_file(disk, file, self.deadline)
        self.read_again()
        now = next((other for other in self.domain.disks if other.target == disk.target), None)
        if now is None or now.is_changing:
            if now is not None and disk.file is not None:
                self.virsh.set_file(disk, disk.file, self.deadline)
            hint = "Shut it down, and order it again."
            message = f"{self.domain.name} was started while {disk.target} was changed: it has its file as before"
            raise ProviderError(message, hint=hint)
        state = self.domain.state
        if file.path in state.doomed:
            self.save(doomed=tuple(path for path in state.doomed if path != file.path))

    def is_needed_as_it_is(self, file: DiskFile) -> bool:
        """Return whether something is based on a file, or is that file."""
        state = self.domain.state
        frozen = {saved.path for snapshot in state.snapshots for saved in snapshot.files.values()}
        return file.path in frozen or file.path in state.layers.values()

    def make_layer(self, disk: DomainDisk, under: DiskFile) -> DiskFile:
        """Make an empty layer on a file for a disk."""
        path = self.choose_path(disk, under.path)
        state = self.domain.state
        self.save(layers={**state.layers, path: under.path}, doomed=(*state.doomed, path))
        self.virsh.make_overlay(path, under, 0, under.path, self.deadline)
        return DiskFile(path, "qcow2")

    def choose_path(self, disk: DomainDisk, beside: str) -> str:
        """Return the path of a new layer for a disk, which no file has."""
        taken = {*self.domain.state.layers, *self.domain.state.doomed, *self.domain.state.abandoned}
        paths = (self.virsh.build_path(beside, disk.target, f"layer-{number}", "qcow2") for number in range(1, 10_000))
        free = (path for path in paths if path not in taken)
        return next(path for path in free if not self.virsh.find_there([path], self.deadline))

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
        return next((DiskFile(file.path, file.format) for file in chain if file.path == path), DiskFile(path, "qcow2"))

    def _merge(self, disk: DomainDisk, top: DiskFile, base: DiskFile) -> None:
        state = self.domain.state
        merged = {*iterate_layers(state.layers, top.path, down_to=base.path)} - {base.path}
        # What was put back is in the base from now on. A merged layer would be a ruined disk.
        kept_disks = (replace(kept, file=base) if kept.file.path in merged else kept for kept in state.kept_disks)
        self.save(kept_disks=tuple(kept_disks))
        if self.domain.power is PowerState.STOPPED:
            words = ("qemu-img", "commit", "-q", "-d", "-f", top.format, "-b", base.path, "--", top.path)
            self.virsh.run(*words, deadline=self.deadline)
            self.set_file(disk, base)
            self._doom(merged)
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
        self._doom(merged)

    def _doom(self, paths: Iterable[str]) -> None:
        self.save(doomed=tuple(dict.fromkeys((*self.domain.state.doomed, *sorted(paths)))))

    def _is_ready(self, disk: DomainDisk) -> bool:
        job = self._ask_job(disk)
        if "Active Block Commit" not in job:
            message = f"{self.domain.name}: {disk.target} is not being merged: {job or 'it has no job'}"
            raise ProviderError(message, hint=_NOT_MERGED)
        numbers = dict(re.findall(r"(cur|end)=(\d+)", job))
        return numbers.get("cur") == numbers.get("end") and "end" in numbers

    def _ask_job(self, disk: DomainDisk) -> str:
        """Return what libvirt says of the job of a disk; "": it has none."""
        return self.virsh.ask("blockjob", "--path", disk.target, "--info", "--raw", deadline=self.deadline).text.strip()

    def clear_away(self) -> None:
        """Remove the files that fleetpatch has made, or may remove, and that nothing needs any more.

        The domain was read just now.
        """
        domain, state = self.domain, self.domain.state
        if domain.unread_paths:
            self.notes.append(f"nothing was cleared away, as {', '.join(domain.unread_paths)} can't be read")
            return
        kept = self._find_kept()
        seeds = {domain.seed_path, *(snapshot.seed for snapshot in state.snapshots)}
        seeds |= {saved.seed for saved in state.kept_disks}
        going = sorted((set(state.doomed) - kept) | (set(state.seeds) - seeds))
        unused = sorted({*state.layers, *state.origins} - kept - set(going))
        if not going and not unused:
            return
        try:
            gone = self._remove(going)
            left = self.virsh.find_there(unused, self.deadline)
        except ProviderUnavailable:
            raise
        except ProviderError as error:
            self.notes.append(f"nothing was cleared away: {error.message}")
            return
        if left:
            files = ", ".join(sorted(left))
            self.notes.append(f"nothing of fleetpatch needs {files}; whether it was merged is not known: it stays")
        gone |= set(unused) - left
        self.save(
            layers={path: under for path, under in state.layers.items() if path not in gone},
            origins={path: origin for path, origin in state.origins.items() if path not in gone},
            doomed=tuple(path for path in state.doomed if path not in gone),
            seeds=tuple(path for path in state.seeds if path not in gone),
        )

    def _find_kept(self) -> frozenset[str]:
        """Return the files that snapshots, kept disks and disks need, and those below layers that were not merged."""
        domain, state = self.domain, self.domain.state
        needed = domain.find_needed_paths() | domain.find_paths_below(domain.used_paths)
        alone = [path for path in state.layers if path not in needed and path not in state.doomed]
        return needed | {below for path in alone for below in iterate_layers(state.layers, path) if below != path}

    def _remove(self, paths: Sequence[str]) -> frozenset[str]:
        """Remove files. Return those that are gone, and images, which stay for others."""
        if not paths:
            return frozenset()
        attached = self.virsh.find_attached_files(self.deadline)
        existing = self.virsh.find_there(paths, self.deadline)
        writable = self.virsh.find_writable(sorted(existing), self.deadline)
        taken = {path for path, real in self.virsh.resolve(existing, self.deadline).items() if real in attached}
        if taken:
            self.notes.append(f"a machine has {', '.join(sorted(taken))}: it stays")
        if going := sorted(writable - taken):
            self.virsh.require_state(self.domain.state, self.deadline)
            self.virsh.run("rm", "-f", "--", *going, deadline=self.deadline)
        return frozenset(paths) - self.virsh.find_there(sorted(writable & existing), self.deadline)

    def describe_state(self, snapshot_id: str, consistency: str, disks: Iterable[DomainDisk]) -> SavedSnapshot:
        """Return a snapshot, not taken yet, of disks as they are now."""
        files = {disk.target: disk.file for disk in disks if disk.file is not None}
        return SavedSnapshot(snapshot_id, self.domain.now.isoformat(), consistency, files, self.domain.seed_path)


def iterate_layers(layers: Mapping[str, str], path: str, *, down_to: str = "") -> Iterator[str]:
    """Yield a file and those below it that fleetpatch has put layers on, the lowest one last."""
    yield path
    while path in layers and path != down_to:
        path = layers[path]
        yield path
